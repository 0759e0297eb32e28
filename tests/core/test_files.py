"""Atomic writing: complete or not at all."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from atoken.core import files
from atoken.core.files import atomic_folder, atomic_write, sync_tree
from refusals import refused


def write(path, text="new"):
    with atomic_write(path) as temporary:
        temporary.write_text(text)


def write_and_fail(path, error):
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error


def test_a_file_appears_whole_and_parents_are_made(tmp_path):
    path = tmp_path / "new" / "folder" / "a.tar.gz"
    with atomic_write(path) as temporary:
        assert (temporary.suffix, temporary.parent, temporary.exists()) == (".gz", path.parent, False)
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), OSError("without a number")])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error)) as caught:
        write_and_fail(path, error)
    assert caught.value is error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_the_disk_names_the_target(tmp_path):
    path = tmp_path / "a.txt"
    with refused(path, os.strerror(errno.ENOSPC), error=OSError) as caught:
        write_and_fail(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    with pytest.raises(PermissionError) as caught, atomic_write(path) as temporary:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(temporary))
    assert caught.value.filename == str(path)
    with pytest.raises(FileNotFoundError) as caught, atomic_write(path):
        Path(tmp_path / "an_input").read_text()
    assert caught.value.filename == str(tmp_path / "an_input")
    with pytest.raises(FileNotFoundError) as caught, atomic_write(path):
        pass  # nothing written
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_permissions_follow_the_umask_or_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    old = os.umask(0o027)
    try:
        write(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        write(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
    finally:
        os.umask(old)


def test_folders_devices_and_pipes_are_not_replaced(tmp_path):
    (tmp_path / "folder.png").mkdir()
    with refused(tmp_path / "folder.png", error=IsADirectoryError):
        write(tmp_path / "folder.png")
    os.mkfifo(tmp_path / "pipe")
    with refused(tmp_path / "pipe", error=OSError):
        write(tmp_path / "pipe")
    (tmp_path / "file").write_text("old")
    for path in (tmp_path / "file" / "a.png", tmp_path / "file" / "deeper" / "a.png"):
        with pytest.raises(NotADirectoryError) as caught:
            write(path)
        assert caught.value.filename == str(path)
    assert (tmp_path / "file").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_dev_full():
    with refused("/dev/full", error=OSError):
        write("/dev/full")
    with pytest.raises(NotADirectoryError):
        write("/dev/full/x.png")


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "real" / "a.txt")
    for text in ("first", "second"):  # a link to nothing, then to a file
        write(link, text)
        assert link.is_symlink()
        assert (tmp_path / "real" / "a.txt").read_text() == text
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with refused(tmp_path / "loop", error=OSError) as caught:
        write(tmp_path / "loop")
    assert caught.value.errno == errno.ELOOP


def test_threads_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "a.txt"
    texts = [str(i) * 1000 for i in range(8)]
    threads = [threading.Thread(target=write, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


# What is on the disk


def calls_of(monkeypatch, *names):
    """A list that the calls of these functions of `os` go into, each as (name, what is named)."""
    calls = []

    def record(name, call):
        def recorded(first, *rest, **options):
            what = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else os.fspath(first)
            calls.append((name, Path(what)))
            return call(first, *rest, **options)

        return recorded

    for name in names:
        monkeypatch.setattr(os, name, record(name, getattr(os, name)))
    return calls


def test_file_and_folders_are_synced_around_the_rename(tmp_path, monkeypatch):
    calls = calls_of(monkeypatch, "fsync", "replace")
    with atomic_write(tmp_path / "new" / "deeper" / "a.txt") as temporary:
        temporary.write_text("new")
    parent = temporary.parent
    assert calls[:3] == [("fsync", temporary), ("replace", temporary), ("fsync", parent)]
    assert {path for _, path in calls[3:]} == {tmp_path, tmp_path / "new"}  # the folders that it made have names, too


def test_a_tree_is_synced_whole(tmp_path, monkeypatch):
    (tmp_path / "run" / "step").mkdir(parents=True)
    for name in ("a", "step/b"):
        (tmp_path / "run" / name).write_text(name)
    calls = calls_of(monkeypatch, "fsync")
    sync_tree(tmp_path / "run")
    names = {"run", "run/a", "run/step", "run/step/b"}
    assert {path for _, path in calls} == {tmp_path, *(tmp_path / name for name in names)}


def test_an_error_of_the_sync_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with refused(path, error=OSError):
        write(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# Folders


def test_a_folder_appears_whole_with_its_parents_and_replaces_nothing(tmp_path, monkeypatch):
    calls = calls_of(monkeypatch, "fsync", "rename")
    out = tmp_path / "new/out"
    with atomic_folder(out) as temporary:
        (temporary / "below").mkdir()
        (temporary / "below/a.txt").write_text("whole")
        assert not out.exists()
        assert temporary.parent == out.parent
    assert (out / "below/a.txt").read_text() == "whole"
    assert [*out.parent.iterdir()] == [out]
    at = calls.index(("rename", temporary))
    assert {("fsync", temporary / name) for name in ("", "below", "below/a.txt")} <= set(calls[:at])
    assert {("fsync", out.parent), ("fsync", tmp_path)} <= set(calls[at:])
    (tmp_path / "nowhere").symlink_to("gone")
    for there in (out, out / "below/a.txt", tmp_path / "nowhere"):
        with refused(there, error=FileExistsError), atomic_folder(there):
            raise AssertionError


def fill_and_fail(path, error):
    with atomic_folder(path) as temporary:
        (temporary / "a").write_text("half")
        raise error


def test_a_folder_that_fails_leaves_nothing_and_names_the_target(tmp_path):
    for error, expected in ((ValueError("mine"), ValueError), (KeyboardInterrupt(), KeyboardInterrupt)):
        with pytest.raises(expected):
            fill_and_fail(tmp_path / "out", error)
    with refused(tmp_path / "out/missing/a", error=OSError) as caught, atomic_folder(tmp_path / "out") as temporary:
        (temporary / "missing/a").write_text("half")
    assert str(temporary.name) not in str(caught.value)
    assert [*tmp_path.iterdir()] == []


# What killed processes leave

WRITER = """
import sys, time
from pathlib import Path
from atoken.core.files import atomic_folder, atomic_write
target = Path(sys.argv[1])
with (atomic_write if target.suffix else atomic_folder)(target) as temporary:
    (temporary if target.suffix else temporary / "a").write_text("half")
    print(temporary, flush=True)
    time.sleep(600)
"""


def start_writer(path):
    """A process inside `atomic_write(path)`, and its temporary file."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    return process, Path(process.stdout.readline().strip())


def stop(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.fixture
def as_in_a_new_process(monkeypatch):
    monkeypatch.setattr(files, "_swept", set())


@pytest.mark.slow
@pytest.mark.usefixtures("as_in_a_new_process")
def test_the_next_write_removes_what_a_killed_process_left_and_nothing_of_a_living_one(tmp_path):
    others = [tmp_path / name for name in (".hidden", ".atoken-notes.txt", ".atoken-00000000-1-0123456789abcdef.txt")]
    for other in others:  # files of the user, and that of a machine whose locks may not be seen here
        other.write_text("kept")
    dead, left = start_writer(tmp_path / "dead.txt")
    dead_folder, left_folder = start_writer(tmp_path / "dead")
    living, held = start_writer(tmp_path / "living.txt")
    try:
        stop(dead)
        stop(dead_folder)
        write(tmp_path / "a.txt")
        assert held.exists()
    finally:
        stop(living)
    assert left.exists()  # it waits for a moment in which nobody writes there
    assert (left_folder / "a").exists()
    write(tmp_path / "a.txt")
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "a.txt"])


@pytest.mark.usefixtures("as_in_a_new_process")
def test_a_leftover_with_the_number_of_a_living_process_is_removed(tmp_path):
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    reused = tmp_path / temporary.name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-")
    reused.write_text("half")
    files._swept.clear()
    write(tmp_path / "b.txt")
    assert not reused.exists()


@pytest.mark.usefixtures("as_in_a_new_process")
def test_a_folder_that_another_program_keeps_locked_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.0)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        write(tmp_path / "a.txt")
    finally:
        os.close(descriptor)
    assert (tmp_path / "a.txt").read_text() == "new"

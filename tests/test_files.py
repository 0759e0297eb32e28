"""Atomic writing: complete or not at all."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from atoken.files import atomic_write


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
    with pytest.raises(OSError, match="No space left") as caught:
        write_and_fail(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert str(caught.value) == f"[Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)}: '{path}'"
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
    with pytest.raises(IsADirectoryError, match="folder"):
        write(tmp_path / "folder.png")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
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
    with pytest.raises(OSError, match="not a regular file"):
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
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        write(tmp_path / "loop")


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

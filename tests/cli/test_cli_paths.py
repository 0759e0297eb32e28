"""From arguments to files and to the names of results."""

import os
from pathlib import Path

import pytest

from atoken.cli.paths import Job, LeftOut, Source, check_folder, expand, is_outdated, names_result, plan
from refusals import check_names, refused


def jpg(path: Path) -> bool:
    return path.suffix.lower() == ".jpg"


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def found(*inputs: object) -> list[str]:
    sources, problems = expand([str(text) for text in inputs], jpg, "picture")
    assert problems == []
    return [str(source.below) for source in sources]


def test_folders_are_searched_and_keep_their_structure(tmp_path):
    touch(tmp_path, "b.jpg", "a.JPG", "deep/er/c.jpg", "notes.txt", ".hidden.jpg", ".git/d.jpg")
    assert found(tmp_path) == ["a.JPG", "b.jpg", "deep/er/c.jpg"]


def test_a_file_is_taken_whatever_its_name(tmp_path):
    touch(tmp_path, "deep/photo", ".hidden.jpg")
    assert found(tmp_path / "deep/photo", tmp_path / ".hidden.jpg") == [".hidden.jpg", "photo"]


def test_patterns(tmp_path):
    touch(tmp_path, "a.jpg", "b.txt", "x/c.jpg", "x/y/d.jpg", "x/.z/e.jpg", "x/[1].jpg")
    assert found(tmp_path / "*") == ["a.jpg"]
    assert found(tmp_path / "**" / "*.jpg") == ["a.jpg", "x/[1].jpg", "x/c.jpg", "x/y/d.jpg"]
    assert found(tmp_path / "**") == ["a.jpg", "x/[1].jpg", "x/c.jpg", "x/y/d.jpg"]
    assert found(tmp_path / "x/**/d.*") == ["y/d.jpg"]
    assert found(tmp_path / "?/[cd].jpg") == ["x/c.jpg"]
    assert found(tmp_path / "x/[1].jpg") == ["[1].jpg"], "a file of that name is no pattern"


def test_patterns_below_the_current_folder(tmp_path, monkeypatch):
    touch(tmp_path, "a.jpg", "x/b.jpg")
    monkeypatch.chdir(tmp_path)
    assert found("*.jpg") == ["a.jpg"]
    assert found("x/../*.jpg") == ["a.jpg"]
    assert found(".") == ["a.jpg", "x/b.jpg"]


def test_each_file_once_under_its_first_name(tmp_path):
    touch(tmp_path, "x/a.jpg")
    assert found(tmp_path, tmp_path / "x/a.jpg", tmp_path / "x", tmp_path / "x/../x/*.jpg") == ["x/a.jpg"]


def test_loops_of_links_end(tmp_path):
    touch(tmp_path, "real/a.jpg")
    for name in ("here", "there", "real/up"):  # two per folder: 2 ** 40 ways for who follows them blindly
        (tmp_path / name).symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert found(tmp_path) == ["real/a.jpg"]
    assert found(tmp_path / "**" / "*.jpg") == ["real/a.jpg"]


def test_linked_folders_are_read(tmp_path):
    touch(tmp_path, "elsewhere/a.jpg")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/link").symlink_to(tmp_path / "elsewhere")
    assert found(tmp_path / "photos") == ["link/a.jpg"]


def test_a_dangling_link_is_an_input_and_a_pipe_or_device_in_a_folder_is_not(tmp_path):
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "linked.jpg").symlink_to("pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    assert found(tmp_path) == ["gone.jpg"]
    assert found(tmp_path / "*.jpg") == ["gone.jpg"]


def test_inputs_that_name_nothing(tmp_path):
    touch(tmp_path, "notes.txt", "a.jpg")
    inputs = [str(tmp_path / name) for name in ("gone.jpg", "*.png", "nowhere/*.jpg", "empty", "a.jpg")]
    (tmp_path / "empty").mkdir()
    sources, problems = expand([*inputs, ""], jpg, "picture")
    assert [source.path.name for source in sources] == ["a.jpg"]
    for problem, name in zip(problems, ("gone.jpg", "*.png", "nowhere/*.jpg", "empty"), strict=False):
        check_names(problem, tmp_path / name)
    check_names(problems[4], "''")
    assert len(problems) == 5


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    touch(tmp_path, "a.jpg", "shut/b.jpg")
    scandir = os.scandir

    def guarded(path):
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    sources, problems = expand([str(tmp_path)], jpg, "picture")
    assert [source.path.name for source in sources] == ["a.jpg"]
    check_names(*problems, tmp_path / "shut")


def target(folder):
    def name(source, whole):
        return folder / source.below.with_name((source.below.name if whole else source.below.stem) + ".atok")

    return name


def targets(tmp_path, *names):
    jobs, problems = plan([Source(tmp_path / name, Path(name)) for name in names], target(tmp_path / "out"))
    assert problems == []
    return {str(job.source.relative_to(tmp_path)): str(job.target.relative_to(tmp_path / "out")) for job in jobs}


def test_results_that_would_share_a_name_keep_that_of_their_source(tmp_path):
    assert targets(tmp_path, "a.jpg", "a.png", "b.jpg") == {
        "a.jpg": "a.jpg.atok",
        "a.png": "a.png.atok",
        "b.jpg": "b.atok",
    }
    assert targets(tmp_path, "x/a.jpg", "y/a.jpg") == {"x/a.jpg": "x/a.atok", "y/a.jpg": "y/a.atok"}


def test_a_longer_name_may_meet_a_short_one(tmp_path):
    assert targets(tmp_path, "a.jpg", "a.png", "a.png.webp") == {
        "a.jpg": "a.jpg.atok",
        "a.png": "a.png.atok",
        "a.png.webp": "a.png.webp.atok",
    }


def test_two_files_of_one_name_with_one_result_are_refused(tmp_path):
    sources = [Source(tmp_path / folder / "a.jpg", Path("a.jpg")) for folder in ("x", "y")]
    jobs, (problem,) = plan(sources, target(tmp_path / "out"))
    assert jobs == [Job(tmp_path / "x/a.jpg", tmp_path / "out/a.jpg.atok")]
    assert all(str(tmp_path / name) in problem for name in ("y/a.jpg", "out/a.jpg.atok", "x/a.jpg"))


@pytest.mark.parametrize("link", [None, "symlink_to", "hardlink_to"])
def test_no_result_replaces_an_input(tmp_path, link):
    touch(tmp_path, "a.png", "b.png")
    target = tmp_path / "b.png"
    if link:
        target = tmp_path / "other.png"
        getattr(target, link)(tmp_path / "b.png")
    sources = [Source(tmp_path / name, Path(name)) for name in ("a.png", "b.png")]
    jobs, problems = plan(sources, lambda source, _: target if source.path.name == "a.png" else tmp_path / "c.png")
    assert [job.source.name for job in jobs] == ["b.png"]
    check_names(problems[0], tmp_path / "a.png", target, "--out")


def test_when_out_is_the_result_itself(tmp_path):
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "folder.atok").mkdir()
    a, b, out = str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg"), tmp_path / "x.ATOK"

    def names(inputs, out):
        return names_result(inputs, out, {".atok", ".png"}, lambda path: {".atok"})

    assert names([a], out)
    assert not names([a], tmp_path / "x")
    assert not names([a], tmp_path / "x.2024")
    assert not names([a, b], tmp_path / "folder.atok")
    for inputs in ([a, b], [str(tmp_path)], [str(tmp_path / "*.jpg")]):
        with refused(f"--out {out}", "folder"):
            names(inputs, out)
    with refused("x.png", "a.jpg", ".atok"):
        names([a], tmp_path / "x.png")


def test_outdated_results(tmp_path):
    touch(tmp_path, "a.jpg", "a.atok")
    job = Job(tmp_path / "a.jpg", tmp_path / "a.atok")
    for source, outdated in ((1000, False), (1001, True), (999, False)):
        os.utime(job.source, ns=(source, source))
        os.utime(job.target, ns=(1000, 1000))
        assert is_outdated(job) is outdated
    assert not is_outdated(Job(tmp_path / "gone.jpg", job.target))


def test_an_output_folder_that_cannot_be(tmp_path, monkeypatch):
    touch(tmp_path, "file")
    check_folder(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with refused(tmp_path / "file", error=NotADirectoryError):
            check_folder(folder)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with refused(tmp_path, error=PermissionError):
        check_folder(tmp_path / "new")


def test_parts_of_an_input_are_no_inputs_unless_they_are_named(tmp_path):
    touch(tmp_path, "set/all.jpg", "set/r_0.jpg", "set/sub/r_1.jpg", "other.jpg", "set/d.txt", "set/note.txt")

    def belonging(path):
        folder = path.parent
        return [folder / "r_0.jpg", folder / "sub/../sub/r_1.jpg", folder / "d.txt"] if path.stem == "all" else []

    left_out = LeftOut()
    sources, _ = expand([str(tmp_path)], jpg, "picture", left_out, belonging)
    assert [source.path.name for source in sources] == ["other.jpg", "all.jpg"]
    assert left_out.others == {".txt": 1}
    sources, _ = expand([str(tmp_path), str(tmp_path / "set/r_0.jpg")], jpg, "picture", None, belonging)
    assert [source.path.name for source in sources] == ["other.jpg", "all.jpg", "r_0.jpg"]

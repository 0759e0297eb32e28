"""``atoken eval`` with the protocols ``zero-shot`` and ``retrieval``, and a tower that knows two colours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli_models import paint

from atoken import AToken, write_image
from refusals import check_names


@pytest.fixture
def classes(tmp_path):
    """Three pictures in the folder of their colour, and one in the other's."""
    for name, colour in (("red/a", "red"), ("red/b", "red"), ("blue/a", "blue"), ("blue/b", "red")):
        write_image(tmp_path / f"set/{name}.png", paint(colour))
    return tmp_path / "set"


@pytest.fixture
def coco(tmp_path):
    names = ("red", "blue")
    for name in names:
        write_image(tmp_path / f"coco/val2017/{name}.png", paint(name))
    values = {
        "images": [{"id": i, "file_name": f"{name}.png"} for i, name in enumerate(names)],
        "annotations": [
            {"image_id": 0, "caption": "a red one"},
            {"image_id": 1, "caption": "it is blue"},
            {"image_id": 1, "caption": "red, it is said"},
        ],
    }
    (tmp_path / "coco/annotations").mkdir()
    (tmp_path / "coco/annotations/captions_val2017.json").write_text(json.dumps(values))
    return tmp_path / "coco"


@pytest.mark.slow
def test_zero_shot_counts_the_right_ones(atoken, aligned, classes, tmp_path):
    (classes / "blue/broken.png").write_bytes(b"no picture")
    result = atoken("eval", aligned, "--protocol", "zero-shot", "--data", classes, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "blue/broken.png" in result.stderr
    run = json.loads((tmp_path / "out/results.json").read_text())["models"][0]
    assert run["metrics"] == {"top-1": 0.75, "top-5": 1.0}
    assert run["data"] == {"n": 4, "classes": 2, "set": "set"}
    assert "75.0" in result.stdout


@pytest.mark.slow
def test_a_limit_leaves_all_classes_to_choose_from(atoken, aligned, classes, tmp_path):
    arguments = ("eval", aligned, "--protocol", "zero-shot", "--data", classes, "--out", tmp_path / "out")
    result = atoken(*arguments, "--limit", 2)  # both of the folder blue, and one of them is painted red
    assert result.exit_code == 0, result.stderr
    run = json.loads((tmp_path / "out/results.json").read_text())["models"][0]
    assert run["data"] == {"n": 2, "classes": 2, "set": "set"}
    assert run["metrics"]["top-1"] == 0.5  # with no class but blue it would be right
    assert result.stdout.splitlines()[0].split()[:3] == ["model", "n", "classes"]


@pytest.mark.slow
def test_an_interrupted_run_goes_on(atoken, aligned, classes, tmp_path, monkeypatch):
    arguments = ("eval", aligned, "--protocol", "zero-shot", "--data", classes, "--out", tmp_path / "out", "--batch", 1)
    embed, seen, stop = AToken.embed, [], [True]

    def note(model, sources, **options):
        seen.extend(source for source in sources if isinstance(source, Path))  # the tower of the test paints its own
        if len(seen) == 3 and stop and stop.pop():
            raise KeyboardInterrupt
        return embed(model, sources, **options)

    monkeypatch.setattr(AToken, "embed", note)
    assert atoken(*arguments).exit_code == 130
    first = seen[:2]
    assert atoken(*arguments).exit_code == 0
    assert sorted(first + seen[3:]) == sorted(classes.rglob("*.png"))
    (classes / "red/a.png").write_bytes((classes / "blue/a.png").read_bytes())  # another picture under the name
    seen.clear()
    assert atoken(*arguments).exit_code == 0
    assert seen == [classes / "red/a.png"]
    assert json.loads((tmp_path / "out/results.json").read_text())["models"][0]["metrics"]["top-1"] == 0.5


@pytest.mark.slow
def test_results_of_another_run_are_not_overwritten(atoken, aligned, classes, coco, tmp_path):
    base = ("eval", aligned, "--out", tmp_path / "out", "--protocol")
    assert atoken(*base, "zero-shot", "--data", classes).exit_code == 0
    before = (tmp_path / "out/results.json").read_bytes()
    result = atoken(*base, "retrieval", "--data", coco)
    assert result.exit_code == 2
    check_names(result.stderr, tmp_path / "out", "--out", "--overwrite")
    assert (tmp_path / "out/results.json").read_bytes() == before
    other = shutil.copytree(classes, tmp_path / "other/set")
    write_image(other / "green/a.png", paint("red"))
    for arguments in (
        ("zero-shot", "--data", other),
        ("zero-shot", "--data", classes, "--limit", 1),
        ("native", "--layout", "classes", "--data", classes, "--metrics", "psnr"),
    ):
        result = atoken(*base, *arguments)
        assert result.exit_code == 2
        check_names(result.stderr, tmp_path / "out", "--overwrite")
    (tmp_path / "again").mkdir()
    same = shutil.copytree(classes, tmp_path / "again/set")  # the same names, classes and times
    result = atoken(*base, "zero-shot", "--data", same)
    assert result.exit_code == 2
    check_names(result.stderr, tmp_path / "out", "--overwrite")
    assert (tmp_path / "out/results.json").read_bytes() == before
    assert atoken(*base, "retrieval", "--data", coco, "--overwrite").exit_code == 0


@pytest.mark.slow
def test_words_and_pixels_do_not_mix_in_a_folder(atoken, aligned, classes, tmp_path):
    base = ("eval", aligned, "--out", tmp_path / "out", "--data", classes, "--protocol")
    pixels = ("native", "--layout", "classes", "--metrics", "psnr")
    assert atoken(*base, *pixels).exit_code == 0
    (tmp_path / "out/results.json").unlink()  # as if it had been interrupted
    result = atoken(*base, "zero-shot")
    assert result.exit_code == 2
    check_names(result.stderr, tmp_path / "out", "--overwrite")
    assert atoken(*base, "zero-shot", "--overwrite").exit_code == 0
    assert not (tmp_path / "out/report.html").exists(), "that of the pixels says nothing of these results"


@pytest.mark.slow
def test_another_config_is_another_model(atoken, aligned, classes, tmp_path):
    """The number of tokens that pictures are scaled down to changes vectors, and no tensor."""
    arguments = ("eval", aligned, "--protocol", "zero-shot", "--data", classes, "--out", tmp_path / "out")
    assert atoken(*arguments).exit_code == 0
    kept = (tmp_path / "out").glob("embeddings/*/vectors.safetensors")
    before = {path: path.read_bytes() for path in kept}
    config = json.loads((aligned / "config.json").read_text())
    (aligned / "config.json").write_text(json.dumps({**config, "embed_tokens": 1}))
    result = atoken(*arguments)
    assert result.exit_code == 2
    check_names(result.stderr, tmp_path / "out", "--overwrite")
    (tmp_path / "out/results.json").unlink()
    assert atoken(*arguments).exit_code == 0
    assert all(path.read_bytes() != data for path, data in before.items())


@pytest.mark.slow
def test_vectors_of_other_code_are_not_kept(atoken, aligned, classes, tmp_path, monkeypatch):
    arguments = ("eval", aligned, "--protocol", "zero-shot", "--data", classes, "--out", tmp_path / "out")
    assert atoken(*arguments).exit_code == 0
    embed, seen = AToken.embed, []

    def note(model, sources, **options):
        seen.extend(source for source in sources if isinstance(source, Path))
        return embed(model, sources, **options)

    monkeypatch.setattr(AToken, "embed", note)
    monkeypatch.setattr("atoken.evaluation.understand.code_version", lambda: {"atoken": "next", "sha256": "other"})
    assert atoken(*arguments).exit_code == 0
    assert sorted(seen) == sorted(classes.rglob("*.png"))


@pytest.mark.slow
def test_retrieval_in_both_directions(atoken, aligned, coco, tmp_path):
    result = atoken("eval", aligned, "--protocol", "retrieval", "--data", coco, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    run = json.loads((tmp_path / "out/results.json").read_text())["models"][0]
    assert run["metrics"]["from-text R@1"] == pytest.approx(2 / 3)  # a text that says red of the blue one misses
    assert run["metrics"]["to-text R@1"] == 0.5  # red is as near to that text as to its own, and ties count against
    assert run["metrics"]["from-text R@5"] == run["metrics"]["to-text R@5"] == 1
    assert run["data"]["texts"] == 3


@pytest.mark.slow
def test_what_cannot_be_done_is_one_sentence(atoken, tiny, classes, tmp_path):
    base = ["--data", classes, "--out", tmp_path / "out"]
    for arguments, *named in (
        (["--protocol", "zero-shot"], "'tiny'", "text_tower"),
        (["--protocol", "zero-shot", "--layout", "folder"], "zero-shot", "--layout", "classes"),
        (["--protocol", "retrieval", "--layout", "classes"], "retrieval", "--layout", "coco"),
        (["--protocol", "zero-shot", "--metrics", "psnr"], "--metrics", "zero-shot"),
        (["--protocol", "zero-shot", "--reference", classes], "--reference", "zero-shot"),
        (["--protocol", "zero-shot", "--rates", "2"], "--rates", "zero-shot"),
        (["--protocol", "zero-shot", "--kind", "discrete"], "--kind", "zero-shot"),
        (["--protocol", "zero-shot", "--vgg16", "file"], "--vgg16", "zero-shot"),
    ):
        result = atoken("eval", tiny, *base, *arguments)
        assert result.exit_code == 2
        check_names(result.stderr, *named)
        assert not (tmp_path / "out").exists()

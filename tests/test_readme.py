"""The Python in the README and in the docs runs as it stands."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from atoken import PRESETS, AToken, GaussianConfig
from atoken.cli import app
from atoken.tokenizer.gaussian_head import GaussianDecoder

ROOT = Path(__file__).parents[1]
PHOTO = ROOT / "src/atoken/assets/photos/chelsea.jpg"
PAGES = ["README.md", *sorted(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/*.md"))]
RECIPES = sorted(str(page.relative_to(ROOT)) for page in ROOT.glob("recipes/**/*.md"))


def snippets(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if snippets(page)])
def test_snippets(page, tmp_path, monkeypatch, film):
    """In a folder with the files that they name; those of released checkpoints hold such tensors, small and random."""
    for name in ("photo.jpg", "a.jpg", "b.jpg"):
        shutil.copy(PHOTO, tmp_path / name)
    text = "".join(snippets(page))
    if "clip.mp4" in text:
        film.write("clip.mp4", "mpeg4", film.frames(130))
    if "chair.glb" in text:
        pytest.importorskip("trimesh").creation.box((1, 0.03, 0.03)).export(tmp_path / "chair.glb")
    if "atoken-soc.pt" in text:
        head = GaussianDecoder(GaussianConfig(64, 1, 1, 64, per_voxel=2))
        torch.save(AToken(PRESETS["tiny"]).state_dict(), tmp_path / "atoken-soc.pt")
        torch.save(head.state_dict(), tmp_path / "3d_decode_gs.pt")
    if "smollm2-135m" in text:
        pytest.importorskip("transformers")
        from small_language import language_model, text_tokenizer

        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        for part in (language_model(), text_tokenizer()):
            part.save_pretrained(tmp_path / "atoken/smollm2-135m")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in snippets(page):
        exec(compile(block, page, "exec"), names)
    written = re.findall(r"[\w.-]+\.(?:atok|ply|png)\b|eval-halves", text)
    assert written
    assert all((tmp_path / name).stat().st_size > 0 for name in written)


def commands(page: str) -> list[str]:
    """The lines of a page that call ``atoken``, in blocks of code and within text."""
    text = (ROOT / page).read_text()
    blocks = [block for kind, block in re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL) if kind in ("", "bash")]
    lines = [line for block in [*blocks, *re.findall(r"`(atoken [^`]+)`", text)] for line in block.splitlines()]
    lines += re.findall(r"^    (atoken .*)$", text, re.MULTILINE)
    return [part for line in lines for part in line.split("#")[0].split("&&") if part.strip().startswith("atoken ")]


@pytest.mark.parametrize("page", [page for page in [*PAGES, "MODEL_CARD.md", *RECIPES] if commands(page)])
def test_commands_and_their_options_are_there(page: str) -> None:
    """Those that the page calls, whatever the files that it names."""
    known: Any = typer.main.get_command(app)
    for line in commands(page):
        _, *words = line.split()
        command = known
        while words and words[0] in getattr(command, "commands", ()):
            command = command.commands[words.pop(0)]
        options = {name for parameter in command.params for name in parameter.opts} | {"--help", "--version"}
        assert command is not known or set(words) <= options, line
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= options, line


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text())
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    assert not missing

"""The Python in the README and in the docs runs as it stands."""

import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PHOTO = ROOT / "src/atoken/assets/photos/chelsea.jpg"


@pytest.mark.parametrize(
    ("page", "written"),
    [("README.md", "photo.atok"), ("docs/tokens.md", "photo.atok"), ("docs/evaluation.md", "eval-halves/items.jsonl")],
)
def test_snippets(page: str, written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("photo.jpg", "a.jpg", "b.jpg"):
        shutil.copy(PHOTO, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    assert (tmp_path / written).stat().st_size > 0


@pytest.mark.parametrize("page", ["README.md", *(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/*.md"))])
def test_links_lead_to_files(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text())
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    assert not missing

"""The code hash covers what a number depends on, however deep, and nothing else."""

from __future__ import annotations

import shutil

import pytest

from atoken.evaluation.provenance import ROOT, code_hash, code_version

DEEP = ("metrics/ms_ssim.py", "media/image/pillow.py", "tokens/tokens.py", "__init__.py")


@pytest.fixture
def package(tmp_path):
    ignore = shutil.ignore_patterns("*.safetensors", "*.jpg", "*.png", "*.mp4", "*.npz", "*.ply", "__pycache__")
    return shutil.copytree(ROOT, tmp_path / ROOT.name, ignore=ignore)


@pytest.mark.slow
def test_a_change_deep_in_the_imports_makes_another_hash(package):
    seen = {code_version()["sha256"]}
    assert code_hash(package) in seen
    for name in DEEP:
        with (package / name).open("a") as file:
            file.write("\n# changed\n")
        assert code_hash(package) not in seen, name
        seen.add(code_hash(package))


@pytest.mark.slow
def test_code_that_no_number_depends_on_does_not_count(package):
    for name in ("train/trainer.py", "demo/page.py", "cli/info.py"):
        with (package / name).open("a") as file:
            file.write("\n# changed\n")
    assert code_hash(package) == code_version()["sha256"]


def test_every_form_of_import_is_followed_and_those_for_type_checkers_are_not(tmp_path):
    root = tmp_path / "atoken"
    for folder in ("evaluation", "weights", "language", "far/off"):
        (root / folder).mkdir(parents=True)
    sources = {
        "evaluation/run.py": "import atoken.one\nfrom ..far import off\nfrom .. import two as other\n",
        "weights/load.py": "def f():\n    from atoken.three import x\n",
        "language/aligned.py": "if TYPE_CHECKING:\n    from ..unseen import T\nelse:\n    from ..four import T\n",
        **{f"{name}/__init__.py": "" for name in (".", "evaluation", "weights", "language", "far")},
        "far/off/__init__.py": "from .deep import y\n",
        "far/off/deep.py": "from ...five import z\n",
        **{f"{name}.py": "" for name in ("one", "two", "three", "four", "five", "unseen")},
    }
    for name, text in sources.items():
        (root / name).write_text(text)
    before = code_hash(root)
    for name, text in sources.items():
        (root / name).write_text(text + "# changed\n")
        assert (code_hash(root) == before) == (name == "unseen.py"), name
        (root / name).write_text(text)

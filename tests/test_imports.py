"""What is installed decides what works: the core needs no extra, and help needs no torch."""

import subprocess
import sys
from pathlib import Path

import pytest

EXTRAS = (
    "torchvision",
    *("av", "trimesh", "scipy", "matplotlib", "pandas", "cv2", "imageio", "transformers", "open_clip", "diffusers"),
    *("huggingface_hub", "yaml", "flash_attn", "spconv", "gsplat", "xformers", "timm", "gradio", "fastapi", "uvicorn"),
)
BLOCK = (
    f"import sys\nsys.modules.update(dict.fromkeys({EXTRAS!r}))  # importing one fails as if it were not installed\n"
)
WORK = """
import numpy as np, atoken
model = atoken.load("nano")
picture = np.zeros((20, 33, 3), np.uint8)
atoken.write_image("a.png", picture)
tokens = model.encode("a.png")
tokens.save("a.atok")
assert model.decode(atoken.Tokens.load("a.atok")).shape == picture.shape
assert model.embed(["a.png"]).shape == (1, 384)
"""


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_pictures_need_no_extra(tmp_path):
    done = python(BLOCK + WORK, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", ["import atoken", "from atoken.cli import app"])
def test_importing_loads_neither_torch_nor_numpy(code, tmp_path):
    check = "\nheavy = {'torch', 'numpy', 'PIL', 'safetensors'} & set(sys.modules)\nassert not heavy, heavy"
    done = python(f"import sys\n{code}{check}", tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", ["", "encode", "bench", "demo", "train", "generate"])
def test_help_answers_without_torch(command, tmp_path):
    code = f"""
import sys
sys.modules["torch"] = None  # importing it now fails
from atoken.cli import main
sys.argv = ["atoken", *{command.split()!r}, "--help"]
main()
"""
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Usage: atoken" in done.stdout


@pytest.mark.slow
def test_loading_a_model_imports_no_compiler(tmp_path):
    code = "import sys, atoken\natoken.load('nano')\nassert 'torch._dynamo' not in sys.modules"
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there():
    import atoken

    for name in atoken.__all__:
        assert getattr(atoken, name) is not None
    assert set(atoken.__all__) <= set(dir(atoken))
    with pytest.raises(AttributeError, match="lod"):
        _ = atoken.lod

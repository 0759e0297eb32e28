"""Shared pieces of the tests."""

from __future__ import annotations

import json
import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

from atoken import AToken, ModelConfig, read_image
from atoken.cli import app
from atoken.weights.load import build

logging.getLogger("c10d-NullHandler-dcp_logger").propagate = False  # DCP notes each of its steps

DATA = Path(__file__).parent / "data"


class Golden:
    """The recorded computation of the released code on a tiny model with random weights."""

    def __init__(self, path: Path) -> None:
        with safe_open(path, "pt") as file:
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self.config = json.loads(file.metadata()["config"])

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.tensors[name]

    def feats(self, case: str) -> torch.Tensor:
        return self[f"{case}/feats"].float()

    def state(self) -> dict[str, torch.Tensor]:
        return {name[8:]: t.float() for name, t in self.tensors.items() if name.startswith("weights/")}

    def model(self, **changes: int) -> AToken:
        c = self.config
        config = ModelConfig(
            "golden",
            width=c["width"],
            heads=c["heads"],
            encoder_depth=c["blocks"],
            decoder_depth=c["blocks"],
            mlp_width=c["mlp"],
            kinds=("continuous", "discrete"),
            **changes,
        )
        return build(config, self.state(), "cpu", torch.float32, "golden")


@pytest.fixture
def folder(tmp_path):
    """A collection of three pictures with some structure, the last one too small for a crop of 64."""
    rng = np.random.default_rng(0)
    index, offset, parts = [], 0, []
    for height, width, weight in ((80, 96, 1.0), (64, 64, 2.0), (48, 120, 1.0)):
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3)).repeat(8, 0).repeat(8, 1)
        picture = np.clip(coarse + rng.normal(0, 9, (height, width, 3)), 0, 255).astype(np.uint8)
        index.append({"offset": offset, "height": height, "width": width, "weight": weight})
        parts.append(picture.tobytes())
        offset += picture.size
    (tmp_path / "train.bin").write_bytes(b"".join(parts))
    (tmp_path / "train.json").write_text(json.dumps(index))
    return tmp_path


@pytest.fixture
def atoken():
    """Run a command; an exception that it lets through fails the test."""
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="session")
def golden() -> Golden:
    return Golden(DATA / "atoken_tiny.safetensors")


class Film:
    """Short clips out of a bundled photograph, written with PyAV."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        photos = Path(__file__).parents[1] / "src" / "atoken" / "assets" / "photos"
        self.photo = read_image(photos / "chelsea.jpg")

    def frames(
        self, count: int = 10, height: int = 48, width: int = 64, *, left: int = 150, top: int = 60
    ) -> np.ndarray:
        """A pan over the photograph: uint8 [count, height, width, 3]."""
        steps = [i % 64 for i in range(count)]
        shown = [self.photo[top + i : top + i + height, left + 2 * i : left + 2 * i + width] for i in steps]
        return np.stack(shown)

    def write(
        self,
        name: str,
        codec: str,
        frames: np.ndarray | None = None,
        *,
        pixel_format: str = "yuv420p",
        times: list[int] | None = None,
        rotation: int = 0,
        mirrored: bool = False,
        interlaced: bool = False,
        options: dict[str, str] | None = None,
        container: dict[str, str] | None = None,
        audio: str | None = None,
    ) -> Path:
        """A file of ``frames`` at 25 a second, or at ``times`` in milliseconds, with a sound of that codec."""
        av = pytest.importorskip("av")
        frames = self.frames() if frames is None else frames
        quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        flags = {"flags": "+ildct+ilme"} if interlaced else {}
        path = self.folder / name
        with av.open(str(path), "w", options=container or {}) as output:
            stream = output.add_stream(codec, rate=25, options={**quiet, **flags, **(options or {})})
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = pixel_format
            if rotation or mirrored:
                stream.set_display_rotation(rotation, hflip=mirrored)
            if times:
                stream.codec_context.time_base = Fraction(1, 1000)
            sound = output.add_stream(audio, rate=48000) if audio else None
            for index, pixels in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))
                frame.pts, frame.time_base = (times[index], Fraction(1, 1000)) if times else (index, Fraction(1, 25))
                output.mux(stream.encode(frame))
            if sound:
                output.mux(_tone(sound, len(frames) / 25))
                output.mux(sound.encode())
            output.mux(stream.encode())
        return path


def _tone(stream: Any, seconds: float) -> list[Any]:
    import av

    samples = np.sin(np.arange(int(48000 * seconds)) * 0.05, dtype=np.float32)[None].repeat(2, 0)
    resampler = av.AudioResampler(stream.format.name, stream.layout.name, 48000)
    packets: list[Any] = []
    for start in range(0, samples.shape[1] - 960, 960):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[:, start : start + 960]), "fltp", "stereo")
        frame.rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        for converted in resampler.resample(frame):
            packets += stream.encode(converted)
    return packets


@pytest.fixture
def film(tmp_path) -> Film:
    return Film(tmp_path)


class Here:
    """Stands for a pool of processes, and computes in this one."""

    def __init__(self, *arguments):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def submit(self, call, *arguments):
        value = call(*arguments)
        return type("Done", (), {"result": lambda self: value})()


@pytest.fixture
def pool_here() -> type[Here]:
    return Here

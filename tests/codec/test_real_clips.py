"""A real clip in thirteen files of seven containers and eleven codecs: as many frames, of that size, at those times."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from atoken import PRESETS, AToken, open_video
from atoken.codec.videos import join
from refusals import refused

pytest.importorskip("av")
ARCHIVE = Path(__file__).parent.parent / "data/clips.zip"
"""The first frames of a clip of the package iscc-samples 0.6.0 (CC BY 4.0) without its sound, the packets as they are
in its files there; ``hevc.mp4`` and ``av1.mkv`` were encoded from ``demo.mp4``. ``expected.json`` has the size and the
times of the same frames in the whole files, as PyAV alone reads them."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(path)
    return path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*pixels are not square")
def test_real_clips_there_and_back(folder):
    expected = json.loads((folder / "expected.json").read_text())
    assert len({known["container"] for known in expected.values()}) >= 6
    assert len({known["codec"] for known in expected.values()}) >= 4
    torch.manual_seed(0)
    model = AToken(PRESETS["tiny"]).eval()
    first = next(iter(open_video(folder / "demo.mp4", size=(144, 176)))).pixels.astype(float)
    for name, known in expected.items():
        video = open_video(folder / name)
        assert (video.facts.codec.lower(), video.frame_size) == (known["codec"], (known["height"], known["width"])), (
            name
        )
        shown = next(iter(open_video(folder / name, size=(144, 176)))).pixels
        assert np.abs(shown - first).mean() < 12, name  # the same picture, in the same colours
        small = open_video(folder / name, size=32)
        chunks = list(model.encode_stream(small))
        tokens = join(chunks)
        assert tokens.times.tolist() == pytest.approx(known["times"], abs=1e-3), name
        clips = list(model.decode_stream(iter(chunks)))
        frames = np.concatenate([clip.frames for clip in clips])
        assert frames.shape == (len(known["times"]), *small.frame_size, 3), name
        assert [time for clip in clips for time in clip.times] == tokens.times.tolist(), name
        assert np.array_equal(frames, model.decode(tokens)), name


@pytest.mark.parametrize("name", ["demo.avi", "demo.flv", "demo.wmv", "demo.mkv", "demo.webm", "hevc.mp4", "demo.gif"])
def test_no_cut_passes_for_complete(folder, tmp_path, name):
    data = (folder / name).read_bytes()
    for part in (0.97, 0.8, 0.6):
        (tmp_path / name).write_bytes(data[: int(len(data) * part)])
        with refused(tmp_path / name):
            list(open_video(tmp_path / name))

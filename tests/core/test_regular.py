"""Pipes, devices and sockets are opened by no reader, under whatever name and behind whatever link."""

import json
import os
import signal
import socket
from pathlib import Path

import numpy as np
import pytest

from atoken.cli.sources import owned_files
from atoken.codec.assets import read_any
from atoken.core.errors import ReadError
from atoken.core.regular import Folder, below, open_regular, read_regular
from atoken.data.tar_samples import samples
from atoken.engine.checkpoint_metadata import read_metadata
from atoken.evaluation.datasets.items import read_json
from atoken.gaussians.formats.files import read_splats
from atoken.media.arrays import read_npy
from atoken.media.image.files import read_image
from atoken.media.kinds import modality_of
from atoken.media.mesh import read_asset
from atoken.media.mesh.source import Source
from atoken.media.video.source import open_video
from atoken.media.views.packed import read_packed
from atoken.media.views.posed import read_views
from atoken.metrics.frechet import FeatureStatistics
from atoken.tokens.file import read_modality
from atoken.tokens.stream import TokenFile
from atoken.tokens.tokens import Tokens
from atoken.train.config import read_config
from atoken.weights.files import read_safetensors, read_state_dict
from refusals import refused

READERS = {
    "a.png": read_image,
    "a.mp4": open_video,
    "a.gif": open_video,
    "a.glb": read_asset,
    "b.glb": lambda path: Source(path),
    "a.ply": read_any,
    "b.ply": read_splats,
    "a.splat": read_splats,
    "a.sog": read_splats,
    "meta.json": read_splats,
    "a.npz": read_packed,
    "a.npy": lambda path: read_npy(path, 100),
    "transforms.json": lambda path: read_views(path.parent),
    "a.atok": Tokens.load,
    "b.atok": TokenFile,
    "a.safetensors": read_safetensors,
    "b.safetensors": FeatureStatistics.load,
    "a.pt": read_state_dict,
    "a.tar": lambda path: list(samples(str(path))),
    "a.yaml": read_config,
    "a.json": read_json,
    ".metadata": lambda path: read_metadata(path.parent),
}


@pytest.fixture
def alarm():
    """A reader that waits fails, instead of waiting for ever."""

    def end(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_no_reader_opens_what_is_no_regular_file(tmp_path, alarm, name, kind):
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null")  # where /dev/zero would eat the memory of who opens it
    with refused(path, kind):
        READERS[name](path)


def test_what_only_looks_at_the_first_bytes_does_not_wait(tmp_path, alarm):
    for name in ("a.gif", "a.atok"):
        os.mkfifo(tmp_path / name)
    assert modality_of(tmp_path / "a.gif") == "image"
    assert read_modality(tmp_path / "a.atok") is None


def test_a_socket_is_refused_and_a_folder_or_missing_file_has_its_own_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with refused("socket", error=ReadError):
            open_regular("socket")
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(FileNotFoundError, match="gone"):
        open_regular(tmp_path / "gone")


NAMES = ["", "a\0b", "\ud800.png", 3, None, "../a", "a/../../b", "/etc/passwd", "x" * 5000, "ü" * 200]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_out_or_cannot_be_are_refused_and_others_not(tmp_path, name):
    with refused("table.json", error=ReadError):
        below(tmp_path, name, "table.json")
    assert below(tmp_path, "a/..b\udcff.png", "table.json") == tmp_path / "a" / "..b\udcff.png"


@pytest.mark.parametrize("name", NAMES)
def test_no_list_of_files_reads_outside_or_ends_in_an_odd_error(tmp_path, name):
    frame = {"file_path": name, "transform_matrix": np.eye(4).tolist()}
    (tmp_path / "transforms.json").write_text(json.dumps({"camera_angle_x": 0.8, "frames": [frame]}))
    parts = {part: {"files": [name, name]} for part in ("means", "scales", "quats", "sh0")}
    parts["means"] |= {"mins": [0, 0, 0], "maxs": [1, 1, 1]}
    (tmp_path / "meta.json").write_text(json.dumps({"version": 2, "count": 1, **parts}))
    for table, read in (("transforms.json", read_any), ("meta.json", read_splats)):
        with refused(table, error=ReadError):
            read(tmp_path / table)
        assert owned_files(tmp_path / table) == []


def test_a_regular_file_behind_a_link_is_read(tmp_path):
    (tmp_path / "real").write_bytes(b"content")
    (tmp_path / "link").symlink_to("real")
    assert read_regular(tmp_path / "link") == b"content"
    with open_regular(tmp_path / "link") as file:
        assert Path(file.name).name == "link"


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_a_list_of_clips_opens_none_of_them(tmp_path, alarm, name):
    """FFmpeg would wait for what is written into the pipe."""
    os.mkfifo(tmp_path / "pipe.ts")
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\npipe.ts\n#EXT-X-ENDLIST\n"
    for text in ("ffconcat version 1.0\nfile pipe.ts\n", playlist):
        (tmp_path / name).write_text(text)
        with refused(tmp_path / name, error=ReadError):
            open_video(tmp_path / name)


def test_files_of_a_folder_are_resolved_as_the_system_does_it_and_folders_once(tmp_path, monkeypatch):
    (tmp_path / "set/below").mkdir(parents=True)
    (tmp_path / "set/out").symlink_to(tmp_path)
    (tmp_path / "set/in").symlink_to("below")
    (tmp_path / "set/loop").symlink_to("loop")
    (tmp_path / "set/below/a").touch()
    (tmp_path / "set/out.png").symlink_to("../secret.png")
    (tmp_path / "link").symlink_to("set")
    inside = ["a", "below/a", "in/a", "in", "missing/a", ".", "below/..", "below/../a", "in/../in/a", "loop", ""]
    outside = ["..", "../a", "out/a", "out.png", "/etc/passwd", "below/../../a", "../set-2/a", "out"]
    for way in ("set", "link"):
        folder = Folder(tmp_path / way)
        for name in inside + outside:
            path = os.path.join(tmp_path, way, name)
            assert folder.real(path) == os.path.realpath(path)
            assert folder.holds(path) is (name in inside), name
    asked = []
    whole = os.path.realpath
    monkeypatch.setattr("os.path.realpath", lambda path: asked.append(path) or whole(path))
    folder = Folder(tmp_path / "set")
    assert all(folder.holds(tmp_path / f"set/below/{number}.png") for number in range(1000))
    assert len(asked) == 2


def test_frames_resolve_their_folder_and_not_each_file(tmp_path, monkeypatch):
    """100,000 frames took 28 s."""
    frames = [{"file_path": f"./r_{number}", "mask_path": f"m/{number}.png"} for number in range(100)]
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": frames}))
    for number in range(100):
        for name in (f"r_{number}.png", f"r_{number}_depth.png"):
            (tmp_path / name).touch()
    asked = []
    whole = os.path.realpath
    monkeypatch.setattr("os.path.realpath", lambda path: asked.append(path) or whole(path))
    assert len(owned_files(tmp_path / "transforms.json")) == 200
    assert len(asked) < 10

"""Posed RGB-D views: the intrinsics and depths that people have, and lists of frames that are none."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atoken.cli.sources import owned_files
from atoken.codec.assets import read_any
from atoken.core.errors import ReadError
from atoken.media.image.files import write_image
from atoken.media.views.cameras import Cameras, orbit
from atoken.media.views.posed import Lens, read_views
from atoken.media.views.views import MOST_PIXELS, ViewOptions, Views
from refusals import check_names, refused

DATA = Path(__file__).parents[1] / "data/inputs"
SIDE = 64
FOCAL = SIDE / 2 / math.tan(math.radians(20))
FAR = 0.6
BACK = [[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, FAR], [0, 0, 0, 1]]
"""A camera at z = FAR that looks along -z."""


def wall(
    folder: Path, top: dict | None = None, frame: dict | None = None, size: tuple[int, int] = (SIDE, SIDE)
) -> Path:
    """One frame of a wall at z = 0, a gradient in red over columns and green over rows."""
    height, width = size
    row, column = np.mgrid[:height, :width]
    colour = np.stack([column * 4 % 256, row * 4 % 256, np.full_like(row, 9)], -1).astype(np.uint8)
    write_image(folder / "a.png", colour)
    np.save(folder / "a_depth.npy", np.full(size, FAR, np.float32))
    frame = {"file_path": "a.png", "depth_path": "a_depth.npy", "transform_matrix": BACK, **(frame or {})}
    (folder / "transforms.json").write_text(json.dumps({**(top or {}), "frames": [frame]}))
    return folder


def intrinsics(views: Views) -> tuple[float, float, float, float]:
    k = views.cameras.intrinsics[0]
    return float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])


@pytest.mark.parametrize(
    "top",
    [
        {"camera_angle_x": math.radians(40)},
        {"fl_x": FOCAL, "fl_y": FOCAL, "cx": SIDE / 2, "cy": SIDE / 2, "w": SIDE, "h": SIDE},
        {"fl_x": 2 * FOCAL, "cx": SIDE, "cy": SIDE, "w": 2 * SIDE, "h": 2 * SIDE},  # of the pictures before scaling
        {"fl_x": FOCAL, "camera_angle_x": math.radians(40.3)},  # pixels count before angles
        {"camera_angle_y": math.radians(40)},
    ],
)
def test_intrinsics_as_nerf_nerfstudio_and_instant_ngp_have_them(tmp_path, top):
    views = read_views(wall(tmp_path, top), size=SIDE)
    assert intrinsics(views) == pytest.approx((FOCAL, FOCAL, 32, 32), rel=1e-5)
    torch.testing.assert_close(views.points()[:, 2], torch.zeros(SIDE * SIDE), atol=1e-5, rtol=0)


def test_intrinsics_of_a_frame_count_before_those_at_the_top(tmp_path):
    views = read_views(wall(tmp_path, {"fl_x": 10}, {"fl_x": FOCAL}), size=SIDE)
    assert intrinsics(views)[0] == pytest.approx(FOCAL)


@pytest.mark.parametrize(
    ("top", "frame"), [({"fl_x": FOCAL, "camera_angle_x": 1.2}, {}), ({"camera_angle_x": 1.2}, {"fl_x": FOCAL})]
)
def test_intrinsics_that_contradict_are_said_so(tmp_path, top, frame):
    with pytest.warns(UserWarning, match=r"transforms\.json") as caught:
        views = read_views(wall(tmp_path, top, frame), size=SIDE)
    check_names(str(caught[0].message), "fl_x", "camera_angle_x")
    assert intrinsics(views)[0] == pytest.approx(FOCAL)


def test_the_angle_of_a_frame_counts_before_the_focal_length_of_all(tmp_path):
    views = read_views(wall(tmp_path, {"fl_x": 10}, {"camera_angle_x": math.radians(40)}), size=SIDE)
    assert intrinsics(views)[:2] == pytest.approx((FOCAL, FOCAL))


@pytest.mark.parametrize("way", ["alpha", "mask", "small mask"])
def test_what_alpha_or_a_mask_leaves_out_is_nothing(tmp_path, way):
    folder = wall(tmp_path, {"fl_x": FOCAL}, {} if way == "alpha" else {"mask_path": "m.png"})
    kept = np.zeros((SIDE, SIDE), np.uint8)
    kept[:, 32:] = 255
    if way == "alpha":
        rgb = np.asarray(Image.open(folder / "a.png"))
        Image.fromarray(np.dstack([rgb, kept])).save(folder / "a.png")
    else:
        Image.fromarray(kept if way == "mask" else kept[::2, ::2]).save(folder / "m.png")
        assert folder / "m.png" in owned_files(folder / "transforms.json")
    np.testing.assert_array_equal(read_views(folder, size=SIDE).mask[0], kept > 0)


def test_pictures_are_read_as_they_are_stored(tmp_path):
    folder = wall(tmp_path, {"fl_x": FOCAL}, {"file_path": "a.jpg", "depth_path": "a_depth.npy"})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(folder / "a.png").save(folder / "a.jpg", quality=95, exif=exif)
    views, plain = read_views(folder, size=SIDE), np.asarray(Image.open(folder / "a.png")).astype(int)
    assert np.abs(views.colour[0] - plain).mean() < 6


def test_names_as_windows_writes_them(tmp_path):
    folder = wall(tmp_path, {"fl_x": FOCAL}, {"file_path": ".\\images\\a", "depth_path": "images\\a_depth.npy"})
    (folder / "images").mkdir()
    for name in ("a.png", "a_depth.npy"):
        (folder / name).rename(folder / "images" / name)
    assert read_views(folder, size=SIDE).mask.any()
    with refused("transforms.json", "outside", error=ReadError):
        read_views(wall(tmp_path, {"fl_x": FOCAL}, {"file_path": "..\\a.png"}), size=SIDE)


def test_names_with_dots_and_without_a_suffix(tmp_path):
    folder = wall(
        tmp_path, {"fl_x": FOCAL, "depth": {"min": 0.1, "max": 2}}, {"file_path": "frame.0001", "depth_path": None}
    )
    (folder / "a.png").rename(folder / "frame.0001.png")
    Image.fromarray(np.full((SIDE, SIDE), 20000, np.uint16)).save(folder / "frame.0001_depth.png")
    assert read_views(folder, size=SIDE).mask.all()


def test_a_principal_point_off_the_centre_and_two_focal_lengths(tmp_path):
    views = read_views(wall(tmp_path, {"fl_x": 80, "fl_y": 100, "cx": 20, "cy": 40}), size=SIDE // 2)
    assert intrinsics(views) == pytest.approx((40, 50, 10, 20))
    points = views.points()
    assert float(points[:, 0].min()) == pytest.approx((1 - 20) / 80 * FAR, abs=1e-4), "the first pixel's centre"
    assert float(points[:, 1].max()) == pytest.approx((40 - 1) / 100 * FAR, abs=1e-4)


def test_pictures_that_are_not_square_keep_their_form(tmp_path):
    views = read_views(wall(tmp_path, {"fl_x": 2 * FOCAL}, size=(SIDE // 2, SIDE)), size=SIDE)
    assert intrinsics(views) == pytest.approx((2 * FOCAL, 2 * FOCAL, 32, 16), rel=1e-5)
    assert np.isfinite(views.depth[0, : SIDE // 2]).all()
    assert np.isinf(views.depth[0, SIDE // 2 :]).all()


def test_distortion_is_undone(tmp_path):
    """A straight line of the scene, bent in the picture by the lens, is straight again."""
    size, k1, p1 = 128, 0.2, 0.01
    lens = Lens(100, 100, 64, 64, (k1, 0, 0, p1, 0))
    row, column = np.mgrid[:size, :size].astype(float)
    x, y = (column + 0.5 - 64) / 100, (row + 0.5 - 64) / 100
    for _ in range(50):  # where each pixel of the distorted picture comes from
        square = x * x + y * y
        x = ((column + 0.5 - 64) / 100 - 2 * p1 * x * y) / (1 + k1 * square)
        y = ((row + 0.5 - 64) / 100 - p1 * (square + 2 * y * y)) / (1 + k1 * square)
    scene = np.clip(128 + 150 * x, 0, 255)
    bent = np.repeat(scene[..., None], 3, 2).astype(np.uint8)
    colour, depth = lens.undistorted(bent, np.full((size, size), 2, np.float32))
    plain = np.clip(128 + 150 * ((np.arange(size) + 0.5 - 64) / 100), 0, 255)
    inside = np.isfinite(depth)
    assert 0.6 < inside.mean() < 1, "the corners lie outside of the picture"
    error = np.abs(colour[..., 0].astype(float) - plain)[inside]
    assert error.max() < 2.5
    assert np.abs(bent[..., 0].astype(float) - plain).max() > 5


@pytest.mark.parametrize(
    ("top", "named"),
    [
        ({}, ["fl_x", "camera_angle_x"]),
        ({"camera_angle_x": 0}, ["camera_angle_x", "0"]),
        ({"camera_angle_x": math.pi}, ["camera_angle_x", "3.14"]),
        ({"camera_angle_x": float("nan")}, ["camera_angle_x", "nan"]),
        ({"camera_angle_x": 10**400}, ["camera_angle_x"]),
        ({"camera_angle_x": "1"}, ["camera_angle_x"]),
        ({"fl_x": -3}, ["fl_x", "-3"]),
        ({"fl_x": 1e-300, "k1": 0.1}, ["fl_x", "1e-300"]),
        ({"fl_x": FOCAL, "k4": 0.1}, ["k4"]),
        ({"fl_x": FOCAL, "ftheta_p0": 0.0, "ftheta_p1": 9e2}, ["ftheta_p1"]),
        ({"fl_x": FOCAL, "latlong": True}, ["latlong"]),
        ({"fl_x": FOCAL, "camera_model": "OPENCV_FISHEYE"}, ["camera_model", "OPENCV_FISHEYE"]),
        ({"fl_x": FOCAL, "w": 64, "h": 48}, ["64 x 48"]),
        ({"fl_x": FOCAL, "cx": 1e9}, ["cx"]),
        ({"fl_x": FOCAL, "k1": [1]}, ["k1"]),
    ],
)
def test_intrinsics_that_cannot_be(tmp_path, top, named):
    with refused("transforms.json", *named, error=ReadError):
        read_views(wall(tmp_path, top), size=SIDE)


@pytest.mark.parametrize(
    "pose",
    [np.zeros((4, 4)).tolist(), [[1, 0], [0, 1]], "x", [[float("nan")] * 4] * 4, [[10**400] * 4] * 4, None,
     np.diag([1, 1, -1, 1]).tolist(), [*BACK[:3], [0, 0, 0, 2]]],
)  # fmt: skip
def test_poses_that_are_none(tmp_path, pose):
    with refused("transforms.json", "transform_matrix", error=ReadError):
        read_views(wall(tmp_path, {"fl_x": FOCAL}, {"transform_matrix": pose}), size=SIDE)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"frames": []}', '{"frames": 3}', "[]", "", '{"frames": [3]}', "\udcff"]
)
def test_lists_that_are_none(tmp_path, text):
    (tmp_path / "transforms.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with refused("transforms.json", error=ReadError):
        read_views(tmp_path)
    assert owned_files(tmp_path / "transforms.json") == []


def depth_file(folder: Path, raw: np.ndarray, mode: str | None = None, suffix: str = ".png") -> dict:
    path = folder / f"d{suffix}"
    if suffix == ".npy":
        np.save(path, raw)
    else:
        Image.fromarray(raw, mode).save(path) if mode is None else Image.fromarray(raw).convert(mode).save(path)
    return {"depth_path": path.name}


def test_depth_in_steps_of_a_unit(tmp_path):
    raw = np.full((SIDE, SIDE), 600, np.uint16)
    raw[0] = 0
    for key, suffix in (("depth_unit_scale_factor", ".png"), ("integer_depth_scale", ".npy")):
        frame = depth_file(tmp_path, raw, suffix=suffix)
        views = read_views(wall(tmp_path, {"fl_x": FOCAL, key: 1e-3}, frame), size=SIDE)
        np.testing.assert_allclose(views.depth[0, 1:], FAR, rtol=1e-6)
        assert np.isinf(views.depth[0, 0]).all(), "0 is nothing"


def test_depth_between_two_numbers(tmp_path):
    raw = np.full((SIDE, SIDE), 32767, np.uint16)
    raw[0], raw[1] = 0, 65535
    frame = depth_file(tmp_path, raw) | {"depth": {"min": 0.2, "max": 1}}
    views = read_views(wall(tmp_path, {"fl_x": FOCAL}, frame), size=SIDE)
    np.testing.assert_allclose(views.depth[0, 2:], FAR, atol=1e-4)
    assert np.isinf(views.depth[0, :2]).all()


@pytest.mark.parametrize(
    ("raw", "mode", "suffix", "named"),
    [
        (np.zeros((64, 64), np.uint8), None, ".png", ["16 bits", "L"]),
        (np.zeros((64, 64, 4), np.uint8), None, ".png", ["16 bits", "RGBA"]),
        (np.zeros((64, 64, 3), np.uint8), "P", ".png", ["16 bits", "P"]),
        (np.zeros((64, 64), np.uint8), "1", ".png", ["16 bits", "1"]),
        (np.zeros((64, 64), np.uint16), None, ".png", ["unit", "depth_unit_scale_factor"]),
        (np.zeros((64, 64), np.int32), None, ".npy", ["unit"]),
        (np.zeros((64, 64), np.complex64), None, ".npy", ["complex64"]),
        (np.zeros((64, 64, 3), np.float32), None, ".npy", [3]),
        (np.float32(3), None, ".npy", ["shape []"]),
        (np.zeros((0, 0), np.float32), None, ".npy", ["0, 0"]),
        (np.array([["a"]]), None, ".npy", ["U1"]),
        (np.zeros((10, 64), np.float32), None, ".npy", ["64 x 10"]),
    ],
)
def test_depths_that_are_none(tmp_path, raw, mode, suffix, named):
    frame = depth_file(tmp_path, raw, mode, suffix)
    with refused(frame["depth_path"], *named, error=ReadError):
        read_views(wall(tmp_path, {"fl_x": FOCAL}, frame), size=SIDE)


@pytest.mark.parametrize("name", ["depth_tokenerror.npy", "depth_syntaxerror.png"])
def test_damaged_depths(tmp_path, name):
    (tmp_path / name).write_bytes((DATA / "broken" / name).read_bytes())
    with refused(name, error=ReadError):
        read_views(wall(tmp_path, {"fl_x": FOCAL}, {"depth_path": name}), size=SIDE)


def test_depths_that_announce_more_than_they_hold(tmp_path):
    np.save(tmp_path / "d.npy", np.ones((4, 4), np.float32))
    data = (tmp_path / "d.npy").read_bytes()
    (tmp_path / "d.npy").write_bytes(data.replace(b"(4, 4), }" + b" " * 10, b"(99999, 999999), }"[:19].ljust(19)))
    for shape in ("(40000, 1000)", "(99999, 99999)"):
        head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
        (tmp_path / "d.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(64))
        with refused("d.npy", error=ReadError):
            read_views(wall(tmp_path, {"fl_x": FOCAL}, {"depth_path": "d.npy"}), size=SIDE)


@pytest.mark.slow
def test_limits_hold_for_pictures_and_depths(tmp_path):
    folder = wall(tmp_path, {"fl_x": FOCAL}, depth_file(tmp_path, np.zeros((128, 128), np.uint16)))
    with refused("d.png", 128 * 128, "max_pixels"):
        read_views(folder, size=SIDE, max_pixels=SIDE * SIDE)
    with refused("a.png", SIDE * SIDE, "max_pixels"):
        read_views(folder, size=SIDE, max_pixels=100)
    table = json.loads((folder / "transforms.json").read_text())
    table["frames"] *= MOST_PIXELS // SIDE**2 + 1
    (folder / "transforms.json").write_text(json.dumps(table))
    with refused("transforms.json", len(table["frames"]), error=ReadError):
        read_views(folder, size=SIDE)


def test_depths_and_cameras_out_of_this_world(tmp_path):
    folder = wall(tmp_path, {"fl_x": FOCAL})
    np.save(folder / "a_depth.npy", np.full((SIDE, SIDE), 1e38, np.float32))
    with refused("transforms.json", "depth", error=ReadError):
        read_views(folder, size=SIDE)
    far = [[1.0, 0, 0, 1e38], *BACK[1:]]
    with refused("transforms.json", "transform_matrix", error=ReadError):
        read_views(wall(tmp_path, {"fl_x": FOCAL}, {"transform_matrix": far}), size=SIDE)


def test_eight_bit_depths_of_four_channels():
    with refused("r_0_depth.png", "RGBA", "16 bits", error=ReadError):
        read_views(DATA / "posed/rgba8")


@pytest.mark.parametrize("key", ["file_path", "depth_path"])
@pytest.mark.parametrize("name", ["../b.png", "link.png", 3, "a\0.png"])
def test_frames_name_nothing_outside_their_folder(tmp_path, key, name):
    (tmp_path / "in").mkdir()
    folder = wall(tmp_path / "in", {"fl_x": FOCAL}, {key: name})
    write_image(tmp_path / "b.png", np.zeros((SIDE, SIDE, 3), np.uint8))
    (folder / "link.png").symlink_to(tmp_path / "b.png")
    with refused("transforms.json", *([name] if isinstance(name, str) and "\0" not in name else [key])):
        read_views(folder, size=SIDE)


def test_missing_pictures_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        read_views(wall(tmp_path, {"fl_x": FOCAL}, {"file_path": "gone"}), size=SIDE)
    with pytest.raises(FileNotFoundError, match=r"a_depth\.png"):
        read_views(wall(tmp_path, {"fl_x": FOCAL}, {"depth_path": None}), size=SIDE)


def test_what_lies_outside_the_cube_is_brought_there(tmp_path):
    pose = [[1.0, 0, 0, 70], [0, 1, 0, 0], [0, 0, 1, 20], [0, 0, 0, 1]]
    folder = wall(tmp_path, {"fl_x": FOCAL}, {"transform_matrix": pose})
    np.save(folder / "a_depth.npy", np.full((SIDE, SIDE), 20, np.float32))
    with pytest.warns(UserWarning, match=r"transforms\.json: 100%"):
        views = read_views(folder, size=SIDE)
    points, out = views.points().double(), torch.tensor(views.transform).double()
    assert float(points.abs().max()) <= 0.5 + 1e-4
    assert float(points.abs().amax(0).max()) == pytest.approx(0.5, abs=1e-3)
    own = points @ out[:3, :3].T + out[:3, 3]
    assert float(own[:, 0].mean()) == pytest.approx(70, abs=0.01)
    torch.testing.assert_close(own[:, 2], torch.zeros(len(own)).double(), atol=1e-3, rtol=0)
    _, depth = views.cameras.project(views.points())
    np.testing.assert_allclose(depth[0], 20 / views.transform[0][0], rtol=1e-4)


def test_the_files_of_a_set(tmp_path):
    folder = wall(tmp_path, {"fl_x": FOCAL})
    write_image(tmp_path / "other.png", np.zeros((16, 16, 3), np.uint8))
    assert [path.name for path in owned_files(folder / "transforms.json")] == ["a.png", "a_depth.npy"]
    assert owned_files(folder / "a.png") == []


def test_posed_views_take_no_cameras_and_no_light(tmp_path):
    folder = wall(tmp_path, {"fl_x": FOCAL})
    for options in (ViewOptions(views=4), ViewOptions(light="studio")):
        with refused(folder.name, "chosen"):
            read_any(folder, options)
    assert read_any(folder, ViewOptions(light="none", size=SIDE)).light == "none"


def test_views_of_nothing(tmp_path):
    folder = wall(tmp_path, {"fl_x": FOCAL})
    np.save(folder / "a_depth.npy", np.zeros((SIDE, SIDE), np.float32))
    with refused("transforms.json", "nothing", error=ReadError):
        read_views(folder, size=SIDE)


def test_posed_views_come_back(tmp_path):
    """Views written as a NeRF data set are the same again."""
    cameras = orbit(torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 0.6, 0.8]]), fov=40, size=SIDE, distance=2)
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    depth = np.full((3, SIDE, SIDE), np.inf, np.float32)
    depth[:, 20:40, 20:40] = 2
    frames = []
    for index in range(3):
        write_image(tmp_path / f"{index}.png", colour[index])
        np.save(tmp_path / f"{index}_depth.npy", np.where(np.isfinite(depth[index]), depth[index], 0))
        c2w = np.linalg.inv(cameras.w2c[index].double().numpy()) @ np.diag([1.0, -1, -1, 1])
        frames.append(
            {"file_path": f"{index}.png", "depth_path": f"{index}_depth.npy", "transform_matrix": c2w.tolist()}
        )
    (tmp_path / "transforms.json").write_text(json.dumps({"camera_angle_x": np.radians(40), "frames": frames}))
    again = read_views(tmp_path, size=SIDE)
    assert isinstance(again.cameras, Cameras)
    torch.testing.assert_close(again.cameras.w2c, cameras.w2c, atol=1e-5, rtol=0)
    torch.testing.assert_close(again.cameras.intrinsics, cameras.intrinsics, atol=1e-3, rtol=0)
    np.testing.assert_array_equal(again.colour, colour)
    np.testing.assert_allclose(again.depth, depth)
    assert again.transform is None, "it lies inside the cube"


def test_a_table_that_is_larger_than_any(tmp_path):
    """Of a file of holes alone, which takes no room on the disk, all was read."""
    path = tmp_path / "transforms.json"
    with path.open("wb") as file:
        file.truncate(2**40)
    with refused(path, "bytes", error=ReadError):
        read_views(tmp_path)
    assert owned_files(path) == []

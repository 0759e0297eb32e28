"""Splat files as .ply: inverses, an independent reader, other writers' kinds, and files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from atoken import Gaussians
from atoken.core.errors import ReadError
from atoken.gaussians.formats.ply import PROPERTIES, is_splat
from atoken.gaussians.types import TENSORS, multiply_quaternions, rotation_matrices, rotation_to_quaternion
from refusals import refused


def foreign_read(path: Path) -> np.ndarray:
    """The vertices as trimesh reads them."""
    return trimesh.load(path).metadata["_ply_raw"]["vertex"]["data"]


def foreign_write(path: Path, table: np.ndarray, text: bool = False) -> None:
    """The vertices as big-endian numbers or text, and another element behind them, lines ending as on Windows."""
    names = {"f4": "float", "f8": "double", "u4": "uint32"}
    lines = ["ply", f"format {'ascii' if text else 'binary_big_endian'} 1.0", "comment by hand"]
    lines += [f"element vertex {len(table)}"]
    lines += [f"property {names[kind.str[1:]]} {name}" for name, (kind, _) in table.dtype.fields.items()]
    lines += ["element face 1", "property list uchar int vertex_indices", "end_header", ""]
    swapped = table.astype(table.dtype.newbyteorder(">"))
    body = "".join(" ".join(map(repr, row)) + "\r\n" for row in table.tolist()).encode() if text else swapped.tobytes()
    path.write_bytes("\r\n".join(lines).encode() + body + (b"3 0 1 2" if text else b"\x01\0\0\0\0"))


def same(a: Gaussians, b: Gaussians) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in TENSORS)


def test_writing_and_reading_are_exact_inverses(cloud, tmp_path):
    gaussians = cloud(500)
    gaussians.save(tmp_path / "a.ply")
    loaded = Gaussians.load(tmp_path / "a.ply")
    assert same(gaussians, loaded)
    loaded.save(tmp_path / "b.ply")
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()
    assert is_splat(tmp_path / "a.ply")


def test_an_independent_reader_finds_the_same_ellipsoids_turned_upside_down(cloud, tmp_path):
    """Read as viewers read it: covariances from exp(scale) and the quaternion, sigmoid, degree 0, y down."""
    gaussians = cloud(50)
    gaussians.save(tmp_path / "a.ply")
    vertex = foreign_read(tmp_path / "a.ply")
    assert vertex.dtype.names == PROPERTIES

    def read(*names: str) -> np.ndarray:
        return np.stack([vertex[name] for name in names], 1).astype(np.float64)

    turned = np.diag([-1.0, -1.0, 1.0])
    np.testing.assert_array_equal(read("x", "y", "z"), gaussians.means.numpy().astype(np.float64) @ turned)
    w, x, y, z = (read(*(f"rot_{i}" for i in range(4))) / np.linalg.norm(gaussians.rotations, axis=1)[:, None]).T
    axes = np.stack(  # where the Gaussian's own axes point, column by column
        [
            [1 - 2 * (y**2 + z**2), 2 * (x * y + w * z), 2 * (x * z - w * y)],
            [2 * (x * y - w * z), 1 - 2 * (x**2 + z**2), 2 * (y * z + w * x)],
            [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x**2 + y**2)],
        ]
    ).transpose(2, 1, 0)
    sizes = np.exp(read("scale_0", "scale_1", "scale_2"))
    theirs = (axes * sizes[:, None] ** 2) @ axes.transpose(0, 2, 1)
    ours = rotation_matrices(gaussians.rotations) * gaussians.scales[:, None]
    ours = (ours @ ours.mT).numpy()
    np.testing.assert_allclose(theirs, turned @ ours @ turned, atol=1e-6)
    np.testing.assert_allclose(1 / (1 + np.exp(-vertex["opacity"])), gaussians.opacities, atol=1e-6)
    rgb = np.maximum(0, 0.5 + 0.28209479177387814 * read("f_dc_0", "f_dc_1", "f_dc_2"))
    np.testing.assert_allclose(rgb, gaussians.rgb, atol=1e-6)


@pytest.mark.parametrize("text", [True, False])
def test_files_of_other_writers(cloud, tmp_path, text):
    """Text, big-endian, doubles, another order, surplus properties, faces behind the vertices."""
    gaussians = cloud(20)
    gaussians.save(tmp_path / "a.ply")
    ours = foreign_read(tmp_path / "a.ply")
    names = [*reversed(PROPERTIES), "extra"]
    table = np.zeros(20, [(name, "f8" if name in "xyz" else "f4") for name in names])
    for name in PROPERTIES:
        table[name] = ours[name]
    foreign_write(tmp_path / "b.ply", table, text)
    with pytest.warns(UserWarning, match="extra"):
        loaded = Gaussians.load(tmp_path / "b.ply")
    torch.testing.assert_close(loaded.means, gaussians.means)
    torch.testing.assert_close(loaded.rotations, gaussians.rotations)


def test_directional_colours_are_announced(cloud, tmp_path):
    cloud(5).save(tmp_path / "a.ply")
    ours = foreign_read(tmp_path / "a.ply")
    table = np.ones(5, [*((name, "f4") for name in PROPERTIES), ("f_rest_0", "f4"), ("f_rest_1", "f4")])
    for name in PROPERTIES:
        table[name] = ours[name]
    foreign_write(tmp_path / "b.ply", table)
    with pytest.warns(UserWarning, match=r"b\.ply.* 2 .*directions"):
        assert same(Gaussians.load(tmp_path / "b.ply"), cloud(5))


def mesh(path, cloud):
    foreign_write(path, np.zeros(4, [("x", "f4"), ("y", "f4"), ("z", "f4")]))


def compressed(path, cloud):
    foreign_write(path, np.zeros(4, [("packed_position", "u4")]))


def cut(path, cloud):
    cloud(10).save(path)
    path.write_bytes(path.read_bytes()[:-70])


def nan(path, cloud):
    cloud(10).save(path)
    path.write_bytes(path.read_bytes()[:-4] + np.float32("nan").tobytes())


def none_in_it(path, cloud):
    cut(path, cloud)
    header = path.read_bytes().split(b"end_header\n")[0].replace(b"vertex 10", b"vertex 0")
    path.write_bytes(header + b"end_header\n")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda path, cloud: path.write_bytes(b""), ["empty"]),
        (lambda path, cloud: path.write_bytes(b"solid cube"), ["no PLY"]),
        (lambda path, cloud: path.write_bytes(b"ply\nformat binary_little_endian 1.0\nend_header\n"), ["header"]),
        (mesh, ["f_dc_0"]),
        (compressed, ["compressed"]),
        (cut, ["10", "8"]),
        (nan, ["rot_3", "NaN", "1 of 10"]),
        (none_in_it, ["no Gaussians"]),
    ],
)
def test_files_that_are_no_splats(cloud, tmp_path, fault, words):
    path = tmp_path / "bad.ply"
    fault(path, cloud)
    with refused(path, *words, error=ReadError):
        Gaussians.load(path)


def test_what_is_not_written(cloud, tmp_path):
    gaussians = cloud(5)
    with refused("a.glb", ".ply", ".spz"):
        gaussians.save(tmp_path / "a.glb")
    gaussians.means[2, 1] = float("nan")
    with refused("1 of 5", "NaN", "means"):
        gaussians.save(tmp_path / "a.ply")
    assert not list(tmp_path.iterdir())


def test_moving_into_the_frame_of_the_asset(cloud, tmp_path):
    from dataclasses import replace

    gaussians = cloud(30, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(3)).double()).Q
    turn = turn * turn.det().sign()
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3], matrix[:3, 3] = 2.5 * turn, torch.tensor([1.0, 2.0, 3.0])
    moved = gaussians.transformed(matrix)
    torch.testing.assert_close(moved.means, gaussians.means @ (2.5 * turn).T + matrix[:3, 3])
    axes = rotation_matrices(gaussians.rotations) * gaussians.scales[:, None]
    expected = 2.5**2 * turn @ (axes @ axes.mT) @ turn.T
    axes = rotation_matrices(moved.rotations) * moved.scales[:, None]
    torch.testing.assert_close(axes @ axes.mT, expected)
    replace(gaussians, transform=matrix.tolist()).save(tmp_path / "a.ply")
    torch.testing.assert_close(Gaussians.load(tmp_path / "a.ply").means, moved.means.float())


@pytest.mark.parametrize(
    "matrix",
    [
        torch.diag(torch.tensor([1.0, 1, 2, 1])),
        torch.diag(torch.tensor([1.0, 1, -1, 1])),
        torch.diag(torch.tensor([3e-5, 6e-5, 3e-5, 1])),  # small numbers are compared to each other, not to 1
        torch.zeros(4, 4),
        torch.eye(3),
    ],
)
def test_other_matrices_are_refused(cloud, matrix):
    with refused("matrix"):
        cloud(5).transformed(matrix)


def test_quaternions_follow_matrices():
    torch.manual_seed(0)
    a, b = torch.nn.functional.normalize(torch.randn(2, 20, 4, dtype=torch.float64), dim=-1)
    product = rotation_matrices(multiply_quaternions(a, b))
    torch.testing.assert_close(product, rotation_matrices(a) @ rotation_matrices(b))
    for quaternion, matrix in zip(a, rotation_matrices(a), strict=True):
        torch.testing.assert_close(rotation_to_quaternion(matrix), quaternion * quaternion[0].sign())


def test_opacities_and_colours_have_inverses(cloud):
    gaussians = cloud(40)
    again = Gaussians.of(
        gaussians.means, gaussians.scales, gaussians.rotations, gaussians.opacities, 0.5 + 0.28209479 * gaussians.sh
    )
    for name in TENSORS:
        torch.testing.assert_close(getattr(again, name), getattr(gaussians, name), atol=1e-4, rtol=1e-4)


def test_shapes_that_do_not_fit(cloud):
    gaussians = cloud(4)
    with refused("rotations", [4, 4], [4, 3]):
        Gaussians(gaussians.means, gaussians.log_scales, gaussians.means, gaussians.logits, gaussians.sh)

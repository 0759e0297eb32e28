"""Splat files of every layout: round trips within what each rounds, foreign files, and files that are none."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atoken import Gaussians
from atoken.cli.sources import owned_files
from atoken.codec.assets import read_any
from atoken.core.errors import ReadError
from atoken.gaussians.formats.ply import is_splat
from atoken.gaussians.formats.table import FLAT_LOG_SCALE, NEEDED, OPAQUE_LOGIT
from atoken.gaussians.types import TENSORS, rotation_matrices
from refusals import refused

INPUTS = Path(__file__).parents[1] / "data/inputs/splat"


def covariances(gaussians: Gaussians) -> torch.Tensor:
    axes = rotation_matrices(gaussians.rotations) * gaussians.scales[:, None]
    return axes @ axes.mT


@pytest.fixture
def scene(cloud):
    """Gaussians with places that tell them apart."""
    places = torch.rand(700, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor([3.0, 1.0, 40.0]) - 1
    return replace(cloud(700), means=places)


@pytest.mark.parametrize(
    ("name", "place", "size", "colour"),
    [
        ("a.splat", 0, 0.02, 1 / 255),
        ("a.spz", 1e-5, 0.12, 0.02),
        ("a.sog", 2e-3, 0.15, 0.1),
        ("a.compressed.ply", 0.05, 0.1, 0.02),
    ],
)
def test_what_comes_back_is_rounded_and_no_more(scene, tmp_path, name, place, size, colour):
    scene = replace(scene, sh=scene.sh.clamp(-1.5, 1.5))  # colours in 0 ... 1, as .splat keeps no others
    scene.save(tmp_path / name)
    back = Gaussians.load(tmp_path / name)
    nearest = torch.cdist(scene.means, back.means).argmin(1)  # a compressed .ply is in another order
    assert sorted(nearest.tolist()) == list(range(700))
    back = replace(back, **{key: getattr(back, key)[nearest] for key in TENSORS})
    assert float((back.means - scene.means).abs().max()) <= place
    assert float((covariances(back) - covariances(scene)).norm(dim=(1, 2)).div(
        covariances(scene).norm(dim=(1, 2))).quantile(0.95)) < size  # fmt: skip
    assert float((back.opacities - scene.opacities).abs().max()) <= 0.5 / 255 + 1e-4
    assert float((back.rgb - scene.rgb).abs().max()) <= colour


@pytest.mark.parametrize("name", ["a.splat", "a.spz", "a.sog", "a.compressed.ply"])
def test_written_again_they_hardly_change(scene, tmp_path, name):
    scene.save(tmp_path / name)
    once = Gaussians.load(tmp_path / name)
    once.save(tmp_path / name)
    again = Gaussians.load(tmp_path / name)
    nearest = torch.cdist(once.means, again.means).argmin(1)
    assert float((again.means[nearest] - once.means).abs().max()) < 0.03
    assert float((again.opacities[nearest] - once.opacities).abs().max()) < 2 / 255
    scene.save(tmp_path / "b" / name)
    scene.save(tmp_path / "c" / name)
    assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()


def spz(version: int, count: int = 2, degree: int = 0, flags: int = 0) -> bytes:
    """Two Gaussians by the public layout: at (1, 2, 3) right, up, back and at (-1, 0, 0), half transparent."""
    head = struct.pack("<4sIIBBBB", b"NGSP", version, count, degree, 12, flags, 0)
    places = b"".join((int(v * 4096) & 0xFFFFFF).to_bytes(3, "little") for v in (1, 2, 3, -1, 0, 0))
    turn = {2: bytes([128, 128, 128] * 2), 3: struct.pack("<II", 3 << 30, 3 << 30)}[version]
    return gzip.compress(head + places + bytes([128, 128]) + bytes([200] * 6) + bytes([96] * 6) + turn, mtime=0)


@pytest.mark.parametrize("version", [2, 3])
def test_spz_as_its_public_layout_has_it(tmp_path, version):
    (tmp_path / "a.spz").write_bytes(spz(version))
    found = Gaussians.load(tmp_path / "a.spz")
    # right, up, back there is left, up, front here, as glTF: half a turn about y
    np.testing.assert_allclose(found.means, [[-1, 2, -3], [1, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(found.log_scales, 96 / 16 - 10)
    np.testing.assert_allclose(found.opacities, 128 / 255, atol=1e-6)
    np.testing.assert_allclose(found.sh, (200 / 255 - 0.5) / 0.15, rtol=1e-5)
    np.testing.assert_allclose(rotation_matrices(found.rotations).diagonal(dim1=1, dim2=2).abs(), 1, atol=1e-3)


def test_spz_of_version_4_is_in_streams(scene, tmp_path):
    zstandard = pytest.importorskip("zstandard")
    scene.save(tmp_path / "a.spz")
    raw = gzip.decompress((tmp_path / "a.spz").read_bytes())
    count, bits = len(scene), raw[13]
    ends = np.cumsum([16, *(width * count for width in (9, 1, 3, 3, 4))])
    streams = [raw[a:b] for a, b in pairwise(ends)]
    packed = [zstandard.compress(stream) for stream in streams]
    toc = b"".join(struct.pack("<QQ", len(p), len(s)) for p, s in zip(packed, streams, strict=True))
    head = struct.pack("<4sIIBBBBI12x", b"NGSP", 4, count, 0, bits, 0, 5, 32)
    (tmp_path / "b.spz").write_bytes(head + toc + b"".join(packed))
    a, b = Gaussians.load(tmp_path / "a.spz"), Gaussians.load(tmp_path / "b.spz")
    assert all(torch.equal(getattr(a, key), getattr(b, key)) for key in TENSORS)
    (tmp_path / "b.spz").write_bytes(head + toc + b"".join(packed)[:-9])
    with refused("b.spz", "damaged", error=ReadError):
        Gaussians.load(tmp_path / "b.spz")


def test_a_splat_record_is_read_as_its_viewer_does(tmp_path):
    record = struct.pack("<6f8B", 1, 2, 3, 0.1, 0.2, 0, 255, 0, 51, 255, 255, 128, 128, 128)
    (tmp_path / "a.splat").write_bytes(record)
    found = Gaussians.load(tmp_path / "a.splat")
    assert found.means.tolist() == [[-1, -2, 3]], "y down there"
    np.testing.assert_allclose(found.log_scales[0, :2].exp(), [0.1, 0.2], rtol=1e-6)
    assert float(found.log_scales[0, 2]) == FLAT_LOG_SCALE
    np.testing.assert_allclose(found.rgb, [[1, 0, 0.2]], atol=1e-6)
    assert float(found.logits[0]) == pytest.approx(OPAQUE_LOGIT, abs=1e-3)


def test_the_compressed_ply_of_another_writer():
    """256 Gaussians of SuperSplat's older layout, whose colours have no range of their own."""
    found = Gaussians.load(INPUTS / "compressed.ply")
    assert is_splat(INPUTS / "compressed.ply")
    assert len(found) == 256
    assert 0.9 < float(found.means.abs().max()) <= 1
    assert 0 <= float(found.rgb.min()) <= float(found.rgb.max()) <= 1


def sog(folder: Path, **changed: object) -> dict[str, bytes]:
    """The members of a small file."""
    source = Gaussians.load(INPUTS / "one.ply")
    source.save(folder / "one.sog")
    with zipfile.ZipFile(folder / "one.sog") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    meta = {**json.loads(members["meta.json"]), **changed}
    return {**members, "meta.json": json.dumps(meta).encode()}


def packed(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_sog_is_read_from_a_folder_too(scene, tmp_path):
    scene.save(tmp_path / "a.sog")
    with zipfile.ZipFile(tmp_path / "a.sog") as archive:
        archive.extractall(tmp_path / "unpacked")
    a, b = Gaussians.load(tmp_path / "a.sog"), Gaussians.load(tmp_path / "unpacked/meta.json")
    assert all(torch.equal(getattr(a, key), getattr(b, key)) for key in TENSORS)


@pytest.mark.slow
def test_sog_reads_nothing_outside_and_no_bomb(tmp_path):
    members = sog(tmp_path)
    secret = tmp_path / "secret.webp"
    secret.write_bytes(members["quats.webp"])
    folder = tmp_path / "in"
    folder.mkdir()
    for name, data in members.items():
        (folder / name).write_bytes(data)
    meta = json.loads(members["meta.json"])
    for name in ("../secret.webp", str(secret), "link.webp"):
        (folder / "link.webp").unlink(missing_ok=True)
        (folder / "link.webp").symlink_to(secret)
        (folder / "meta.json").write_text(json.dumps({**meta, "quats": {"files": [name]}}))
        with refused("meta.json", Path(name).name, "outside", error=ReadError):
            Gaussians.load(folder / "meta.json")
        assert {file.name for file in owned_files(folder / "meta.json")} == {*members} - {"meta.json", "quats.webp"}
    stream = io.BytesIO()
    Image.new("RGBA", (3000, 3000)).save(stream, "WEBP", lossless=True)
    bomb = packed(tmp_path / "bomb.sog", {**members, "quats.webp": stream.getvalue()})
    with refused("bomb.sog", 9_000_000, "quats", error=ReadError):
        Gaussians.load(bomb)
    padded = packed(tmp_path / "padded.sog", {**members, "quats.webp": members["quats.webp"] + bytes(30_000_000)})
    with refused("padded.sog", "quats", error=ReadError):
        Gaussians.load(padded)
    stream = io.BytesIO()
    Image.new("RGBA", (4, 4)).save(stream, "WEBP", lossless=True, exact=True)
    with refused("blank.sog", "quats", "quaternions", error=ReadError):
        Gaussians.load(packed(tmp_path / "blank.sog", {**members, "quats.webp": stream.getvalue()}))
    many = packed(tmp_path / "many.sog", sog(tmp_path, count=10**9))
    with refused("many.sog", 10**9, error=ReadError):
        Gaussians.load(many)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"version": 1}, ["version 1", "splat-transform"]),
        ({"count": "x"}, ["x", "Gaussians"]),
        ({"means": {"mins": [0, 0], "maxs": [0, 0, 0], "files": ["means_l.webp", "means_u.webp"]}}, ["mins"]),
        ({"scales": {"codebook": [float("nan")] * 256, "files": ["scales.webp"]}}, ["codebook"]),
        ({"sh0": {}}, ["damaged"]),
        ({"quats": {"files": ["gone.webp"]}}, ["gone.webp"]),
    ],
)
def test_sog_files_that_are_none(tmp_path, changed, named):
    path = packed(tmp_path / "bad.sog", sog(tmp_path, **changed))
    with refused("bad.sog", *named, error=ReadError):
        Gaussians.load(path)


def test_the_small_files_of_the_inputs():
    red = Gaussians.load(INPUTS / "x.splat")
    assert len(red) == 128
    np.testing.assert_allclose(red.rgb, np.tile([1.0, 0, 0], (128, 1)), atol=1e-5)
    np.testing.assert_allclose(red.scales, 0.03, rtol=1e-5)
    unseen = Gaussians.load(INPUTS / "x.spz")
    assert len(unseen) == 10
    assert float(unseen.opacities.max()) < 1e-5
    with refused("x.spz", "10", "visible"):
        read_any(INPUTS / "x.spz")


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("x.sog", ["means"]),
        ("x.usdz", [".glb"]),
        ("x.ksplat", ["splat-transform"]),
        ("a.glb", [".ply", ".sog"]),
    ],
)
def test_other_files_are_refused_with_a_remedy(tmp_path, name, named):
    if (INPUTS / name).exists():
        (tmp_path / name).write_bytes((INPUTS / name).read_bytes())
    with refused(name, *named, error=ReadError):
        Gaussians.load(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "data", "named"),
    [
        ("a.splat", bytes(40), ["32"]),
        ("a.splat", b"", ["empty"]),
        ("a.splat", struct.pack("<6f8B", float("nan"), 0, 0, 1, 1, 1, *[128] * 8), ["x", "NaN"]),
        ("a.splat", struct.pack("<6f8B", 0, 0, 0, -1, 1, 1, *[128] * 8), ["negative"]),
        ("a.spz", b"NGSP" + bytes(40), ["version 0"]),
        ("a.spz", b"", ["empty"]),
        ("a.spz", spz(2, count=3), ["truncated", "3"]),
        ("a.spz", spz(2, count=10**9), [10**9]),
        ("a.spz", spz(3, flags=2), ["extensions"]),
        ("a.spz", spz(3, degree=9), ["degree 9"]),
        ("a.sog", b"PK\3\4", ["damaged"]),
    ],
)
def test_damaged_files_are_named(tmp_path, name, data, named):
    (tmp_path / name).write_bytes(data)
    with refused(name, *named, error=ReadError):
        Gaussians.load(tmp_path / name)


def table(path: Path, columns: dict[str, np.ndarray]) -> Path:
    """A binary .ply of one element."""
    kinds = {"f4": "float", "u1": "uchar", "u2": "ushort"}
    data = np.zeros(len(next(iter(columns.values()))), [(key, value.dtype) for key, value in columns.items()])
    for key, value in columns.items():
        data[key] = value
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(data)}"]
    lines += [f"property {kinds[value.dtype.str[1:]]} {key}" for key, value in columns.items()]
    path.write_bytes("\n".join([*lines, "end_header", ""]).encode() + data.tobytes())
    return path


def columns(count: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {key: rng.normal(size=count).astype(np.float32) for key in NEEDED}


def test_infinities_that_mean_something(tmp_path):
    source = columns()
    source["opacity"][:2], source["scale_2"][1] = [np.inf, -np.inf], -np.inf
    found = Gaussians.load(table(tmp_path / "a.ply", source))
    np.testing.assert_allclose(found.opacities[:2], [1, 0], atol=2e-6)
    assert float(found.scales[1, 2]) < 1e-12
    found.save(tmp_path / "b.ply")
    opaque = Gaussians.load(INPUTS / "opinf.ply")
    assert int((opaque.opacities > 0.99999).sum()) == 200


@pytest.mark.parametrize(
    ("key", "value"), [("opacity", np.nan), ("scale_1", np.inf), ("x", np.inf), ("f_dc_2", np.nan)]
)
def test_numbers_that_mean_nothing_are_named_as_in_the_file(tmp_path, key, value):
    source = columns()
    source[key][3] = value
    with refused("a.ply", key, "1 of 5", error=ReadError):
        Gaussians.load(table(tmp_path / "a.ply", source))


def test_two_scales_are_a_disc(tmp_path):
    source = columns()
    del source["scale_2"]
    path = table(tmp_path / "2dgs.ply", source)
    assert is_splat(path)
    found = Gaussians.load(path)
    np.testing.assert_allclose(found.log_scales[:, 0], source["scale_0"])
    assert float(found.scales[:, 2].max()) < 1e-12


@pytest.mark.parametrize(("kind", "most"), [("u1", 255), ("u2", 65535), ("f4", 1), ("f4", 255)])
def test_colours_as_red_green_blue(tmp_path, kind, most):
    source = {key: value for key, value in columns().items() if not key.startswith("f_dc")}
    for key, value in (("red", 1.0), ("green", 0.2), ("blue", 0.0)):
        source[key] = np.full(5, value * most).astype(kind)
    path = table(tmp_path / "rgb.ply", source)
    assert is_splat(path)
    np.testing.assert_allclose(Gaussians.load(path).rgb, np.tile([1, 0.2, 0], (5, 1)), atol=1e-5)
    np.testing.assert_allclose(Gaussians.load(INPUTS / "ns_rgb.ply").rgb[0], [1, 0, 0], atol=1e-5)


def test_the_filter_of_mip_splatting_is_applied(tmp_path):
    source = columns() | {"filter_3D": np.full(5, 0.5, np.float32)}
    found = Gaussians.load(table(tmp_path / "mip.ply", source))
    squares = np.exp(2 * np.stack([source[f"scale_{i}"] for i in range(3)], 1))
    np.testing.assert_allclose(found.scales, np.sqrt(squares + 0.25), rtol=1e-5)
    share = np.sqrt((squares / (squares + 0.25)).prod(1))
    np.testing.assert_allclose(found.opacities, share / (1 + np.exp(-source["opacity"])), rtol=1e-4)
    with pytest.warns(UserWarning, match="9 .*directions"):
        assert len(Gaussians.load(INPUTS / "mip.ply")) == 800


def test_nothing_is_dropped_without_a_word(tmp_path):
    with pytest.warns(UserWarning, match="motion_0"):
        Gaussians.load(table(tmp_path / "a.ply", columns() | {"motion_0": np.ones(5, np.float32)}))
    for missing in ("f_dc_0", "opacity", "rot_2", "scale_0"):
        source = {key: value for key, value in columns().items() if key != missing}
        path = table(tmp_path / "b.ply", source)
        assert is_splat(path), "and no cloud of points"
        with refused("b.ply", missing, error=ReadError):
            Gaussians.load(path)


def test_a_cloud_of_points_is_no_splat(tmp_path):
    points = {key: columns()[key] for key in "xyz"} | {"red": np.zeros(5, np.uint8), "opacity": np.ones(5, np.float32)}
    assert not is_splat(table(tmp_path / "a.ply", points))


def test_twice_the_same_property_is_no_header(tmp_path):
    path = table(tmp_path / "a.ply", columns())
    path.write_bytes(path.read_bytes().replace(b"property float y\n", b"property float x\n"))
    with refused("a.ply", "property float x", error=ReadError):
        Gaussians.load(path)


def test_places_too_far_for_spz(scene, tmp_path):
    with refused(".spz", ".ply"):
        replace(scene, means=scene.means * 1e7).save(tmp_path / "a.spz")
    assert not list(tmp_path.iterdir())

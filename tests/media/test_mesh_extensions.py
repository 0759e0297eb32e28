"""Which glTF extensions are read, with the packages that some need, and which are refused or warned of."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from meshes import (
    BLUE,
    CORNERS,
    GREEN,
    PLATE_UV,
    QUAD,
    RED,
    YELLOW,
    Glb,
    area,
    colour_at,
    encoded,
    quarters,
)

from atoken.core.errors import ReadError
from atoken.media.mesh import read_asset
from atoken.media.mesh.gltf.extensions import BASISU, DRACO, EXTENSIONS, MESHOPT
from refusals import check_names, refused

pytest.importorskip("embreex")
ROOT = Path(__file__).parents[2]
KTX2 = ROOT / "tests/data/meshes/quarters.ktx2"
"""The four quarters at 16 x 16 as ETC1S, made for this test."""


def draco_file(required: bool = True) -> Glb:
    """A textured plate whose attributes are in Draco's data alone."""
    draco = pytest.importorskip("DracoPy")
    data = draco.encode(
        CORNERS, QUAD.reshape(-1, 3).astype(np.uint32), tex_coord=PLATE_UV.astype(np.float64), preserve_order=True
    )
    numbers = {item["attribute_type"]: item["unique_id"] for item in draco.decode(data).attributes}
    file = Glb()
    primitive = file.textured(encoded(quarters()))
    for accessor in file.json["accessors"]:
        del accessor["bufferView"]
    attributes = {"POSITION": numbers[0], "TEXCOORD_0": numbers[3]}
    primitive["extensions"] = {DRACO: {"bufferView": file.view(data), "attributes": attributes}}
    file.json["extensionsRequired" if required else "extensionsUsed"] = [DRACO]
    return file


def meshopt_file(*, filtered: bool = False) -> Glb:
    """A plate whose positions and triangles are compressed, with a buffer without bytes to fall back to."""
    meshopt = pytest.importorskip("meshopt")
    file = Glb()
    file.plate()
    positions = meshopt.encode_filter_exp(CORNERS, 15) if filtered else CORNERS
    packed = meshopt.encode_gltf_buffer(positions, "ATTRIBUTES"), meshopt.encode_gltf_buffer(QUAD, "TRIANGLES")
    described = [
        {"byteStride": 12, "mode": "ATTRIBUTES", "count": 4},
        {"byteStride": 2, "mode": "TRIANGLES", "count": 6},
    ]
    if filtered:
        described[0]["filter"] = "EXPONENTIAL"
    file.binary = bytearray(b"".join(packed))
    starts = (0, len(packed[0]))
    for view, data, start, fields in zip(file.json["bufferViews"], packed, starts, described, strict=True):
        view |= {
            "buffer": 1,
            "extensions": {MESHOPT: {"buffer": 0, "byteOffset": start, "byteLength": len(data), **fields}},
        }
    fallback = {"byteLength": 60, "extensions": {MESHOPT: {"fallback": True}}}
    file.json["buffers"] = [{"byteLength": len(file.binary)}, fallback]
    file.json["extensionsRequired"] = [MESHOPT]
    return file


def basisu_file() -> Glb:
    """A plate with a KTX2 texture and no other."""
    pytest.importorskip("opengl_basisu")
    file = Glb()
    file.textured(KTX2.read_bytes())
    file.json["textures"] = [{"extensions": {BASISU: {"source": 0}}}]
    file.json["extensionsRequired"] = [BASISU]
    return file


FILES = {DRACO: draco_file, MESHOPT: meshopt_file, BASISU: basisu_file}


def test_draco(tmp_path):
    asset = read_asset(draco_file().save(tmp_path / "a.glb"))
    assert area(asset) == pytest.approx(4, rel=1e-3)
    assert [colour_at(asset, x, y) for y in (0.1, 0.9) for x in (0.1, 0.9)] == [RED, GREEN, BLUE, YELLOW]


@pytest.mark.parametrize("filtered", [False, True])
def test_meshopt(tmp_path, filtered):
    assert area(read_asset(meshopt_file(filtered=filtered).save(tmp_path / "a.glb"))) == pytest.approx(4, rel=1e-3)


def test_ktx2(tmp_path):
    asset = read_asset(basisu_file().save(tmp_path / "a.glb"))
    seen = [colour_at(asset, x, y) for y in (0.1, 0.9) for x in (0.1, 0.9)]
    assert np.abs(np.subtract(seen, [RED, GREEN, BLUE, YELLOW])).max() <= 8  # the codec loses some


def test_a_large_ktx2_is_refused(tmp_path):
    path = basisu_file().save(tmp_path / "a.glb")
    with refused("a.glb", "256", "--max-pixels", error=ReadError):
        read_asset(path, max_pixels=200)


@pytest.mark.parametrize("name", FILES)
def test_without_its_package_the_remedy_is_named(tmp_path, monkeypatch, name):
    path = FILES[name]().save(tmp_path / "a.glb")
    monkeypatch.setitem(sys.modules, EXTENSIONS[name].package, None)
    with refused("a.glb", name, "atoken[gltf]", error=ReadError):
        read_asset(path)


@pytest.mark.parametrize("name", FILES)
def test_damaged_data_is_refused_by_name(tmp_path, name):
    file = FILES[name]()
    if name == MESHOPT:
        file.binary = bytearray(len(file.binary))
    elif name == DRACO:
        primitive = file.json["meshes"][0]["primitives"][0]
        primitive["extensions"][DRACO]["bufferView"] = file.view(b"DRACO\2\2\1\1" + bytes(90))
    else:
        file.json["images"][0]["bufferView"] = file.view(KTX2.read_bytes()[:90] + bytes(99))
    if name != MESHOPT:
        file.json.pop("buffers", None)
    with refused("a.glb", name if name != BASISU else "images[0]", error=ReadError):
        read_asset(file.save(tmp_path / "a.glb"))


def test_meshopt_of_made_up_counts_is_refused(tmp_path):
    file = meshopt_file()
    file.json["bufferViews"][0]["extensions"][MESHOPT]["count"] = 10**9
    with refused("a.glb", MESHOPT, error=ReadError):
        read_asset(file.save(tmp_path / "a.glb"))


def test_any_other_extension_is_refused_or_warned_of_by_name(tmp_path):
    file = Glb()
    file.plate()
    file.json["extensionsUsed"] = ["KHR_materials_clearcoat", "KHR_materials_unlit", "ACME_thing"]
    with pytest.warns(UserWarning, match=r"a\.glb") as caught:
        read_asset(file.save(tmp_path / "a.glb"))
    assert len(caught) == 1
    check_names(str(caught[0].message), "a.glb", "KHR_materials_clearcoat", "ACME_thing")
    assert "unlit" not in str(caught[0].message)
    file.json["extensionsRequired"] = ["KHR_materials_unlit", "ACME_thing"]
    with refused("a.glb", "ACME_thing", error=ReadError):
        read_asset(file.save(tmp_path / "a.glb"))


def test_the_table_of_the_docs_is_that_of_the_code():
    text = (ROOT / "docs/3d.md").read_text()
    rows = dict(re.findall(r"^\| `((?:KHR|EXT)_\w+)` \|[^|\n]*\| ([^|\n]*) \|$", text, re.MULTILINE))
    assert rows == {name: f"`{it.package}`" if it.package else "" for name, it in EXTENSIONS.items()}

"""glTF 2.0 as its specification has it: accessors, modes, materials, nodes, skins and morph targets."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from meshes import (
    BLUE,
    CORNERS,
    FRONT,
    GREEN,
    PLATE_UV,
    QUAD,
    RED,
    YELLOW,
    Glb,
    area,
    box_of,
    colour_at,
    colours_of,
    encoded,
)
from meshes import quarters as quarters_array

from atoken.core.errors import ReadError
from atoken.media.mesh import read_asset
from atoken.media.mesh.material import to_srgb
from atoken.media.views.views import render_views
from refusals import check_names, refused

pytest.importorskip("embreex")
QUARTERS = encoded(quarters_array())


def srgb(*linear: float) -> tuple[int, ...]:
    return tuple(int(value) for value in (to_srgb(np.array(linear)) * 255).round())


def near(seen, expected, slack=1):
    return max(abs(a - b) for a, b in zip(seen, expected, strict=True)) <= slack


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "uint32", "float32"])
@pytest.mark.parametrize("normalized", [False, True])
def test_positions_of_every_component_type(tmp_path, dtype, normalized):
    file = Glb()
    most = np.iinfo(dtype).max if dtype != "float32" else 7
    signed = dtype in ("int8", "int16", "float32")
    corners = np.array([[-most if signed else 0, 0, 0], [most, 0, 0], [most, most, 0]], dtype)
    primitive = file.plate(corners, np.arange(3, dtype=np.uint8))
    file.json["accessors"][primitive["attributes"]["POSITION"]]["normalized"] = normalized
    low, high = box_of(read_asset(file.save(tmp_path / "a.glb")))
    scale = 1 if normalized and dtype != "float32" else most
    np.testing.assert_allclose(high, [scale, scale, 0], rtol=1e-6)
    np.testing.assert_allclose(low, [-scale if signed else 0, 0, 0], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_indices_of_every_type(tmp_path, dtype):
    file = Glb()
    file.plate(indices=QUAD.astype(dtype))
    assert area(read_asset(file.save(tmp_path / "a.glb"))) == pytest.approx(4)


def test_interleaved_attributes(tmp_path):
    file = Glb()
    file.texture(QUARTERS)
    rows = np.concatenate([np.full((4, 1), 9, np.float32), CORNERS, PLATE_UV], 1)
    view = file.view(rows.tobytes(), byteStride=24)
    position = file.of_view(view, 4, np.float32, "VEC3", byteOffset=4)
    uv = file.of_view(view, 4, np.float32, "VEC2", byteOffset=16)
    material = file.material(pbrMetallicRoughness={"baseColorTexture": {"index": 0}})
    primitive = {"attributes": {"POSITION": position, "TEXCOORD_0": uv}, "indices": file.accessor(QUAD)}
    file.json["meshes"].append({"primitives": [{**primitive, "material": material}]})
    asset = read_asset(file.save(tmp_path / "a.glb"))
    assert area(asset) == pytest.approx(4)
    assert (colour_at(asset, 0.1, 0.1), colour_at(asset, 0.9, 0.9)) == (RED, YELLOW)


@pytest.mark.parametrize("based", [True, False])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_sparse_accessors(tmp_path, based, dtype):
    file = Glb()
    view = file.view(CORNERS.tobytes()) if based else None
    changed = {1: [3, -1, 0], 2: [3, 1, 0]} if based else dict(enumerate(CORNERS.tolist()))
    sparse = {
        "count": len(changed),
        "indices": {"bufferView": file.view(np.array(list(changed), dtype).tobytes()), "componentType": 0},
        "values": {"bufferView": file.view(np.array(list(changed.values()), np.float32).tobytes())},
    }
    sparse["indices"]["componentType"] = {"uint8": 5121, "uint16": 5123, "uint32": 5125}[dtype]
    position = file.of_view(view, 4, np.float32, "VEC3", sparse=sparse)
    file.json["meshes"].append({"primitives": [{"attributes": {"POSITION": position}, "indices": file.accessor(QUAD)}]})
    asset = read_asset(file.save(tmp_path / "a.glb"))
    assert area(asset) == pytest.approx(8 if based else 4)


@pytest.mark.parametrize(
    ("mode", "indices", "expected"),
    [
        (4, [0, 1, 2, 0, 2, 3], 4),
        (5, [0, 1, 3, 2], 4),
        (6, [0, 1, 2, 3], 4),
        (4, [0, 1, 2, 0], 2),
        (5, [0, 1, 3, 3], 2),
    ],
)
@pytest.mark.parametrize("indexed", [True, False])
def test_modes_of_triangles(tmp_path, mode, indices, expected, indexed):
    file = Glb()
    primitive = file.plate(CORNERS if indexed else CORNERS[indices], np.array(indices, np.uint16))
    primitive["mode"] = mode
    if not indexed:
        del primitive["indices"]
    asset = read_asset(file.save(tmp_path / "a.glb"))
    assert area(asset) == pytest.approx(expected)
    corners = asset.vertices[asset.faces]
    assert (np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] >= 0).all()  # none faces away


def test_points_and_lines(tmp_path):
    file = Glb()
    colours = np.array([[0.25, 0, 0], [0, 0.25, 0], [0, 0, 0.25], [1, 1, 1]], np.float32)
    primitive = file.plate(COLOR_0=file.accessor(colours))
    primitive["mode"] = 0
    asset = read_asset(file.save(tmp_path / "a.glb"))
    assert asset.is_cloud
    assert [tuple(c) for c in asset.colours[:, :3].tolist()] == [srgb(*c) for c in colours]
    primitive["mode"] = 3
    with refused("a.glb", "no faces", error=ReadError):
        read_asset(file.save(tmp_path / "a.glb"))
    file.json["meshes"][0]["primitives"].append({**primitive, "mode": 4})
    with pytest.warns(UserWarning, match=r"a\.glb") as caught:
        asset = read_asset(file.save(tmp_path / "a.glb"))
    check_names(str(caught[0].message), "a.glb", "lines")
    assert area(asset) == pytest.approx(4)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("factor", [(1, 1, 1), (0.5, 1, 0.25)])
def test_vertex_colours_of_every_type(tmp_path, dtype, channels, factor):
    file = Glb()
    linear = np.array([0.5, 0.25, 1, 1][:channels])
    most = 1 if dtype == "float32" else np.iinfo(dtype).max
    values = np.tile(np.round(linear * most) if most > 1 else linear, (4, 1)).astype(dtype)
    primitive = file.plate(COLOR_0=file.accessor(values, normalized=dtype != "float32"))
    if factor != (1, 1, 1):
        primitive["material"] = file.material(pbrMetallicRoughness={"baseColorFactor": [*factor, 1]})
    (seen,) = colours_of(read_asset(file.save(tmp_path / "a.glb")))
    assert near(seen, srgb(*(linear[:3] * factor)))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int8", "int16"])
def test_texture_coordinates_of_integers(tmp_path, dtype):
    file = Glb()
    most = np.iinfo(dtype).max
    uv = file.accessor((PLATE_UV * most).astype(dtype), normalized=True)
    primitive = file.textured(QUARTERS)
    primitive["attributes"]["TEXCOORD_0"] = uv
    asset = read_asset(file.save(tmp_path / "a.glb"))
    assert [colour_at(asset, x, y) for y in (0.1, 0.9) for x in (0.1, 0.9)] == [RED, GREEN, BLUE, YELLOW]


@pytest.mark.parametrize(
    ("mode", "right"),
    [(10497, {RED, GREEN, BLUE, YELLOW}), (33071, {GREEN, YELLOW}), (33648, {GREEN, RED, YELLOW, BLUE})],
)
def test_wrap_modes(tmp_path, mode, right):
    file = Glb()
    file.textured(QUARTERS, PLATE_UV + np.array([1, 0]))
    file.json["samplers"] = [{"wrapS": mode}]
    file.json["textures"][0]["sampler"] = 0
    asset = read_asset(file.save(tmp_path / "a.glb"))
    assert colours_of(asset) == right
    assert colour_at(asset, 0.1, 0.1) == (RED if mode == 10497 else GREEN)


def test_wrap_modes_along_v_and_far_out(tmp_path):
    file = Glb()
    file.textured(QUARTERS, PLATE_UV * [1, 1] + [-2, -3])
    file.json["samplers"] = [{"wrapS": 33648, "wrapT": 33648}]  # -2 is as it is, -3 is turned round
    file.json["textures"][0]["sampler"] = 0
    asset = read_asset(file.save(tmp_path / "a.glb"))
    assert [colour_at(asset, x, y) for y in (0.1, 0.9) for x in (0.1, 0.9)] == [BLUE, YELLOW, RED, GREEN]


def test_a_magnified_texture_is_sharp_where_the_sampler_says_so(tmp_path):
    small = encoded(quarters_array(2))
    for magnify, most in ((9728, 4), (9729, 4096)):
        file = Glb()
        file.textured(small)
        file.json["samplers"] = [{"magFilter": magnify}]
        file.json["textures"][0]["sampler"] = 0
        views = render_views(read_asset(file.save(tmp_path / "a.glb")), FRONT)
        count = len(np.unique(views.colour[views.mask], axis=0))
        assert count <= most
        assert (count > 4) == (magnify == 9729)


def test_the_set_of_texture_coordinates(tmp_path):
    file = Glb()
    primitive = file.textured(QUARTERS, PLATE_UV * 0.1, {"texCoord": 1})
    primitive["attributes"]["TEXCOORD_1"] = file.accessor((PLATE_UV * 0.1 + [0.1, 0.8]).astype(np.float32))
    assert colours_of(read_asset(file.save(tmp_path / "a.glb"))) == {BLUE}


@pytest.mark.parametrize(
    ("fields", "right"),
    [
        ({"offset": [0.5, 0]}, [GREEN, RED, YELLOW, BLUE]),
        ({"scale": [0.4, 0.4], "offset": [0.05, 0.55]}, [BLUE] * 4),
        ({"offset": [0, 1], "scale": [1, -1]}, [BLUE, YELLOW, RED, GREEN]),
        # the example of the extension: turned clockwise; the picture's lower left comes to the upper left
        ({"offset": [0, 1], "rotation": np.pi / 2}, [BLUE, RED, YELLOW, GREEN]),
        ({"offset": [0, 1], "rotation": np.pi / 2, "scale": [0.5, 0.5]}, [BLUE] * 4),
        ({"texCoord": 1}, [YELLOW] * 4),
    ],
)
def test_texture_transforms(tmp_path, fields, right):
    file = Glb()
    primitive = file.textured(QUARTERS, info={"extensions": {"KHR_texture_transform": fields}})
    primitive["attributes"]["TEXCOORD_1"] = file.accessor((PLATE_UV * 0.1 + 0.8).astype(np.float32))
    file.json["extensionsRequired"] = ["KHR_texture_transform"]
    asset = read_asset(file.save(tmp_path / "a.glb"))
    assert [colour_at(asset, x, y) for y in (0.1, 0.9) for x in (0.1, 0.9)] == right


def test_node_transforms(tmp_path):
    file = Glb()
    file.plate()
    matrix = np.eye(4)
    matrix[:3, 3] = [10, 0, 0]
    turn = [0, 0, np.sin(np.pi / 4) * 2, np.cos(np.pi / 4) * 2]  # not of length 1
    file.json["nodes"] = [
        {"matrix": matrix.T.ravel().tolist(), "children": [1]},
        {"translation": [0, 5, 0], "rotation": turn, "scale": [3, 1, 1], "mesh": 0},
    ]
    low, high = box_of(read_asset(file.save(tmp_path / "a.glb")))
    np.testing.assert_allclose(low, [9, 2, 0], atol=1e-5)
    np.testing.assert_allclose(high, [11, 8, 0], atol=1e-5)


def test_only_the_scene_is_drawn(tmp_path):
    file = Glb()
    file.plate()
    file.json["nodes"] = [{"mesh": 0}, {"mesh": 0, "translation": [9, 0, 0]}]
    assert area(read_asset(file.save(tmp_path / "a.glb"))) == pytest.approx(4)
    file.json["scenes"].append({"nodes": [0, 1]})
    file.json["scene"] = 1
    assert area(read_asset(file.save(tmp_path / "a.glb"))) == pytest.approx(8)
    del file.json["scenes"], file.json["scene"]
    assert area(read_asset(file.save(tmp_path / "a.glb"))) == pytest.approx(8)


@pytest.mark.parametrize("at_node", [True, False])
def test_morph_targets(tmp_path, at_node):
    file = Glb()
    primitive = file.plate()
    wider = np.array([[0, 0, 0], [2, 0, 0], [2, 0, 0], [0, 0, 0]], np.float32)
    taller = np.array([[0, 0, 0], [0, 0, 0], [0, 8, 0], [0, 8, 0]], np.float32)
    primitive["targets"] = [{"POSITION": file.accessor(wider)}, {"POSITION": file.accessor(taller)}]
    file.json["meshes"][0]["weights"] = [0, 1] if at_node else [1, 0.25]
    if at_node:
        file.json["nodes"][0]["weights"] = [1, 0.25]
    assert area(read_asset(file.save(tmp_path / "a.glb"))) == pytest.approx(4 * 4)


@pytest.mark.parametrize("shares", ["float32", "uint8", "uint16"])
def test_skins(tmp_path, shares):
    file = Glb()
    most = 1 if shares == "float32" else np.iinfo(shares).max
    weights = np.zeros((4, 4))
    weights[:2, 0] = weights[2:, 1] = most
    joints = np.tile(np.array([0, 1, 0, 0], np.uint8), (4, 1))
    primitive = file.plate()
    primitive["attributes"] |= {
        "JOINTS_0": file.accessor(joints),
        "WEIGHTS_0": file.accessor(weights.astype(shares), normalized=shares != "float32"),
    }
    bind = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))
    bind[1, :3, 3] = [0, -1, 0]  # the second joint was at y = 1
    file.json["skins"] = [{"joints": [1, 2], "inverseBindMatrices": file.accessor(bind.swapaxes(1, 2).reshape(2, 16))}]
    file.json["nodes"] = [
        {"mesh": 0, "skin": 0, "scale": [100, 100, 100], "translation": [7, 7, 7]},  # must not count
        {"children": [2]},
        {"translation": [0, 4, 0]},  # the upper edge goes up by 3
    ]
    file.json["scenes"][0]["nodes"] = [0, 1]
    low, high = box_of(read_asset(file.save(tmp_path / "a.glb")))
    np.testing.assert_allclose(low, [-1, -1, 0], atol=1e-5)
    np.testing.assert_allclose(high, [1, 4, 0], atol=1e-5)


@pytest.mark.parametrize("rotation", ["float32", "int16"])
def test_instances(tmp_path, rotation):
    file = Glb()
    file.plate()
    turn = np.array([[0, 0, 0, 1], [0, 0, np.sqrt(0.5), np.sqrt(0.5)], [0, 0, 0, 1]])
    scale = np.array([[1, 1, 1], [2, 1, 1], [1, 1, 1]], np.float32)
    move = np.array([[0, 0, 0], [10, 0, 0], [20, 0, 0]], np.float32)
    turned = turn.astype(np.float32) if rotation == "float32" else (turn * 32767).round().astype(np.int16)
    attributes = {
        "TRANSLATION": file.accessor(move),
        "ROTATION": file.accessor(turned, normalized=rotation != "float32"),
        "SCALE": file.accessor(scale),
    }
    file.json["nodes"][0] |= {"extensions": {"EXT_mesh_gpu_instancing": {"attributes": attributes}}, "scale": [1, 2, 1]}
    asset = read_asset(file.save(tmp_path / "a.glb"))
    low, high = box_of(asset)
    np.testing.assert_allclose(low, [-1, -4, 0], atol=1e-3)
    np.testing.assert_allclose(high, [21, 4, 0], atol=1e-3)
    assert area(asset) == pytest.approx(8 + 16 + 8, rel=1e-3)


def test_specular_glossiness_and_unlit(tmp_path):
    file = Glb()
    primitive = file.plate()
    gloss = {"KHR_materials_pbrSpecularGlossiness": {"diffuseFactor": [0.25, 0, 0, 1]}}
    primitive["material"] = file.material(extensions=gloss, pbrMetallicRoughness={"baseColorFactor": [0, 1, 0, 1]})
    file.json["extensionsRequired"] = list(gloss)
    assert colours_of(read_asset(file.save(tmp_path / "a.glb"))) == {srgb(0.25, 0, 0)}
    file.json["materials"][0]["extensions"] = {"KHR_materials_unlit": {}}
    file.json["extensionsRequired"] = ["KHR_materials_unlit"]
    assert colours_of(read_asset(file.save(tmp_path / "a.glb"))) == {GREEN}


def test_webp_textures(tmp_path):
    file = Glb()
    file.textured(encoded(quarters_array(), "WEBP", lossless=True))
    file.json["textures"] = [{"extensions": {"EXT_texture_webp": {"source": 0}}}]
    file.json["extensionsRequired"] = ["EXT_texture_webp"]
    assert colours_of(read_asset(file.save(tmp_path / "a.glb"))) == {RED, GREEN, BLUE, YELLOW}


def test_an_opaque_material_ignores_alpha(tmp_path):
    picture = np.zeros((256, 256, 4), np.uint8)
    picture[..., 0] = 255
    file = Glb()
    primitive = file.textured(encoded(picture), alphaMode="OPAQUE")
    primitive["attributes"]["COLOR_0"] = file.accessor(np.array([[1, 1, 1, 0]] * 4, np.float32))
    file.json["materials"][0]["pbrMetallicRoughness"]["baseColorFactor"] = [1, 1, 1, 0.1]
    assert colours_of(read_asset(file.save(tmp_path / "a.glb"))) == {RED}


def test_a_fine_mask_does_not_darken(tmp_path):
    picture = np.zeros((512, 512, 4), np.uint8)
    picture[::2] = (255, 0, 0, 255)
    picture[1::2] = (0, 0, 0, 100)
    file = Glb()
    file.textured(encoded(picture), alphaMode="MASK")
    (seen,) = colours_of(read_asset(file.save(tmp_path / "a.glb")))
    assert near(seen, srgb(1 / (1 + 100 / 255), 0, 0), 3)


def test_a_fine_texture_is_averaged_in_linear_light(tmp_path):
    checker = np.indices((512, 512)).sum(0) % 2 * 255
    file = Glb()
    file.textured(encoded(checker.astype(np.uint8)))
    (seen,) = colours_of(read_asset(file.save(tmp_path / "a.glb")))
    assert near(seen, (188, 188, 188))


@pytest.mark.parametrize(
    ("mode", "cutoff", "seen"), [("MASK", 0.2, True), ("MASK", 0.4, False), ("BLEND", None, False)]
)
def test_what_is_all_transparent_is_said_so(tmp_path, mode, cutoff, seen):
    file = Glb()
    primitive = file.plate()
    fields = {"alphaMode": mode, "pbrMetallicRoughness": {"baseColorFactor": [1, 0, 0, 0.3]}}
    primitive["material"] = file.material(**fields, **({} if cutoff is None else {"alphaCutoff": cutoff}))
    path = file.save(tmp_path / "a.glb")
    if seen:
        assert colours_of(read_asset(path)) == {RED}
    else:
        with refused("a.glb", "transparent", error=ReadError):
            read_asset(path)


def test_glass_by_its_texture_beside_what_is_solid_is_said_so(tmp_path):
    file = Glb()
    faint = np.dstack([quarters_array(), np.full((64, 64), 77, np.uint8)])
    primitive = file.textured(encoded(faint), alphaMode="BLEND")
    blue = file.material(pbrMetallicRoughness={"baseColorFactor": [0, 0, 1, 1]})
    behind = {"POSITION": file.accessor(CORNERS - np.array([0, 0, 0.1], np.float32))}
    solid = {**primitive, "attributes": behind, "material": blue}
    file.json["meshes"][0]["primitives"].append(solid)
    with pytest.warns(UserWarning, match=r"a\.glb.*alpha"):
        assert colours_of(read_asset(file.save(tmp_path / "a.glb"))) == {BLUE}


def test_chunks_in_any_order_with_a_byte_order_mark(tmp_path):
    file = Glb()
    file.plate()
    text, binary = file.chunks()
    marked = (b"JSON", b"\xef\xbb\xbf" + text[1] + b"\0\0")
    path = file.save(tmp_path / "a.glb", [(b"ABCD", b"12345"), binary, marked, (b"BIN\0", b"second")])
    path.write_bytes(path.read_bytes() + b"behind the end")
    assert area(read_asset(path)) == pytest.approx(4)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
@pytest.mark.parametrize("form", ["base64", "percent", "file", "file with spaces"])
def test_json_with_buffers_of_every_form(tmp_path, encoding, form):
    file = Glb()
    file.plate()
    file.chunks()
    uri = {
        "base64": "data:application/octet-stream;base64," + base64.b64encode(file.binary).decode(),
        "percent": "data:," + "".join(f"%{byte:02x}" for byte in file.binary),
        "file": "a.bin",
        "file with spaces": "my%20a.bin",
    }[form]
    (tmp_path / "a.bin").write_bytes(file.binary)
    (tmp_path / "my a.bin").write_bytes(file.binary)
    file.json["buffers"][0]["uri"] = uri
    (tmp_path / "a.gltf").write_bytes(json.dumps(file.json).encode(encoding))
    assert area(read_asset(tmp_path / "a.gltf")) == pytest.approx(4)


def test_files_outside_of_the_folder_are_refused_also_behind_links(tmp_path):
    file = Glb()
    file.plate()
    file.chunks()
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "a.bin").write_bytes(file.binary)
    (folder / "link.bin").symlink_to(tmp_path / "a.bin")
    for uri in ("../a.bin", str(tmp_path / "a.bin"), "link.bin", "..%2Fa.bin", "LINK.bin"):
        file.json["buffers"][0]["uri"] = uri
        (folder / "a.gltf").write_text(json.dumps(file.json))
        with refused("a.gltf", uri, "outside", error=ReadError):
            read_asset(folder / "a.gltf")
    file.json["buffers"][0]["uri"] = "gone.bin"
    (folder / "a.gltf").write_text(json.dumps(file.json))
    with refused("a.gltf", "gone.bin", "missing", error=ReadError):
        read_asset(folder / "a.gltf")


def changed(file: Glb, *keys, value) -> None:
    place = file.json
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value


WRONG = [
    (("asset", "version"), "1.0"),
    (("asset", "version"), "\x1b[31m\n"),
    (("scenes",), 3),
    (("scene",), 9),
    (("scenes", 0, "nodes"), [5]),
    (("scenes", 0, "nodes"), ["0"]),
    (("nodes",), {}),
    (("nodes", 0), None),
    (("nodes", 0, "children"), [0]),
    (("nodes", 0, "children"), [1, 1]),
    (("nodes", 0, "mesh"), -1),
    (("nodes", 0, "mesh"), True),
    (("nodes", 0, "matrix"), [1] * 15),
    (("nodes", 0, "scale"), [1, "x", 1]),
    (("nodes", 0, "translation"), [10**400, 0, 0]),
    (("meshes", 0, "primitives"), [7]),
    (("meshes", 0, "primitives", 0, "mode"), 9),
    (("meshes", 0, "primitives", 0, "indices"), 999),
    (("meshes", 0, "primitives", 0, "attributes"), []),
    (("meshes", 0, "primitives", 0, "targets"), 1),
    (("accessors", 1, "count"), 10**12),
    (("accessors", 0, "count"), 2),
    (("accessors", 0, "componentType"), 5124),
    (("accessors", 0, "type"), "VEC9"),
    (("accessors", 0, "byteOffset"), 40),
    (("accessors", 0, "bufferView"), 99),
    (("accessors", 1, "type"), "VEC2"),
    (("accessors", 2, "componentType"), 5126),
    (("bufferViews", 0, "byteLength"), 10**9),
    (("bufferViews", 0, "buffer"), 4),
    (("bufferViews", 2, "byteStride"), 10**9),
    (("buffers", 0, "byteLength"), 10**9),
    (("materials", 0, "pbrMetallicRoughness"), [1]),
    (("materials", 0, "pbrMetallicRoughness", "baseColorTexture"), 1.0),
    (("materials", 0, "pbrMetallicRoughness", "baseColorTexture", "index"), 5),
    (("materials", 0, "alphaMode"), "GLASS"),
    (("textures", 0, "source"), 8),
    (("textures", 0, "sampler"), 0),
    (("images", 0, "bufferView"), 77),
    (("extensionsRequired",), "KHR_nothing"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("keys", "value"), WRONG, ids=[f"{'.'.join(map(str, k))}={str(v)[:20]}" for k, v in WRONG])
def test_wrong_json_is_refused_by_name(tmp_path, keys, value):
    file = Glb()
    file.textured(QUARTERS)
    file.json["nodes"].append({"name": "another"})
    file.chunks()
    changed(file, *keys, value=value)
    with refused("a.glb", error=ReadError):
        read_asset(file.save(tmp_path / "a.glb"))


@pytest.mark.parametrize("text", [b"[" * 100_000, b"{", b"\xff\xfe\xfd", b"", b"[]", b"null", b"1" * 5000])
def test_what_is_no_json_is_refused_by_name(tmp_path, text):
    (tmp_path / "a.gltf").write_bytes(text or b" ")
    with refused("a.gltf", error=ReadError):
        read_asset(tmp_path / "a.gltf")


@pytest.mark.slow
def test_few_bytes_make_no_large_arrays(tmp_path):
    file = Glb()
    file.plate()
    file.json["accessors"][0] = {"count": 10**9, "componentType": 5126, "type": "VEC3"}
    with refused("a.glb", "accessors[0]", error=ReadError):
        read_asset(file.save(tmp_path / "a.glb"))
    file = Glb()
    file.plate()
    file.json["accessors"].append({"count": 65_000, "componentType": 5126, "type": "VEC3"})
    instancing = {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": 2}}}
    file.json["nodes"] = [{"mesh": 0, "extensions": instancing} for _ in range(300)]
    file.json["scenes"][0]["nodes"] = list(range(300))
    with refused("a.glb", "triangles", error=ReadError):
        read_asset(file.save(tmp_path / "a.glb"))

"""OBJ with MTL, PLY, OFF and STL as their specifications and the common writers have them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from meshes import BLUE, GREEN, RED, YELLOW, area, box_of, colour_at, colours_of, encoded, quarters

from atoken.core.errors import ReadError
from atoken.media.mesh import read_asset
from atoken.media.mesh.colours import bytes_of
from refusals import check_names, refused

pytest.importorskip("embreex")
WHITE = (255, 255, 255)
PLATE = "v -1 -1 0\nv 1 -1 0\nv 1 1 0\nv -1 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
FOUR = [RED, GREEN, BLUE, YELLOW]
"""Upper left, upper right, lower left, lower right."""


def corners_of(asset):
    return [colour_at(asset, x, y) for y in (0.1, 0.9) for x in (0.1, 0.9)]


def obj(folder, text, mtl=None, name="a.mtl"):
    (folder / "q.png").write_bytes(encoded(quarters()))
    if mtl is not None:
        (folder / name).write_text(mtl)
    (folder / "a.obj").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_asset(folder / "a.obj")


@pytest.mark.parametrize(
    "faces",
    [
        "f 1/1 2/2 3/3 4/4",
        "f 1/1/1 2/2/1 3/3/1 4/4/1",
        "f -4/-4 -3/-3 -2/-2 -1/-1",
        "f 1/1 2/2 3/3\nf 1/1/ 3/3/ 4/4/",
        "f 1/1 2/2 \\\n 3/3 4/4",
        "f 1/1 2/2 3/3 4/4 # a comment",
        "g x\ns off\nf\t1/1  2/2\t3/3 4/4  \np 1\nl 1 2",
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_faces_of_every_form(tmp_path, faces, ending):
    if ending == "\r":
        faces = faces.replace("\\\n", "")
    text = f"mtllib a.mtl\n{PLATE}vn 0 0 1\nusemtl m\n{faces}\n"
    asset = obj(tmp_path, text.replace("\n", ending), "newmtl m\nmap_Kd q.png\n")
    assert corners_of(asset) == FOUR
    assert area(asset) == pytest.approx(4)


@pytest.mark.parametrize("faces", ["f 1//1 2//1 3//1 4//1", "f 1 2 3 4"])
def test_faces_without_texture_coordinates(tmp_path, faces):
    assert area(obj(tmp_path, PLATE + "vn 0 0 1\n" + faces)) == pytest.approx(4)


@pytest.mark.parametrize(
    "face", ["f 0 1 2", "f -0 1 2", "f 1 2 9", "f 1 2 -9", "f 1/9 2/9 3/9", "f a b c", "f 1 2 99999999999999999999"]
)
def test_faces_of_vertices_that_do_not_exist(tmp_path, face):
    with refused("a.obj", error=ReadError):
        obj(tmp_path, PLATE + face)


@pytest.mark.parametrize(
    "mtl",
    [
        "newmtl m\nKd 1 1 1\nmap_Kd q.png",
        "NEWMTL m\nKD 1 1 1\nMAP_KD q.png",
        "newmtl m\n\tmap_Kd   -clamp on -bm 1.0  q.png  ",
        "newmtl m\nmap_Kd -blendu on -texres 512 -mm 0 1 -imfchan r -s 1 1 1 -o 0 q.png",
        "newmtl m\nmap_Kd -s 1 q.png",
        "newmtl m\nKd 0 0 0\nmap_Kd .\\q.png",
        'newmtl m\nmap_Kd "q.png"',
        "newmtl m\nmap_Kd Q.PNG",
        "newmtl m\nmap_Kd C:\\textures\\q.png",
        "newmtl m\nmap_Kd ./q%2Epng",
        "\ufeffnewmtl m\nmap_Kd q.png",
        "newmtl other\nKd 1 0 0\nnewmtl m\nmap_Kd q.png\nnewmtl last\nKd 0 1 0",
    ],
)
def test_materials_as_writers_write_them(tmp_path, mtl):
    asset = obj(tmp_path, f"mtllib a.mtl\n{PLATE}usemtl m\nf 1/1 2/2 3/3 4/4", mtl)
    assert corners_of(asset) == FOUR


def test_options_move_the_texture(tmp_path):
    text = f"mtllib a.mtl\n{PLATE}usemtl m\nf 1/1 2/2 3/3 4/4"
    assert colours_of(obj(tmp_path, text, "newmtl m\nmap_Kd -s 0.4 0.4 -o 0.05 0.55 q.png")) == {RED}
    assert colours_of(obj(tmp_path, text, "newmtl m\nmap_Kd -o 1 1 -clamp on q.png")) == {GREEN}
    (tmp_path / "-s 1.png").write_bytes(encoded(quarters()))
    assert corners_of(obj(tmp_path, text, "newmtl m\nmap_Kd -s 1.png")) == FOUR


@pytest.mark.parametrize(
    ("value", "right"),
    [("1 0 0", RED), ("0 0.4 1", (0, 102, 255)), ("0.4", (102, 102, 102)), ("spectral a.rfl", WHITE)],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_colours_of_materials(tmp_path, value, right):
    asset = obj(tmp_path, f"mtllib a.mtl\n{PLATE}usemtl m\nf 1 2 3 4", f"newmtl m\nKd {value}")
    assert colours_of(asset) == {right}


@pytest.mark.parametrize(
    "line", ["mtllib a.mtl b.mtl", "mtllib a.mtl\nmtllib b.mtl", 'mtllib a.mtl "my b.mtl"', "mtllib my b.mtl a.mtl"]
)
def test_several_libraries(tmp_path, line):
    for name in ("b.mtl", "my b.mtl"):
        (tmp_path / name).write_text("newmtl b\nKd 0 0 1")
    text = f"{line}\n{PLATE}usemtl a\nf 1 2 3\nusemtl b\nf 1 3 4"
    assert colours_of(obj(tmp_path, text, "newmtl a\nKd 1 0 0")) == {RED, BLUE}


def test_what_is_missing_is_warned_of_and_white(tmp_path):
    with pytest.warns(UserWarning, match=r"a\.obj") as caught:
        asset = obj(tmp_path, f"mtllib gone.mtl\n{PLATE}usemtl m\nf 1 2 3 4")
    check_names(str(caught[0].message), "a.obj", "gone.mtl")
    assert colours_of(asset) == {WHITE}
    with pytest.warns(UserWarning, match=r"a\.obj") as caught:
        asset = obj(tmp_path, f"mtllib a.mtl\n{PLATE}usemtl x\nf 1 2 3 4", "newmtl m\nKd 1 0 0")
    check_names(str(caught[0].message), "a.obj", "'x'")
    assert colours_of(asset) == {WHITE}


@pytest.mark.parametrize("scale", [1, 255])
def test_colours_behind_vertices(tmp_path, scale):
    text = "".join(f"v {x} {y} 0 {scale} 0 {scale}\n" for x, y in ((0, 0), (1, 0), (1, 1)))
    assert colours_of(obj(tmp_path, text + "f 1 2 3")) == {(255, 0, 255)}


@pytest.mark.parametrize("suffix", ["obj", "ply", "off"])
@pytest.mark.parametrize("start", range(4))
def test_concave_polygons_and_any_start(tmp_path, suffix, start):
    star = [(0, 3), (1, 1), (3, 0), (1, -1), (0, -3), (-1, -1), (-3, 0), (-1, 1)]
    arrow = [(10, 0), (14, 4), (10, 8), (12, 4)]  # a concave quad
    points = [(x, 0.5 * y, y) for x, y in np.roll(star, start, 0).tolist() + np.roll(arrow, start, 0).tolist()]
    lines = "".join(f"{x} {y} {z}\n" for x, y, z in points)
    if suffix == "obj":
        text = "".join(f"v {line}\n" for line in lines.splitlines()) + "f 1 2 3 4 5 6 7 8\nf 9 10 11 12\n"
    elif suffix == "off":
        text = f"OFF\n12 2 0\n{lines}8 0 1 2 3 4 5 6 7\n4 8 9 10 11\n"
    else:
        text = ascii_ply(
            "property float x\nproperty float y\nproperty float z", lines, ["8 0 1 2 3 4 5 6 7", "4 8 9 10 11"]
        )
    (tmp_path / f"a.{suffix}").write_text(text)
    assert area(read_asset(tmp_path / f"a.{suffix}")) == pytest.approx((12 + 8) * np.sqrt(1.25), rel=1e-6)


def ascii_ply(properties, lines, faces, more="", comment=""):
    count = len(lines.splitlines())
    return (
        f"ply\nformat ascii 1.0\n{comment}element vertex {count}\n{properties}\nelement face {len(faces)}\n"
        f"property list uchar int vertex_indices\n{more}end_header\n{lines}" + "\n".join(faces) + "\n"
    )


XYZ = "property float x\nproperty float y\nproperty float z"
SQUARE = [(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)]


@pytest.mark.parametrize("names", ["red green blue", "r g b", "R G B", "diffuse_red diffuse_green diffuse_blue"])
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("uchar", "255 128 0"),
        ("uint8", "255 128 0"),
        ("ushort", "65535 32896 0"),
        ("ushort", "255 128 0"),
        ("int", "255 128 0"),
        ("float", "1 0.5 0"),
        ("float", "255 128 0"),
        ("double", "1 0.5 0"),
    ],
)
def test_colours_of_a_ply_under_every_name_and_type(tmp_path, names, kind, values):
    properties = XYZ + "".join(f"\nproperty {kind} {name}" for name in names.split())
    lines = "".join(f"{x} {y} {z} {values}\n" for x, y, z in SQUARE)
    (tmp_path / "a.ply").write_text(ascii_ply(properties, lines, ["4 0 1 2 3"]))
    assert colours_of(read_asset(tmp_path / "a.ply")) == {(255, 128, 0)}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("number", ["float", "double", "short", "int8", "int64"])
@pytest.mark.parametrize(
    ("length", "index"), [("uchar", "int"), ("int", "uint"), ("ushort", "ushort"), ("uint8", "int64")]
)
def test_a_binary_ply_of_mixed_polygons_and_every_width(tmp_path, order, number, length, index):
    codes = {"float": "f", "double": "d", "short": "h", "int8": "b", "int64": "q", "uchar": "B", "int": "i"}
    codes |= {"uint": "I", "ushort": "H", "uint8": "B"}
    points = [*SQUARE, (3, 0, 0)]
    faces = [(0, 1, 2, 3), (1, 4, 2)]
    data = b"".join(struct.pack(f"{order}3{codes[number]}", *point) for point in points)
    for number_of, face in enumerate(faces):
        data += struct.pack(f"{order}f{codes[length]}{len(face)}{codes[index]}", number_of, len(face), *face)
    name = "binary_little_endian" if order == "<" else "binary_big_endian"
    header = (
        f"ply\r\nformat {name} 1.0\r\nelement vertex 5\r\nproperty {number} x\r\nproperty {number} y\r\n"
        f"property {number} z\r\nelement face 2\r\nproperty float quality\r\n"
        f"property list {length} {index} vertex_index\r\nend_header\r\n"
    )
    (tmp_path / "a.ply").write_bytes(header.encode() + data)
    assert area(read_asset(tmp_path / "a.ply")) == pytest.approx(4 + 2)
    (tmp_path / "a.ply").write_bytes(header.encode() + data[:-1])
    with refused("a.ply", "cut short", error=ReadError):
        read_asset(tmp_path / "a.ply")


def test_colours_of_faces_do_not_smear(tmp_path):
    lines = "".join(f"{x} {y} {z}\n" for x, y, z in SQUARE)
    more = "".join(f"property uchar {name}\n" for name in ("red", "green", "blue"))
    (tmp_path / "a.ply").write_text(ascii_ply(XYZ, lines, ["3 0 1 2 255 0 0", "3 0 2 3 0 0 255"], more))
    (tmp_path / "a.off").write_text(f"OFF\n4 2 0\n{lines}3 0 1 2 255 0 0\n3 0 2 3 0 0 255 255\n")
    (tmp_path / "b.off").write_text(f"OFF # of floats\n4 2 0\n{lines}3 0 1 2 1.0 0 0 1\n3 0 2 3 0 0 1.0 1\n")
    for name in ("a.ply", "a.off", "b.off"):
        asset = read_asset(tmp_path / name)
        assert colours_of(asset) == {RED, BLUE}, name
        assert (colour_at(asset, 0.9, 0.3), colour_at(asset, 0.1, 0.7)) == (RED, BLUE)


def test_triangle_strips_of_a_ply(tmp_path):
    points = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    lines = "".join(f"{x} {y} 0\n" for x, y in points)
    text = f"ply\nformat ascii 1.0\nelement vertex 6\n{XYZ}\nelement tristrips 1\n"
    text += f"property list int int vertex_indices\nend_header\n{lines}8 0 1 2 3 -1 2 3 5\n"
    (tmp_path / "a.ply").write_text(text)
    asset = read_asset(tmp_path / "a.ply")
    assert area(asset) == pytest.approx(1.5)
    corners = asset.vertices[asset.faces]
    assert (np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:2, 2] < 0).all()  # both one way


def test_every_row_of_a_ply_is_a_strip_of_its_own(tmp_path):
    points = [(0, 0), (0, 1), (1, 0), (1, 1), (5, 0), (5, 1), (6, 0), (6, 1)]
    lines = "".join(f"{x} {y} 0\n" for x, y in points)
    text = f"ply\nformat ascii 1.0\nelement vertex 8\n{XYZ}\nelement tristrips 2\n"
    text += f"property list int int vertex_indices\nend_header\n{lines}4 0 1 2 3\n4 4 5 6 7\n"
    (tmp_path / "a.ply").write_text(text)
    asset = read_asset(tmp_path / "a.ply")
    corners = asset.vertices[asset.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2]
    assert len(normals) == 4
    assert (normals < 0).all() or (normals > 0).all()


@pytest.mark.parametrize(
    ("values", "right"),
    [
        (np.array([[1.0000001, 0.5, 0]]), [255, 128, 0]),
        (np.array([[1.9, 0.25, 0]]), [255, 64, 0]),
        (np.array([[2.0, 1.0, 0]]), [2, 1, 0]),
        (np.array([[255.0, 127.5, 0]]), [255, 128, 0]),
        (np.array([[2**32 - 1, 2**31, 0]], np.uint32), [255, 128, 0]),
        (np.array([[65535, 32768, 0]], np.uint16), [255, 128, 0]),
    ],
)
def test_full_brightness_follows_from_type_and_values(values, right):
    assert bytes_of(values)[0, :3].tolist() == right


def test_a_comment_may_stand_before_an_off_of_either_case(tmp_path):
    (tmp_path / "a.off").write_text(
        "# made by hand\ncoff\n3 1 0\n0 0 0 0 0 255 255\n1 0 0 0 0 255 255\n0 1 0 0 0 255 255\n3 0 1 2\n"
    )
    assert colours_of(read_asset(tmp_path / "a.off")) == {BLUE}


@pytest.mark.parametrize("names", ["s t", "u v", "texture_u texture_v", "texture_s texture_t"])
@pytest.mark.parametrize("comment", ["comment TextureFile q.png", "comment texturefile my q.png"])
def test_texture_coordinates_of_a_ply(tmp_path, names, comment):
    for name in ("q.png", "my q.png"):
        (tmp_path / name).write_bytes(encoded(quarters()))
    properties = XYZ + "".join(f"\nproperty float {name}" for name in names.split())
    lines = "".join(f"{x} {y} {z} {(x + 1) / 2} {(y + 1) / 2}\n" for x, y, z in SQUARE)
    (tmp_path / "a.ply").write_text(ascii_ply(properties, lines, ["4 0 1 2 3"], comment=comment + "\n"))
    assert corners_of(read_asset(tmp_path / "a.ply")) == FOUR


def test_wedges_of_two_textures(tmp_path):
    (tmp_path / "q.png").write_bytes(encoded(quarters()))
    (tmp_path / "g.png").write_bytes(encoded(np.full((4, 4, 3), GREEN, np.uint8)))
    lines = "".join(f"{x} {y} {z}\n" for x, y, z in SQUARE)
    more = "property list uchar float texcoord\nproperty int texnumber\n"
    faces = ["3 0 1 2 6 0.1 0.1 0.2 0.1 0.2 0.2 0", "3 0 2 3 6 0 0 1 0 0 1 1"]
    comment = "comment TextureFile q.png\ncomment TextureFile g.png\n"
    (tmp_path / "a.ply").write_text(ascii_ply(XYZ, lines, faces, more, comment))
    assert colours_of(read_asset(tmp_path / "a.ply")) == {BLUE, GREEN}


OFFS = {
    "COFF": ["{p} 255 0 0 255", "{p} 255 0 0", "{p} 1.0 0.0 0.0 1.0", "{p} 1 0 0"],
    "OFF": ["{p} 255 0 0", "{p} 255 0 0 255"],
    "NCOFF": ["{p} 0 0 1 255 0 0 255"],
    "STCOFF": ["{p} 1 0 0 1 0.5 0.5"],
    "STCNOFF": ["{p} 0 0 1 255 0 0 255 0.5 0.5"],
    "C4OFF": ["{p} 1 255 0 0 255"],
}


@pytest.mark.parametrize(("header", "form"), [(header, form) for header, forms in OFFS.items() for form in forms])
def test_vertices_of_every_off(tmp_path, header, form):
    lines = "".join(form.format(p=f"{x} {y} {z}") + "\n" for x, y, z in SQUARE)
    (tmp_path / "a.off").write_text(f"\ufeff{header}\n# a comment\n\n4 1 0\n{lines}4 0 1 2 3\n")
    asset = read_asset(tmp_path / "a.off")
    assert colours_of(asset) == {RED}
    assert area(asset) == pytest.approx(4)


@pytest.mark.parametrize(("header", "form"), [("OFF", "{p}"), ("", "{p}"), ("NOFF", "{p} 0 0 1"), ("STOFF", "{p} 0 1")])
def test_an_off_without_colours_is_white(tmp_path, header, form):
    lines = "".join(form.format(p=f"{x} {y} {z}") + "\n" for x, y, z in SQUARE)
    (tmp_path / "a.off").write_text(f"{header} 4 1 4\n{lines}4 0 1 2 3\n")
    assert colours_of(read_asset(tmp_path / "a.off")) == {WHITE}


@pytest.mark.parametrize(
    ("header", "vertices", "faces"),
    [
        ("OFF", "0 0\n0 2\n0 0 2 2 0\n0 2 0", "4 0 1\n2 3 255 0 0\n"),
        ("OFF", "0 0 0 2 0 0\n2 2 0 0 2 0", "3 0 1 2 255 0 0\n3 0 2 3 255 0 0"),
        ("OFF", "0\n0\n0\n2\n0\n0\n2\n2\n0\n0\n2\n0", "4\n0\n1\n2\n3 1.0 0.0 0.0"),
        ("COFF", "".join(f"{x} {y} 0\n255 0 0 255\n" for x, y in ((0, 0), (2, 0), (2, 2), (0, 2))), "4 0 1 2 3\n"),
        ("NOFF", "".join(f"{x} {y} 0\n0 0 1\n" for x, y in ((0, 0), (2, 0), (2, 2), (0, 2))), "4 0 1 2 3 255 0 0\n"),
    ],
)
def test_an_off_may_break_its_lines_anywhere(tmp_path, header, vertices, faces):
    """Numbers are divided by any white space; only the colours of a face end with its line."""
    count = faces.count("255 0 0") or 1
    (tmp_path / "a.off").write_text(f"{header}\n4 {count} 0\n{vertices}\n{faces}")
    asset = read_asset(tmp_path / "a.off")
    assert area(asset) == pytest.approx(4)
    assert colours_of(asset) == {(255, 0, 0)}


def test_a_binary_off(tmp_path):
    rows = np.array([[*point, 1, 0, 0, 1] for point in SQUARE], ">f4").tobytes()
    face = np.array([4, 0, 1, 2, 3, 0], ">i4").tobytes()
    (tmp_path / "a.off").write_bytes(b"COFF BINARY\n" + np.array([4, 1, 0], ">i4").tobytes() + rows + face)
    asset = read_asset(tmp_path / "a.off")
    assert colours_of(asset) == {RED}
    assert area(asset) == pytest.approx(4)


def stl(attributes=(0, 0), header=b"solid binary", behind=b""):
    rows = np.zeros(2, np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")]))
    rows["corners"] = np.array(SQUARE)[[[0, 1, 2], [0, 2, 3]]]
    rows["attribute"] = attributes
    return header.ljust(80, b"\0") + struct.pack("<I", 2) + rows.tobytes() + behind


@pytest.mark.parametrize(
    ("data", "colours"),
    [
        (stl(), {WHITE}),
        (stl(behind=b"1234567"), {WHITE}),
        (stl((0x8000 | 31 << 10, 0x8000 | 31)), {RED, BLUE}),
        (stl((31, 0x8000), b"COLOR=\x00\x00\xff\xff"), {RED, BLUE}),
        (stl((77, 0)), {WHITE}),  # a byte count that means nothing
        (stl((0x8000, 5)), {WHITE}),
    ],
)
def test_binary_stl(tmp_path, data, colours):
    (tmp_path / "a.stl").write_bytes(data)
    asset = read_asset(tmp_path / "a.stl")
    assert area(asset) == pytest.approx(4)
    assert colours_of(asset) == colours
    (tmp_path / "a.stl").write_bytes(data[:150])
    with refused("a.stl", "cut short", error=ReadError):
        read_asset(tmp_path / "a.stl")


@pytest.mark.parametrize("change", [str.upper, lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n  ")])
def test_ascii_stl(tmp_path, change):
    loops = "".join(
        "facet normal 0 0 1\nouter loop\n"
        + "".join(f"vertex {x} {y} {z}e0\n" for x, y, z in face)
        + "endloop\nendfacet\n"
        for face in (SQUARE[:3], [SQUARE[0], *SQUARE[2:]])
    )
    (tmp_path / "a.stl").write_text(change(f"solid x\n{loops}endsolid x\n"))
    asset = read_asset(tmp_path / "a.stl")
    assert area(asset) == pytest.approx(4)
    np.testing.assert_allclose(box_of(asset), [[-1, -1, 0], [1, 1, 0]], atol=1e-6)


def test_the_limit_of_pixels_holds_for_textures(tmp_path):
    asset_text = f"mtllib a.mtl\n{PLATE}usemtl m\nf 1/1 2/2 3/3 4/4"
    obj(tmp_path, asset_text, "newmtl m\nmap_Kd q.png")
    assert corners_of(read_asset(tmp_path / "a.obj", max_pixels=64 * 64)) == FOUR
    with refused("a.obj", "q.png", "4096", "--max-pixels", error=ReadError):
        read_asset(tmp_path / "a.obj", max_pixels=64 * 64 - 1)


@pytest.mark.parametrize("counts", ["999999999999 0", "0 999999999999", "3 999999999999", "1 1"])
def test_an_off_that_announces_more_than_it_holds(tmp_path, counts):
    """A line of twelve digits took all memory."""
    (tmp_path / "a.off").write_text(f"OFF\n{counts} 0\n0 0 0\n")
    with refused("a.off", "cut short", error=ReadError):
        read_asset(tmp_path / "a.off")

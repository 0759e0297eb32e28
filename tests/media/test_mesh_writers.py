"""What writers of OBJ, PLY, OFF, STL and glTF do beside the plain cases: opacity, painted vertices, TGA."""

from __future__ import annotations

import numpy as np
import pytest
from meshes import BLUE, CORNERS, GREEN, QUAD, RED, YELLOW, Glb, area, box_of, colour_at, colours_of, encoded, quarters
from PIL import Image

from atoken.core.errors import ReadError
from atoken.media.image.files import read_image
from atoken.media.mesh import read_asset
from atoken.media.mesh.material import to_srgb
from refusals import check_names, refused

pytest.importorskip("embreex")
WHITE = (255, 255, 255)
SQUARE = "v -1 -1 0\nv 1 -1 0\nv 1 1 0\nv -1 1 0\n"
PLATE = SQUARE + "vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
TEXTURED = "f 1/1 2/2 3/3 4/4"


def obj(folder, text, mtl=None):
    (folder / "q.png").write_bytes(encoded(quarters()))
    if mtl is not None:
        (folder / "a.mtl").write_text(mtl)
    (folder / "a.obj").write_text(text)
    return read_asset(folder / "a.obj")


def plate_and_far_plate(folder, mtl):
    """Two textured or plain plates, the right one of the material ``m``."""
    right = "".join(f"v {x + 4} {y} 0\n" for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1)))
    text = f"mtllib a.mtl\n{PLATE}{right}usemtl blue\nf 1 2 3 4\nusemtl m\nf 5/1 6/2 7/3 8/4"
    return obj(folder, text, f"newmtl blue\nKd 0 0 1\nnewmtl m\n{mtl}\n")


@pytest.mark.parametrize("said", ["d 0.3", "Tr 0.7", "d -halo 0.3", "Tr 0\nd 0.3"])
def test_what_an_obj_makes_transparent_is_left_out_and_said_so(tmp_path, said):
    with pytest.warns(UserWarning, match=r"a\.obj") as caught:
        asset = plate_and_far_plate(tmp_path, f"Kd 1 0 0\n{said}")
    check_names(str(caught[0].message), "a.obj", "alpha")
    assert colours_of(asset) == {BLUE}


@pytest.mark.parametrize("said", ["d 1", "Tr 0", "d 0.8", "d 1\nTr 1", "d x"])
def test_what_an_obj_makes_opaque_stays(tmp_path, said):
    assert colours_of(plate_and_far_plate(tmp_path, f"Kd 1 0 0\n{said}")) == {RED, BLUE}


def test_tr_1_alone_means_either(tmp_path):
    with pytest.warns(UserWarning, match=r"a\.obj") as caught:
        asset = plate_and_far_plate(tmp_path, "Kd 1 0 0\nTr 1")
    check_names(str(caught[0].message), "a.obj", "'m'", "Tr 1")
    assert colours_of(asset) == {RED, BLUE}


def mask(kind):
    """Opaque above, a hole below."""
    values = np.zeros((32, 32), np.uint8)
    values[:16] = 255
    if kind == "alpha":
        return encoded(np.dstack([np.full((32, 32, 3), 9, np.uint8), values]))
    return encoded(values if kind == "grey" else np.dstack([values] * 3))


@pytest.mark.parametrize("kind", ["grey", "rgb", "alpha"])
@pytest.mark.parametrize("option", ["", "-imfchan l "])
def test_a_mask_of_an_obj_makes_holes(tmp_path, kind, option):
    (tmp_path / "mask.png").write_bytes(mask(kind))
    text = f"mtllib a.mtl\n{PLATE}usemtl m\n{TEXTURED}"
    assert colours_of(obj(tmp_path, text, f"newmtl m\nmap_Kd q.png\nmap_d {option}mask.png")) == {RED, GREEN}
    assert colours_of(obj(tmp_path, text, f"newmtl m\nKd 0 0 1\nmap_d {option}mask.png")) == {BLUE}


def test_a_mask_that_is_the_texture_itself_is_its_alpha(tmp_path):
    text = f"mtllib a.mtl\n{PLATE}usemtl m\n{TEXTURED}"
    assert colours_of(obj(tmp_path, text, "newmtl m\nmap_Kd q.png\nmap_d q.png")) == {RED, GREEN, BLUE, YELLOW}
    with pytest.warns(UserWarning, match=r"a\.obj") as caught:
        asset = obj(tmp_path, text, "newmtl m\nmap_Kd q.png\nmap_d gone.png")
    check_names(str(caught[0].message), "gone.png")
    assert colours_of(asset) == {RED, GREEN, BLUE, YELLOW}


@pytest.mark.parametrize(
    "lines", ["#MRGB ff00ff00ff00ff00ff00ff00ff00ff00\n", "#MRGB ff00ff00ff00ff00\n#MRGB ff00ff00FF00FF00\n"]
)
def test_vertices_painted_in_zbrush(tmp_path, lines):
    text = SQUARE + "#The following MRGB block contains ZBrush Vertex Color (Polypaint)\n" + lines + "f 1 2 3 4\n"
    assert colours_of(obj(tmp_path, text)) == {GREEN}


@pytest.mark.parametrize("line", ["#MRGB ff00ff00", "#MRGB nonsense"])
def test_painted_vertices_that_do_not_fit_are_said_so(tmp_path, line):
    with pytest.warns(UserWarning, match=r"a\.obj") as caught:
        asset = obj(tmp_path, f"{SQUARE}{line}\nf 1 2 3 4\n")
    check_names(str(caught[0].message), "#MRGB")
    assert colours_of(asset) == {WHITE}


def test_a_material_without_a_library_is_said_so(tmp_path):
    with pytest.warns(UserWarning, match=r"a\.obj") as caught:
        asset = obj(tmp_path, f"{PLATE}usemtl m\n{TEXTURED}")
    check_names(str(caught[0].message), "'m'", "mtllib")
    assert colours_of(asset) == {WHITE}


def test_upper_and_lower_case_of_statements_and_materials(tmp_path):
    text = f"MTLLIB a.mtl\n{PLATE}USEMTL Red\nF 1 2 3 4".replace("v ", "V ")
    assert colours_of(obj(tmp_path, text, "newmtl red\nKd 1 0 0")) == {RED}
    text = f"mtllib a.mtl\n{PLATE}usemtl a\nf 1 2 3\nusemtl A\nf 1 3 4"
    assert colours_of(obj(tmp_path, text, "newmtl A\nKd 1 0 0\nnewmtl a\nKd 0 0 1")) == {RED, BLUE}


def test_a_comment_behind_a_texture(tmp_path):
    text = f"mtllib a.mtl\n{PLATE}usemtl m\n{TEXTURED}"
    assert colours_of(obj(tmp_path, text, "newmtl m\nmap_Kd q.png # diffuse")) == {RED, GREEN, BLUE, YELLOW}


@pytest.mark.parametrize("faces", ["f 1 2 3 4", f"{TEXTURED}\nf 5 6 7"])
def test_a_texture_without_coordinates_is_the_base_colour(tmp_path, faces):
    far = "v 2 -1 0\nv 4 -1 0\nv 4 1 0\n"
    with pytest.warns(UserWarning, match=r"a\.obj") as caught:
        asset = obj(tmp_path, f"mtllib a.mtl\n{PLATE}{far}usemtl m\n{faces}", "newmtl m\nKd 1 1 1\nmap_Kd q.png")
    check_names(str(caught[0].message), "coordinates")
    assert colours_of(asset) == {WHITE} | ({RED, GREEN, BLUE, YELLOW} if "/" in faces else set())


def test_a_relative_coordinate_that_does_not_exist(tmp_path):
    with refused("a.obj", error=ReadError):
        obj(tmp_path, PLATE + "f 1/-5 2/-2 3/-3")


@pytest.mark.parametrize("behind", ["1 1 0 0.5", "255 0 127.5 255"])
def test_seven_numbers_of_a_vertex(tmp_path, behind):
    text = "".join(f"{line} {behind}\n" for line in SQUARE.splitlines()) + "f 1 2 3 4"
    assert colours_of(obj(tmp_path, text)) == {(255, 0, 128)}


def test_a_texture_is_not_darkened_by_the_colours_of_vertices(tmp_path):
    coloured = "".join(f"{line} 0.5 0.5 0.5\n" for line in SQUARE.splitlines())
    far = "v 3 0 0 1 0.5 0\nv 5 0 0 1 0.5 0\nv 4 2 0 1 0.5 0\n"
    text = f"mtllib a.mtl\n{PLATE.replace(SQUARE, coloured)}{far}usemtl m\n{TEXTURED}\nusemtl\nusemtl n\nf 5 6 7"
    with pytest.warns(UserWarning, match=r"a\.obj") as caught:
        asset = obj(tmp_path, text, "newmtl m\nmap_Kd q.png\nnewmtl n\n")
    check_names(str(caught[0].message), "texture", "vertices")
    assert colours_of(asset) == {RED, GREEN, BLUE, YELLOW, (255, 128, 0)}


PLY_XYZ = "property float x\nproperty float y\nproperty float z\n"
RGB = "property uchar red\nproperty uchar green\nproperty uchar blue\n"


def ply(folder, vertex, lines, face, faces, comment=""):
    (folder / "q.png").write_bytes(encoded(quarters()))
    header = (
        f"ply\nformat ascii 1.0\n{comment}element vertex {len(lines)}\n{PLY_XYZ}{vertex}element face {len(faces)}\n"
    )
    text = header + f"property list uchar int vertex_indices\n{face}end_header\n" + "\n".join([*lines, *faces]) + "\n"
    (folder / "a.ply").write_text(text)
    return read_asset(folder / "a.ply")


POINTS = ["-1 -1 0", "1 -1 0", "1 1 0", "-1 1 0"]


def test_a_ply_with_colours_of_vertices_and_of_faces(tmp_path):
    with pytest.warns(UserWarning, match=r"a\.ply") as caught:
        asset = ply(tmp_path, RGB, [f"{p} 0 0 255" for p in POINTS], RGB, ["4 0 1 2 3 255 0 0"])
    check_names(str(caught[0].message), "vertices", "faces")
    assert colours_of(asset) == {BLUE}


def test_faces_of_a_ply_without_wedges_or_texture(tmp_path):
    more = "property list uchar float texcoord\nproperty int texnumber\n"
    faces = ["3 0 1 2 6 0.6 0.6 0.9 0.6 0.9 0.9 0", "3 0 2 3 0 -1"]
    with pytest.warns(UserWarning, match=r"a\.ply"):
        asset = ply(tmp_path, "", POINTS, more, faces, "comment TextureFile q.png\n")
    assert colours_of(asset) == {GREEN, WHITE}


def test_a_ply_whose_texture_has_no_coordinates(tmp_path):
    with pytest.warns(UserWarning, match=r"a\.ply") as caught:
        asset = ply(tmp_path, "", POINTS, "", ["4 0 1 2 3"], "comment TextureFile q.png\n")
    check_names(str(caught[0].message), "q.png", "coordinates")
    assert colours_of(asset) == {WHITE}


def test_a_texture_of_a_ply_is_not_darkened(tmp_path):
    vertex = RGB + "property float s\nproperty float t\n"
    lines = [f"{p} 90 90 90 {u}" for p, u in zip(POINTS, ["0 0", "1 0", "1 1", "0 1"], strict=True)]
    with pytest.warns(UserWarning, match=r"a\.ply"):
        asset = ply(tmp_path, vertex, lines, "", ["4 0 1 2 3"], "comment TextureFile q.png\n")
    assert colours_of(asset) == {RED, GREEN, BLUE, YELLOW}


@pytest.mark.parametrize(
    ("vertex", "colours"), [("{p} 0 0 -1", {WHITE}), ("{p} 0 0 1", {BLUE}), ("{p} 0 0 255", {BLUE})]
)
def test_normals_of_a_plain_off_are_no_colours(tmp_path, vertex, colours):
    lines = "".join(vertex.format(p=p) + "\n" for p in POINTS)
    (tmp_path / "a.off").write_text(f"OFF\n4 1 0\n{lines}4 0 1 2 3\n")
    if colours == {WHITE}:
        with pytest.warns(UserWarning, match=r"a\.off"):
            asset = read_asset(tmp_path / "a.off")
    else:
        asset = read_asset(tmp_path / "a.off")
    assert colours_of(asset) == colours


@pytest.mark.parametrize(("header", "whole"), [("nOFF\n3\n", True), ("nOFF 3\n", True), ("nOFF\n4\n", False)])
def test_an_off_of_n_dimensions(tmp_path, header, whole):
    lines = "".join(f"{p}{'' if whole else ' 0'}\n" for p in POINTS)
    (tmp_path / "a.off").write_text(f"{header}4 1 0\n{lines}4 0 1 2 3\n")
    if whole:
        assert area(read_asset(tmp_path / "a.off")) == pytest.approx(4)
    else:
        with refused("a.off", "dimensions", error=ReadError):
            read_asset(tmp_path / "a.off")


def test_an_stl_whose_count_was_never_filled_in(tmp_path):
    rows = np.zeros(2, np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")]))
    rows["corners"] = CORNERS[QUAD].reshape(2, 3, 3)
    (tmp_path / "a.stl").write_bytes(bytes(84) + rows.tobytes())
    with pytest.warns(UserWarning, match=r"a\.stl"):
        assert area(read_asset(tmp_path / "a.stl")) == pytest.approx(4)
    (tmp_path / "a.stl").write_bytes(bytes(84) + rows.tobytes()[:-1])
    with refused("a.stl", error=ReadError):
        read_asset(tmp_path / "a.stl")


@pytest.mark.parametrize("options", [{}, {"compression": "tga_rle"}, {"orientation": 1}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_tga_textures_and_pictures(tmp_path, options, mode):
    picture = Image.fromarray(quarters()).convert(mode)
    picture.save(tmp_path / "q.tga", **options)
    asset = obj(tmp_path, f"mtllib a.mtl\n{PLATE}usemtl m\n{TEXTURED}", "newmtl m\nmap_Kd q.tga")
    assert [colour_at(asset, x, y) for y in (0.1, 0.9) for x in (0.1, 0.9)] == [RED, GREEN, BLUE, YELLOW]
    np.testing.assert_array_equal(read_image(tmp_path / "q.tga"), quarters())
    (tmp_path / "q.tga").write_bytes((tmp_path / "q.tga").read_bytes()[:60])
    with refused("a.obj", "q.tga", error=ReadError):
        read_asset(tmp_path / "a.obj")


def test_a_tga_whose_alpha_was_never_filled_in(tmp_path):
    Image.fromarray(np.dstack([quarters(), np.zeros((64, 64), np.uint8)])).save(tmp_path / "q.tga")
    np.testing.assert_array_equal(read_image(tmp_path / "q.tga"), quarters())


@pytest.mark.parametrize("value", [0.0006, 0.002, 0.01])
@pytest.mark.parametrize("beside", [False, True])
def test_dark_vertex_colours_keep_their_steps(tmp_path, value, beside):
    file = Glb()
    file.plate(COLOR_0=file.accessor(np.full((4, 3), value, np.float32)))
    if beside:  # a mesh without colours of its own
        file.plate(CORNERS + np.float32([4, 0, 0]))
        file.json["nodes"].append({"mesh": 1})
        file.json["scenes"][0]["nodes"] = [0, 1]
    right = round(float(to_srgb(np.array(value))) * 255)
    assert colours_of(read_asset(file.save(tmp_path / "a.glb"))) == {(right,) * 3} | ({WHITE} if beside else set())


def test_points_are_those_that_the_indices_name(tmp_path):
    file = Glb()
    file.plate(indices=np.array([0, 1, 2], np.uint8))["mode"] = 0
    with pytest.warns(UserWarning, match="grey"):
        asset = read_asset(file.save(tmp_path / "a.glb"))
    assert len(asset.vertices) == 3
    np.testing.assert_allclose(box_of(asset), [[-1, -1, 0], [1, 1, 0]], atol=1e-6)


def test_materials_that_give_off_light_are_said_so(tmp_path):
    file = Glb()
    file.plate()["material"] = file.material(
        emissiveFactor=[1, 1, 1], pbrMetallicRoughness={"baseColorFactor": [1, 0, 0, 1]}
    )
    with pytest.warns(UserWarning, match=r"a\.glb") as caught:
        asset = read_asset(file.save(tmp_path / "a.glb"))
    check_names(str(caught[0].message), "emissiveFactor")
    assert colours_of(asset) == {RED}

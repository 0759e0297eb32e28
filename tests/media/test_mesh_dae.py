"""COLLADA: colours and opacity of its effects, polygons, controllers and sets of texture coordinates."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from meshes import area, encoded, quarters

from atoken.core.errors import ReadError
from atoken.media.mesh import Asset, read_asset
from refusals import check_names, refused

pytest.importorskip("collada")

FILE = """<?xml version="1.0" encoding="utf-8"?>
<COLLADA xmlns="http://www.collada.org/2005/11/COLLADASchema" version="1.4.1">
<library_images><image id="image"><init_from>q.png</init_from></image></library_images>
<library_effects><effect id="e"><profile_COMMON>
<newparam sid="surface"><surface type="2D"><init_from>image</init_from></surface></newparam>
<newparam sid="sampler"><sampler2D><source>surface</source></sampler2D></newparam>
<technique sid="c">EFFECT</technique></profile_COMMON></effect></library_effects>
<library_materials><material id="m"><instance_effect url="#e"/></material></library_materials>
<library_geometries><geometry id="g"><mesh>
<source id="p"><float_array id="pa" count="9">0 0 0 1 0 0 0 1 0</float_array><technique_common>
<accessor source="#pa" count="3" stride="3"><param name="X" type="float"/><param name="Y" type="float"/>
<param name="Z" type="float"/></accessor></technique_common></source>
<source id="t"><float_array id="ta" count="6">0 0 1 0 0 1</float_array><technique_common>
<accessor source="#ta" count="3" stride="2"><param name="S" type="float"/><param name="T" type="float"/></accessor>
</technique_common></source>
<vertices id="v"><input semantic="POSITION" source="#p"/></vertices>
<triangles material="s" count="1"><input semantic="VERTEX" source="#v" offset="0"/>
<input semantic="TEXCOORD" source="#t" offset="1" set="0"/><p>0 0 1 1 2 2</p></triangles></mesh></geometry>
</library_geometries>
<library_visual_scenes><visual_scene id="w"><node id="n"><instance_geometry url="#g"><bind_material>
<technique_common><instance_material symbol="s" target="#m"/></technique_common></bind_material></instance_geometry>
</node></visual_scene></library_visual_scenes><scene><instance_visual_scene url="#w"/></scene></COLLADA>
"""
PLATE = FILE[FILE.index("<triangles") : FILE.index("</triangles>") + len("</triangles>")]
RED, TEXTURE = "<color>1 0 0 1</color>", '<texture texture="sampler" texcoord="UV"/>'
TRANSPARENCY = "<transparency><float>{}</float></transparency>"


def read(folder: Path, effect: str, *changes: tuple[str, str]) -> tuple[Asset, str]:
    """The asset of the file with that effect and what is changed in it, and what was warned of."""
    (folder / "q.png").write_bytes(encoded(quarters()))
    text = FILE.replace("EFFECT", effect)
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    (folder / "a.dae").write_text(text)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asset = read_asset(folder / "a.dae")
    return asset, " ".join(str(warning.message) for warning in caught)


@pytest.mark.parametrize(
    "effect",
    [
        f"<lambert><diffuse>{RED}</diffuse></lambert>",
        f"<constant><emission>{RED}</emission></constant>",
        "<phong><diffuse><color>1 0 0 0.2</color></diffuse></phong>",  # opacity is that of transparent alone
        f'<phong><diffuse>{RED}</diffuse><transparent opaque="RGB_ZERO"><color>0 0 0 1</color></transparent></phong>',
        f'<phong><diffuse>{RED}</diffuse><transparent opaque="A_ZERO"><color>1 1 1 0</color></transparent></phong>',
        f"<blinn><diffuse>{RED}</diffuse>{TRANSPARENCY.format(1)}</blinn>",
    ],
)
def test_the_colour_of_an_effect(tmp_path, effect):
    asset, said = read(tmp_path, effect)
    assert asset.materials[0].factor.tolist() == [1, 0, 0, 1]
    assert not said


def test_the_texture_of_a_constant_effect_is_its_emission(tmp_path, caplog):
    asset, said = read(tmp_path, f"<constant><emission>{TEXTURE}</emission></constant>")
    assert asset.materials[0].mips[0].shape == (64, 64, 4)
    assert not said
    assert not caplog.records, "no traceback of a library"


@pytest.mark.parametrize("light", ["<color>0 1 0 1</color>", TEXTURE])
def test_light_beside_a_colour_is_said_to_be_left_out(tmp_path, light):
    asset, said = read(tmp_path, f"<phong><emission>{light}</emission><diffuse>{RED}</diffuse></phong>")
    assert asset.materials[0].factor.tolist() == [1, 0, 0, 1]
    check_names(said, "a.dae", "emission")


@pytest.mark.parametrize(
    "opacity",
    [
        TRANSPARENCY.format(0.25),
        "<transparent><color>0 0 0 0.25</color></transparent>",
        "<transparent><color>1 1 1 0.5</color></transparent>" + TRANSPARENCY.format(0.5),
        '<transparent opaque="RGB_ZERO"><color>0.75 0.75 0.75 1</color></transparent>',
        '<transparent opaque="RGB_ONE"><color>0.25 0.25 0.25 1</color></transparent>',
        '<transparent opaque="A_ZERO"><color>1 1 1 0.75</color></transparent>',
    ],
)
def test_what_an_effect_makes_transparent_is_not_seen(tmp_path, opacity):
    with refused("a.dae", "transparent", error=ReadError):
        read(tmp_path, f"<phong><diffuse>{RED}</diffuse>{opacity}</phong>")


def test_an_opacity_of_0_is_taken_as_opaque_and_said_so(tmp_path):
    asset, said = read(tmp_path, f"<phong><diffuse>{RED}</diffuse>{TRANSPARENCY.format(0)}</phong>")
    assert asset.materials[0].factor.tolist() == [1, 0, 0, 1]
    check_names(said, "a.dae", "opacity")


LAMBERT = f"<lambert><diffuse>{RED}</diffuse></lambert>"
SHAPE = [(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)]


@pytest.mark.parametrize("start", range(6))
@pytest.mark.parametrize("form", ["polylist", "polygons"])
def test_concave_polygons_from_any_corner(tmp_path, start, form):
    corners = " ".join(f"{x} {y} 0" for x, y in SHAPE[start:] + SHAPE[:start])
    count = "<vcount>6</vcount>" if form == "polylist" else ""
    polygon = f'<{form} count="1"><input semantic="VERTEX" source="#v" offset="0"/>{count}<p>0 1 2 3 4 5</p></{form}>'
    asset, _ = read(
        tmp_path,
        LAMBERT,
        (PLATE, polygon),
        ('count="9">0 0 0 1 0 0 0 1 0<', f'count="18">{corners}<'),
        ('source="#pa" count="3"', 'source="#pa" count="6"'),
    )
    assert area(asset) == pytest.approx(3)


def test_the_mesh_of_a_skin_is_seen_as_it_was_bound(tmp_path):
    skin = """<library_controllers><controller id="c"><skin source="#g">
<bind_shape_matrix>2 0 0 0 0 2 0 0 0 0 2 0 0 0 0 1</bind_shape_matrix>
<source id="j"><Name_array id="ja" count="1">J</Name_array><technique_common>
<accessor source="#ja" count="1" stride="1">
<param name="JOINT" type="name"/></accessor></technique_common></source>
<source id="b"><float_array id="ba" count="16">1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1</float_array><technique_common>
<accessor source="#ba" count="1" stride="16"><param name="TRANSFORM" type="float4x4"/></accessor>
</technique_common></source>
<source id="k"><float_array id="ka" count="1">1</float_array><technique_common>
<accessor source="#ka" count="1" stride="1"><param name="WEIGHT" type="float"/></accessor></technique_common></source>
<joints><input semantic="JOINT" source="#j"/><input semantic="INV_BIND_MATRIX" source="#b"/></joints>
<vertex_weights count="3"><input semantic="JOINT" source="#j" offset="0"/>
<input semantic="WEIGHT" source="#k" offset="1"/>
<vcount>1 1 1</vcount><v>0 0 0 0 0 0</v></vertex_weights></skin></controller></library_controllers>"""
    place = '<node id="o"><translate>9 0 0</translate><instance_controller url="#c"/></node></visual_scene>'
    asset, said = read(
        tmp_path, LAMBERT, ("<library_visual_scenes>", f"{skin}<library_visual_scenes>"), ("</visual_scene>", place)
    )
    assert area(asset) == pytest.approx(0.5 + 4 * 0.5)
    check_names(said, "a.dae", "skin")


def test_the_set_of_texture_coordinates_that_a_material_is_bound_to(tmp_path):
    effect = f"<lambert><diffuse>{TEXTURE}</diffuse></lambert>"
    second = (
        '<source id="t2"><float_array id="t2a" count="6">0.75 0.25 0.75 0.25 0.75 0.25</float_array><technique_common>'
        '<accessor source="#t2a" count="3" stride="2"><param name="S" type="float"/><param name="T" type="float"/>'
        "</accessor></technique_common></source><vertices"
    )
    binding = (
        'target="#m"><bind_vertex_input semantic="UV" input_semantic="TEXCOORD" input_set="1"/></instance_material>'
    )
    asset, _ = read(
        tmp_path,
        effect,
        ("<vertices", second),
        ('set="0"/>', 'set="0"/><input semantic="TEXCOORD" source="#t2" offset="1" set="1"/>'),
        ('target="#m"/>', binding),
    )
    assert asset.uv[0].tolist() == [[0.75, 0.25]] * 3


def test_lines_are_said_to_be_left_out(tmp_path):
    lines = '<lines count="1"><input semantic="VERTEX" source="#v" offset="0"/><p>0 1</p></lines>'
    asset, said = read(tmp_path, LAMBERT, (PLATE, PLATE + lines))
    assert area(asset) == pytest.approx(0.5)
    check_names(said, "a.dae", "lines")


def test_colours_of_vertices(tmp_path):
    colours = (
        '<source id="k"><float_array id="ka" count="9">0 1 0 0 1 0 0 1 0</float_array><technique_common><accessor '
        'source="#ka" count="3" stride="3"><param name="R" type="float"/><param name="G" type="float"/>'
        '<param name="B" type="float"/></accessor></technique_common></source><vertices'
    )
    asset, _ = read(
        tmp_path,
        LAMBERT,
        ("<vertices", colours),
        ('set="0"/>', 'set="0"/><input semantic="COLOR" source="#k" offset="1"/>'),
        ('target="#m"', 'target="#none"'),
        ('<instance_material symbol="s" target="#none"/>', ""),
    )
    assert {tuple(colour) for colour in asset.colours.tolist()} == {(0, 255, 0, 255)}

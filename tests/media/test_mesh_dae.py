"""COLLADA's effects: what a material's own colour and opacity are."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from meshes import encoded, quarters

from atoken.core.errors import ReadError
from atoken.media.mesh import Asset, read_asset
from refusals import check_names, refused

pytest.importorskip("trimesh")
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
RED, TEXTURE = "<color>1 0 0 1</color>", '<texture texture="sampler" texcoord="UV"/>'
TRANSPARENCY = "<transparency><float>{}</float></transparency>"


def read(folder: Path, effect: str) -> tuple[Asset, str]:
    """The asset, and what was warned of."""
    (folder / "q.png").write_bytes(encoded(quarters()))
    (folder / "a.dae").write_text(FILE.replace("EFFECT", effect))
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

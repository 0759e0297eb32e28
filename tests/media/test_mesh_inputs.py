"""Files of kinds that users report in public (tests/data/inputs/mesh), with what is right, and broken ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from meshes import BLUE, GREEN, RED, YELLOW, area

from atoken.core.errors import ReadError
from atoken.media.mesh import read_asset
from atoken.media.views.cameras import hammersley_sphere
from atoken.media.views.views import render_views
from refusals import refused

pytest.importorskip("embreex")
INPUTS = Path(__file__).parents[1] / "data/inputs"
ALL = {RED, GREEN, BLUE, YELLOW}
WHITE, GREY = (255, 255, 255), (127, 127, 127)
RIGHT = {  # colours, longest side, area
    "bom.gltf": (ALL, 1, 6),
    "c.off": ({RED}, 1, 6),
    "concave.obj": ({WHITE}, 2, 3),
    "concave2.obj": ({WHITE}, 2, 3),
    "concave3.obj": ({WHITE}, 2, 3),
    "extra.stl": ({WHITE}, 1, 6),
    "facecol.ply": ({GREEN}, 1, 6),
    "fan.glb": ({WHITE}, 1.5, 1.269),
    "fcol255.ply": ({(255, 128, 0)}, 1, 6),
    "gltfpack.glb": (ALL, 1, 6),
    "libs2.obj": ({RED, BLUE}, 1, 6),
    "mixed.ply": ({WHITE}, 1, 6),
    "neg.obj": (ALL, 1, 6),
    "nokd.obj": (ALL, 1, 6),
    "nokd_notex.obj": ({WHITE}, 1, 6),
    "opt.obj": ({RED}, 1, 6),
    "optc.obj": (ALL, 1, 6),
    "orient_st.ply": ({RED}, 1, 6),
    "quant.glb": (ALL, 2, 24),
    "quant_two.glb": ({RED, BLUE}, 3, 12),
    "skin.glb": ({RED, BLUE}, 3, 12),
    "skin_joint.glb": ({RED, BLUE}, 4, 12),
    "tex_st.ply": (ALL, 1, 6),
    "tex_uv.ply": (ALL, 1, 6),
    "ttx.glb": ({GREEN}, 1, 6),
    "twolibs.obj": ({BLUE}, 1, 6),
    "uv1_solid.glb": ({BLUE}, 1, 6),
    "vcu2.glb": ({GREY}, 1, 6),
    "wedge.ply": (ALL, 1, 6),
}
REFUSED = {
    "mesh/draco.glb": "KHR_draco_mesh_compression",
    "mesh/draco_part.glb": "KHR_draco_mesh_compression",
    "mesh/glass.glb": "transparent",
    "mesh/ktx2.glb": "KTX2",
    "mesh/meshopt.glb": "EXT_meshopt_compression",
    "broken/eps.obj": "eps.png",
    "broken/texture_is_a_number.glb": "baseColorTexture",
    "broken/texture_is_a_number.gltf": "gltf_buffer_0.bin",
    "broken/texture_truncated.glb": "images[0]",
    "broken/texture_typeerror.glb": "baseColorTexture",
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right(name):
    asset = read_asset(INPUTS / "mesh" / name)
    colours, side, surface = RIGHT[name]
    views = render_views(asset, hammersley_sphere(4, size=48, distance=2), light="none")
    seen, counts = np.unique(views.colour[views.mask], axis=0, return_counts=True)
    assert {tuple(map(int, colour)) for colour in seen[counts > counts.sum() / 20]} == colours
    assert asset.transform[0][0] == pytest.approx(side)
    assert area(asset) == pytest.approx(surface, rel=1e-3)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_one_sentence(name):
    with refused(Path(name).name, REFUSED[name], error=ReadError):
        read_asset(INPUTS / name)

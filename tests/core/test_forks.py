"""Forked children of a process that has computed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

RENDERING = """
from atoken import Gaussians
from atoken.media.views.cameras import turntable
from atoken.gaussians.raster.rasterize import render

one = torch.zeros(20000, 4)
one[:, 0] = 1
cloud = Gaussians(torch.rand(20000, 3), torch.full((20000, 3), -5.0), one, torch.ones(20000), one[:, :3])
compute = lambda: render(cloud, turntable(1, size=64)).rgb
"""
ENCODING = """
from atoken import PRESETS, AToken

model = AToken(PRESETS["tiny"]).eval()
picture = torch.randint(0, 256, (256, 256, 3), dtype=torch.uint8).numpy()
compute = lambda: model.encode(picture).values
"""
CHILD = """
import os, signal, torch

torch.set_num_threads(2)
torch.manual_seed(0)
{work}
before = compute()
child = os.fork()
if child == 0:
    signal.alarm(60)  # ends a child that hangs
    os._exit(0 if torch.equal(compute(), before) else 3)
raise SystemExit(os.waitpid(child, 0)[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("work", [RENDERING, ENCODING], ids=["rendering", "encoding"])
def test_a_forked_child_computes_what_its_parent_did(work):
    command = [sys.executable, "-c", CHILD.format(work=work)]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr

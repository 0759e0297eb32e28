"""Rendering in a forked child of a process that has rendered."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CHILD = """
import os, signal, torch
from atoken import Gaussians
from atoken.media.views.cameras import turntable
from atoken.gaussians.raster.rasterize import render

torch.set_num_threads(2)
torch.manual_seed(0)
one = torch.zeros(20000, 4)
one[:, 0] = 1
cloud = Gaussians(torch.rand(20000, 3), torch.full((20000, 3), -5.0), one, torch.ones(20000), one[:, :3])
before = render(cloud, turntable(1, size=64)).rgb
child = os.fork()
if child == 0:
    signal.alarm(60)  # ends a child that hangs
    os._exit(0 if torch.equal(render(cloud, turntable(1, size=64)).rgb, before) else 3)
raise SystemExit(os.waitpid(child, 0)[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_renders_what_its_parent_did():
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    result = subprocess.run([sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr

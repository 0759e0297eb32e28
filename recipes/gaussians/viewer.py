"""Our picture of a splat file beside that of an independent viewer (@mkkellogg/gaussian-splats-3d, in Chromium).

    npm install @mkkellogg/gaussian-splats-3d@0.4.7 three@0.187
    python recipes/gaussians/viewer.py motorbike.npz --modules node_modules --out pair.jpg

The object is packed 3D (recipes/nano/furniture.py), one ball of colour a voxel of 64^3, with three sticks along its
axes (x red, y green, z blue) and a slanted yellow one, moved into a frame of other size and place. The viewer looks
with y down, as splat scenes are trained; a lone splat low beside the object it may leave out, so the sticks are high.
It says how far the pictures are apart. Needs the extra ``mesh`` and chromium.
"""

from __future__ import annotations

import argparse
import base64
import subprocess
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atoken import Gaussians
from atoken.evaluation.asset_methods import VoxelColours, voxel_balls
from atoken.evaluation.assets import HeldOut
from atoken.gaussians.raster.rasterize import render
from atoken.media.image.files import read_image, write_image
from atoken.media.views.cameras import Cameras, turntable
from atoken.media.views.packed import read_packed
from atoken.metrics.psnr import psnr

SIZE, FOV, SCALE, PLACE = 384, 40.0, 3.0, (1.0, -2.0, 0.5)
PAGE = """<!doctype html><body style="margin: 0; background: #fff">
<div id="view" style="width: {size}px; height: {size}px"></div>
<script type="importmap">{{"imports": {{"three": "/three/build/three.module.js"}}}}</script>
<script type="module">
import * as THREE from "three";
import * as Splats from "/@mkkellogg/gaussian-splats-3d/build/gaussian-splats-3d.module.js";
const send = (text) => fetch("/done", {{method: "POST", body: text}});
try {{
  const camera = new THREE.PerspectiveCamera({fov}, 1, 0.1, 100);
  camera.position.set(...{eye});
  camera.up.set(0, -1, 0);
  camera.lookAt(...{centre});
  const renderer = new THREE.WebGLRenderer({{preserveDrawingBuffer: true}});
  renderer.setSize({size}, {size});
  renderer.setClearColor(0xffffff, 1);
  const root = document.getElementById("view");
  root.appendChild(renderer.domElement);
  const viewer = new Splats.Viewer({{selfDrivenMode: false, useBuiltInControls: false, rootElement: root, renderer,
    camera, sharedMemoryForWorkers: false, gpuAcceleratedSort: false, antialiased: true, kernel2DSize: 0.1,
    sphericalHarmonicsDegree: 0, sceneRevealMode: Splats.SceneRevealMode.Instant}});
  await viewer.addSplatScene("/scene.ply", {{showLoadingUI: false, splatAlphaRemovalThreshold: 1}});
  for (let frame = 0; frame < 90; frame++) {{
    await new Promise(requestAnimationFrame);
    viewer.update();
    viewer.render();
  }}
  await send(renderer.domElement.toDataURL("image/png"));
}} catch (error) {{ await send("error " + error.stack); }}
</script>"""


def scene(path: Path) -> Gaussians:
    """The object with its sticks, in the unit cube, with the way to another frame."""
    asset = read_packed(path)
    balls = voxel_balls(HeldOut(asset, asset.held_out_cameras, asset.held_out), VoxelColours().resolution)
    half = 0.5**0.5
    turns = torch.tensor([[1.0, 0, 0, 0], [half, 0, 0, half], [half, 0, -half, 0], [0.9239, 0, 0, 0.3827]])
    means = torch.tensor([[0.3, 0.4, 0.0], [-0.5, 0.0, -0.5], [-0.4, 0.3, 0.3], [-0.1, 0.4, 0.2]])
    scales = torch.tensor([[0.1, 0.01, 0.01]]).repeat(4, 1)
    colours = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.7, 0.1], [0.1, 0.2, 0.9], [0.9, 0.8, 0.1]])
    sticks = Gaussians.of(means, scales, turns, torch.full((4,), 0.99), colours)
    names = ("means", "log_scales", "rotations", "logits", "sh")
    both = {name: torch.cat([getattr(balls, name), getattr(sticks, name)]) for name in names}
    matrix = torch.diag(torch.tensor([SCALE, SCALE, SCALE, 1.0]))
    matrix[:3, 3] = torch.tensor(PLACE)
    return Gaussians(**both, transform=tuple(map(tuple, matrix.tolist())))


def camera() -> Cameras:
    """Beside and above the object in its own frame."""
    cameras = turntable(9, elevation=25.0, fov=FOV, size=SIZE, distance=2.0)[[1]]
    w2c = cameras.w2c.clone()
    w2c[:, :3, 3] = SCALE * w2c[:, :3, 3] - w2c[:, :3, :3] @ torch.tensor(PLACE)
    return Cameras(w2c, cameras.intrinsics, cameras.size)


def in_browser(gaussians: Gaussians, eye: list[float], modules: Path) -> np.ndarray:
    """The viewer's picture, uint8 [H, W, 3], of the written file from ``eye``, looking at ``PLACE``."""
    arrived, answer = threading.Event(), []

    class Handler(SimpleHTTPRequestHandler):
        def do_POST(self) -> None:
            answer.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.end_headers()
            arrived.set()

        def log_message(self, *_: Any) -> None:
            return

    turn = np.array([-1, -1, 1])  # from y up to y down
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gaussians.save(folder / "scene.ply")
        places = {"eye": (turn * eye).tolist(), "centre": (turn * PLACE).tolist()}
        (folder / "index.html").write_text(PAGE.format(size=SIZE, fov=FOV, **places))
        for module in ("three", "@mkkellogg"):
            (folder / module).symlink_to((modules / module).resolve())
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=name))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = ["chromium", "--headless", "--no-sandbox", "--enable-unsafe-swiftshader", "--use-angle=swiftshader"]
        command += [f"--user-data-dir={name}/profile", f"http://127.0.0.1:{server.server_port}/"]
        browser = subprocess.Popen([*command, "--remote-debugging-port=0"], stderr=subprocess.DEVNULL)
        try:
            arrived.wait(180)
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()
    if not answer or not answer[0].startswith("data:"):
        raise SystemExit(f"the viewer drew nothing: {answer}")
    data = base64.b64decode(answer[0].split(",", 1)[1])
    return read_image(data)


def main() -> None:
    """Draw both, write them side by side, and say how far apart they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("object", type=Path, help="packed 3D, .npz")
    parser.add_argument("--modules", type=Path, default=Path("node_modules"), help="where npm installed the viewer")
    parser.add_argument("--out", type=Path, required=True, help="the picture to write")
    arguments = parser.parse_args()
    gaussians, view = scene(arguments.object), camera()
    ours = render(gaussians.in_asset_frame(), view, background=(1.0, 1.0, 1.0)).to_uint8()[0]
    theirs = in_browser(gaussians, view.positions[0].tolist(), arguments.modules)
    write_image(arguments.out, np.concatenate([ours, theirs], 1))
    turned = {"as it is": theirs, "upside down": theirs[::-1], "mirrored": theirs[:, ::-1]}
    print(", ".join(f"{name}: {psnr(picture, ours):.1f} dB" for name, picture in turned.items()))


if __name__ == "__main__":
    main()

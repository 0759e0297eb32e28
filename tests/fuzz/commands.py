"""The commands that are interrupted, and what they read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from atoken import PRESETS, AToken, GaussianConfig, write_image

RECIPE = """
model: tiny
steps: 12
tasks:
  - {{task: image-reconstruction, ratio: 1, tokens: 8, crops: {{path: {data}, sizes: [32]}}}}
optimizer: {{warmup: 1}}
parallel: {{autocast: false}}
log: {{every: 1, checkpoint_every: 2}}
"""
HEAD = GaussianConfig(64, 1, 1, 64, per_voxel=1, resolution=16)


_ON_CPU = "--device cpu --token-budget 20"

COMMANDS = {
    "encode": f"encode {{at}}/pictures --model {{at}}/model --out {{out}} {_ON_CPU}",
    "encode-clips": f"encode {{at}}/clips --model {{at}}/model --out {{out}} {_ON_CPU}",
    "encode-3d": f"encode {{at}}/solids --model {{at}}/model --out {{out}} --views 4 --view-size 48 {_ON_CPU}",
    "decode": f"decode {{at}}/tokens --model {{at}}/model --out {{out}} {_ON_CPU}",
    "decode-clips": f"decode {{at}}/clip-tokens --model {{at}}/model --out {{out}} --video-format gif {_ON_CPU}",
    "decode-3d": f"decode {{at}}/solid-tokens --model {{at}}/model --out {{out}} {_ON_CPU}",
    "reconstruct": "reconstruct {at}/pictures {at}/clips --model {at}/model --out {out} --video-format gif " + _ON_CPU,
    "pack": "data pack {at}/pictures --out {out} --shard-size 40000",
    "tokenize": f"tokenize {{at}}/pictures --model {{at}}/model --out {{out}} --per-shard 4 --workers 1 {_ON_CPU}",
    "tokens": "tokens {at}/tokens --out {out}/shards --per-shard 5",
    "untokens": "tokens {at}/shard.atoks --out {out} --format atok",
    "export": "export {at}/shard.atoks --format numpy --out {out}/exported",
    "convert": "convert {at}/released.pt --kind continuous --out {out}/converted",
    "search": "search {at}/pictures noise --index {out} --html {out}/found.html --device cpu",
    "eval": "eval {at}/model --protocol native --data {at}/pictures --metrics psnr --out {out} --batch 2 --device cpu",
    "train": "train {at}/recipe.yaml --out {out} --device cpu",
}
"""What is typed, with the folder of ``prepare`` as ``{at}`` and that of the results as ``{out}``."""
ONCE = frozenset({"tokens", "export", "convert"})
"""Those that refuse to run again once they are through: they replace nothing."""


def arguments(command: str, at: Path, out: Path) -> list[str]:
    """Those of a command that writes into ``out``."""
    return [word.format(at=at, out=out) for word in COMMANDS[command].split()]


def prepare(folder: Path, run: Callable[[list[str]], None]) -> None:
    """Small inputs, of which each command makes a moment of writing; ``run`` runs a command."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    AToken(replace(PRESETS["tiny"], gaussians=HEAD)).save_pretrained(folder / "model")
    torch.save(AToken(PRESETS["tiny"]).state_dict(), folder / "released.pt")
    _pictures(folder / "pictures", rng)
    _clips(folder / "clips", rng)
    _solids(folder / "solids")
    (folder / "data").mkdir()
    rng.integers(0, 256, 48 * 40 * 3, dtype=np.uint8).tofile(folder / "data/train.bin")
    (folder / "data/train.json").write_text(json.dumps([{"offset": 0, "height": 48, "width": 40, "weight": 1.0}]))
    (folder / "recipe.yaml").write_text(RECIPE.format(data=folder / "data"))
    for command, out in (("encode", "tokens"), ("encode-clips", "clip-tokens"), ("encode-3d", "solid-tokens")):
        run(arguments(command, folder, folder / out))
    run(["tokens", str(folder / "tokens"), "--out", str(folder / "shard.atoks")])


def _pictures(folder: Path, rng: np.random.Generator) -> None:
    for index in range(40):
        write_image(folder / f"{index:02}.png", rng.integers(0, 256, (64, 80, 3), dtype=np.uint8))
        (folder / f"{index:02}.txt").write_text(f"noise number {index}")


def _clips(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir()
    for index in range(4):
        frames = [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(20)]
        frames[0].save(folder / f"{index}.gif", save_all=True, append_images=frames[1:], duration=40)


def _solids(folder: Path) -> None:
    import trimesh

    folder.mkdir()
    for index in range(6):
        box = trimesh.creation.box((1, 1 + index / 8, 0.5))
        box.visual.vertex_colors = np.random.default_rng(index).integers(0, 256, (8, 4), dtype=np.uint8)
        box.export(folder / f"{index}.ply")

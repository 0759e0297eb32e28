"""Posed views, packed 3D, shards, recipes, models: small sound ones, how they are changed, and what reads them."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import mutate
import numpy as np
import torch
from media_kinds import picture_seeds
from mutate import Files, Rng, of_files
from PIL import Image

from atoken import PRESETS, AToken, GaussianConfig, load, write_image
from atoken.codec.assets import read_any
from atoken.media.views import packed
from atoken.media.views.views import ViewOptions


def posed_seeds(folder: Path) -> list[Files]:
    rng = np.random.default_rng(0)
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[:, 2, 3] = 2
    frames = [{"file_path": f"r_{i}.png", "transform_matrix": poses[i].tolist()} for i in range(2)]
    for index, frame in enumerate(frames):
        write_image(folder / f"r_{index}.png", rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        depth = rng.integers(1, 65535, (16, 16)).astype(np.uint16)
        Image.fromarray(depth).save(folder / f"r_{index}_depth.png")
        np.save(folder / f"d_{index}.npy", depth.astype(np.float32) / 65535 + 1.5)
        frame["depth"] = {"min": 1.5, "max": 2.5}
    names = ["r_0.png", "r_1.png"]
    angle = {"camera_angle_x": 0.8}
    png = {**angle, "frames": frames}
    npy = {**angle, "frames": [{**frame, "depth_path": f"d_{i}.npy"} for i, frame in enumerate(frames)]}
    found = []
    for table, depths in ((png, ["r_0_depth.png", "r_1_depth.png"]), (npy, ["d_0.npy", "d_1.npy"])):
        files = {name: (folder / name).read_bytes() for name in names + depths}
        found.append({"transforms.json": json.dumps(table, indent=0).encode(), **files})
    return found


def change_posed(files: Files, other: Files, rng: Rng) -> Files:
    if rng.integers(2):
        table = mutate.of_json(json.loads(files["transforms.json"]), rng)
        return {**files, "transforms.json": mutate.to_json(table)}
    return of_files(files, other, rng)


def packed_seeds(folder: Path) -> list[Files]:
    rng = np.random.default_rng(0)
    views = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    places = rng.integers(0, 16, (5, 3)).astype(np.uint8)
    patch = np.stack([rng.integers(0, 2, 5) for _ in range(3)], 1).astype(np.uint8)
    for name, write in (("a.npz", np.savez), ("b.npz", np.savez_compressed)):
        write(folder / name, views=views, held_out=views[:1], voxels16=places, patch16=patch)
    return [{name: (folder / name).read_bytes()} for name in ("a.npz", "b.npz")]


def change_packed(files: Files, other: Files, rng: Rng) -> Files:
    ((name, data),) = files.items()
    if rng.integers(3) == 0:
        return of_files(files, other, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {part: archive.read(part) for part in archive.namelist()}
    part = list(parts)[rng.integers(len(parts))]
    if rng.integers(2):
        parts[part] = mutate.of_bytes(parts[part], next(iter(parts.values())), rng)
    else:
        types = ["S3", "U2", "datetime64[s]", "float32", "complex64", "bool", "int64", "uint64", "O", "f2"]
        values = np.zeros([int(n) for n in rng.integers(0, 5, rng.integers(0, 5))], types[rng.integers(len(types))])
        stream = io.BytesIO()
        np.save(stream, values)
        parts[part] = stream.getvalue()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    return {name: stream.getvalue()}


def read_packed(path: Path) -> object:
    return packed.read_packed(path).patches(16)


def shard_seeds(folder: Path) -> list[Files]:
    pictures = picture_seeds(folder)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for index, files in enumerate(pictures[:6]):
            ((name, data),) = files.items()
            for member, content in ((f"{index}{Path(name).suffix}", data), (f"{index}.txt", b"a red chair")):
                entry = tarfile.TarInfo(member)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return [{"shard-000000.tar": stream.getvalue()}]


def read_shard(path: Path) -> object:
    from atoken.data.config import FeedConfig, ShardsConfig
    from atoken.data.shards import ShardFeed

    return next(
        ShardFeed(FeedConfig("image", tokens=64, shards=ShardsConfig(shards=(str(path),), workers=0)), 0).batches(0)
    )


def recipe_seeds(folder: Path) -> list[Files]:
    recipes = sorted((Path(__file__).parents[2] / "recipes").glob("*/*.yaml"))
    return [{recipe.name: recipe.read_bytes()} for recipe in recipes]


def read_recipe(path: Path) -> object:
    from atoken.cli.recipes import read_any

    return read_any(path)


def model_seeds(folder: Path) -> list[Files]:
    torch.manual_seed(0)
    head = GaussianConfig(64, 1, 1, 64, per_voxel=1, resolution=16)
    found = []
    for name, config in (("a", PRESETS["tiny"]), ("b", replace(PRESETS["tiny"], gaussians=head))):
        AToken(config).save_pretrained(folder / name)
        found.append({part: (folder / name / part).read_bytes() for part in ("config.json", "model.safetensors")})
    return found


def change_model(files: Files, other: Files, rng: Rng) -> Files:
    if rng.integers(3):
        config = mutate.of_json(json.loads(files["config.json"]), rng)
        return {**files, "config.json": mutate.to_json(config)}
    return of_files(files, other, rng)


def read_posed(path: Path) -> object:
    return read_any(path, ViewOptions(size=16))


def read_model(path: Path) -> object:
    return load(path.parent, device="cpu")

"""Token files, pictures, meshes, splats and clips: small sound ones, how they are changed, and what reads them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile
from pathlib import Path

import mutate
import numpy as np
import torch
from mutate import Files, Rng, of_files
from PIL import Image

from atoken import PRESETS, AToken, Clip, Gaussians, Tokens, open_video, read_image
from atoken.media.kinds import modality_of
from atoken.media.mesh import read_asset
from atoken.tokens.stream import TokenFile

MOST_PIXELS = 2**24
MARK = b'"checksum":"'
"""What stands before the checksum of a token file."""
DATA = Path(__file__).parents[1] / "data"


def token_seeds(folder: Path) -> list[Files]:
    torch.manual_seed(0)
    model = AToken(PRESETS["tiny"])
    picture = np.random.default_rng(0).integers(0, 256, (20, 33, 3), dtype=np.uint8)
    tokens = [model.encode(picture, kind=kind) for kind in ("continuous", "discrete")]
    tokens += [tokens[0].half(), model.encode(Clip(np.stack([picture] * 9), fps=25.0))]
    places = torch.tensor([[0, x, 2, 3] for x in range(5)], dtype=torch.int32)
    box = {"modality": "3d", "grid": (1, 16, 16, 16), "size": (64, 64), "box": (0, 0, 64, 64)}
    tokens.append(model.stamp("continuous", torch.zeros(5, 48), places, **box))
    files = []
    for index, item in enumerate(tokens):
        item.save(folder / f"{index}.atok")
        files.append({f"{index}.atok": (folder / f"{index}.atok").read_bytes()})
    return files


def change_tokens(files: Files, other: Files, rng: Rng) -> Files:
    ((name, data),) = files.items()
    way = int(rng.integers(4))
    if way < 2:
        changed = mutate.of_bytes(data, next(iter(other.values())), rng)
        return {name: changed if way == 0 else _sealed(changed)}
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if way == 2:
        facts = mutate.of_json({key: _plain(value) for key, value in header["__metadata__"].items()}, rng)
        header["__metadata__"] = {k: v if isinstance(v, str) else json.dumps(v) for k, v in facts.items()}
    else:
        header = mutate.of_json(header, rng)
    text = mutate.to_json(header)
    return {name: _sealed(len(text).to_bytes(8, "little") + text + data[8 + length :])}


def _plain(value: str) -> object:
    """The value of a JSON text, and another text as it is."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def _sealed(data: bytes) -> bytes:
    """With the checksum of what it holds (docs/tokens.md), where there is a place for one."""
    at = data.find(MARK) + len(MARK)
    if at < len(MARK) or len(data) < at + 64:
        return data
    blank = data[:at] + b"0" * 64 + data[at + 64 :]
    return data[:at] + hashlib.sha256(blank).hexdigest().encode() + data[at + 64 :]


def read_tokens(path: Path) -> object:
    tokens = Tokens.load(path)
    if tokens.modality == "video":
        with TokenFile(path) as file:
            return sum(len(step) for step in file.latent_steps())
    return tokens.latents


def unsealed(sound: Files, changed: Files) -> bool:
    (data,) = changed.values()
    return data != next(iter(sound.values())) and _sealed(data) != data


# Pictures


def picture_seeds(folder: Path) -> list[Files]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 17, 4), dtype=np.uint8)
    rgba, rgb = Image.fromarray(pixels), Image.fromarray(pixels[..., :3])
    grey = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    moving = {"save_all": True, "append_images": [rgb.rotate(90), rgb], "duration": 40}
    ways: list[tuple[str, Image.Image, dict[str, object]]] = [
        *(("a.jpg", rgb, {}), ("b.jpg", rgb.convert("CMYK"), {}), ("c.jpg", rgb, {"progressive": True})),
        *(("a.png", rgb, {}), ("b.png", rgba, {}), ("c.png", grey, {}), ("d.png", rgb.convert("P"), {})),
        *(("e.png", rgb, moving), ("a.webp", rgb, {}), ("b.webp", rgba, {"lossless": True}), ("c.webp", rgb, moving)),
        *(("a.gif", rgb, {}), ("b.gif", rgb, moving), ("a.bmp", rgb, {}), ("b.bmp", rgba, {})),
        *(("a.tif", rgb, {}), ("b.tif", rgba, {"compression": "tiff_adobe_deflate"}), ("c.tif", grey, {})),
        *(("d.tif", rgb, {"compression": "tiff_lzw"}), ("a.avif", rgb, {}), ("b.avif", rgb, moving)),
    ]
    for name, image, options in ways:
        image.save(folder / name, **options)
    return [{name: (folder / name).read_bytes()} for name, _, _ in ways]


def read_picture(path: Path) -> object:
    if modality_of(path) == "video":
        return sum(1 for _ in open_video(path, max_pixels=MOST_PIXELS))
    return read_image(path, max_pixels=MOST_PIXELS)


# Meshes and splats


def solid_seeds(folder: Path) -> list[Files]:
    import trimesh

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    box = trimesh.creation.box()
    coloured = box.copy()
    coloured.visual.vertex_colors = np.random.default_rng(0).integers(0, 256, (8, 4), dtype=np.uint8)
    uv = np.random.default_rng(0).random((8, 2))
    textured = box.copy()
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=picture)
    textured.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    for name, mesh in (("a.glb", textured), ("b.glb", coloured), ("a.ply", coloured), ("a.stl", box), ("a.off", box)):
        mesh.export(folder / name)
    (folder / "b.ply").write_bytes(trimesh.exchange.ply.export_ply(coloured, encoding="ascii"))
    (folder / "a.obj").write_text(
        "mtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nvt 0 0\nvt 1 0\nvt 0 1\n"
        "usemtl m\nf 1/1 2/2 3/3\nf 1 3 4\nf 1 4 2\n"
    )
    (folder / "a.mtl").write_text("newmtl m\nKd 1 0 0\nmap_Kd t.png\n")
    picture.save(folder / "t.png")
    generator = torch.Generator().manual_seed(0)
    values = [torch.rand(9, size, generator=generator) for size in (3, 3, 4, 1, 3)]
    splats = Gaussians(values[0], values[1] - 3, values[2] + 0.1, values[3][:, 0], values[4])
    names = [["a.glb"], ["b.glb"], ["a.ply"], ["b.ply"], ["a.stl"], ["a.off"], ["a.obj", "a.mtl", "t.png"], ["s.ply"]]
    splats.save(folder / "s.ply")
    for name in ("s.splat", "s.spz", "s.sog"):
        with contextlib.suppress(ValueError, ImportError):  # formats that this version does not write
            splats.save(folder / name)
            names.append([name])
    names += [["g.gltf", "g.bin"]] if _unpacked(folder) else []
    return [{name: (folder / name).read_bytes() for name in group} for group in names]


def _unpacked(folder: Path) -> bool:
    """a.glb as a .gltf with its data beside it."""
    data = (folder / "b.glb").read_bytes()
    length = int.from_bytes(data[12:16], "little")
    header = json.loads(data[20 : 20 + length])
    header["buffers"][0]["uri"] = "g.bin"
    (folder / "g.gltf").write_text(json.dumps(header, indent=0))
    (folder / "g.bin").write_bytes(data[28 + length :])
    return True


def change_solid(files: Files, other: Files, rng: Rng) -> Files:
    name, data = next(iter(files.items()))
    if name.endswith(".glb") and rng.integers(2):
        length = int.from_bytes(data[12:16], "little")
        text = mutate.to_json(mutate.of_json(json.loads(data[20 : 20 + length]), rng))
        text += b" " * (-len(text) % 4)
        rest = data[20 + length :]
        head = data[:8] + (20 + len(text) + len(rest)).to_bytes(4, "little") + len(text).to_bytes(4, "little")
        return {name: head + data[16:20] + text + rest}
    if name.endswith(".gltf") and rng.integers(2):
        return {**files, name: mutate.to_json(mutate.of_json(json.loads(data), rng))}
    return of_files(files, other, rng)


def read_solid(path: Path) -> object:
    from atoken.gaussians.formats.ply import is_splat

    if path.suffix in (".splat", ".spz", ".sog") or (path.suffix == ".ply" and is_splat(path)):
        return Gaussians.load(path)
    return read_asset(path)


# Clips


def clip_seeds(folder: Path) -> list[Files]:
    with zipfile.ZipFile(DATA / "clips.zip") as archive:
        names = [name for name in archive.namelist() if not name.endswith(".json")]
        return [{name: archive.read(name)} for name in names]


def read_clip(path: Path) -> object:
    return sum(1 for _ in open_video(path, size=16, max_pixels=MOST_PIXELS, allow_partial=False))

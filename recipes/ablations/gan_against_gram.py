"""The paper's Figure 4 at nano's size: continue a model with the Gram term or with a GAN, and watch both.

    python recipes/ablations/gan_against_gram.py --pictures data/eval --term gram --out runs/gram.jsonl
    python recipes/ablations/gan_against_gram.py --pictures data/eval --term gan --out runs/gan.jsonl

Each line of the log has the weighted terms and, with the GAN, the mean scores of real and reconstructed pictures: where
the discriminator wins they drift apart. Every ``--every`` steps it also has the Fréchet distance in Lite0's features
between crops and their reconstructions, and the share of it that lies in the covariances (86.6 % in the paper).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import atoken
from atoken.backbones.lite0 import lite0
from atoken.losses.gan import Discriminator, discriminator_loss, generator_loss
from atoken.losses.l1 import l1
from atoken.losses.perceptual import LITE_LAYERS, lite_terms, to_squares
from atoken.losses.total import Weights, weighted
from atoken.media.image.files import read_image
from atoken.media.patchify import image_to_patches
from atoken.media.pixels import from_uint8
from atoken.media.suffixes import IMAGE_SUFFIXES
from atoken.metrics.frechet import FeatureStatistics, frechet_distance
from atoken.nn.packed import Packed

HELD_OUT = 1_000_000
"""Seeds of the crops that the distance is measured on start here."""


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description="Gram or GAN: continue a model with one of them and log both signs.")
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--term", choices=("gram", "gan"), required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--every", type=int, default=200)
    parser.add_argument("--measured", type=int, default=512, help="crops that the distance is measured on")
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--gan-weight", type=float, default=0.1)
    run(parser.parse_args())


def run(args: argparse.Namespace) -> None:
    """Train and log, one JSON object a line."""
    torch.manual_seed(0)
    pictures = [read_image(path) for path in sorted(args.pictures.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES]
    pictures = [picture for picture in pictures if min(picture.shape[:2]) >= args.size]
    if not pictures:
        raise SystemExit(f"no picture of {args.size} pixels or more in {args.pictures}")
    model = atoken.load(args.model).train()
    terms = lite_terms(lite0(LITE_LAYERS), size=args.size)
    critic = Discriminator()
    optimizers = [torch.optim.AdamW(net.parameters(), args.rate, betas=(0.5, 0.95)) for net in (model, critic)]
    weights = Weights(gram=1e3 if args.term == "gram" else 0.0, gan=args.gan_weight if args.term == "gan" else 0.0)
    args.out.parent.mkdir(parents=True, exist_ok=True)

    with args.out.open("w") as log:
        for step in range(args.steps):
            batch = crops(pictures, args.batch, args.size, step)
            patches = reconstruct(model, batch)
            fake, real = (to_squares(x, batch, args.size) for x in (patches, batch.feats))
            losses = {"l1": l1(patches, batch.feats), **terms(fake, real)}
            if args.term == "gan":
                losses["gan"] = generator_loss(critic(fake))
            each = weighted(losses, weights)
            optimizers[0].zero_grad()
            torch.stack(list(each.values())).sum().backward()
            optimizers[0].step()
            record = {"step": step, **{name: float(value.detach()) for name, value in each.items()}}
            if args.term == "gan":
                scores = critic(real), critic(fake.detach())
                optimizers[1].zero_grad()
                discriminator_loss(*scores).backward()
                optimizers[1].step()
                record |= {"real": float(scores[0].detach().mean()), "fake": float(scores[1].detach().mean())}
            if step % args.every == 0 or step == args.steps - 1:
                record |= distance(model, pictures, args)
            log.write(json.dumps(record) + "\n")
            log.flush()


def crops(pictures: list[np.ndarray], count: int, size: int, seed: int) -> Packed:
    """Random square crops as a packed batch, the same for the same seed."""
    rng = np.random.default_rng(seed)

    def draw() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(count):
            picture = pictures[rng.integers(len(pictures))]
            top, left = (int(rng.integers(n - size + 1)) for n in picture.shape[:2])
            pixels = torch.from_numpy(picture[top : top + size, left : left + size].copy()).permute(2, 0, 1)
            yield image_to_patches(from_uint8(pixels))[:2]

    return Packed.cat(list(draw()))


def reconstruct(model: atoken.AToken, batch: Packed) -> Tensor:
    """Frame 0 of the decoded posterior means: [N, 768]."""
    latents = model.encode_packed(batch, pool=False).posterior.mode()
    return model.decode_packed(Packed(latents, batch.coords), features=768)


@torch.no_grad()
def distance(model: atoken.AToken, pictures: list[np.ndarray], args: argparse.Namespace) -> dict[str, float]:
    """Fréchet distance between crops and their reconstructions, and its covariance share."""
    network = lite0()
    real, fake = FeatureStatistics(1280), FeatureStatistics(1280)
    for index in range(args.measured // args.batch):
        batch = crops(pictures, args.batch, args.size, HELD_OUT + index)
        real.update(network.embedding(to_squares(batch.feats, batch, args.size)))
        fake.update(network.embedding(to_squares(reconstruct(model, batch), batch, args.size).clamp(-1, 1)))
    found = frechet_distance(real, fake)
    return {"frechet": found.total, "covariance_share": found.covariance_part / max(found.total, 1e-12)}


if __name__ == "__main__":
    main()

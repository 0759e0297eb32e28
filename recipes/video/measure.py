"""Measure a model on clips: video tokens against single images, and the seam of time tiles with and without a cache.

    python recipes/video/measure.py --model runs/nano-video/model data/videos/eval/*
    python recipes/video/measure.py --model nano --frames 96 --size 192 clip.mp4     # needs the extra video

Prints two tables in Markdown. The decoder's cache is switched on for the measurement; a model that was trained without
one has not learned to use it.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace
from itertools import islice
from pathlib import Path

import atoken
from atoken.evaluation.seam import measure_seam
from atoken.evaluation.stills import measure_stills


def with_cache(model: atoken.AToken, steps: int) -> atoken.AToken:
    """The same weights with a decoder that keeps ``steps`` latent steps of the tile before."""
    other = atoken.AToken(replace(model.config, decoder_cache=steps)).eval().to(model.device)
    other.load_state_dict(model.state_dict())
    return other


def main() -> None:
    """Read the clips, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--model", default="nano", help="name or folder of a model")
    parser.add_argument("--frames", type=int, default=64, help="frames of each clip, from its beginning")
    parser.add_argument("--size", type=int, default=256, help="shorter side")
    parser.add_argument("--cache", type=int, nargs="+", default=[0, 1], help="latent steps that the decoder keeps")
    arguments = parser.parse_args()
    model = atoken.load(arguments.model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sound, pixels that are not square
        clips = {
            path.name: list(islice(atoken.open_video(path, size=arguments.size), arguments.frames))
            for path in arguments.clips
        }
    print("| clip | frames | video: PSNR dB (tokens) | images of half the size: PSNR dB (tokens) |")
    print("|---|---|---|---|")
    for name, clip in clips.items():
        found = measure_stills(model, [clip])
        video, images = f"{found.video:.2f} ({found.video_tokens:,})", f"{found.images:.2f} ({found.image_tokens:,})"
        print(f"| {name} | {len(clip)} | {video} | {images} |", flush=True)
    print("\n| decoder cache | beside borders dB | same inside dB | steps across dB | same inside dB | borders |")
    print("|---|---|---|---|---|---|")
    for steps in arguments.cache:
        seam = measure_seam(with_cache(model, steps), clips.values())
        frames = f"{seam.border:.2f} | {seam.inside:.2f} | {seam.border_steps:.2f} | {seam.inside_steps:.2f}"
        print(f"| {steps or 'none'} | {frames} | {seam.borders} |", flush=True)


if __name__ == "__main__":
    main()

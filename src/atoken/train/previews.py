"""What a run shows with every checkpoint: reconstructions, and PSNR on photographs that it never trains on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from ..engine.ema import EMA
from ..engine.logger import Logger
from ..media.image.files import read_image
from ..media.patchify import image_to_patches, patches_to_image
from ..media.pixels import to_array, to_pixels
from ..media.suffixes import IMAGE_SUFFIXES
from ..metrics.psnr import centre_crop, psnr
from ..nn.packed import Packed
from .config import TokenizerLogConfig
from .module import TrainModule

TOGETHER = 8
"""Photographs reconstructed at once."""


class Previews:
    """The photographs of ``eval_path``, shorter side resized to 256, centre crop. Without a path nothing is shown."""

    def __init__(self, config: TokenizerLogConfig) -> None:
        self.config = config
        self.originals = photographs(Path(config.eval_path)) if config.eval_path else []

    def show(self, step: int, module: TrainModule, ema: EMA, logger: Logger) -> None:
        """Record PSNR with the weights as they are and averaged, and a picture of the latter; on every rank."""
        if not self.originals:
            return
        now = self._reconstruct(module)
        with ema.applied():
            averaged = self._reconstruct(module)
        scores = {
            name: float(np.mean([psnr(a, b) for a, b in zip(results, self.originals, strict=True)]))
            for name, results in (("psnr", now), ("psnr_ema", averaged))
        }
        logger.record(step, scores)
        if count := min(self.config.pictures, len(self.originals)):
            rows = [np.concatenate(row[:count], 1) for row in (self.originals, averaged)]
            logger.picture(step, np.concatenate(rows))

    def _reconstruct(self, module: TrainModule) -> list[np.ndarray]:
        module.eval()
        results: list[np.ndarray] = []
        for start in range(0, len(self.originals), TOGETHER):
            parts = [image_to_patches(to_pixels(picture)) for picture in self.originals[start : start + TOGETHER]]
            batch = Packed.cat([(feats, coords) for feats, coords, _ in parts])
            patches: tuple[Tensor, ...] = module.reconstruct(batch).cpu().split(batch.lengths)
            results += [
                to_array(patches_to_image(part, geometry["grid"], geometry["box"]))
                for part, (_, _, geometry) in zip(patches, parts, strict=True)
            ]
        module.train()
        return results


def photographs(folder: Path) -> list[np.ndarray]:
    """Centre crops of the pictures in ``folder``. Raises ``FileNotFoundError`` where there are none."""
    paths = (
        sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES) if folder.is_dir() else []
    )
    if not paths:
        raise FileNotFoundError(f"no photographs in {folder}")
    return [centre_crop(read_image(path)) for path in paths]

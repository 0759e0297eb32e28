"""Frames of a video for the protocols: a video file, or a folder of numbered pictures as DAVIS has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..media.image.files import read_image
from ..media.suffixes import IMAGE_SUFFIXES
from ..media.video.source import open_video


def read_video_frames(path: Path) -> np.ndarray:
    """All frames, uint8 [F, H, W, 3]. Raises ``ValueError`` for what cannot be read, or frames of several sizes."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        frames = [read_image(file) for file in files]
        if not frames or any(frame.shape != frames[0].shape for frame in frames):
            raise ValueError(f"{path} needs frames of one size")
        return np.stack(frames)
    return np.stack([frame.pixels for frame in open_video(path)])

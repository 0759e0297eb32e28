"""Frames of a video for the protocols: a video file, or a folder of numbered pictures as DAVIS has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..media.image import IMAGE_SUFFIXES, read_image


def read_video_frames(path: Path) -> np.ndarray:
    """All frames, uint8 [F, H, W, 3]. Raises ``ValueError`` for what cannot be read, or frames of several sizes."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        frames = [read_image(file) for file in files]
        if not frames or any(frame.shape != frames[0].shape for frame in frames):
            raise ValueError(f"{path} needs frames of one size")
        return np.stack(frames)
    try:
        import av
    except ImportError:
        raise ValueError(f"{path} needs PyAV to be read: pip install 'atoken[video]'") from None
    try:
        with av.open(str(path)) as container:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise ValueError(f"{path} is not a video that can be read: {error}") from None

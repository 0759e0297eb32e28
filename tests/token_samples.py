"""Small samples for the tests of token shards and of what reads them."""

import torch

from atoken import Tokens, TokenSample
from atoken.nn.packed import dense_coords


def picture(number=0, kind="continuous", rows=2, columns=3, **changes):
    """Tokens of a picture of ``rows`` times ``columns`` patches, other ones for each ``number``."""
    grid = (1, rows, columns, 1)
    return Tokens(**(facts(number, kind, dense_coords(grid), grid) | {"modality": "image"} | changes))


def video(number=0, kind="continuous", frames=7, **changes):
    """Tokens of a clip of 2 x 3 patches, 25 frames a second."""
    grid = (-(-frames // 4), 2, 3, 1)
    times = torch.arange(frames, dtype=torch.float64) / 25
    return Tokens(**(facts(number, kind, dense_coords(grid), grid) | {"modality": "video", "times": times} | changes))


def solid(number=0, kind="continuous", voxels=5, **changes):
    """Tokens of so many voxels of a grid of 8 a side, not in row-major order."""
    places = torch.randperm(512, generator=torch.Generator().manual_seed(number))[:voxels]
    coords = torch.stack([places * 0, places // 64, places // 8 % 8, places % 8], 1).int()
    transform = ((1.0, 0.0, 0.0, 0.5), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    size = {"size": (64, 64), "box": (0, 0, 64, 64), "modality": "3d", "transform": transform}
    return Tokens(**(facts(number, kind, coords, (1, 8, 8, 8)) | size | changes))


def facts(number, kind, coords, grid):
    generator = torch.Generator().manual_seed(number)
    values = torch.randn(len(coords), 48, generator=generator)
    if kind == "discrete":
        values = torch.randint(4096, (len(coords), 8), generator=generator).to(torch.uint16)
    height, width = grid[1] * 16, grid[2] * 16
    known = {"kind": kind, "values": values, "coords": coords, "grid": grid, "size": (height, width)}
    return known | {"box": (0, 0, height, width), "model": "test", "weights": "0123abcd" * 8}


def sample(number=0, tokens=None, **changes):
    """A sample with all that there can be."""
    tokens = picture(number) if tokens is None else tokens
    given = {"label": number % 3, "captions": (f"picture {number}", "größer"), "key": f"class/{number:03d}"}
    extras = {"embedding": torch.arange(4.0) + number}
    return TokenSample(**({"tokens": tokens, "extras": extras} | given | changes))

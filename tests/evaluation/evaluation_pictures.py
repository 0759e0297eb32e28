"""Pictures that tests make."""

import numpy as np


def smooth(name, height=40, width=56):
    """A smooth picture with a little noise, the same for the same name; uint8 HWC."""
    rng = np.random.default_rng(sum(map(ord, name)))
    y, x = np.mgrid[:height, :width] / 32
    waves = [np.sin(a * x + b * y + c) for a, b, c in rng.uniform(0.2, 2, (3, 3))]
    noise = rng.normal(0, 4, (height, width, 3))
    return np.clip(np.stack(waves, -1) * 90 + 128 + noise, 0, 255).round().astype(np.uint8)

"""What can be typed: each command with its options. What they do stands in the modules beside this folder."""

from . import files, datasets, training, generation, evaluation, texts  # noqa: F401, I001  # in the order of the help

"""``python -m atoken.cli``, which is what torchrun starts."""

from . import main

main()

"""The command ``atoken``. Help needs no torch: every command imports what it needs when it runs."""

from . import commands as commands
from .app import app, main

__all__ = ["app", "main"]

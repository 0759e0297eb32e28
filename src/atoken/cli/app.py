"""The application ``atoken``: how commands end, and its entry point."""

from __future__ import annotations

import io
import sys
import warnings
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from .. import __version__
from . import interrupt
from .report import say, sentence

USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
"""Base of the errors about the command line itself; typer's own since it carries its own click, click's before."""


class Commands(TyperGroup):
    """All commands; what a user can cause ends in one sentence and exit code 2, a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("always", module=r"atoken(\.|$)")
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except (BrokenPipeError, typer.Exit):  # the reader of stdout has gone: typer ends quietly
            raise
        except USAGE_ERROR as error:
            command = getattr(getattr(error, "ctx", None), "command_path", "atoken")
            reason = error.format_message()
            say(f"error: {reason.rstrip('.')}; {command} --help shows what there is")
            raise typer.Exit(2) from None
        except (KeyboardInterrupt, Exception) as error:
            if isinstance(error, KeyboardInterrupt) or interrupt.received():
                interrupt.announce()
                raise typer.Exit(interrupt.CODE) from None
            if not isinstance(error, ValueError | OSError):
                raise
            say(f"error: {sentence(error)}")
            raise typer.Exit(2) from None


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    say(f"warning: {message}")


app = typer.Typer(
    name="atoken",
    cls=Commands,
    help="Pictures, videos and 3D assets as tokens in one sparse 4D space, and back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The entry point of the command ``atoken``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no failure
    interrupt.watch()
    app(prog_name="atoken")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"atoken {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None: ...

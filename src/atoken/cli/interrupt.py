"""Ctrl-C ends a command within two seconds, a second one at once, also inside a computation that takes minutes.

Python raises ``KeyboardInterrupt`` only between two steps of the main thread, so not before a long operation of torch
is over. A thread therefore hears of the signal too, gives the main thread time to end by itself, and else ends the
process. A command with a handler of its own (training) has as long as it takes, until the second Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import suppress

from ..core.files import remove_temporaries
from .report import say

CODE = 130
"""Exit code of an interrupted command: 128 + SIGINT."""
GRACE = 1.5
"""Seconds that the main thread has to end by itself."""

SENTENCE = "interrupted: running the same command again continues"
_announced = threading.Event()
_received = threading.Event()


def watch() -> None:
    """Start the thread. Nothing happens outside of the main thread or where Ctrl-C is ignored."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    signal.signal(signal.SIGINT, _interrupt)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_wait_and_end, args=(ours, theirs), daemon=True).start()
    if hasattr(os, "register_at_fork"):  # Ctrl-C reaches forked workers too, which must not count as further ones
        os.register_at_fork(after_in_child=_let_go)


def _interrupt(number: int, frame: object) -> None:
    _received.set()
    raise KeyboardInterrupt


def received() -> bool:
    """Whether Ctrl-C came: libraries turn its exception into others, of files that would be damaged."""
    return _received.is_set()


def announce() -> None:
    """Say that the command was interrupted: for the main thread, which the watching one need not repeat."""
    _announced.set()
    say(SENTENCE)


def _wait_and_end(ours: socket.socket, theirs: socket.socket) -> None:
    while ours.recv(1) != bytes([signal.SIGINT]):
        continue
    if signal.getsignal(signal.SIGINT) is _interrupt:  # training first ends its step and saves
        ours.settimeout(GRACE)
    with suppress(TimeoutError):
        while ours.recv(1) != bytes([signal.SIGINT]):
            continue
    remove_temporaries()
    if not _announced.is_set():
        with suppress(OSError):  # by the descriptor, as the main thread may hold the lock of the stream
            os.write(2, f"{SENTENCE}\n".encode())
    os._exit(CODE)


def _let_go() -> None:
    with suppress(ValueError):  # forked outside of the main thread
        signal.set_wakeup_fd(-1)

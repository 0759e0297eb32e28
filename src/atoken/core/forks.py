"""Forked children of a process that has computed."""

from __future__ import annotations

import os
from functools import cache, partial

import torch


@cache
def keep_children_working() -> None:
    """From now on children that this process forks compute with one thread of torch, until they ask for more.

    GNU OpenMP, with which torch computes, does not survive a fork of a process that used it: a child waits for ever for
    threads that are not there.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))

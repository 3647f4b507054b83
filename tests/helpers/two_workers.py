"""One piece of work by two workers that speak gloo: this process and another."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from undrift.train.comm import Comm, TorchDistributed


def by_two(work: Callable[[Comm], Any], folder: Path, patch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """Return what each of two workers made of ``work``.

    Args:
        work: A function of a module; what it returns `torch.load` reads without code.
        folder: An empty folder, where they meet.
        patch: Keeps their connection on this machine.
    """
    patch.setenv("GLOO_SOCKET_IFNAME", "lo")
    other = multiprocessing.get_context("spawn").Process(target=_other, args=(work, folder))
    other.start()
    _work_as(0, work, folder)
    other.join()
    assert other.exitcode == 0
    return torch.load(folder / "0.pt"), torch.load(folder / "1.pt")


def _other(work: Callable[[Comm], Any], folder: Path) -> None:
    _work_as(1, work, folder)
    os._exit(0)  # what is done is done: gloo's threads may abort a process that ends in order


def _work_as(rank: int, work: Callable[[Comm], Any], folder: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as workers compute by default
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting_point",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    try:
        torch.save(work(TorchDistributed()), folder / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
        torch.set_num_threads(threads)

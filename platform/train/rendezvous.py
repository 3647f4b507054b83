"""How the workers of a session find each other: with no port where none is needed."""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
import torch.distributed as dist
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

_listening: list[socket.socket] = []


@dataclass
class Rendezvous(TorchConfig):  # type: ignore[misc]
    """A process group for several workers alone, and on loopback where Ray is.

    Ray's own opens a `TCPStore` for one worker as well, which listens on every address of the
    machine, without a token. Workers on several machines need it, beside the ports of Ray.
    """

    @property
    def backend_cls(self) -> type[_Backend]:
        """What Ray Train's controller calls before the workers begin."""
        return _Backend


class _Backend(_TorchBackend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: Rendezvous) -> None:
        world = len(worker_group)
        if world == 1:
            return
        host = ray.util.get_node_ip_address()
        if not ipaddress.ip_address(host).is_loopback:
            super().on_start(worker_group, backend_config)
            return
        backend = "nccl" if worker_group.get_resources_per_worker().get("GPU", 0) else "gloo"
        port = worker_group.execute_single(0, _listen, host)
        joined = [
            worker_group.execute_single_async(
                rank, _join, host, port, rank, world, backend, backend_config.timeout_s
            )
            for rank in range(world)
        ]
        ray.get(joined)


def _listen(host: str) -> int:
    """Open a socket on this address alone and return its port."""
    _listening.append(socket.create_server((host, 0)))
    return int(_listening[-1].getsockname()[1])


def _join(host: str, port: int, rank: int, world: int, backend: str, timeout_s: int) -> None:
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = loopback
    store = dist.TCPStore(  # type: ignore[attr-defined]
        host,
        port,
        world,
        is_master=rank == 0,
        master_listen_fd=_listening.pop().detach() if rank == 0 else None,
        timeout=timedelta(seconds=timeout_s),
    )
    dist.init_process_group(
        backend, store=store, rank=rank, world_size=world, timeout=timedelta(seconds=timeout_s)
    )

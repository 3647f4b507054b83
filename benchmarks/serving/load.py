"""Load from a process of its own, wrk, and what the server's processes take meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.bodies import Body

_LUA = Path(__file__).with_name("load.lua")
_TICKS = os.sysconf("SC_CLK_TCK")
MARK = "SERVING_BENCHMARK"
"""Environment variable by which all processes of a server are known."""


def press(url: str, body: Body, connections: int, seconds: float) -> dict[str, Any]:
    """Return what wrk counted: requests, seconds, latencies, refused and lost ones."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(body.content)
        file.flush()
        headers = "".join(f"{name}:{value};" for name, value in body.headers.items())
        given = ["-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s", "-s", str(_LUA)]
        done = subprocess.run(
            ["wrk", *given, url],
            env={**os.environ, "BODY": file.name, "HEADERS": headers},
            capture_output=True,
            text=True,
            timeout=seconds + 60,
            check=True,
        )
    return dict(json.loads(done.stdout.partition("RESULT ")[2].splitlines()[0]))


@dataclass(frozen=True, slots=True)
class Usage:
    """What a server's processes have taken.

    Attributes:
        cpu_s: Seconds of processor time of each process so far.
        memory: Bytes, shared ones divided among who shares them.
    """

    cpu_s: dict[int, float]
    memory: int

    def since(self, before: Usage) -> list[float]:
        """Return the processor time of each process since then, in seconds, the most first."""
        taken = [spent - before.cpu_s.get(pid, 0.0) for pid, spent in self.cpu_s.items()]
        return sorted(taken, reverse=True)


def pids(mark: str) -> list[int]:
    """Return the processes that carry a mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:  # it has ended, or is somebody else's
                continue
    return found


def usage(mark: str) -> Usage:
    """Return what the processes of a mark have taken."""
    cpu_s, memory = {}, 0
    for pid in pids(mark):
        folder = Path(f"/proc/{pid}")
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            rollup = (folder / "smaps_rollup").read_text()
        except OSError:
            continue
        cpu_s[pid] = (int(stat[11]) + int(stat[12])) / _TICKS
        memory += 1024 * int(rollup.partition("\nPss:")[2].split()[0])
    return Usage(cpu_s, memory)


def named(mark: str, part: str) -> list[int]:
    """Return those processes of a mark whose title has ``part``."""
    titles = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in pids(mark)}
    return [pid for pid, title in titles.items() if part in title]

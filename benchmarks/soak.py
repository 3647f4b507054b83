"""What becomes of a platform that is loaded, drifts and loses its processes for a long time.

    python -m benchmarks.soak [--minutes 60]

A real platform of the starter's model and two replicas answers two clients without a pause; every
row is labelled some seconds later. The meaning of labels or of inputs changes every few minutes, so
it retrains and swaps. Processes are killed and the disk of the state is filled by chance; the last
third has no faults, for memory. All that is seen goes to a file of JSON lines at once;
`benchmarks.soak_page` makes the page of it, also of a run that was cut off (`--page-only`).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from benchmarks import soak_page
from tests.ray import faults
from tests.ray.running import UNDRIFT, Running, alive, environment, free_port, project, undrift
from tests.ray.traffic import ROWS, Answered, Labeller, Traffic
from undrift.errors import PlatformError
from undrift.store.store import Store

CLIENTS, PAUSE_S, LAG_S, EVERY_S = 2, 0.1, 5.0, 5.0
FULL_S = 6.0
VICTIMS = faults.REPLICA, faults.MONITOR, faults.CONTROLLER, faults.TRAINER, faults.WORKER
FULL = "full disk"
SECTIONS: dict[str, dict[str, Any]] = {
    "monitor": {
        "label_lag_rows": 1000,
        "join_window_rows": 5_000,
        "rows_per_false_drift": 10_000,
        "probation_labels": 200,
    },
    "lifecycle": {"mode": "auto", "cooldown_s": 10.0, "backoff_s": 5.0, "probation_timeout_s": 60},
    "train": {"idle_s": 60.0, "steps": 150},
}


class World:
    """What rows and labels mean, which changes.

    Attributes:
        regimes: Since when, on the monotonic clock, the turn of the labels, and the inputs' shift.
    """

    def __init__(self) -> None:
        self.regimes = [(0.0, 0, 0.0)]

    def change(self) -> str:
        """Begin another regime; returns what has changed."""
        _, turn, shift = self.regimes[-1]
        labels = len(self.regimes) % 2 == 1
        new = ((turn + 1) % 3, shift) if labels else (turn, 0.5 - shift)
        self.regimes.append((time.monotonic(), *new))
        return "labels" if labels else "inputs"

    def rows(self, rng: np.random.Generator) -> NDArray[np.float32]:
        x: NDArray[np.float64] = rng.uniform(-1, 1, (ROWS, 2)) + self.regimes[-1][2]
        return x.astype(np.float32)

    def labels(self, x: NDArray[np.float32], at: float) -> list[int]:
        """Return the arm of the starter's spirals on which rows lie that were asked at a time."""
        _, turn, shift = next(r for r in reversed(self.regimes) if r[0] <= at)
        points = x - shift
        angle = np.arctan2(points[:, 1], points[:, 0]) - 3 * np.hypot(points[:, 0], points[:, 1])
        arm = np.rint(angle / (2 * np.pi / 3)).astype(int)
        found: list[int] = ((arm + turn) % 3).tolist()
        return found


class Asking(Traffic):
    """Clients in a world."""

    def __init__(self, url: str, world: World) -> None:
        super().__init__(url, f"soak-{time.time_ns()}", CLIENTS, PAUSE_S)
        self._world = world

    def _rows(self, rng: np.random.Generator) -> NDArray[np.float32]:
        return self._world.rows(rng)


class Labelling(Labeller):
    """Labels of a world, some seconds late."""

    def __init__(self, url: str, traffic: Traffic, world: World) -> None:
        super().__init__(url, traffic, LAG_S)
        self._world = world

    def _labels(self, answered: Answered) -> list[int]:
        return self._world.labels(answered.x, answered.sent)


class Lines:
    """A file of JSON lines, each with the seconds since it was opened."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._begun = path.open("w", encoding="utf-8"), time.monotonic()

    def write(self, kind: str, **seen: Any) -> None:
        line = {"at": round(time.monotonic() - self._begun, 1), "kind": kind, **seen}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


@contextmanager
def disk(folder: Path, mib: int) -> Iterator[bool]:
    """Make a small file system of a folder; yields whether that is allowed here."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "none", str(folder)]
    small = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield small
    finally:
        if small:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Leave no byte free for some seconds."""
    path = folder / "filler"
    try:
        with path.open("wb", buffering=0) as filler:
            end = time.monotonic() + FULL_S
            while time.monotonic() < end:  # what is freed meanwhile is taken, too
                with suppress(OSError):
                    while True:
                        filler.write(bytes(1 << 20))
                with suppress(OSError):
                    while True:
                        filler.write(bytes(1 << 9))
                time.sleep(0.05)
    finally:
        path.unlink()


class Soak:
    """A platform under load, and what is done to it.

    Args:
        running: The platform.
        lines: What is seen.
        full: The folder that is a small disk; None if there is none.
        seed: Of what happens.
    """

    def __init__(self, running: Running, lines: Lines, full: Path | None, seed: int) -> None:
        self.running, self.lines, self.full = running, lines, full
        self.rng = random.Random(seed)
        self.world = World()
        self.traffic = Asking(running.url, self.world)
        self.labeller = Labelling(running.url, self.traffic, self.world)

    def run(self, seconds: float, drift_s: float, fault_s: float) -> None:
        """Load the platform, with drifts and faults until two thirds of the time have passed."""
        begun = time.monotonic()
        drift, fault = begun + drift_s, begun + fault_s
        going: Future[None] | None = None
        with ThreadPoolExecutor(1) as pool, self.traffic, self.labeller:
            while (now := time.monotonic()) < begun + seconds:
                self.look()
                if now >= drift:
                    self.lines.write("drift", what=self.world.change())
                    drift += drift_s
                if now >= fault and now < begun + seconds * 2 / 3 and (not going or going.done()):
                    going = pool.submit(self.harm)
                    fault = now + self.rng.uniform(0.5, 1.5) * fault_s
                time.sleep(EVERY_S)
        if going is not None:
            going.result()

    def harm(self) -> None:
        """Do one thing by chance, and tell how long it took to heal."""
        kinds = [t for t in VICTIMS if self.running.processes(t)] + [FULL] * bool(self.full)
        kind = self.rng.choice(kinds)
        begun = time.monotonic()
        try:
            if kind == FULL:
                assert self.full is not None
                fill(self.full)
            else:
                faults.replaced(self.running, kind, self.rng.choice(self.running.processes(kind)))
            faults.whole(self.running)
        except (AssertionError, OSError, IndexError) as error:
            self.lines.write("fault", what=kind, trouble=f"{type(error).__name__}: {error}"[:2000])
        else:
            self.lines.write("fault", what=kind, back_s=round(time.monotonic() - begun, 1))

    def look(self) -> None:
        """Write down memory, counts, and where the lifecycle is."""
        rss: dict[str, dict[str, int]] = {}
        for pid, line in alive(self.running.pid).items():
            with suppress(OSError):
                statm = (Path("/proc") / str(pid) / "statm").read_text(encoding="utf-8")
                pages = int(statm.split()[1])
                rss.setdefault(soak_page.name(line), {})[str(pid)] = pages * os.sysconf(
                    "SC_PAGESIZE"
                )
        seen = self.running.config.state.rglob("*")
        size = 0
        for path in seen:
            with suppress(OSError):
                size += path.stat().st_size
        self.lines.write("look", rss=rss, state=size, **self.counts(), **self.status())

    def counts(self) -> dict[str, int]:
        traffic, labeller = self.traffic, self.labeller
        return {
            "requests": len(traffic.answers) + len(traffic.failures),
            "raw": traffic.raw,
            "failed": len(traffic.failures),
            "acknowledged": len(labeller.acknowledged),
            "refused": len(labeller.refused),
            "broken": labeller.broken,
            "wrong": len(labeller.wrong),
        }

    def status(self) -> dict[str, Any]:
        try:
            status, drift = self.running.client.status(), self.running.client.drift()
        except (PlatformError, httpx.TransportError) as error:
            return {"phase": f"unknown: {error}"[:200]}
        accuracy = drift.summary.accuracy.window
        return {
            "phase": status.phase,
            "live": status.live_version,
            "told": status.counts,
            "lost_rows": drift.lost_rows,
            "accuracy": None if accuracy is None else round(accuracy, 3),
        }

    def end(self) -> None:
        """End the platform, then hold what it stored against what it said."""
        running, told = self.running, ""
        try:
            faults.whole(running)
            faults.ends_clean(running)
        except AssertionError as error:
            told = str(error)
        running.kill_all()
        stored = set(Store(running.config.model_state).labels().ids)
        missing = [i for i in self.labeller.acknowledged if i not in stored]
        done = subprocess.run(
            [*UNDRIFT, "replay", "--json"],
            cwd=running.path.parent,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        replay = json.loads(done.stdout)["totals"] if done.returncode == 0 else done.stderr
        self.lines.write(
            "end",
            **self.counts(),
            missing=len(missing),
            replay=replay,
            unclean=told,
            tracebacks=running.said().count("Traceback (most recent call last)"),
            trouble=(self.traffic.failures + self.labeller.wrong)[:20],
        )


def soak(
    folder: Path, log: Path, *, minutes: float, drift_s: float, fault_s: float, mib: int, seed: int
) -> list[dict[str, Any]]:
    """Run it; returns the lines that were written to ``log``.

    Args:
        folder: Where the project is made.
        log: File of JSON lines.
        minutes: How long to load it.
        drift_s: Seconds from one drift to the next.
        fault_s: Mean seconds from one fault to the next.
        mib: Size of the disk that the state is on.
        seed: Of the faults.
    """
    done = undrift("init", str(folder / "starter"), cwd=folder)
    assert done.returncode == 0, done.stderr
    with ExitStack() as stack:
        small = stack.enter_context(disk(folder / "disk", mib))
        serve = {"port": free_port(), "replicas": 2}
        config = project(folder / "starter", folder / "spirals", serve=serve, **SECTIONS)
        text = config.read_text(encoding="utf-8")
        text = text.replace("state: state", f"state: {folder / 'disk' / 'state'}")
        config.write_text(text, encoding="utf-8")
        lines = Lines(log)
        lines.write(
            "begin",
            minutes=minutes,
            drift_s=drift_s,
            fault_s=fault_s,
            full=small,
            seed=seed,
            cores=os.cpu_count(),
        )
        running = Running(config)
        stack.callback(running.kill_all)
        running.await_ready()
        one = Soak(running, lines, folder / "disk" if small else None, seed)
        one.run(minutes * 60, drift_s, fault_s)
        one.end()
        seen = soak_page.read(log)
        if soak_page.wrong(seen):  # for whoever looks into it
            shutil.copytree(folder / "spirals", log.with_suffix(".kept"), dirs_exist_ok=True)
            shutil.copytree(running.config.state, log.with_suffix(".state"), dirs_exist_ok=True)
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--drift-s", type=float, default=180)
    parser.add_argument("--fault-s", type=float, default=45)
    parser.add_argument("--disk-mib", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lines", type=Path, default=Path("build/soak.jsonl"))
    parser.add_argument("--page", type=Path, default=Path("docs/soak.md"))
    parser.add_argument("--page-only", action="store_true", help="of the lines that are there")
    options = parser.parse_args()
    if not options.page_only:
        with tempfile.TemporaryDirectory() as scratch:
            soak(
                Path(scratch),
                options.lines,
                minutes=options.minutes,
                drift_s=options.drift_s,
                fault_s=options.fault_s,
                mib=options.disk_mib,
                seed=options.seed,
            )
    options.page.write_text(soak_page.page(soak_page.read(options.lines)), encoding="utf-8")


if __name__ == "__main__":
    main()

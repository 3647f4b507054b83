"""The page of a soak, from its JSON lines (`benchmarks.soak`)."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WARM_S = 90.0  # of each process, and of the run, before its memory counts
SHORTEST_S = 60.0
_KNOWN = {
    "undrift.cli": "undrift up",
    "/gcs_server ": "gcs_server",
    "/raylet ": "raylet",
    "haproxy -db": "haproxy",
    "dashboard.py": "Ray dashboard",
    "dashboard/agent.py": "Ray agent",
    "runtime_env": "Ray runtime env agent",
    "log_monitor.py": "Ray log monitor",
    "monitor.py": "Ray monitor",
}

Line = dict[str, Any]


def name(line: str) -> str:
    """Return what people call the process with this command line."""
    if match := re.match(r"ray::\w+", line):
        return match[0]
    found = (title for part, title in _KNOWN.items() if part in line)
    return next(found, Path(line.partition(" ")[0]).name)


def read(path: Path) -> list[Line]:
    """Return the lines of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def slopes(at: NDArray[np.float64], value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the slopes between all points at least a third of the whole time apart.

    Args:
        at: (n,) seconds, ascending.
        value: (n,) anything.

    Returns:
        Change of value in an hour, one to a pair; their median is a robust slope (Theil and Sen).
    """
    apart = at[None, :] - at[:, None]
    first, second = np.nonzero(apart >= max((at[-1] - at[0]) / 3, 1e-9))
    found: NDArray[np.float64] = (value[second] - value[first]) / apart[first, second] * 3600
    return found


def memory(lines: list[Line]) -> list[tuple[str, int, float, float, tuple[float, ...]]]:
    """Return name, lives, MiB at most, minutes that count, and the slope's quantiles.

    The slope is in % of the median in an hour: its tenth, fifty and ninety quantile over pairs of
    points of one life, without the first seconds of that; empty if no life was long enough.
    """
    lives: dict[str, dict[str, list[tuple[float, int]]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        for title, processes in line.get("rss", {}).items():
            for pid, size in processes.items():
                lives[title][pid].append((line["at"], size))
    rows = []
    for title, of in sorted(lives.items()):
        most = max(size for points in of.values() for _, size in points)
        found, counted = [], 0.0
        for points in of.values():
            at, size = np.array(points, dtype=np.float64).T
            warm = at >= at[0] + WARM_S
            if not warm.any() or at[-1] - at[warm][0] < SHORTEST_S:
                continue
            counted += at[-1] - at[warm][0]
            found.append(100 * slopes(at[warm], size[warm]) / np.median(size[warm]))
        spread = np.quantile(np.concatenate(found), [0.1, 0.5, 0.9]) if found else ()
        rows.append((title, len(of), most / 2**20, counted / 60, tuple(map(float, spread))))
    return rows


def wrong(lines: list[Line]) -> list[str]:
    """Return what must not be, in words; nothing if all is well."""
    end = lines[-1]
    if end["kind"] != "end":
        return ["the run was cut off"]
    found = [
        f"{f['what']} did not heal: {f['trouble']}"
        for f in lines
        if "trouble" in f and f is not end
    ]
    if end["missing"]:
        found.append(f"{end['missing']} acknowledged labels are not in the store")
    if not isinstance(end["replay"], dict):
        return [*found, f"replay failed: {end['replay']}"]
    decisions = end["replay"]["decisions"]
    if decisions["same"] != decisions["live"]:
        found.append(f"replay explains {decisions['same']} of {decisions['live']} decisions")
    if end["unclean"]:
        found.append(f"it did not end clean: {end['unclean']}")
    if end["failed"] or end["wrong"]:
        found.append(f"{end['failed']} requests failed, {end['wrong']} labels: {end['trouble']}")
    return found


def _table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _faults(lines: list[Line]) -> str:
    done: dict[str, list[float | None]] = defaultdict(list)
    for line in lines:
        if line["kind"] == "fault":
            done[line["what"]].append(line.get("back_s"))
    rows = []
    for what, backs in sorted(done.items()):
        healed = [back for back in backs if back is not None]
        longest = f"{max(healed):.1f} s" if healed else "never"
        rows.append([what, len(backs), len(healed), longest])
    return _table(["fault", "times", "healed", "longest"], rows)


def page(lines: list[Line]) -> str:
    """Return the page in Markdown."""
    begin, looks = lines[0], [line for line in lines if line["kind"] == "look"]
    last = lines[-1] if lines[-1]["kind"] == "end" else looks[-1]
    told: dict[str, int] = next((look["told"] for look in reversed(looks) if "told" in look), {})
    lost = max(look.get("lost_rows", 0) for look in looks)
    drifts = [line["what"] for line in lines if line["kind"] == "drift"]
    seconds = looks[-1]["at"] - looks[0]["at"]
    replay = last.get("replay")
    decisions = replay["decisions"] if isinstance(replay, dict) else {"same": "?", "live": "?"}
    figures = [
        ["requests of 8 rows", last["requests"]],
        ["failed, of a client that sends none twice", last["raw"]],
        ["failed, of one that opens a broken connection once more", last["failed"]],
        ["labels acknowledged", last["acknowledged"]],
        ["of these not in the store", last.get("missing", "?")],
        ["labels refused with 503, to be sent later", last["refused"]],
        ["predictions that the monitor could not store, the disk being full", lost],
        ["decisions in the journal", decisions["live"]],
        ["of these made again by a replay", decisions["same"]],
        ["drifts of labels, of inputs", f"{drifts.count('labels')}, {drifts.count('inputs')}"],
        ["state folder at first, MiB", f"{looks[0]['state'] / 2**20:.1f}"],
        ["state folder at last, MiB", f"{looks[-1]['state'] / 2**20:.1f}"],
        ["tracebacks in the log", last.get("tracebacks", "?")],
    ]  # fmt: skip
    sizes = [
        [title, n, f"{most:.0f} MiB", f"{minutes:.0f}"]
        + ([f"{s[1]:+.0f} %", f"{s[0]:+.0f} … {s[2]:+.0f} %"] if s else ["", ""])
        for title, n, most, minutes, s in memory(lines)
    ]
    disk = "The state is on a small disk that is full now and then." if begin["full"] else (
        "No small disk could be mounted: it was never full."
    )  # fmt: skip
    parts = [
        "# Soak",
        (
            "A real platform of two replicas under load, with a drift every "
            f"{begin['drift_s']:.0f} s and a fault every {begin['fault_s']:.0f} s or so, but for "
            f"the last third. {disk} [benchmarks/soak.py](../benchmarks/soak.py) makes this page:"
            "\n\n"
            "    python -m benchmarks.soak --minutes 60"
        ),
        (
            f"The figures are those of a run of **{seconds / 60:.0f} minutes**, seed "
            f"{begin['seed']}, on a machine of {begin.get('cores', '?')} cores."
        ),
        "**What must not be:** " + ("; ".join(wrong(lines)) or "nothing of it was seen."),
        _table(["seen", "number"], figures),
        "Told by the platform: " + ", ".join(f"{n} {k}" for k, n in sorted(told.items())) + ".",
        _faults(lines),
        "## Memory",
        (
            "Resident memory by process, shared pages counted in each. The slope is the median "
            f"over pairs of points of one life, without its first {WARM_S:.0f} s; beside it the "
            "range from the tenth to the ninetieth hundredth. Shorter lives are left out. A "
            "run of minutes tells little of hours: a process that is still filling its windows has "
            "a slope, too."
        ),
        _table(["process", "lives", "at most", "minutes", "slope in an hour", "range"], sizes),
    ]
    return "\n\n".join(parts) + "\n"

"""The pieces of work: each gives one JSON file, and is done again only when its code changes."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import undrift.monitor
from benchmarks.detection import frozen_errors
from benchmarks.detection.charts import CHARTS
from benchmarks.detection.ours import Point, watch
from benchmarks.detection.rivals import RECURSIVE, Prepared, Rival
from benchmarks.detection.scoring import tune
from benchmarks.detection.streams import DRIFTS, NO_DRIFT, build, calibration
from benchmarks.detection.worlds import Folders
from undrift.evidence import Level

LAGS = (0, 200, 1_000)
RIVALS: tuple[Rival, ...] = (*RECURSIVE, *CHARTS)
DRIFT = Point(10_000, Level.DRIFT)
WARNING = Point(100_000, Level.WARNING)  # one false warning in 5,000 rows
PUBLISHED = Point(1_000, Level.DRIFT)  # MNIST to USPS, as in the paper's table
PUBLISHED_LOSS = Point(1_000, Level.DRIFT, "loss")
PUBLISHED_WARNING = Point(20_000, Level.WARNING)  # one false warning in 1,000 rows
SHIPPED = Point(100_000, Level.DRIFT)
FRONTIER = (PUBLISHED, Point(3_000, Level.DRIFT), DRIFT)
QUIET = (Point(2_000, Level.DRIFT), DRIFT, WARNING, SHIPPED)
CALIBRATION_SEED = 10_000
FROZEN_SEEDS = 30


def tuned_points(stream: str) -> tuple[Point, ...]:
    """Return the points at which rivals are tuned to the monitor's own rate of false alarms."""
    extra = {"mnist-usps": (*FRONTIER[:2], PUBLISHED_LOSS, PUBLISHED_WARNING), "sea": FRONTIER[:2]}
    return (DRIFT, WARNING, *extra.get(stream, ()))


def points(stream: str) -> tuple[Point, ...]:
    """Return all points at which the monitor watches a stream."""
    return (*tuned_points(stream), SHIPPED)


def points_of_world(world: str) -> tuple[Point, ...]:
    """Return the points of all streams that begin in a world."""
    found = [p for name, spec in DRIFTS.items() if spec.world == world for p in tuned_points(name)]
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work.

    Attributes:
        kind: Key of ``KINDS``.
        name: Stream or world.
        part: Seed or point; empty where the whole is one piece.
        seeds: Streams of a calibration.
    """

    kind: str
    name: str
    part: str = ""
    seeds: int = 0

    def path(self, out: Path) -> Path:
        """Return where its result is kept."""
        file = "-".join(p for p in (self.name.replace("/", ""), self.part) if p)
        return out / self.kind / f"{file}.json"


def ours(task: Task, folders: Folders, _out: Path) -> dict[str, Any]:
    """Return the monitor's outcomes on one stream, at every point and lag."""
    stream = build(folders, task.name, int(task.part))
    outcomes = {
        str(point): {str(lag): watch(stream, point, lag).plain() for lag in LAGS}
        for point in points(task.name)
    }
    wrong = stream.rows.wrong
    return {
        "onset": stream.onset,
        "rows": len(stream.rows),
        "error_before": float(wrong[: stream.onset].mean()),
        "error_after": float(wrong[stream.onset :].mean()),
        "outcomes": outcomes,
    }


def quiet(task: Task, folders: Folders, _out: Path) -> dict[str, Any]:
    """Return the monitor's false alarms, and rows under warning, on a long stream without drift."""
    stream = build(folders, task.name, int(task.part))
    outcomes = {str(point): watch(stream, point, 0) for point in QUIET}
    return {
        "rows": len(stream.rows),
        "false": {point: len(outcome.false) for point, outcome in outcomes.items()},
        "alert": {point: outcome.alert for point, outcome in outcomes.items()},
    }


def calibrate_ours(task: Task, folders: Folders, _out: Path) -> dict[str, Any]:
    """Return the number of the monitor's false alarms on many short streams of one world."""
    point = _point(task.part)
    rows = false = 0
    for i in range(task.seeds):
        stream = calibration(folders, task.name, CALIBRATION_SEED + i)
        rows += len(stream.rows)
        false += len(watch(stream, point, 0).false)
    return {"rows": rows, "false": false, "streams": task.seeds}


def calibrate_rivals(task: Task, folders: Folders, out: Path) -> dict[str, Any]:
    """Return, for each rival and point, the threshold with as many false alarms as ours."""
    prepared: dict[str, list[Prepared]] = {rival.name: [] for rival in RIVALS}
    for i in range(task.seeds):
        stream = calibration(folders, task.name, CALIBRATION_SEED + i)
        for rival in RIVALS:
            prepared[rival.name].append(rival.prepare(stream))
    found: dict[str, Any] = {}
    for rival in RIVALS:
        streams = prepared[rival.name]
        found[rival.name] = {"default": _count(rival, streams, rival.default)}
        for point, allowed in targets(task.name, out).items():
            found[rival.name][point] = _tuned(rival, streams, allowed)
    return found


def targets(world: str, out: Path) -> dict[str, int]:
    """Return how many false alarms the monitor made at each point; at least one is allowed."""
    tasks = [Task("calibrate-ours", world, str(p)) for p in points_of_world(world)]
    return {task.part: max(1, read(task, out)["false"]) for task in tasks}


def rivals(task: Task, folders: Folders, out: Path) -> dict[str, Any]:
    """Return the alarms of every rival on one stream, up to the first after the drift."""
    stream = build(folders, task.name, int(task.part))
    assert stream.onset is not None
    tuned = read(Task("calibrate-rivals", DRIFTS[task.name].world), out)
    found: dict[str, Any] = {}
    for rival in RIVALS:
        prepared = rival.prepare(stream)
        thresholds = {"default": rival.default}
        for point in map(str, tuned_points(task.name)):
            thresholds[point] = tuned[rival.name][point]["threshold"]
        found[rival.name] = {
            variant: _until(rival.alarms(prepared, threshold), stream.onset)
            for variant, threshold in thresholds.items()
        }
    return found


def frozen(task: Task, _folders: Folders, _out: Path) -> dict[str, Any]:
    """Return delays and false alarms on the errors of frozen learners on River's generators."""
    return frozen_errors.cell(task.name, int(task.part))


KINDS: dict[str, Callable[[Task, Folders, Path], dict[str, Any]]] = {
    "ours": ours,
    "quiet": quiet,
    "calibrate-ours": calibrate_ours,
    "calibrate-rivals": calibrate_rivals,
    "rivals": rivals,
    "frozen": frozen,
}


def read(task: Task, out: Path) -> dict[str, Any]:
    """Return the result of a task that is done."""
    kept: dict[str, Any] = json.loads(task.path(out).read_text(encoding="utf-8"))
    result: dict[str, Any] = kept["result"]
    return result


def is_done(task: Task, out: Path) -> bool:
    """Tell whether a task's result is there and was made by the present code."""
    path = task.path(out)
    if not path.exists():
        return False
    kept: str = json.loads(path.read_text(encoding="utf-8"))["made_by"]
    return kept == made_by(task, out)


def execute(task: Task, folders: Folders, out: Path) -> None:
    """Do a task and keep its result."""
    result = {"made_by": made_by(task, out), "result": KINDS[task.kind](task, folders, out)}
    path = task.path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result), encoding="utf-8")
    partial.replace(path)


def made_by(task: Task, out: Path) -> str:
    """Return a digest of the code and the results that a task's result depends on."""
    parts = [source_digest("common"), str(task.seeds)]
    if task.kind == "frozen":
        return hashlib.sha256(source_digest("frozen").encode()).hexdigest()[:16]
    if task.kind in ("ours", "quiet", "calibrate-ours"):
        parts += [source_digest("monitor"), str([*map(str, QUIET)])]
    if task.kind == "ours":
        parts += [str([*map(str, points(task.name))])]
    if task.kind == "calibrate-rivals":
        parts += [source_digest("rivals"), str(targets(task.name, out))]
    if task.kind == "rivals":
        tuned = read(Task("calibrate-rivals", DRIFTS[task.name].world), out)
        parts += [source_digest("rivals"), str(tuned), str([*map(str, tuned_points(task.name))])]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@cache
def source_digest(group: str) -> str:
    """Return a digest of a group of source files, blind to comments and docstrings."""
    here, monitor = Path(__file__).parent, Path(str(undrift.monitor.__file__)).parent
    shells = {"actor.py", "probation.py"}
    signals = [path for path in sorted(monitor.rglob("*.py")) if path.name not in shells]
    files = {
        "frozen": [here / "frozen_errors.py", *signals],
        "models": [here / f"{n}.py" for n in ("data", "models", "worlds")],
        "common": [here / f"{n}.py" for n in ("data", "models", "rows", "worlds", "streams")],
        "rivals": [here / f"{n}.py" for n in ("rivals", "charts", "scoring")],
        "monitor": [here / "ours.py", *signals],
    }[group]
    return hashlib.sha256("".join(map(_code, files)).encode()).hexdigest()


def all_tasks(streams: Sequence[str], seeds: int, calibration_seeds: int) -> list[list[Task]]:
    """Return the tasks in stages; a stage needs the results of those before it."""
    drifting = [name for name in streams if name in DRIFTS]
    still = [name for name in streams if name in NO_DRIFT]
    worlds = dict.fromkeys(DRIFTS[name].world for name in drifting)
    first = [
        Task("calibrate-ours", world, str(point), calibration_seeds)
        for world in worlds
        for point in points_of_world(world)
    ]
    second = [Task("calibrate-rivals", world, "", calibration_seeds) for world in worlds]
    third = [Task("quiet", name, str(seed)) for name in still for seed in range(seeds)]
    third += [
        Task(kind, name, str(seed))
        for name in drifting
        for seed in range(seeds)
        for kind in ("ours", "rivals")
    ]
    return [first, second, third]


def frozen_tasks() -> list[Task]:
    """Return the tasks of the study of frozen learners, which has seeds of its own."""
    return [
        Task("frozen", stream, str(seed))
        for stream in frozen_errors.STREAMS
        for seed in range(FROZEN_SEEDS)
    ]


def _point(text: str) -> Point:
    level, budget, *statistic = text.split("-")
    return Point(int(budget), Level[level.upper()], *statistic)


def _count(rival: Rival, prepared: Iterable[Prepared], threshold: float, most: float = 1e9) -> int:
    """Return the number of alarms, or one that exceeds ``most``."""
    total = 0
    for one in prepared:
        total += len(rival.alarms(one, threshold))
        if total > most:
            break
    return total


def _tuned(rival: Rival, prepared: Sequence[Prepared], allowed: int) -> dict[str, float]:
    threshold = tune(
        lambda t: _count(rival, prepared, t, allowed), rival.strictness, allowed, rival.steps
    )
    return {
        "threshold": threshold,
        "false": _count(rival, prepared, threshold),
        "allowed": allowed,
    }


def _until(alarms: Sequence[int], onset: int) -> list[int]:
    """Return the alarms before the onset and the first one after it."""
    before = [row for row in alarms if row < onset]
    return [*before, *[row for row in alarms if row >= onset][:1]]


def _code(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    return ast.dump(tree)

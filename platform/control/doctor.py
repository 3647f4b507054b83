"""The state of a platform that need not run: what takes room, what is damaged, what helps."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.compute as pc
from deltalake import DeltaTable

from undrift.control.fullness import Part, ceiling, fullness
from undrift.control.offline import COMMAND, check_readable
from undrift.control.past import BEGINS, recalled
from undrift.control.settings import LifecycleSettings
from undrift.errors import StoreError
from undrift.store.blobs import Blobs
from undrift.store.bucket import Bucket
from undrift.store.files import explained
from undrift.store.journal import EVENTS, REARMINGS, TOLD
from undrift.store.place import Folder, Place, Root, place
from undrift.store.root import open_root
from undrift.store.runs import TRAINING
from undrift.store.settings import RetentionSettings
from undrift.store.starts import Start
from undrift.store.store import Store
from undrift.store.tables import Table
from undrift.store.torn import is_whole

TABLES = ("predictions", "labels", EVENTS, TOLD, REARMINGS)
REPAIR = "with nothing running: undrift repair"
_SHORTEST_S = 3600.0  # from less, a rate is not told
_DAY_S = 86_400.0
_ASIDE = ".damaged"
_Span = tuple[int, float]  # rows or versions, and the seconds that they span
_NOTHING: _Span = (0, 0.0)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is worth knowing.

    Attributes:
        what: What was found, and where.
        remedy: What to do.
        wrong: Whether something is wrong; else it is a note.
        path: What `repair` may set aside; None if it may not.
    """

    what: str
    remedy: str
    wrong: bool = True
    path: Place | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """What `examine` found.

    Attributes:
        parts: The parts of the state.
        free_bytes: What the disk has left; None for a bucket.
        days_left: When it is full at the present rate, in days, retention allowed for; None if it
            never is, or that is not known.
        flat_bytes: What the parts that grow come to take where retention holds them all, and the
            disk with it; None if it does not, or that is not known.
        findings: What is worth knowing.
    """

    parts: tuple[Part, ...]
    free_bytes: int | None
    days_left: float | None
    flat_bytes: float | None
    findings: tuple[Finding, ...]

    @property
    def wrong(self) -> bool:
        """Whether something is wrong."""
        return any(finding.wrong for finding in self.findings)


def examine(
    root: Root, policy: LifecycleSettings, limits: RetentionSettings | None = None
) -> Health:
    """Look through the state of one model; nothing is changed.

    Args:
        root: The model's folder of the state.
        policy: The lifecycle section of the configuration.
        limits: The retention section of the configuration; None: nothing is dropped.

    Raises:
        StoreError: Nothing was recorded there, or another release wrote it.
    """
    parts, findings = measure(root, limits)
    state = place(root)
    findings += [*_versions(root, policy), *_blobs(root)]
    free = shutil.disk_usage(state.path).free if isinstance(state, Folder) else None
    days, flat = fullness(free, parts)
    return Health(tuple(parts), free, days, flat, tuple(findings))


def measure(root: Root, limits: RetentionSettings | None) -> tuple[list[Part], list[Finding]]:
    """Return the parts of the state, and what is to be said of its tables; each file is opened.

    Raises:
        StoreError: Nothing was recorded there, or another release wrote it.
    """
    state = open_root(root, create=False)
    parts, findings = [], []
    for name in TABLES:
        path = state / "tables" / name
        (items, span), found = _table(path)
        parts.append(_part(f"table {name}", path, items, span))
        findings += found
    parts.append(_part("versions", state / "versions", *_versions_span(root)))
    parts += [_part("sessions", state / TRAINING), _part("blobs", state / "blobs")]
    if limits is not None:
        parts = [replace(part, most=ceiling(part, limits)) for part in parts]
    return parts, findings


def repair(root: Root, policy: LifecycleSettings) -> list[str]:
    """Set aside what is torn or damaged and can be done without; the caller sees that nothing runs.

    Returns:
        Where it lies now.

    Raises:
        StoreError: The disk refuses.
    """
    moved = [str(entry) for name in TABLES for entry in Table(root / "tables" / name).mend()]
    for finding in examine(root, policy).findings:
        if finding.path is not None and finding.wrong:
            with explained("set aside", finding.path):
                moved.append(str(finding.path.rename(finding.path.name + _ASIDE)))
    return moved


def _part(name: str, where: Place, items: int = 0, span_s: float = 0.0) -> Part:
    with explained("list", where):
        size = sum(where.sizes().values())
    return Part(name, size, size / span_s * _DAY_S if span_s >= _SHORTEST_S else None, items)


def _table(where: Place) -> tuple[_Span, list[Finding]]:
    """Return rows and seconds of a table, and what is to be said of it."""
    if isinstance(where, Folder):
        return _table_on_disk(where)
    with explained("list", where):
        if not (where / "_delta_log").names():
            return _NOTHING, []
    return _spanned(where, [])


def _table_on_disk(where: Folder) -> tuple[_Span, list[Finding]]:
    path, log = where.path, where.path / "_delta_log"
    if not log.is_dir():
        return _NOTHING, []
    findings = [
        Finding(f"{torn} was set aside after a power cut", "look at it, then delete it", False)
        for torn in sorted(log.glob("*.torn"))
    ]
    newest = max(log.glob("*.json"), default=None)
    if newest is not None and not is_whole(newest, path):
        return _NOTHING, [*findings, Finding(f"{newest} is torn: unfinished when it ended", REPAIR)]
    return _spanned(where, findings)


def _spanned(where: Place, findings: list[Finding]) -> tuple[_Span, list[Finding]]:
    try:
        return _span(where), findings
    except StoreError as error:
        return _NOTHING, [*findings, Finding(str(error), "restore the state: docs/backup.md")]


def _span(where: Place) -> _Span:
    """Return the rows of a table and the seconds that they span; every file is opened."""
    low, high, rows = float("inf"), float("-inf"), 0
    with explained("read the table", where):
        table = DeltaTable(str(where), storage_options=where.options)
        for batch in table.to_pyarrow_dataset().to_batches(columns=["at"]):
            if len(batch):
                ends = pc.min_max(batch["at"]).as_py()
                low, high = min(low, ends["min"]), max(high, ends["max"])
                rows += len(batch)
    return rows, max(high - low, 0.0)


def _versions_span(root: Root) -> _Span:
    made = [manifest.created_at for manifest in Store(root, read_only=True).versions()]
    return len(made), max(made) - min(made) if made else 0.0


def _versions(root: Root, policy: LifecycleSettings) -> Iterator[Finding]:
    try:
        live = recalled(root, policy)[0].live
    except StoreError:
        live = None  # told with its table; then no version is set aside
    for number in Store(root, read_only=True).version_numbers():
        why = _damage(root, number)
        told = f"version {number} is damaged: {why}"
        if why and live is None:
            yield Finding(told, "restore the state: docs/backup.md")
        elif why and number == live:
            yield Finding(f"{told}; it is live", f"restore it, or serve another: {COMMAND}")
        elif why:
            path = place(root) / "versions" / str(number)
            yield Finding(told, f"restore it, or set it aside, {REPAIR}", path=path)


def _damage(root: Root, number: int) -> str:
    """Return what is wrong with a version; what is cached tells nothing of a bucket."""
    with tempfile.TemporaryDirectory() as empty:
        there = root if isinstance(root, Path) else Bucket(str(root), Path(empty))
        store = Store(there, read_only=True)
        try:
            check_readable(store, number)
            store.bandit_log(number)
        except StoreError as error:
            return str(error)
    return ""


def _blobs(root: Root) -> Iterator[Finding]:
    blobs = Blobs(root)
    for name in sorted(blobs.names()):
        try:
            blobs.load(name)
        except StoreError as error:
            if Start.named(name) or name.startswith(BEGINS):  # it stands for what is gone
                yield Finding(str(error), "restore it: docs/backup.md")
            else:
                path = place(root) / "blobs" / f"{name}.npz"
                yield Finding(str(error), f"it is rebuilt once set aside, {REPAIR}", path=path)

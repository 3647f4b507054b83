"""Two-phase change of version over all replicas, with no clock and no network of its own.

Replicas poll; each poll brings what the replica has and is answered with what it shall do next.

    preparing    every member is told to prepare; one error, or the deadline, gives the swap up
    committing   decided, for good, the moment that every member was prepared: the new version is
                 the live one, members flip, and whoever joins loads it
    (no swap)    whoever is not on the live version is told to load it

Beside the live version a replica may hold one that is tried, loaded and let go by each for itself.

A replica that could not load the live version, and so has none, takes part in a swap all the same.

A member is a replica that registered or polled, has not said that it leaves, and has not been
silent for longer than its lease. One that has not polled yet is not waited for: it has no version.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from undrift.records import Assignment
from undrift.serve.settings import SwapSettings


@dataclass(frozen=True, slots=True)
class Target:
    """What a replica shall hold.

    Attributes:
        assignment: Versions, and which of them answers.
        hashes: Hashes that their weights must have, in the order of ``assignment.versions``.
        trial: Rollout that the version beside the live one belongs to; empty without one.
    """

    assignment: Assignment
    hashes: tuple[str, ...]
    trial: str = ""

    @property
    def live(self) -> int:
        """Version that answers."""
        return self.assignment.live

    @property
    def live_hash(self) -> str:
        """Hash that the weights of that version must have."""
        return self.hashes[0]


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """What a replica reports with each poll.

    Attributes:
        live_version: Version that answers; None before the first.
        swap_id: Swap that it was told to prepare; empty once committed, aborted, or with none.
        prepared_version: Version that it holds ready for that swap.
        error: Why it could not prepare, or load; empty if it could.
        leaving: It has answered its last request; no swap waits for it any more.
        committed: Swap that it carried out last; a coordinator that was started anew learns from
            it that this one is decided.
        trial: Rollout that it was told of last; empty without one.
        assignment: What it was told to hold; None if only a live version.
        fault: What is wrong with the version that is tried; empty if nothing is.
    """

    live_version: int | None
    swap_id: str = ""
    prepared_version: int | None = None
    error: str = ""
    leaving: bool = False
    committed: str = ""
    trial: str = ""
    assignment: Assignment | None = None
    fault: str = ""

    @property
    def preparing(self) -> bool:
        """Whether it still makes the version of a swap ready."""
        return bool(self.swap_id) and self.prepared_version is None and not self.error


@dataclass(frozen=True, slots=True)
class Prepare:
    """Load the target beside the live model; remember the swap id."""

    swap_id: str
    target: Target


@dataclass(frozen=True, slots=True)
class Commit:
    """Make the prepared version live; forget the swap id."""

    swap_id: str


@dataclass(frozen=True, slots=True)
class Abort:
    """Drop what was prepared for this swap; forget its id."""

    swap_id: str


@dataclass(frozen=True, slots=True)
class Load:
    """Load the target and make it live; a replica that cannot must fail its health check."""

    target: Target


@dataclass(frozen=True, slots=True)
class Hold:
    """Hold what the target has beside its live version, or nothing; that one answers already."""

    target: Target


Command = Prepare | Commit | Abort | Load | Hold


@dataclass(frozen=True, slots=True)
class Pending:
    """The swap goes on; ``waiting_for`` names the replicas that are not ready yet."""

    swap_id: str
    waiting_for: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """Every replica holds ``assignment``."""

    swap_id: str
    assignment: Assignment


@dataclass(frozen=True, slots=True)
class Failed:
    """The swap was given up before any replica changed."""

    swap_id: str
    reason: str


Outcome = Pending | Done | Failed


@dataclass(slots=True)
class _Member:
    expires: float
    status: ReplicaStatus | None = None


@dataclass(slots=True)
class _Swap:
    id: str
    target: Target
    deadline: float
    committing: bool = False


@dataclass(slots=True)
class SwapCoordinator:
    """Brings all replicas to one version, or leaves them all on the old one.

    After a restart, ``begin`` the swap that was under way before the first poll is answered:
    replicas that had committed already then count as prepared and do not go back and forth. One
    that says that it has committed this very swap tells that it is decided; so that it can be
    heard, no swap is given up before ``patience``.

    Attributes:
        target: What replicas shall hold while no swap is under way.
        settings: Lease and deadlines.
        expected: Replicas to hear of before anything is decided, until ``patience``.
        patience: Time from which those heard of are all; one lease after a restart.
        undecided: Whether a swap that is preparing has to stay so, while another may be asked for.
    """

    target: Target
    settings: SwapSettings
    expected: int = 0
    patience: float = 0.0
    undecided: bool = False
    _members: dict[str, _Member] = field(default_factory=dict)
    _left: set[str] = field(default_factory=set)
    _swap: _Swap | None = None
    _last: Done | Failed | None = None

    def register(self, replica_id: str, now: float) -> None:
        """Announce a replica that is starting; swaps wait for it once it has reported."""
        self._members.setdefault(replica_id, _Member(now + self.settings.start_grace_s))

    def extend(self, seconds: float) -> None:
        """Let every lease end later: for so long nobody could be heard."""
        for member in self._members.values():
            member.expires += seconds

    def begin(self, swap_id: str, target: Target, now: float) -> None:
        """Start bringing all replicas to ``target``.

        A swap that is still preparing is overtaken and fails; one that is committing has been
        decided and is carried on from. Beginning the present or the last swap again does nothing.
        """
        if swap_id == (self._swap.id if self._swap else self._last and self._last.swap_id):
            return
        self._swap = _Swap(swap_id, target, now + self.settings.prepare_timeout_s)

    def hold(self, target: Target) -> None:
        """Have every replica hold what is to stand beside the live version, each when it polls.

        It is nothing to agree on: only a live version has to be the same everywhere. What is of
        another live version than replicas are on is passed over.
        """
        if target.live == self.target.live and not self.decided:
            self.target = target

    def fault(self, trial: str) -> str:
        """Return what a replica says is wrong with the version in a rollout; empty if none does."""
        said = ((i, s) for i, s in self._heard().items() if s.trial == trial and s.fault)
        return next((f"replica {i}: {s.fault}" for i, s in said), "")

    def poll(self, replica_id: str, status: ReplicaStatus, now: float) -> Command | None:
        """Take note of what a replica has, and tell it what to do; None: wait and poll again."""
        if status.leaving:
            self._left.add(replica_id)
            self._members.pop(replica_id, None)
        if replica_id not in self._left:  # an older poll of it may still be under way
            self._members[replica_id] = _Member(now + self.settings.lease_s, status)
        self._advance(now)
        if replica_id in self._left:
            return None
        command = self._command(status)
        if isinstance(command, Commit):  # it leaves the version that it has just reported
            self._members[replica_id].status = replace(status, live_version=None)
        return command

    def outcome(self, now: float) -> Outcome | None:
        """How the present swap stands, or how the last one ended; None before the first."""
        self._advance(now)
        if self._swap is not None:
            return Pending(self._swap.id, self._waiting(self._swap))
        return self._last

    @property
    def decided(self) -> str:
        """The swap that is committing, which nothing stops any more; empty if none is."""
        return self._swap.id if self._swap is not None and self._swap.committing else ""

    def versions(self, now: float) -> dict[str, int | None]:
        """Live version that each member last reported."""
        self._advance(now)
        return {i: m.status.live_version if m.status else None for i, m in self._members.items()}

    def _heard(self) -> dict[str, ReplicaStatus]:
        """Return the members that have reported; another has nothing that could differ."""
        return {i: m.status for i, m in self._members.items() if m.status is not None}

    def _advance(self, now: float) -> None:
        self._members = {i: m for i, m in self._members.items() if m.expires > now}
        swap = self._swap
        if swap is None:
            return
        if not swap.committing and not self.undecided:
            self._decide(swap, now)
        if swap.committing and self._complete(now) and not self._waiting(swap):
            self._last = Done(swap.id, swap.target.assignment)
            self._swap = None

    def _decide(self, swap: _Swap, now: float) -> None:
        heard, waiting = self._heard(), self._waiting(swap)
        before = any(status.committed == swap.id for status in heard.values())
        if before or (self._complete(now) and not waiting):
            swap.committing = True
            self.target = swap.target
            return
        if now < self.patience:  # one that has committed may not have polled yet
            return
        for replica_id, status in heard.items():
            if status.swap_id == swap.id and status.error:
                self._fail(swap, f"replica {replica_id}: {status.error}")
                return
        if now >= swap.deadline:
            late = f"{', '.join(waiting)} not ready" if waiting else "no replica answered"
            self._fail(swap, f"{late} within {self.settings.prepare_timeout_s:g} s")

    def _complete(self, now: float) -> bool:
        """Tell whether the members are all there are; after a restart some may not have polled."""
        needed = 1 if now >= self.patience else max(1, self.expected)
        return len(self._heard()) >= needed

    def _fail(self, swap: _Swap, reason: str) -> None:
        self._last = Failed(swap.id, reason)
        self._swap = None

    def _waiting(self, swap: _Swap) -> tuple[str, ...]:
        return tuple(i for i, status in self._heard().items() if not _ready(status, swap))

    def _command(self, status: ReplicaStatus) -> Command | None:
        swap = self._swap
        if status.swap_id and (swap is None or status.swap_id != swap.id):
            return Abort(status.swap_id)
        if swap is not None and status.live_version == swap.target.live:
            return Abort(status.swap_id) if status.swap_id else None
        if swap is not None and status.swap_id:
            return self._next_step(swap, status)
        damaged = status.live_version is None and status.error  # and the swap is a way out
        if status.live_version != self.target.live and not (swap is not None and damaged):
            return Load(self.target)
        if status.live_version == self.target.live and not _holds(status, self.target):
            return Hold(self.target)
        return Prepare(swap.id, swap.target) if swap is not None else None

    @staticmethod
    def _next_step(swap: _Swap, status: ReplicaStatus) -> Command | None:
        if not swap.committing:
            return None
        if status.prepared_version == swap.target.live:
            return Commit(swap.id)
        return Abort(swap.id) if status.error else None


def _holds(status: ReplicaStatus, target: Target) -> bool:
    held = status.assignment or Assignment(target.live)
    return (status.trial, held) == (target.trial, target.assignment)


def _ready(status: ReplicaStatus, swap: _Swap) -> bool:
    if status.live_version == swap.target.live:
        return True
    return (
        not swap.committing
        and status.swap_id == swap.id
        and status.prepared_version == swap.target.live
    )

"""The version that is tried beside the live one: which requests it is asked, and its faults."""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from undrift.errors import UndriftError
from undrift.records import Assignment, FloatArray, Predictions
from undrift.serve.slots import DoubleBuffer, Slot


def drawn(name: str, version: int) -> float:
    """Return where a request stands between 0 and 1, the same at every replica and for ever.

    It is below a share for about that share of ids. Who is in a small share is in every larger one,
    and each version draws others.

    Args:
        name: The request's id.
        version: The version that is tried.

    Example:
        >>> drawn("order-17", 2) == drawn("order-17", 2) != drawn("order-17", 3)
        True
    """
    digest = hashlib.blake2b(name.encode(), digest_size=8, salt=str(version).encode()).digest()
    return int.from_bytes(digest) / 2**64


def with_answers(
    rows: Predictions, which: NDArray[np.bool_], output: FloatArray, version: int
) -> Predictions:
    """Return rows with what another version said to some of them.

    Args:
        rows: n rows.
        which: (n,) True where it was asked.
        output: (k, c) class probabilities, or numbers of a regression, for those rows.
        version: The version.
    """
    former, beside = rows.formers.copy(), rows.asked.copy()
    former[which] = output if former.dtype.kind == "f" else output.argmax(axis=1)
    beside[which] = version
    return replace(rows, former=former, beside=beside)


class Candidate:
    """Holds a version in a rollout and asks it, in a thread of its own, with patience.

    What goes wrong with it is nobody's loss: it is asked nothing any more, and the controller is
    told why at the next poll.

    Args:
        models: The live model, which it stands beside.
        patience_s: Longest that an answer of it is waited for, in seconds.

    Attributes:
        trial: Rollout that it belongs to, as the controller named it; empty without one.
        assignment: What the replica was told to hold; None before it was.
        fault: What is wrong with it; empty if nothing is.
    """

    def __init__(self, models: DoubleBuffer, patience_s: float) -> None:
        self._models, self._patience_s = models, patience_s
        self._thread = ThreadPoolExecutor(1, "candidate")
        self._slot: Slot | None = None
        self.trial = self.fault = ""
        self.assignment: Assignment | None = None

    @property
    def slot(self) -> Slot | None:
        """The version, loaded and sound; None without one."""
        return None if self.fault else self._slot

    def hold(self, trial: str, assignment: Assignment, slot: Slot | None, fault: str = "") -> None:
        """Take over what the controller says.

        Args:
            trial: Name of the rollout; empty without one.
            assignment: Who answers, who is tried, and for which share.
            slot: The version that is tried; None to let it go, or if it could not be loaded.
            fault: Why it could not.
        """
        if trial != self.trial:
            self.fault = ""
        self.trial, self.assignment, self._slot = trial, assignment, slot
        self.fault = self.fault or fault

    def loaded(self, trial: str, version: int) -> Slot | None:
        """Return the version if this rollout has loaded it already."""
        same = self._slot is not None and self.trial == trial and self._slot.version == version
        return self._slot if same else None

    def answers(self, name: str) -> bool:
        """Tell whether it is to answer a request."""
        held = self.assignment
        return held is not None and held.canary is not None and self._draws(name, held)

    def shadows(self, name: str) -> bool:
        """Tell whether it is to be asked what was asked of the live version."""
        held = self.assignment
        return held is not None and held.shadow is not None and self._draws(name, held)

    def call_off(self, slot: Slot, fault: str) -> None:
        """Ask it nothing any more.

        Args:
            slot: Which one; another that is held by now is none of it.
            fault: Why, for people.
        """
        if slot is self._slot and not self.fault:
            self.fault = fault

    async def ask(self, slot: Slot, x: FloatArray) -> tuple[FloatArray, FloatArray] | str:
        """Return (n, c) outputs and (n, e) embeddings of (n, *shape) rows, or what went wrong."""
        call = asyncio.get_running_loop().run_in_executor(self._thread, self._models.ask, slot, x)
        try:
            async with asyncio.timeout(self._patience_s):
                output, embedding = await call
        except TimeoutError:
            self._thread.shutdown(wait=False, cancel_futures=True)  # a thread cannot be stopped
            self._thread = ThreadPoolExecutor(1, "candidate")
            return f"it gave no answer within {self._patience_s:g} s"
        except Exception as error:  # whatever the user's model raises
            name = "" if isinstance(error, UndriftError) else f"{type(error).__name__}: "
            return f"it fails: {name}{error}"
        if not np.isfinite(output).all():
            return "it gives answers that are not finite"
        return output, embedding

    def _draws(self, name: str, held: Assignment) -> bool:
        slot = self.slot
        return slot is not None and drawn(name, slot.version) < held.share

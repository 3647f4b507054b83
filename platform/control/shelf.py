"""Looks for damaged versions: each stops nothing but itself, and is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

from undrift.store.versions import Versions

DAMAGED = "damaged versions"
LOOK_S = 60.0


class Shelf:
    """The stored versions as the controller looks them through.

    Args:
        state: The model's folder of the state.
        failures: Where damage is told, under ``damaged versions``.
    """

    def __init__(self, state: Path, failures: dict[str, str]) -> None:
        self._versions = Versions(state / "versions", read_only=True)
        self._failures = failures

    async def look(self) -> dict[int, str]:
        """Return what is wrong with each damaged version, and tell it among the failures."""
        found = await asyncio.to_thread(self._versions.damaged)
        self._failures.pop(DAMAGED, None)
        if found:
            told = "; ".join(f"version {number}: {why}" for number, why in found.items())
            self._failures[DAMAGED] = f"{told}; see `undrift doctor`"
        return found

    async def watch(self) -> None:
        """Look, and wait for a minute."""
        await self.look()
        await asyncio.sleep(LOOK_S)

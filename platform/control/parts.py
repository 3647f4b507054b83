"""The controller's work in parts: one that fails is told, and stops no other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

Work = Coroutine[Any, Any, None]


class Parts:
    """Does each part of the work for itself.

    Attributes:
        failures: Why a part failed, by its name, until it succeeds.
    """

    def __init__(self) -> None:
        self.failures: dict[str, str] = {}
        self._under_way: dict[tuple[str, str], asyncio.Task[bool]] = {}

    def told(self) -> str:
        """Return what fails at present; empty if nothing does."""
        return "; ".join(self.failures.values())

    async def do(self, part: str, work: Work) -> bool:
        """Do a part, and return whether it succeeded; a failure is told, and logged once."""
        try:
            await work
        except Exception as error:
            cause = getattr(error, "cause", None) or error  # of an error that Ray has brought
            text = f"{part}: {type(cause).__name__}: {cause}"
            if self.failures.get(part) != text:
                logging.getLogger("undrift").warning("%s", text)
            self.failures[part] = text
            return False
        self.failures.pop(part, None)
        return True

    def begin(self, part: str, work: Callable[[], Work], of: str = "") -> asyncio.Task[bool]:
        """Do a part beside all others, unless it is being done already.

        Args:
            part: Its name.
            work: What to do.
            of: What it is about; a part can be done for several things at a time.
        """
        task = self._under_way.get((part, of))
        if task is None or task.done():
            task = asyncio.get_running_loop().create_task(self.do(part, work()))
            self._under_way[part, of] = task
            task.add_done_callback(lambda done: self._forget((part, of), done))
        return task

    def _forget(self, key: tuple[str, str], done: asyncio.Task[bool]) -> None:
        if self._under_way.get(key) is done:
            del self._under_way[key]

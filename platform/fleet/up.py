"""A platform of any number of models, run by this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from undrift.actors import settle
from undrift.app import Say, check_shared, hosting, prepare_state
from undrift.config import wanted
from undrift.fleet.door import Door
from undrift.store.place import Root

if TYPE_CHECKING:
    from undrift.fleet.fleet import Fleet


@contextmanager
def up(path: Path, say: Say = lambda _: None) -> Iterator[Fleet]:
    """Run a platform of any number of models embedded in this process, until the block ends.

    Args:
        path: The YAML file.
        say: Called with one line for each stage of the start.

    Raises:
        UndriftError: Something is wrong with the input or the machine, or no model starts; nothing
            is left running.
    """
    found = wanted(path)
    shared, alone = found.platform, found.is_alone
    longest = max(config.serve.request_timeout_s for config in found.models.values())
    serve = shared.serve.model_copy(update={"request_timeout_s": longest})
    hosted = shared.model_copy(update={"serve": serve})

    def check(state: Root) -> None:
        if alone:
            prepare_state(shared, shared.model_in(state))
        else:
            check_shared(shared)

    with hosting(hosted, say, check) as handle:
        handle.interrupt.check()
        from undrift.fleet.fleet import Fleet  # it imports Ray, which now has its environment

        say("starting monitor, controller and replicas")
        assert handle.folder is not None
        with Door(handle.folder) as door:
            fleet = Fleet(path, hosted, handle, door)
            fleet.begin(found, say)
            yield fleet
            say("stopping")
            for placed in fleet.running.values():
                settle(placed.actors)

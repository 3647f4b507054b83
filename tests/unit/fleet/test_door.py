"""The socket by which verbs ask the process that runs the platform."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from undrift.errors import ConfigError, PlatformError
from undrift.fleet.door import NAME, Door, Request, Say, ask
from undrift.host.haproxy import SocketFolder


@pytest.fixture
def folder() -> Iterator[Path]:
    """The folder of this process's run, as a platform has it."""
    run = SocketFolder()
    run.create()
    yield run.path
    run.remove()


def obey(request: Request, say: Say) -> Any:
    say(f"doing {request['verb']}")
    if request["verb"] == "wrong":
        raise ConfigError("no model 'x'")
    if request["verb"] == "bug":
        raise ZeroDivisionError
    return {"did": request["verb"]}


def test_door_tells_stages_outcome_and_refusal_and_outlives_a_bug(folder: Path) -> None:
    said: list[str] = []
    with Door(folder) as door:
        assert stat.S_IMODE((folder / NAME).stat().st_mode) == 0o600
        thread = threading.Thread(target=lambda: [door.attend(obey, 5) for _ in range(4)])
        thread.start()
        assert ask(os.getpid(), {"verb": "up"}, said.append) == {"did": "up"}
        with pytest.raises(PlatformError, match=r"^no model 'x'$"):
            ask(os.getpid(), {"verb": "wrong"}, said.append)
        with pytest.raises(PlatformError, match="could not be done: ZeroDivisionError"):
            ask(os.getpid(), {"verb": "bug"}, said.append)
        with pytest.raises(PlatformError, match="could not be done: KeyError"):
            ask(os.getpid(), {}, said.append)
        thread.join()
    assert said == ["doing up", "doing wrong", "doing bug"]


def test_process_that_cannot_be_asked_is_told(folder: Path) -> None:
    with pytest.raises(PlatformError, match=r"cannot be asked by .*TMPDIR"):
        ask(os.getpid(), {"verb": "up"}, print)
    assert not (folder / NAME).exists()


def test_process_that_ends_meanwhile_is_told(folder: Path) -> None:
    def interrupted(_: Request, __: Say) -> Any:
        raise KeyboardInterrupt

    caught: list[BaseException] = []

    def attend() -> None:
        try:
            door.attend(interrupted, 5)
        except KeyboardInterrupt as error:
            caught.append(error)

    with Door(folder) as door:
        thread = threading.Thread(target=attend)
        thread.start()
        with pytest.raises(PlatformError, match="ended before it was done"):
            ask(os.getpid(), {"verb": "up"}, print)
        thread.join()
    assert caught

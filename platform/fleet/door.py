"""How a verb asks the process that runs the platform: a socket of this machine's owner alone.

A request is one line of JSON. The answer is any number of lines with ``say``, for people, and a
last one with ``done`` or ``error``.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from undrift.errors import PlatformError, UndriftError
from undrift.host.haproxy import SocketFolder

NAME = "door.sock"
TIMEOUT_S = 600.0
_REQUEST_S = 5.0
_REQUEST_BYTES = 2**16

Request = dict[str, Any]
Say = Callable[[str], None]


class Door:
    """The side of the process that runs the platform; a context manager.

    Args:
        folder: A private folder with a short path.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._listener = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> Door:
        self._path.unlink(missing_ok=True)
        self._listener.bind(str(self._path))
        self._path.chmod(0o600)
        self._listener.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def attend(self, obey: Callable[[Request, Say], Any], wait_s: float) -> None:
        """Carry out one request, if one comes within ``wait_s``; a failure is told to who asked.

        Args:
            obey: Carries out a request, says how far it is, and returns the answer.
            wait_s: Longest wait, seconds.
        """
        self._listener.settimeout(wait_s)
        with suppress(TimeoutError):
            connection, _ = self._listener.accept()
            with connection:
                _answer(connection, obey)


def _answer(connection: socket.socket, obey: Callable[[Request, Say], Any]) -> None:
    def tell(**message: Any) -> None:
        with suppress(OSError):  # who asked has gone; the work goes on
            connection.sendall(json.dumps(message).encode() + b"\n")

    connection.settimeout(_REQUEST_S)
    try:
        request = json.loads(connection.makefile("rb").readline(_REQUEST_BYTES))
        done = obey(request, lambda text: tell(say=text))
    except UndriftError as error:
        tell(error=str(error))
    except Exception as error:  # whatever it is, the models that run go on
        logging.getLogger("undrift").exception("a request was not carried out")
        tell(error=f"that could not be done: {error!r}")
    else:
        tell(done=done)


def ask(pid: int, request: Request, say: Say) -> Any:
    """Have the process that runs the platform do something.

    Args:
        pid: Its number.
        request: What to do.
        say: Called with what it says of how far it is.

    Raises:
        PlatformError: It cannot be asked, ends meanwhile, or refuses.
    """
    path = SocketFolder().root / str(pid) / NAME
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT_S)
        try:
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            for line in connection.makefile("rb"):
                answer = json.loads(line)
                if "error" in answer:
                    raise PlatformError(answer["error"])
                if "done" in answer:
                    return answer["done"]
                say(answer["say"])
        except OSError as error:
            raise PlatformError(
                f"process {pid} cannot be asked by {path} ({os.strerror(error.errno or 0)}); it is "
                "another release's, another user's, or TMPDIR is another one here"
            ) from None
    raise PlatformError(f"process {pid} ended before it was done; look at its log")

"""What a verb has found, on its way back in the log of its job: a job hands out nothing else."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable, Iterator

from undrift.errors import PlatformError

MARK = "undrift-result "
_WIDTH = 4096  # each line reaches the log by one write, so that nothing gets between


def lines(result: bytes) -> Iterator[str]:
    """Return a result as lines for the log.

    Example:
        >>> result_in("playing" + chr(10) + "".join(lines(b"a result")))
        b'a result'
    """
    text = base64.b64encode(zlib.compress(result)).decode()
    for start in range(0, len(text), _WIDTH):
        yield f"{MARK}{text[start : start + _WIDTH]}\n"


def result_in(log: str) -> bytes:
    """Return the result that a log has.

    Raises:
        PlatformError: It has none, or not the whole.
    """
    parts = [line[len(MARK) :] for line in log.splitlines() if line.startswith(MARK)]
    try:
        return zlib.decompress(base64.b64decode("".join(parts), validate=True))
    except (zlib.error, binascii.Error):
        raise PlatformError("the job's log does not have the whole result") from None


class Screen:
    """Shows a log by whole lines, all but the result.

    Args:
        show: Called with one line or several.
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show, self._begun = show, ""

    def __call__(self, text: str) -> None:
        """Take in what came of the log."""
        *whole, self._begun = (self._begun + text).split("\n")
        shown = [f"{line}\n" for line in whole if not line.startswith(MARK)]
        if shown:
            self._show("".join(shown))

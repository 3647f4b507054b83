"""Who asks: never a web page of somebody else."""

from __future__ import annotations

import re

from undrift.errors import RequestError
from undrift.serve.intake import Headers
from undrift.serve.settings import ListenSettings

_HERE = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")


def foreign_page(headers: Headers, settings: ListenSettings) -> RequestError | None:
    """Return why a request is refused if a web page that is not ours may have made it.

    A browser names the page in ``Origin`` or ``Sec-Fetch-Site``; where it names neither, the page
    has our address and a name of its own (DNS rebinding), so on loopback ``Host`` must be ours.
    Programs send none of the first two.

    Args:
        headers: The request's headers, their names in lower case.
        settings: Where it listens.
    """
    host = headers.get(b"host", b"").decode("latin-1").lower()
    origin = headers.get(b"origin", b"").decode("latin-1").lower()
    if (origin and origin.partition("://")[2] != host) or (
        headers.get(b"sec-fetch-site") == b"cross-site"
    ):
        return RequestError("this is not for web pages of other sites", 403)
    if settings.is_loopback and host and not _HERE.fullmatch(host):
        return RequestError(
            f"ask for localhost or 127.0.0.1, not {host[:100]!r}: serve.host is {settings.host}",
            403,
        )
    return None

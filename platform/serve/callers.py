"""Who asks: never a web page of somebody else, unless the configuration names its site."""

from __future__ import annotations

import re

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from undrift.errors import RequestError
from undrift.serve.intake import Headers
from undrift.serve.protocol import LENGTH_HEADER
from undrift.serve.settings import ListenSettings
from undrift.views import VERBS

_HERE = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")


def allowed_page(headers: Headers, path: str, settings: ListenSettings) -> bool:
    """Tell whether a page of another site asks, and may ask for this.

    Args:
        headers: The request's headers, their names in lower case.
        path: What it asks for; operators' verbs are for no page.
        settings: The sites that are allowed.
    """
    origin = headers.get(b"origin", b"").decode("latin-1")
    return origin in settings.allowed_origins and path.rstrip("/").rpartition("/")[2] not in VERBS


def foreign_page(
    headers: Headers, settings: ListenSettings, *, allowed: bool = False
) -> RequestError | None:
    """Return why a request is refused if a web page that is not ours may have made it.

    A browser names the page in ``Origin`` or ``Sec-Fetch-Site``; where it names neither, the page
    has our address and a name of its own (DNS rebinding), so on loopback ``Host`` must be ours.
    Programs send none of the first two.

    Args:
        headers: The request's headers, their names in lower case.
        settings: Where it listens.
        allowed: Whether the page is one that may ask.
    """
    host = headers.get(b"host", b"").decode("latin-1").lower()
    origin = headers.get(b"origin", b"").decode("latin-1").lower()
    other = origin and origin.partition("://")[2] != host
    if not allowed and (other or headers.get(b"sec-fetch-site") == b"cross-site"):
        return RequestError("this is not for web pages of other sites", 403)
    if settings.is_loopback and host and not _HERE.fullmatch(host):
        return RequestError(
            f"ask for localhost or 127.0.0.1, not {host[:100]!r}: serve.host is {settings.host}",
            403,
        )
    return None


def shared(app: ASGIApp, settings: ListenSettings) -> ASGIApp:
    """Return ``app`` for pages of the allowed sites: preflights answered, answers shown to them."""
    return CORSMiddleware(
        app,
        allow_origins=settings.allowed_origins,
        allow_methods=("GET", "POST"),
        allow_headers=("Authorization", "Content-Encoding", "Content-Type", LENGTH_HEADER),
        expose_headers=(LENGTH_HEADER, "Retry-After"),
    )

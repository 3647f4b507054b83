"""Whom a bearer token makes of a caller: the operator, or a name with its scopes.

What a replica knows of tokens is their SHA-256, which is enough for random texts of 192 bits. Named
ones stand in a file that is read again when it changes, so that one that is removed ends at once.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from undrift.errors import RequestError, StoreError
from undrift.store.files import explained, write_file

TOKENS_FILE = "tokens"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class TokenScope(StrEnum):
    """What a token may do."""

    READ = "read"
    FEEDBACK = "feedback"
    OPERATE = "operate"


@dataclass(frozen=True, slots=True)
class NamedToken:
    """A token of somebody else than the local operator.

    Attributes:
        name: Who has it.
        scopes: What it may do.
        digest: Its SHA-256, in hexadecimal.
    """

    name: str
    scopes: frozenset[TokenScope]
    digest: str


def digest(token: str) -> str:
    """Return the SHA-256 of a token; of an empty one, which is nobody's, nothing.

    Example:
        >>> digest("secret")[:8], digest("")
        ('2bb80d53', '')
    """
    return hashlib.sha256(token.encode()).hexdigest() if token else ""


def read_tokens(path: Path) -> list[NamedToken]:
    """Return the tokens in a file of lines ``NAME SCOPE[,SCOPE] SHA256``; none if there is no file.

    Raises:
        StoreError: It cannot be read, or a line is something else.
    """
    try:
        with explained("read", path):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except StoreError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return []
        raise
    found = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        known = len(words) == 3 and set(words[1].split(",")) <= set(TokenScope)
        if not known or not _NAME.fullmatch(words[0]) or not _DIGEST.fullmatch(words[2]):
            raise StoreError(f"{path}, line {number}: expected NAME SCOPE[,SCOPE] SHA256")
        found.append(
            NamedToken(words[0], frozenset(map(TokenScope, words[1].split(","))), words[2])
        )
    return found


def make_token(path: Path, name: str, scopes: Iterable[TokenScope]) -> str:
    """Return a new token; its hash takes the place of that which the name had.

    Raises:
        StoreError: The name is none, or the file cannot be read or written.
    """
    if not _NAME.fullmatch(name):
        raise StoreError(f"a name has letters, digits, dots, dashes and underscores, not {name!r}")
    token = secrets.token_urlsafe(24)
    others = [kept for kept in read_tokens(path) if kept.name != name]
    _write(path, [*others, NamedToken(name, frozenset(scopes), digest(token))])
    return token


def remove_token(path: Path, name: str) -> None:
    """Forget the token of a name.

    Raises:
        StoreError: There is none, or the file cannot be read or written.
    """
    tokens = read_tokens(path)
    others = [kept for kept in tokens if kept.name != name]
    if len(others) == len(tokens):
        raise StoreError(f"{path} has no token of {name!r}")
    _write(path, others)


def _write(path: Path, tokens: list[NamedToken]) -> None:
    lines = [f"{t.name} {','.join(sorted(t.scopes))} {t.digest}\n" for t in tokens]
    with explained("write", path):
        write_file(path, "".join(lines).encode())


class Tokens:
    """Tells whether a caller may do what he asks for.

    Args:
        operator: Digest of the operator's token, which may do everything; empty if there is none.
        path: The file of named tokens.
    """

    def __init__(self, operator: str, path: Path) -> None:
        self._operator, self._path = operator, path
        self._seen: tuple[int, ...] = ()
        self._named: list[NamedToken] = []

    def check(self, given: str, scope: TokenScope) -> None:
        """Refuse a request unless its header ``Authorization`` carries a token with the scope.

        Raises:
            RequestError: 401, it carries none that we know; 403, one that may not; 503, the file of
                tokens is damaged.
        """
        scheme, _, credentials = given.partition(" ")
        asked = digest(credentials) if scheme.lower() == "bearer" else ""
        if asked and hmac.compare_digest(asked, self._operator):
            return
        holders = [t for t in self._read() if asked and hmac.compare_digest(asked, t.digest)]
        if not holders:
            raise RequestError("this needs 'Authorization: Bearer TOKEN'; see state/token", 401)
        (holder,) = holders[:1]
        if scope not in holder.scopes:
            may = ", ".join(sorted(holder.scopes))
            raise RequestError(f"the token of {holder.name} may {may}; this needs {scope}", 403)

    def _read(self) -> list[NamedToken]:
        try:
            found = self._path.stat()
            seen: tuple[int, ...] = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            seen = ()  # there is none
        if seen != self._seen:
            try:
                self._named = read_tokens(self._path)
            except StoreError as error:
                raise RequestError(f"no token can be checked: {error}", 503) from None
            self._seen = seen
        return self._named

"""The Content-Encoding of a body: how it is unpacked while it comes in."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from undrift.errors import RequestError

STEP = 2**16
"""Bytes that are unpacked at a time."""

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # as zlib tells its formats apart


class Unpacker:
    """Unpacks one body, part by part; never more than ``STEP`` bytes of it at a time.

    Args:
        header: Content-Encoding; empty if absent.

    Raises:
        RequestError: 415, the body is packed in a way that is not taken.

    Example:
        >>> unpacker = Unpacker("deflate")
        >>> b"".join(unpacker.parts(zlib.compress(b"{}")))
        b'{}'
        >>> unpacker.end()
    """

    def __init__(self, header: str) -> None:
        codings = [
            c for c in map(str.strip, header.lower().split(",")) if c not in ("", "identity")
        ]
        if len(codings) > 1 or not _WINDOW_BITS.keys() >= set(codings):
            raise RequestError(
                f"Content-Encoding {header[:100]!r} is not taken; send the body as it is, or by "
                "gzip or deflate",
                415,
            )
        self._stream = zlib.decompressobj(_WINDOW_BITS[codings[0]]) if codings else None

    def parts(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what the next part of the body holds.

        Raises:
            RequestError: 400, it is not packed as its header says.
        """
        if self._stream is None:
            yield chunk
            return
        while chunk:
            try:
                part = self._stream.decompress(chunk, STEP)
            except zlib.error as error:
                raise RequestError(f"the body is not as Content-Encoding says: {error}") from None
            if self._stream.unused_data:
                raise RequestError("the body goes on where, by its Content-Encoding, it ends")
            chunk = self._stream.unconsumed_tail
            yield part

    def end(self) -> None:
        """Raise RequestError, 400, if the body has not come to its end."""
        if self._stream is not None and not self._stream.eof:
            raise RequestError("the body ends before, by its Content-Encoding, it is whole")

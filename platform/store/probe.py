"""Whether an object store will do: it answers, lets us write, and honours conditional puts."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from undrift.errors import StoreError
from undrift.store.bucket import Bucket, ChangedError
from undrift.store.place import Place

_UNCONDITIONAL = (
    "the store does not honour conditional puts (If-None-Match and If-Match), so two platforms "
    "could write to one state; use another store, a newer release of it, or a folder"
)
_SAID = (
    (("NotImplemented", "501 Not"), _UNCONDITIONAL),
    (
        ("/latest/api/token", "/latest/meta-data"),  # where a virtual machine would have some
        "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    (("NoSuchBucket",), "there is no such bucket; make it, or name another one in `state`"),
    (
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "401 Unauthorized", "security token"),
        "the store refuses the credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and "
        "AWS_SESSION_TOKEN, if yours has one)",
    ),
    (
        ("AccessDenied", "403 Forbidden", "necessary privileges"),
        "the credentials do not suffice; they need GetObject, PutObject, DeleteObject and "
        "ListBucket for this prefix",
    ),
    (
        ("error sending request", "timed out"),
        "the store cannot be reached; is AWS_ENDPOINT_URL right, and AWS_REGION?",
    ),
)


def check_store(state: Place) -> None:
    """Check that a bucket can keep a state; a folder needs no check.

    It writes one small object below the state, and removes it.

    Raises:
        StoreError: It cannot; the text says what to do.
    """
    if not isinstance(state, Bucket):
        return
    probe = (state / f"probe-{secrets.token_hex(8)}").quick()
    with _told(state):
        tag = probe.create(b"1")
        try:
            _check_conditions(state, probe, tag)
            state.quick().sizes()
        finally:
            with suppress(OSError):
                probe.remove()
        if probe.exists():
            raise StoreError(f"{state}: objects cannot be deleted; the credentials do not suffice")


def _check_conditions(state: Bucket, probe: Bucket, tag: str) -> None:
    refused = 0
    for another in (None, '"another"'):
        try:
            probe.create(b"2") if another is None else probe.replace(b"2", another)
        except (FileExistsError, ChangedError):
            refused += 1
    if refused < 2 or not probe.replace(b"3", tag) or probe.read() != b"3":
        raise StoreError(f"{state}: {_UNCONDITIONAL}")


@contextmanager
def _told(state: Bucket) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        text = str(error)
        for marks, remedy in _SAID:
            if any(mark in text for mark in marks):
                raise StoreError(f"{state}: {remedy}") from error
        raise StoreError(f"cannot use {state}: {' '.join(text.split())[:300]}") from error

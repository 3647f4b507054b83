"""What is said of a certificate before anything is started with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.certificates import make
from undrift.errors import ConfigError
from undrift.serve.certificate import check_certificate, refuse_certificate
from undrift.serve.settings import ListenSettings


def expired(path: Path) -> None:
    make(path, days=-1)


def with_password(path: Path) -> None:
    make(path, password=b"secret")


def without_key(path: Path) -> None:
    path.write_bytes(re.sub(rb"(?s)-----BEGIN PRIVATE.*", b"", path.read_bytes()))


def without_certificate(path: Path) -> None:
    path.write_bytes(re.sub(rb"(?s).*(?=-----BEGIN PRIVATE)", b"", path.read_bytes()))


def with_another_key(path: Path) -> None:
    other = make(path.with_name("other.pem"))
    path.write_bytes(re.sub(rb"(?s).*?(?=-----BEGIN PRIVATE)", _first(path), other.read_bytes()))


def _first(path: Path) -> bytes:
    return path.read_bytes().partition(b"-----BEGIN PRIVATE")[0]


def damaged(path: Path) -> None:
    text = path.read_bytes()
    path.write_bytes(text[:28] + b"////" + text[32:])


def gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (expired, "certificate has expired"),
        (with_password, "its private key has a password"),
        (without_key, "it has no private key"),
        (without_certificate, "it has no certificate"),
        (with_another_key, "key values mismatch"),
        (damaged, ""),
        (gone, "No such file"),
    ],
)
def test_certificate_that_no_server_could_use_is_refused(
    tmp_path: Path, change: Callable[[Path], None], told: str
) -> None:
    path = make(tmp_path / "tls.pem")
    settings = ListenSettings(tls_certificate=path)
    assert settings.scheme == "https"
    check_certificate(settings)
    change(path)
    expected = rf"serve\.tls_certificate: .*tls\.pem cannot be used: {told}.*; expected a PEM file"
    with pytest.raises(ConfigError, match=expected):
        check_certificate(settings)


def test_without_one_there_is_nothing_to_check_or_refuse() -> None:
    check_certificate(ListenSettings())
    refuse_certificate(ListenSettings(), "")
    assert ListenSettings().scheme == "http"

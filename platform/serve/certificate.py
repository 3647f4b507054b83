"""The certificate of HTTPS: whether it can be used, and a client's side that trusts it alone."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

from undrift.errors import ConfigError
from undrift.serve.settings import ListenSettings

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def check_certificate(settings: ListenSettings) -> None:
    """Check that a server can use the certificate that is set, by a handshake with itself.

    Raises:
        ConfigError: It cannot be read, has no certificate or no key, or is not valid now.
    """
    path = settings.tls_certificate
    if path is None:
        return
    try:
        client = trusting(path)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(path, password=_no_password)
        _shake_hands(server, client)
    except ssl.SSLCertVerificationError as error:
        told = error.verify_message
    except ssl.SSLError as error:
        told = "it has no private key" if error.reason is None else error.reason.lower()
        told = told.replace("_", " ")
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or str(error)
    else:
        return
    raise ConfigError(
        f"serve.tls_certificate: {path} cannot be used: {told}; expected a PEM file with the "
        "certificate, those of its authority, and the private key without a password"
    )


def refuse_certificate(settings: ListenSettings, instead: str) -> None:
    """Raise ConfigError if a certificate is set where the load balancer is not ours."""
    if settings.tls_certificate is not None:
        raise ConfigError(f"serve.tls_certificate is for `undrift up` on one machine; {instead}")


def trusting(path: Path) -> ssl.SSLContext:
    """Return a client's side that trusts the first certificate in a file, by whatever name.

    Raises:
        OSError: It cannot be read.
        ValueError: It has none.
    """
    found = _PEM.search(path.read_text(encoding="ascii", errors="replace"))
    if found is None:
        raise ValueError("it has no certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # it is this one certificate or none
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=found.group())
    return context


def _no_password() -> str:
    raise ValueError("its private key has a password")


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)]
    waiting = 2
    while waiting:
        waiting = 0
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                waiting += 1

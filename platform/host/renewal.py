"""A renewed certificate is taken by HAProxy while it runs, over its private socket."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

from undrift.errors import ConfigError
from undrift.serve.certificate import check_certificate
from undrift.serve.settings import ListenSettings

_TIMEOUT_S = 5.0
_AGAIN = 50  # looks until another try, where HAProxy does not take it

logger = logging.getLogger("undrift")


class Renewal:
    """Watches the file of the certificate; what cannot be used is told, and the old one serves on.

    Args:
        folder: The private folder of the run, with HAProxy's socket.
        settings: Names the file.
    """

    def __init__(self, folder: Path, settings: ListenSettings) -> None:
        self._folder, self._settings = folder, settings
        self._seen, self._wait = self._stamp(), 0

    def look(self) -> None:
        """Hand a file that has changed to HAProxy; its connections go on."""
        stamp = self._stamp()
        if stamp == self._seen or stamp is None:
            return
        self._wait -= 1
        if self._wait > 0:
            return
        try:
            check_certificate(self._settings)
            self._hand_over()
        except ConfigError as error:  # perhaps half written; the next change is looked at again
            logger.warning("the certificate is not renewed: %s", error)
        except OSError as error:  # HAProxy starts anew, and reads it then
            logger.warning("the certificate is not renewed yet: %s", error)
            self._wait = _AGAIN
            return
        else:
            logger.info("the certificate is renewed")
        self._seen = stamp

    def _stamp(self) -> tuple[int, int, int] | None:
        path = self._settings.tls_certificate
        try:
            found = None if path is None else path.stat()
        except OSError:  # it is being replaced
            return None
        return found and (found.st_mtime_ns, found.st_size, found.st_ino)

    def _hand_over(self) -> None:
        """Give HAProxy the file.

        Raises:
            OSError: It does not answer, or refuses.
        """
        assert self._settings.tls_certificate is not None
        lines = self._settings.tls_certificate.read_bytes().splitlines()
        pem = b"\n".join(line for line in lines if line.strip())  # an empty line ends it
        name = bytes(self._folder / "tls.pem")
        self._say(b"set ssl cert %b <<\n%b\n\n" % (name, pem), "Transaction")
        self._say(b"commit ssl cert %b\n" % name, "Success")

    def _say(self, command: bytes, wanted: str) -> None:
        answer = b""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(_TIMEOUT_S)
            line.connect(str(self._folder / "admin.sock"))
            line.sendall(command)
            while part := line.recv(65_536):
                answer += part
        text = answer.decode(errors="replace").strip()
        if wanted not in text:
            raise OSError(f"HAProxy refuses it: {text[:200]}")

"""What happens to a model, told to the log, and to addresses of the operator's as CloudEvents.

At most once: what is not delivered after some tries, or does not fit into the queue, is counted and
gone. Each address has a thread of its own, so a slow one holds up neither the lifecycle nor others.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from undrift.control.settings import WebhookSettings
from undrift.control.state import State
from undrift.control.story import Story
from undrift.evidence import Level

CONTENT_TYPE = "application/cloudevents+json"
SIGNATURE = "X-Undrift-Signature"
logger = logging.getLogger("undrift")
OUTCOMES = ("delivered", "failed", "dropped")
WAITING = 256  # events in the queue of one address
TRIES = 4
BACKOFF_S = 1.0  # doubles with each try
_LATER = (408, 425, 429)  # besides 5xx: the same may be taken later


class _RefusedError(Exception):
    """An event that another try would not deliver either."""


class Webhooks:
    """Tells what happens; begins with what is new after `story`.

    Args:
        settings: The webhooks section of the configuration.
        model: Name of the model.
        story: What has happened so far.

    Attributes:
        outcomes: Number of events by what became of them, for all addresses together.
    """

    def __init__(self, settings: WebhookSettings, model: str, story: Story) -> None:
        self._settings, self._model, self._told = settings, model, story.told
        self.outcomes = dict.fromkeys(OUTCOMES, 0) if settings.urls else {}
        self._lock = threading.Lock()
        self._receivers = [_Receiver(url, settings, self._count) for url in settings.urls]

    @property
    def trouble(self) -> str:
        """What the last event to each address failed for; empty if none did."""
        return "; ".join(r.trouble for r in self._receivers if r.trouble)

    def tell(self, before: State, after: State, story: Story, at: float) -> None:
        """Tell what an event of the journal has led to; this never waits.

        Args:
            before: State that the event met.
            after: State that it led to.
            story: What has happened, this event included.
            at: When, Unix seconds.
        """
        new = [entry for entry in story.entries if entry.seq > self._told]
        self._told = story.told
        for entry in new:
            concerns = {"run": entry.run_id, "version": after.live}
            logger.info("%s: %s", entry.kind, entry.text, extra=concerns)
        found: list[tuple[str, dict[str, Any]]] = [
            (e.kind, {"text": e.text, "run": e.run_id, "row": e.row, "detail": dict(e.detail)})
            for e in new
        ]
        if (kind := _ended(before, after)) is not None:
            found.append((kind, {"text": f"the {kind.removesuffix('_over')} is over"}))
        for number, (kind, told) in enumerate(found):
            if self._settings.events and kind not in self._settings.events:
                continue
            data = {"model": self._model, "version": after.live, "phase": after.phase.value, **told}
            body = json.dumps(cloud_event(self._model, kind, f"{at:.6f}-{number}", at, data))
            for receiver in self._receivers:
                receiver.take(body.encode())

    def _count(self, outcome: str) -> None:
        with self._lock:
            self.outcomes[outcome] += 1


def cloud_event(
    model: str, kind: str, name: str, at: float, data: Mapping[str, Any]
) -> dict[str, Any]:
    """Return an event as CloudEvents 1.0 writes it in JSON.

    Args:
        model: Name of the model.
        kind: What happened.
        name: What tells the event from others of the model.
        at: When, Unix seconds.
        data: What is told.

    Example:
        >>> cloud_event("spirals", "drift", "1.0-0", 1.0, {})["time"]
        '1970-01-01T00:00:01+00:00'
    """
    return {
        "specversion": "1.0",
        "id": name,
        "source": f"/undrift/models/{model}",
        "type": f"undrift.{kind}",
        "time": datetime.fromtimestamp(at, UTC).isoformat(),
        "datacontenttype": "application/json",
        "data": dict(data),
    }


def _ended(before: State, after: State) -> str | None:
    """Return which level of the evidence has gone, if one has."""
    level = before.evidence.level if before.evidence else Level.NONE
    if level == Level.NONE or (after.evidence and after.evidence.level != Level.NONE):
        return None
    return f"{level.name.lower()}_over"


class _Receiver:
    """One address, its queue and the thread that works it off."""

    def __init__(self, url: str, settings: WebhookSettings, count: Callable[[str], None]) -> None:
        self._url, self._settings, self._count = url, settings, count
        self._host = urlsplit(url).hostname or ""
        self._waiting: queue.Queue[bytes] = queue.Queue(WAITING)
        self._tls = httpx.create_ssl_context()
        self.trouble = ""
        threading.Thread(target=self._work, name=f"webhook {self._host}", daemon=True).start()

    def take(self, body: bytes) -> None:
        """Take an event; one that does not fit is dropped."""
        try:
            self._waiting.put_nowait(body)
        except queue.Full:
            self._fail("dropped", f"{WAITING} events wait")

    def _work(self) -> None:
        while True:
            body = self._waiting.get()
            try:
                self._deliver(body)
                self._count("delivered")
                self.trouble = ""
            except Exception as error:  # whatever a server or a resolver may do
                self._fail("failed", str(error) or type(error).__name__)

    def _fail(self, outcome: str, why: str) -> None:
        self._count(outcome)
        told = f"webhook to {self._host}: {why}"
        if told != self.trouble:
            logger.warning("%s", told)
        self.trouble = told

    def _deliver(self, body: bytes) -> None:
        for number in range(TRIES):
            try:
                limited = asyncio.wait_for(self._post(body), self._settings.timeout_s)
                asyncio.run(limited)
                return
            except (httpx.TransportError, OSError, TimeoutError) as error:
                if number == TRIES - 1:
                    why = str(error) or f"no answer within {self._settings.timeout_s:g} s"
                    raise ConnectionError(why) from error
            time.sleep(BACKOFF_S * 2**number)

    async def _post(self, body: bytes) -> None:
        address = await self._address()
        url = httpx.URL(self._url)
        headers = {"Content-Type": CONTENT_TYPE, "Host": url.netloc.decode(), **self._signed(body)}
        known = {"sni_hostname": self._host}
        async with (
            httpx.AsyncClient(trust_env=False, timeout=None, verify=self._tls) as client,
            client.stream(
                "POST",
                url.copy_with(host=address),
                content=body,
                headers=headers,
                extensions=known,
            ) as answer,  # of which only the status is read
        ):
            if answer.is_success:
                return
            told = f"status {answer.status_code}"
            if answer.status_code >= 500 or answer.status_code in _LATER:
                raise ConnectionError(told)
            raise _RefusedError(told)

    async def _address(self) -> str:
        """Look the name up once, and return an address that may be connected to."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, None, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        if self._settings.allow_private:
            return addresses[0]
        for address in addresses:
            if not ipaddress.ip_address(address.partition("%")[0]).is_global:
                raise _RefusedError(
                    f"{address} is no public address; lifecycle.webhooks.allow_private allows it"
                )
        return addresses[0]

    def _signed(self, body: bytes) -> dict[str, str]:
        name = self._settings.secret_env
        if not name:
            return {}
        secret = os.environ.get(name, "")
        if not secret:
            raise _RefusedError(f"the environment variable {name} has no secret to sign with")
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return {SIGNATURE: f"sha256={digest}"}

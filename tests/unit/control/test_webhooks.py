"""What happens to a model reaches a real HTTP server, and what a server does harms no lifecycle."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.helpers import certificates
from tests.helpers.controlling import controlling, until
from tests.helpers.receiver import Receiver
from tests.helpers.recording import two_versions
from tests.helpers.support import eventually
from undrift.control import webhooks as module
from undrift.control.actor import ControllerActor
from undrift.control.lifecycle import initial, step
from undrift.control.settings import LifecycleSettings, WebhookSettings
from undrift.control.state import State
from undrift.control.story import Story
from undrift.control.webhooks import Webhooks
from undrift.events import Event, Scored
from undrift.evidence import DriftKind, Evidence, Level
from undrift.store.journal import Journal


@pytest.fixture
def receivers() -> Iterator[Callable[[], Receiver]]:
    """Return what starts a receiver."""
    begun: list[tuple[Receiver, threading.Thread]] = []

    def start() -> Receiver:
        receiver = Receiver()
        serve = {"target": receiver.http.serve_forever, "kwargs": {"poll_interval": 0.01}}
        begun.append((receiver, threading.Thread(**serve)))
        begun[-1][1].start()
        return receiver

    yield start
    for receiver, thread in begun:
        receiver.silent.set()
        receiver.http.shutdown()
        thread.join()
        receiver.http.server_close()


@pytest.fixture
def receiver(receivers: Callable[[], Receiver], monkeypatch: pytest.MonkeyPatch) -> Receiver:
    monkeypatch.setattr(module, "BACKOFF_S", 0.01)
    return receivers()


def told(*receivers: Receiver, **changes: Any) -> WebhookSettings:
    urls = tuple(receiver.url for receiver in receivers)
    return WebhookSettings(**{"urls": urls, "allow_private": True, **changes})


class Life:
    """A lifecycle whose events are told by webhooks."""

    def __init__(self, settings: WebhookSettings) -> None:
        self.state: State = initial(LifecycleSettings(mode="off"), 1)
        self.story = Story()
        self.hooks = Webhooks(settings, "m", self.story)

    def meets(self, *levels: Level) -> None:
        for level in levels:
            event: Event = Scored(at=5.0, evidence=evidence(level))
            outcome = step(self.state, event)
            self.story.add(self.state, event, outcome.instructions)
            self.hooks.tell(self.state, outcome.state, self.story, event.at)
            self.state = outcome.state

    def outcomes(self, **wanted: int) -> None:
        counted = {"delivered": 0, "failed": 0, "dropped": 0, **wanted}
        eventually(lambda: self.hooks.outcomes, until=lambda found: found == counted)


def evidence(level: Level) -> Evidence:
    kind = DriftKind.CONCEPT if level == Level.DRIFT else DriftKind.NONE
    return Evidence(level=level, kind=kind, signals=(), version=1, rows=9, labelled=7)


def test_promotion_arrives_as_a_signed_cloud_event(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDRIFT_TEST_SECRET", "hush")
    two_versions(tmp_path / "state")
    policy = LifecycleSettings(webhooks=told(receiver, secret_env="UNDRIFT_TEST_SECRET"))

    async def body(actor: ControllerActor) -> None:
        await actor.request("promote", {"version": 2})
        status = await until(actor, lambda s: s.phase == "probation")
        while not receiver.seen or b"delivered" not in actor.metrics():
            await asyncio.sleep(0.01)
        assert status.failures["webhooks"] == ""

    controlling(tmp_path / "state", body, policy)
    ((path, headers, sent),) = receiver.seen
    event = json.loads(sent)
    assert path == "/told?key=hidden"
    assert headers["Content-Type"] == "application/cloudevents+json"
    assert headers["Host"] == receiver.url.split("/")[2]
    assert headers["X-Undrift-Signature"] == (
        "sha256=" + hmac.new(b"hush", sent, hashlib.sha256).hexdigest()
    )
    assert {key: event[key] for key in ("specversion", "type", "source", "datacontenttype")} == {
        "specversion": "1.0",
        "type": "undrift.promoted",
        "source": "/undrift/models/m",
        "datacontenttype": "application/json",
    }
    assert event["time"].endswith("+00:00")
    assert event["id"]
    assert (event["data"]["model"], event["data"]["version"]) == ("m", 2)
    assert event["data"]["detail"]["left"] == 1
    assert event["data"]["run"].startswith("run-1")
    journalled = json.dumps(Journal(tmp_path / "state").read())
    assert not [text for text in ("hush", "hidden") if text in sent.decode() + journalled]


def test_warning_and_drift_are_told_when_they_begin_and_when_they_are_over(
    receiver: Receiver,
) -> None:
    life = Life(told(receiver))
    life.meets(Level.WARNING, Level.WARNING, Level.NONE, Level.WARNING, Level.DRIFT, Level.NONE)
    kinds = ["warning", "warning_over", "warning", "drift", "drift_over"]
    life.outcomes(delivered=len(kinds))
    assert [event["type"] for event in receiver.events()] == [f"undrift.{kind}" for kind in kinds]


def test_what_is_told_is_logged_with_run_and_version_also_without_webhooks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    two_versions(tmp_path / "state")

    async def body(actor: ControllerActor) -> None:
        await actor.request("promote", {"version": 2})
        await until(actor, lambda s: s.phase == "probation")

    with caplog.at_level("INFO", "undrift"):
        controlling(tmp_path / "state", body)
    (entry,) = [r for r in caplog.records if r.getMessage().startswith("promoted: version 2 ")]
    assert vars(entry)["version"] == 2
    assert vars(entry)["run"].startswith("run-1")


def test_only_events_that_are_asked_for_are_told(receiver: Receiver) -> None:
    life = Life(told(receiver, events=("drift",)))
    life.meets(Level.WARNING, Level.NONE, Level.DRIFT)
    life.outcomes(delivered=1)
    assert [event["type"] for event in receiver.events()] == ["undrift.drift"]


def test_server_that_is_away_for_a_while_gets_the_same_event_again(receiver: Receiver) -> None:
    receiver.statuses = [503, 429]
    life = Life(told(receiver))
    life.meets(Level.DRIFT)
    life.outcomes(delivered=1)
    assert len(receiver.seen) == 3
    assert len({body for _, _, body in receiver.seen}) == 1


@pytest.mark.parametrize(("status", "tries"), [(302, 1), (404, 1), (500, 4)])
def test_failure_is_counted_and_told_until_the_next_is_delivered(
    receiver: Receiver, status: int, tries: int
) -> None:
    receiver.statuses = [status] * tries
    life = Life(told(receiver))
    life.meets(Level.DRIFT)
    life.outcomes(failed=1)
    assert [path for path, _, _ in receiver.seen] == ["/told?key=hidden"] * tries
    eventually(lambda: life.hooks.trouble == f"webhook to 127.0.0.1: status {status}")
    life.meets(Level.NONE)
    life.outcomes(failed=1, delivered=1)
    eventually(lambda: not life.hooks.trouble)


def test_silent_server_holds_up_neither_the_lifecycle_nor_another_server(
    receivers: Callable[[], Receiver], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING", 1)
    other = receivers()
    receiver.silent.clear()
    life = Life(told(receiver, other, timeout_s=60))
    for number, level in enumerate((Level.DRIFT, Level.NONE, Level.DRIFT), start=1):
        life.meets(level)
        life.outcomes(delivered=number, **({"dropped": 1} if number == 3 else {}))
        eventually(lambda: receiver.seen)
    assert (len(receiver.seen), len(other.seen)) == (1, 3)
    assert life.hooks.trouble == "webhook to 127.0.0.1: 1 events wait"


def test_answer_that_does_not_come_in_time_is_a_failure(receiver: Receiver) -> None:
    receiver.silent.clear()
    life = Life(told(receiver, timeout_s=0.05))
    life.meets(Level.DRIFT)
    life.outcomes(failed=1)
    eventually(lambda: "no answer within 0.05 s" in life.hooks.trouble)


def test_nothing_is_sent_to_a_private_address_unless_that_is_allowed(receiver: Receiver) -> None:
    life = Life(told(receiver, allow_private=False))
    life.meets(Level.DRIFT)
    life.outcomes(failed=1)
    eventually(lambda: "127.0.0.1 is no public address" in life.hooks.trouble)
    assert not receiver.seen


def test_nothing_is_sent_unsigned_where_a_signature_is_wanted(receiver: Receiver) -> None:
    life = Life(told(receiver, secret_env="UNDRIFT_TEST_NO_SECRET"))
    life.meets(Level.DRIFT)
    life.outcomes(failed=1)
    eventually(lambda: "UNDRIFT_TEST_NO_SECRET" in life.hooks.trouble)
    assert not receiver.seen


@pytest.mark.parametrize(("name", "outcome"), [("localhost", "delivered"), ("other", "failed")])
def test_certificate_has_to_name_the_host_of_the_url(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, outcome: str
) -> None:
    certificate = certificates.make(tmp_path / "certificate.pem", name=name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    receiver.http.socket = context.wrap_socket(receiver.http.socket, server_side=True)
    receiver.url = f"https://localhost:{receiver.http.server_port}/told?key=hidden"
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    life = Life(told(receiver))
    life.meets(Level.DRIFT)
    life.outcomes(**{outcome: 1})
    assert ("CERTIFICATE_VERIFY_FAILED" in life.hooks.trouble) == (outcome == "failed")


@pytest.mark.parametrize(
    "url", ["ftp://example.com/", "example.com", "http://", "http://me:it@example.com/", "http://["]
)
def test_other_addresses_than_of_the_web_are_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="without user and password"):
        WebhookSettings(urls=(url,))


def test_addresses_stay_out_of_what_is_recorded() -> None:
    hooks = WebhookSettings(urls=("https://example.com/hidden",))
    assert "hidden" not in LifecycleSettings(webhooks=hooks).model_dump_json()

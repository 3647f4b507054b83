"""The driver against a real HTTP server that speaks the platform's own protocol."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from tests.helpers import views
from undrift.demo.driver import Driver, DriverSettings
from undrift.demo.view import watch
from undrift.errors import RequestError
from undrift.records import Labels
from undrift.serve.feedback import acknowledgement, parse_feedback
from undrift.serve.protocol import ModelSpec, encode_error, encode_infer, parse_infer
from undrift.serve.settings import ServeSettings
from undrift.streams.stream import UNKNOWN, Rows, Stream, fixed_lag
from undrift.views import EventView, VersionView, read

ROWS = 100
SPEC = ModelSpec("toy", (2,), n_classes=2)
FAST = DriverSettings(rows_per_s=1e6, labels_per_request=16, poll_s=0.01, label_wait_s=0.0)


VERSION = {"version": 3, "live": True, "hash": "abc", "parent": None, "created_at": 1.0}


class Model(nn.Module):
    """Class 1 where the first feature is positive."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([-x[:, 0], x[:, 0]], dim=1)


class Server:
    """Answers like the platform; `trouble` maps a request number to what goes wrong with it."""

    def __init__(self) -> None:
        self.trouble: dict[int, str] = {}
        self.requests: list[str] = []
        self.labels: list[Labels] = []
        self.feedback_fails = 0
        self.labelled = SPEC
        self.views: dict[str, Any] = {
            "status": views.status(live_version=3),
            "drift": views.drift(),
            "versions": [VERSION],
        }
        self.inferred = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                view = self.path.rpartition("/")[2]
                self.reply(200, json.dumps(owner.views[view]).encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                kind = self.headers["Content-Type"]
                try:
                    if self.path == "/v2/models/toy/infer":
                        owner.infer(self, body, kind)
                    else:
                        assert self.path == "/v2/models/toy/feedback"
                        owner.feedback(self, body, kind)
                except RequestError as error:
                    self.reply(error.status, encode_error(str(error)))

            def reply(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        class Listener(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

        self.http = Listener(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def infer(self, handler: Any, body: bytes, kind: str) -> None:
        request = parse_infer(body, kind, SPEC, ServeSettings())
        trouble = self.trouble.pop(len(self.requests), "")
        self.requests.append(request.id)
        self.inferred.set()
        if trouble == "503":
            raise RequestError("too busy", 503)
        if trouble == "close":
            handler.close_connection = True
            return
        output = torch.softmax(Model()(torch.from_numpy(request.x)), dim=1).numpy()
        answer, _ = encode_infer(request, output, SPEC, 3, "abc")
        handler.reply(200, b"{}" if trouble == "odd" else answer)

    def feedback(self, handler: Any, body: bytes, kind: str) -> None:
        if self.feedback_fails:
            self.feedback_fails -= 1
            raise RequestError("not now", 503)
        labels, rejected = parse_feedback(body, kind, self.labelled, ServeSettings(), now=0.0)
        self.labels.append(labels)
        told, status = acknowledgement(len(labels), rejected)
        handler.reply(status, json.dumps(told).encode())

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def stream_of(rows: int = ROWS, lag: int = 20) -> Stream:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 2)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    y[5] = UNKNOWN
    live = Rows(x, y)
    return Stream(
        name="toy",
        title="Toy",
        task="",
        input_shape=(2,),
        class_names=("0", "1"),
        train=live,
        reference=live,
        live=live,
        label_at=fixed_lag(y, lag),
    )


def one_at_a_time(**more: Any) -> DriverSettings:
    return FAST.model_copy(update={"max_in_flight": 1, **more})


def infer_alone() -> DriverSettings:
    """No poll and no label shares the connections: what is closed is known to the request."""
    return one_at_a_time(poll_s=60.0, label_wait_s=60.0, labels_per_request=1000)


def test_every_row_is_answered_and_recorded(server: Server) -> None:
    stream = stream_of()
    record = Driver(stream, Model(), server.url, FAST).run()
    known = stream.live.y != UNKNOWN
    np.testing.assert_array_equal(record.predicted[known], stream.live.y[known])
    np.testing.assert_array_equal(record.frozen, record.predicted)
    assert (record.version == 3).all()
    assert (record.status == 200).all()
    assert (record.answered_at >= record.sent_at).all()
    assert (record.failed, record.reconnects, record.sent) == (0, 0, ROWS)
    assert record.hashes == {3: {"abc"}}
    assert record.versions == [read(VersionView, VERSION)]


def test_labels_carry_the_ids_of_their_rows_and_only_due_ones_are_sent(server: Server) -> None:
    stream = stream_of(rows=ROWS + 1, lag=20)
    record = Driver(stream, Model(), server.url, one_at_a_time(), run="r7").run()
    sent = Labels.concat(server.labels)
    due = [i for i in range(ROWS + 1 - 20) if i != 5]
    assert sorted(sent.ids) == sorted(f"r7-{i - i % 8}:{i % 8}" for i in due)
    by_id = dict(zip(sent.ids, sent.label.tolist(), strict=True))
    assert all(by_id[f"r7-{i - i % 8}:{i % 8}"] == stream.live.y[i] for i in due)
    assert (record.labels_sent, record.labels_rejected) == (len(due), 0)


@pytest.mark.parametrize("per_request", [1, 16])
def test_rejected_labels_are_counted_and_not_sent_again(server: Server, per_request: int) -> None:
    server.labelled = ModelSpec("toy", (2,), n_classes=1)  # some calls have no label that it knows
    settings = one_at_a_time(labels_per_request=per_request)
    stream = stream_of()
    record = Driver(stream, Model(), server.url, settings).run()
    due = stream.live.y[: ROWS - 20]
    assert (record.labels_sent, record.labels_rejected) == ((due == 0).sum(), (due == 1).sum())
    assert record.failures == []


def test_lone_row_is_labelled_by_the_id_of_its_request(server: Server) -> None:
    stream = stream_of(rows=9, lag=0)
    Driver(stream, Model(), server.url, one_at_a_time(), run="r").run()
    ids = Labels.concat(server.labels).ids
    assert "r-8" in ids
    assert "r-0:7" in ids


def test_refused_request_is_a_failure_and_its_labels_are_dropped(server: Server) -> None:
    server.trouble = {1: "503"}
    record = Driver(stream_of(lag=0), Model(), server.url, one_at_a_time(), run="r").run()
    assert record.failed == 1
    assert record.failures == ["rows 8 to 15: status 503: too busy"]
    assert (record.predicted[8:16] == -1).all()
    assert (record.status[8:16] == 503).all()
    assert not any(i.startswith("r-8:") for i in Labels.concat(server.labels).ids)


def test_kept_connection_closed_by_the_server_is_reopened_once(server: Server) -> None:
    server.trouble = {3: "close"}
    record = Driver(stream_of(), Model(), server.url, infer_alone()).run()
    assert (record.failed, record.reconnects) == (0, 1)
    assert (record.status == 200).all()


def test_connection_closed_twice_for_one_request_is_a_failure(server: Server) -> None:
    server.trouble = {3: "close", 4: "close"}
    record = Driver(stream_of(), Model(), server.url, infer_alone()).run()
    assert (record.failed, record.reconnects) == (1, 1)
    assert "RemoteProtocolError" in record.failures[0]


def test_answer_not_as_agreed_is_a_failure(server: Server) -> None:
    server.trouble = {0: "odd"}
    record = Driver(stream_of(), Model(), server.url, one_at_a_time()).run()
    assert record.failed == 1
    assert "not as agreed" in record.failures[0]


def test_labels_refused_as_a_whole_are_sent_again(server: Server) -> None:
    server.feedback_fails = 1
    record = Driver(stream_of(lag=0), Model(), server.url, one_at_a_time()).run()
    assert record.failed == 1
    assert record.labels_sent == ROWS - 1
    assert len(set(Labels.concat(server.labels).ids)) == ROWS - 1


def test_stopped_driver_ends_after_the_answers_under_way(server: Server) -> None:
    settings = DriverSettings(rows_per_s=8.0)
    driver = Driver(stream_of(), Model(), server.url, settings)
    player = threading.Thread(target=driver.run)
    player.start()
    assert server.inferred.wait(30)
    driver.stop.set()
    player.join(30)
    assert not player.is_alive()
    assert 8 <= driver.recording.sent < ROWS
    assert (driver.recording.status[: driver.recording.sent] == 200).all()


def test_what_the_platform_says_is_recorded_once(server: Server) -> None:
    event = views.event(1, "drift", "labels")
    server.views["status"] = views.status(phase="drift", live_version=3, events=[event])
    signal = views.signal(level="warning", statistic=4.0)
    server.views["drift"] = views.drift(level="drift", kind="both", labelled=7, signals=[signal])
    record = Driver(stream_of(), Model(), server.url, FAST).run()
    assert len(record.snapshots) >= 2
    assert record.events == [read(EventView, event)]
    last = record.snapshots[-1]
    assert (last.phase, last.level, last.kind, last.labelled, last.row) == (
        "drift",
        "drift",
        "both",
        7,
        ROWS,
    )
    assert (last.signals[0].name, last.signals[0].statistic) == ("input", 4.0)


def test_failing_views_do_not_count_as_failed_requests(server: Server) -> None:
    server.views["drift"] = []
    record = Driver(stream_of(), Model(), server.url, FAST).run()
    assert record.failed == 0
    assert record.polls_failed >= 2
    assert record.snapshots == []


def test_platform_that_is_not_there_fails_every_request_without_reconnect() -> None:
    server = Server()
    server.close()
    record = Driver(stream_of(), Model(), server.url, FAST).run()
    assert record.failed == len(range(0, ROWS, 8))
    assert record.reconnects == 0
    assert "ConnectError" in record.failures[0]


def test_without_a_terminal_events_and_progress_are_printed_as_lines(server: Server) -> None:
    server.views["status"]["events"] = [views.event(1, "drift", "labels say so")]
    out = io.StringIO()
    record = watch(Driver(stream_of(), Model(), server.url, FAST), Console(file=out))
    assert record.sent == ROWS
    assert "drift: labels say so" in out.getvalue()
    assert f"row {ROWS}/{ROWS}" in out.getvalue()


def test_error_in_the_driver_reaches_the_caller() -> None:
    driver = Driver(stream_of(), Model(), "http://127.0.0.1:port", FAST)
    with pytest.raises(httpx.InvalidURL, match="port"):
        watch(driver, Console(file=io.StringIO()))

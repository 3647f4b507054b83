from __future__ import annotations

import inspect
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import views
from tests.helpers.support import ModelServer
from undrift.cli.verbs import app
from undrift.client import Client
from undrift.errors import PlatformError
from undrift.model.layout import Layout
from undrift.model.settings import InputSettings
from undrift.serve.protocol import ModelSpec
from undrift.train.audit import columns, report
from undrift.views import VERBS, plain

NO_LOG = columns(())


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def client(server: ModelServer) -> Iterator[Client]:
    with Client(server.url, "m", "secret") as client:
        yield client


def test_answer_carries_ids_probabilities_version_and_hash(client: Client) -> None:
    answer = client.infer([[0, 1], [2, 3]], request_id="r")
    assert answer.ids == ("r:0", "r:1")
    assert answer.output.shape == (2, 3)
    assert answer.label.tolist() == [1, 1]
    assert (answer.version, answer.weights_hash) == (4, "abc")


def test_several_inputs_are_sent_by_name_each_in_its_type(
    client: Client, server: ModelServer
) -> None:
    wanted = [("ids", (1,), "INT64"), ("speed", (1,), "FP32"), ("flag", (), "BOOL")]
    fields = ("name", "shape", "datatype")
    inputs = [InputSettings.model_validate(dict(zip(fields, one, strict=True))) for one in wanted]
    server.SPEC = ModelSpec("m", (5,), n_classes=3, layout=Layout(tuple(inputs)))
    given = {
        "ids": np.array([[2**60], [7]]),
        "speed": [[0.5], [1]],
        "flag": np.array([True, False]),
    }
    assert client.infer(given).ids[1].endswith(":1")
    sent = [(t["name"], t["datatype"], t["shape"], t["data"]) for t in server.seen[0][2]["inputs"]]
    assert sent == [
        ("ids", "INT64", [2, 1], [2**60, 7]),
        ("speed", "FP32", [2, 1], [0.5, 1.0]),
        ("flag", "BOOL", [2], [True, False]),
    ]


def test_bytes_and_texts_are_sent_as_base64(client: Client, server: ModelServer) -> None:
    server.SPEC = ModelSpec("m", (2,), n_classes=3, preprocessed=True)
    assert len(client.infer([b"\x89PNG", "grün"]).ids) == 2
    (tensor,) = server.seen[0][2]["inputs"]
    assert (tensor["datatype"], tensor["data"]) == ("BYTES", ["iVBORw==", "Z3LDvG4="])


def test_one_row_keeps_the_request_id(client: Client) -> None:
    assert client.infer(np.zeros((1, 2)), request_id="r").ids == ("r",)


def test_server_names_rows_if_the_caller_does_not(client: Client) -> None:
    first, second = client.infer([[0, 0]]), client.infer([[0, 0]])
    assert first.ids < second.ids


def test_feedback_sends_labels_with_their_times(client: Client, server: ModelServer) -> None:
    answer = client.feedback(["x", "y", "z"], [0, "b", 9], [1.0, 2.0, 3.0])
    assert answer["accepted"] == 2
    assert [item["index"] for item in answer["rejected"]] == [2]
    assert server.seen[0][2][1] == {"id": "y", "label": "b", "timestamp": 2.0}


def test_feedback_of_which_nothing_is_accepted_tells_why(
    client: Client, server: ModelServer
) -> None:
    answer = client.feedback(["x", "y"], ["nobody", 9])
    assert answer["accepted"] == 0
    assert [item["index"] for item in answer["rejected"]] == [0, 1]


def test_parts_go_on_after_one_of_which_nothing_is_accepted(
    client: Client, server: ModelServer
) -> None:
    labels: list[int | str] = ["nobody"] * 5_000 + [1]
    answer = client.feedback([f"id-{i}" for i in range(5_001)], labels)
    assert (answer["accepted"], len(answer["rejected"])) == (1, 5_000)


def test_labels_with_long_ids_go_in_parts_that_are_taken(
    client: Client, server: ModelServer
) -> None:
    ids = [f"{i:04d}{'𝄞' * 123}" for i in range(10_001)]
    answer = client.feedback(ids, [0] * 9_999 + [9, 0])
    assert answer["accepted"] == 10_000
    assert [item["index"] for item in answer["rejected"]] == [9_999]
    assert len(server.headers) > 3


@pytest.mark.parametrize(
    "body", [b'{"error": "not finite"}', b'"rejected"', b"7", b"null", b"<html>"]
)
def test_other_422_of_a_feedback_is_an_error(
    client: Client, server: ModelServer, body: bytes
) -> None:
    server.replies["feedback"] = (422, body)
    with pytest.raises(PlatformError, match="answered 422"):
        client.feedback(["x"], [0])


def test_feedback_of_unequal_lengths_is_refused_before_it_is_sent(
    client: Client, server: ModelServer
) -> None:
    with pytest.raises(ValueError, match="shorter"):
        client.feedback(["x", "y"], [0, 1], [1.0])
    assert not server.seen


def test_verbs_send_only_what_was_given_and_the_token(client: Client, server: ModelServer) -> None:
    answer = (200, json.dumps(views.status()).encode())
    server.replies = dict.fromkeys(VERBS, answer)
    client.retrain()
    client.retrain("full", 10)
    client.retrain(budget="30s")
    client.promote(3)
    client.rollback(2)
    client.pause()
    client.resume()
    paths = ["retrain"] * 3 + ["promote", "rollback", "pause", "resume"]
    orders = [{}, {"method": "full", "steps": 10}, {"budget": "30s"}]
    bodies = [*orders, {"version": 3}, {"version": 2}, {}, {}]
    assert server.seen == [
        ("POST", f"/v2/models/m/{path}", body, "Bearer secret")
        for path, body in zip(paths, bodies, strict=True)
    ]
    keys = [headers["Idempotency-Key"] for headers in server.headers]
    assert len(set(keys)) == len(paths)


def test_weights_are_sent_as_they_are_with_what_they_are_called(
    client: Client, server: ModelServer, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 1_000
    (tmp_path / "new").write_bytes(content)
    told = json.dumps(views.status()).encode()
    server.sequences["weights?origin=a+%26%C3%BC.st"] = [(200, told)]
    client.bring(tmp_path / "new", "a &ü.st")
    assert server.seen[0][2:] == (content, "Bearer secret")
    assert server.headers[0]["Content-Length"] == str(len(content))
    assert server.headers[0]["Content-Type"] == "application/octet-stream"
    assert server.headers[0]["Idempotency-Key"]


def test_what_needs_no_token_does_not_carry_it(client: Client, server: ModelServer) -> None:
    server.replies["versions"] = (200, b"[]")
    client.infer([[0, 1]])
    client.versions()
    client.feedback(["x"], [0])  # which a platform that listens beyond loopback asks for it
    assert [token for *_, token in server.seen] == ["", "", "Bearer secret"]


def test_all_carries_the_token_where_reading_needs_it(server: ModelServer) -> None:
    server.replies["versions"] = (200, b"[]")
    with Client(server.url, "m", "secret", token_to_read=True) as client:
        client.infer([[0, 1]])
        client.versions()
    assert [token for *_, token in server.seen] == ["Bearer secret"] * 2


@pytest.mark.parametrize(
    ("phase", "previous", "body"),
    [
        ("healthy", 6, {"version": 6}),
        ("swapping", 6, {"version": 7}),
        ("healthy", None, {}),
    ],
)
def test_rollback_names_the_version_that_it_means(
    client: Client, server: ModelServer, phase: str, previous: int | None, body: dict[str, int]
) -> None:
    told = views.status(phase=phase, live_version=7, previous_version=previous)
    server.replies = dict.fromkeys(("status", "rollback"), (200, json.dumps(told).encode()))
    client.rollback()
    assert [given for _, _, given, _ in server.seen] == [None, body]


def test_views_are_read_from_their_paths(client: Client, server: ModelServer) -> None:
    audit = report({"version": 3, "parent": 1, "run_id": "r", "plan": None, "metrics": {}}, NO_LOG)
    answers = {"status": views.status(phase="drift"), "drift": views.drift(rows=7)}
    answers |= {"versions": [], "audit": plain(audit)}
    server.replies = {path: (200, json.dumps(told).encode()) for path, told in answers.items()}
    assert client.status().phase == "drift"
    assert client.drift().rows == 7
    assert client.versions() == []
    assert client.audit(3) == audit
    assert [(method, path.removeprefix("/v2/models/m/")) for method, path, _, _ in server.seen] == [
        ("GET", "status"),
        ("GET", "drift"),
        ("GET", "versions"),
        ("GET", "versions/3/audit"),
    ]


def test_events_are_read_page_by_page(client: Client, server: ModelServer) -> None:
    pages = [
        {"events": [views.event(1, "warning"), views.event(2, "drift")], "next": 2, "more": True},
        {"events": [views.event(3, "retraining")], "next": 3, "more": False},
    ]
    for after, page in zip((0, 2), pages, strict=True):
        server.replies[f"events?after={after}"] = (200, json.dumps(page).encode())
    assert [e.kind for e in client.events()] == ["warning", "drift", "retraining"]


def test_answer_that_is_no_such_view_says_where(client: Client, server: ModelServer) -> None:
    server.replies["status"] = (200, json.dumps({**views.status(), "live_version": "x"}).encode())
    with pytest.raises(PlatformError, match="not what this release reads: live_version"):
        client.status()


def test_client_and_command_line_know_every_verb_and_argument() -> None:
    commands = {c.name or c.callback.__name__: c.callback for c in app.registered_commands}
    for verb, arguments in VERBS.items():
        method = inspect.signature(getattr(Client, verb)).parameters
        assert set(method) - {"self"} == set(arguments)
        assert set(arguments) <= set(inspect.signature(commands[verb]).parameters)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (409, b'{"error": "no version 9"}', "answered 409: no version 9$"),
        (401, b'{"error": "no token"}', "answered 401: no token; set UNDRIFT_TOKEN"),
        (404, b"<html>", "answered 404: is something else listening there"),
        (200, b"<html>", "answered 200: is something else listening there"),
    ],
)
def test_error_carries_what_the_server_said(
    client: Client, server: ModelServer, status: int, body: bytes, expected: str
) -> None:
    server.replies["status"] = (status, body)
    with pytest.raises(PlatformError, match=expected):
        client.status()


def test_nothing_listening_names_the_command_that_starts_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening: refuses connections
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with Client(url, "m") as client, pytest.raises(PlatformError, match="undrift up"):
            client.status()


def test_server_that_never_answers_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            Client(url, "m", timeout_s=0.05) as client,
            pytest.raises(PlatformError, match=r"did not answer within 0\.05 s"),
        ):
            client.status()


def test_many_labels_go_in_parts_and_are_counted_as_one(
    client: Client, server: ModelServer
) -> None:
    labels: list[int | str] = [0] * 12_000
    labels[7_000] = "nobody"
    answer = client.feedback([f"id-{i}" for i in range(12_000)], labels)
    assert answer["accepted"] == 11_999
    assert [item["index"] for item in answer["rejected"]] == [7_000]
    assert [len(body) for _, _, body, _ in server.seen] == [5_000, 5_000, 2_000]

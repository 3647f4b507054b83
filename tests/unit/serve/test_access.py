"""Who may read, hand in labels and operate, over HTTP."""

from __future__ import annotations

import httpx
import pytest

from tests.helpers.serving import INFER, SETTINGS, TOKEN, Backend, body, run
from undrift.serve.openapi import document
from undrift.serve.protocol import ModelSpec
from undrift.views import VIEWS

MODEL = "/v2/models/m"
READ = [*(f"{MODEL}/{view}" for view in VIEWS), f"{MODEL}/events", f"{MODEL}/versions/3/audit"]
OPEN = ["/healthz", "/readyz", "/v2", MODEL, f"{MODEL}/ready", "/metrics", "/openapi.json"]
ASK = [INFER, f"{MODEL}/versions/3/infer"]
LABELS = [{"id": "x", "label": 0}]


@pytest.mark.parametrize("token_to_read", [False, True])
def test_predictions_and_views_need_a_token_where_that_is_set(token_to_read: bool) -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        for headers in ({}, TOKEN):
            refused = token_to_read and not headers
            answers = [await http.get(path, headers=headers) for path in READ]
            answers += [await http.post(path, json=body(), headers=headers) for path in ASK]
            assert {answer.status_code for answer in answers} == {401 if refused else 200}
            assert {(await http.get(path)).status_code for path in OPEN} == {200}

    run(story, SETTINGS.model_copy(update={"token_to_read": token_to_read}))


@pytest.mark.parametrize(("host", "code"), [("127.0.0.1", 200), ("0.0.0.0", 401)])
def test_labels_need_a_token_off_loopback(host: str, code: int) -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        assert (await http.post(f"{MODEL}/feedback", json=LABELS)).status_code == code
        answer = await http.post(f"{MODEL}/feedback", json=LABELS, headers=TOKEN)
        assert answer.json()["accepted"] == 1

    run(story, SETTINGS.model_copy(update={"host": host}))


def test_document_says_what_needs_a_token() -> None:
    settings = SETTINGS.model_copy(update={"host": "0.0.0.0", "token_to_read": True})
    for given, expected in ((SETTINGS, 5), (settings, 5 + 1 + len(VIEWS) + 4)):
        paths = document(ModelSpec("m", (2,), n_classes=3), given, "1.0")["paths"]
        closed = [o for item in paths.values() for o in item.values() if "security" in o]
        assert len(closed) == expected
        assert all("401" in operation["responses"] for operation in closed)

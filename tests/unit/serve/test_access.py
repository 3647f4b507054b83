"""Who may read, hand in labels and operate, over HTTP."""

from __future__ import annotations

import httpx
import pytest
from pydantic import ValidationError

from tests.helpers.serving import INFER, SETTINGS, TOKEN, Backend, body, run, said
from undrift.serve.openapi import document
from undrift.serve.protocol import ModelSpec
from undrift.serve.settings import ServeSettings
from undrift.views import VERBS, VIEWS

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


SHOP = {"Origin": "https://shop.example", "Sec-Fetch-Site": "cross-site"}
LISTED = SETTINGS.model_copy(update={"allowed_origins": ("https://shop.example",)})


def test_page_of_an_allowed_site_asks_and_is_shown_the_answer() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        asked = {**SHOP, "Access-Control-Request-Method": "POST"}
        for path in (INFER, *ASK, f"{MODEL}/feedback", *READ):
            before = await http.options(path, headers=asked)
            assert before.status_code == 200
            assert "POST" in before.headers["access-control-allow-methods"]
            for header in ("Content-Type", "Content-Encoding"):
                assert header in before.headers["access-control-allow-headers"]
            assert before.headers["access-control-allow-origin"] == "https://shop.example"
        answers = [
            await http.post(INFER, json=body(), headers=SHOP),
            await http.post(INFER, json={}, headers=SHOP),
            await http.post(f"{MODEL}/feedback", json=LABELS, headers=SHOP),
            *[await http.get(path, headers=SHOP) for path in READ],
            await http.get("/nowhere", headers=SHOP),
        ]
        assert [a.status_code for a in answers] == [200, 400, 200, *[200] * len(READ), 404]
        for answer in answers:
            assert answer.headers["access-control-allow-origin"] == "https://shop.example"
            assert answer.headers["vary"] == "Origin"
            assert "access-control-allow-credentials" not in answer.headers

    run(story, LISTED)


@pytest.mark.parametrize(
    "origin",
    [
        "https://shop.example.evil.example",
        "https://a.shop.example",
        "http://shop.example",
        "https://shop.example:8443",
        "HTTPS://SHOP.EXAMPLE",
        "null",
    ],
)
def test_page_of_any_other_site_is_refused_and_shown_nothing(origin: str) -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        page = {**SHOP, "Origin": origin}
        for answer in (
            await http.options(INFER, headers=page),
            await http.post(INFER, json=body(), headers=page),
        ):
            assert "other sites" in said(answer, 403)
            assert "access-control-allow-origin" not in answer.headers

    run(story, LISTED)


def test_operators_verbs_are_for_no_page() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        for verb in VERBS:
            for path in (f"{MODEL}/{verb}", f"{MODEL}/{verb}/"):
                for method in ("OPTIONS", "POST"):
                    answer = await http.request(method, path, headers={**SHOP, **TOKEN})
                    assert "other sites" in said(answer, 403)
                    assert "access-control-allow-origin" not in answer.headers
        assert backend.asked == []

    run(story, LISTED)


def test_allowed_page_still_has_to_ask_for_this_machine_on_loopback() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        rebound = {**SHOP, "Host": "evil.example"}
        assert "localhost" in said(await http.post(INFER, json=body(), headers=rebound), 403)

    run(story, LISTED)


def test_program_and_page_of_this_site_are_answered_as_ever() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        for headers in ({}, {"Origin": "http://localhost:8000"}):
            answer = await http.post(INFER, json=body(), headers=headers)
            assert answer.status_code == 200
            assert "access-control-allow-origin" not in answer.headers
            assert (await http.options(INFER, headers=headers)).status_code == 405

    run(story, LISTED)


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "shop.example",
        "https://shop.example/",
        "https://Shop.example",
        "https://a:443",
        "http://a:80",
        "https://*.shop.example",
        "https://u@shop.example",
    ],
)
def test_origin_that_no_browser_names_so_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match="an origin as a browser names it"):
        ServeSettings(allowed_origins=(origin,))
    ServeSettings(allowed_origins=("https://shop.example", "http://localhost:3000"))


def test_document_says_what_needs_a_token() -> None:
    settings = SETTINGS.model_copy(update={"host": "0.0.0.0", "token_to_read": True})
    for given, expected in ((SETTINGS, 6), (settings, 6 + 1 + len(VIEWS) + 4)):
        paths = document(ModelSpec("m", (2,), n_classes=3), given, "1.0")["paths"]
        closed = [o for item in paths.values() for o in item.values() if "security" in o]
        assert len(closed) == expected
        assert all("401" in operation["responses"] for operation in closed)

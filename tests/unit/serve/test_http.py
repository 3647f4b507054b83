"""The HTTP side of a replica over ASGI, with a real model behind it and no Ray."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import httpx
import jsonschema
import pytest

from tests.helpers.serving import INFER, TENSOR, TOKEN, Backend, body, run, said
from undrift.serve.hangup import AFTER_S, UNWATCHED, watched
from undrift.serve.http import routes
from undrift.serve.settings import ServeSettings
from undrift.views import VERBS, VIEWS


def test_answer_by_the_short_way_and_by_version_is_the_same() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        short = await http.post(INFER, json=body(id="a"))
        long = await http.post("/v2/models/m/versions/3/infer", json=body(id="a"))
        assert short.status_code == 200
        assert short.json() == long.json()
        assert short.headers == long.headers

    run(story)


def test_binary_answer_tells_the_length_of_its_json() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        wish = {"binary_data_output": True}
        answer = await http.post(INFER, json=body(parameters=wish))
        length = int(answer.headers["Inference-Header-Content-Length"])
        assert answer.headers["content-type"] == "application/octet-stream"
        assert json.loads(answer.content[:length])["model_version"] == "3"

    run(story)


@pytest.mark.parametrize(
    ("version", "status", "text"),
    [("1", 409, "version 1 is stored but not loaded; version 3 is"), ("9", 404, "no version '9'")],
)
@pytest.mark.parametrize("what", ["", "/ready", "/infer"])
def test_version_that_is_not_live_is_told_from_one_that_is_not_there(
    version: str, status: int, text: str, what: str
) -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        method = "POST" if what == "/infer" else "GET"
        answer = await http.request(method, f"/v2/models/m/versions/{version}{what}", json=body())
        assert text in said(answer, status)

    run(story)


def test_version_that_is_replaced_while_the_request_waits_is_not_answered_by_another() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        backend.flip_to = 4
        answer = await http.post("/v2/models/m/versions/3/infer", json=body())
        assert "version 3 was replaced by 4" in said(answer, 409)

    run(story)


def test_more_requests_than_allowed_are_503_with_retry_after_until_there_is_room() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        backend.free.clear()
        waiting = [asyncio.create_task(http.post(INFER, json=body())) for _ in range(2)]
        while len(backend.batches) < 2:
            await asyncio.sleep(0)
        refused = await http.post(INFER, json=body())
        assert "2 requests are here already" in said(refused, 503)
        assert refused.headers["retry-after"] == "1"
        assert (await http.get("/v2/health/ready")).status_code == 200
        backend.free.set()
        assert [(await task).status_code for task in waiting] == [200, 200]
        assert (await http.post(INFER, json=body())).status_code == 200

    run(story)


@pytest.mark.parametrize("parameters", [{"timeout": 1_000}, {}, {"timeout": 10**9}])
def test_request_past_its_deadline_or_ours_is_504(parameters: dict[str, int]) -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        backend.free.clear()
        answer = await http.post(INFER, json=body(parameters=parameters))
        assert "the deadline passed" in said(answer, 504)
        backend.free.set()
        assert (await http.post(INFER, json=body())).status_code == 200
        assert 'code="504"' in (await http.get("/metrics")).text

    run(story)


def test_caller_that_hangs_up_is_no_failure_of_ours() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        backend.free.clear()
        waiting = asyncio.create_task(http.post(INFER, json=body()))
        while not backend.batches:
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        page = (await http.get("/metrics")).text
        assert 'code="499"' in page
        assert 'code="500"' not in page

    run(story)


@pytest.mark.parametrize("told", [True, False])
def test_caller_that_ray_does_not_watch_is_watched_once_the_answer_takes_long(told: bool) -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        backend.free.clear()
        raw = json.dumps(body()).encode()
        coming = [{"type": "http.disconnect"}, {"type": "http.request", "body": raw}]

        async def receive() -> dict[str, Any]:
            return coming.pop()

        async def send(message: Any) -> None:
            assert not told, message

        headers = [(b"content-type", b"application/json")] + [(UNWATCHED, b"?1")] * told
        scope = {"type": "http", "path": INFER, "method": "POST", "headers": headers}
        asked = asyncio.create_task(backend.api(scope, receive, send))
        await asyncio.wait([asked], timeout=5)
        assert (asked.cancelled(), len(coming)) == ((True, 0) if told else (False, 1))
        code = "499" if told else "504"
        assert f'code="{code}"' in (await http.get("/metrics")).text

    run(story)


def test_caller_is_not_watched_for_a_short_answer() -> None:
    calls: list[None] = []

    async def receive() -> dict[str, Any]:
        calls.append(None)
        return {"type": "http.disconnect"}

    async def asked() -> None:
        with watched({UNWATCHED: b"?1"}, receive):
            await asyncio.sleep(0)
        await asyncio.sleep(2 * AFTER_S)

    asyncio.run(asked())
    assert not calls


def test_answers_are_not_packed_whatever_is_offered() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        rows = {**TENSOR, "shape": [200, 2], "data": [1, 2] * 200}
        offers = {"Accept-Encoding": "gzip, deflate, br"}
        answer = await http.post(INFER, json={"inputs": [rows]}, headers=offers)
        assert answer.status_code == 200
        assert "content-encoding" not in answer.headers
        assert int(answer.headers["content-length"]) == len(answer.content) > 4_000

    run(story, ServeSettings())


def test_body_that_never_ends_is_408() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            if not sent:
                sent.append(1)
                return {"type": "http.request", "body": b"{", "more_body": True}
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "path": INFER, "method": "POST", "headers": []}
        await backend.api(scope, receive, send)
        assert sent[1]["status"] == 408

    run(story)


@pytest.mark.parametrize(
    ("headers", "status", "text"),
    [
        ({"Content-Encoding": "br"}, 415, "Content-Encoding 'br' is not taken"),
        ({"Content-Encoding": "gzip"}, 400, "not as Content-Encoding says"),
        ({"Content-Type": "text/csv"}, 415, "send application/json, not 'text/csv'"),
        ({"Content-Type": "application/octet-stream"}, 415, "send application/json"),
        ({"Content-Length": "10001"}, 413, "at most 10000 are accepted"),
        ({"Content-Length": "9" * 5000}, 413, "at most 10000 are accepted"),
        ({"Inference-Header-Content-Length": "1"}, 400, "is not JSON"),
    ],
)
def test_headers_that_cannot_be_served_are_refused(
    headers: dict[str, str], status: int, text: str
) -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        answer = await http.post(INFER, content=json.dumps(body()), headers=headers)
        assert text in said(answer, status)

    run(story)


def test_nothing_is_ready_before_a_version_is_loaded() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        backend.models._live = None
        assert "not loaded yet" in said(await http.post(INFER, json=body()), 503)
        assert "no version is loaded" in said(await http.get("/readyz"), 503)
        assert (await http.get("/v2/models/m")).json()["versions"] == []

    run(story)


def test_operators_need_the_token_and_readers_do_not() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        for verb in VERBS:
            path = f"/v2/models/m/{verb}"
            assert "Bearer" in said(await http.post(path), 401)
            wrong = {"Authorization": b"Bearer \xff"}
            assert "Bearer" in said(await http.post(path, headers=wrong), 401)
        for view in VIEWS:
            assert (await http.get(f"/v2/models/m/{view}")).status_code == 200
        assert backend.asked == list(VIEWS)
        done = await http.post("/v2/models/m/promote", json={"version": 2}, headers=TOKEN)
        assert done.status_code == 200
        assert backend.asked[-1] == ("promote", {"version": 2}, "")
        keyed = {**TOKEN, "Idempotency-Key": "k"}
        await http.post("/v2/models/m/pause", headers=keyed)
        assert backend.asked[-1] == ("pause", {}, "k")
        long = {**TOKEN, "Idempotency-Key": "k" * 201}
        assert "200 characters" in said(await http.post("/v2/models/m/pause", headers=long), 400)
        assert said(await http.post("/v2/models/m/resume", headers=TOKEN), 409) == "not paused"
        assert "without Content-Type" in said(
            await http.post("/v2/models/m/pause", content=b"{}", headers=TOKEN), 415
        )
        lower = {"Authorization": "bearer secret"}
        assert (await http.post("/v2/models/m/pause", headers=lower)).status_code == 200
        assert "JSON object" in said(
            await http.post("/v2/models/m/promote", json=[], headers=TOKEN), 400
        )

    run(story)


def test_feedback_without_content_type_as_any_page_can_send_it_is_415() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        content = b'[{"id": "x", "label": 0}]'
        answer = await http.post("/v2/models/m/feedback", content=content)
        assert "send application/json, not a body without Content-Type" in said(answer, 415)
        assert backend.asked == []

    run(story)


def test_web_page_of_another_site_reads_and_writes_nothing() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        page = {"Origin": "http://evil.example"}
        labels = [{"id": "x", "label": 0}]
        for path, content in ((INFER, body()), ("/v2/models/m/feedback", labels)):
            answer = await http.post(path, json=content, headers=page)
            assert "other sites" in said(answer, 403)
        assert "other sites" in said(await http.get("/v2/models/m/status", headers=page), 403)
        assert backend.asked == []
        assert (await http.get("/metrics")).status_code == 200

    run(story)


def test_feedback_stores_what_is_good_and_tells_what_is_not() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        labels = [{"id": "x", "label": "b"}, {"id": "y", "label": "z"}]
        answer = (await http.post("/v2/models/m/feedback", json=labels)).json()
        assert answer["accepted"] == 1
        assert [r["index"] for r in answer["rejected"]] == [1]
        assert backend.asked == [("x",)]

    run(story)


LATE = "/v2/models/m/feedback"


def test_feedback_of_which_nothing_is_accepted_is_422_and_lists_it_all() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        answer = await http.post(LATE, json=[{"id": "x", "label": "z"}, {"label": 0}, 7])
        text = said(answer, 422)
        assert text.startswith("none of 3 items is accepted; the first: 'label' must be a class")
        told = answer.json()
        assert told["accepted"] == 0
        assert [item["index"] for item in told["rejected"]] == [0, 1, 2]
        assert "'id' is missing" in told["rejected"][1]["error"]
        assert backend.asked == []
        document = (await http.get("/openapi.json")).json()
        answers = document["paths"]["/v2/models/{name}/feedback"]["post"]["responses"]
        schema = answers["422"]["content"]["application/json"]["schema"]
        jsonschema.validate(told, {**schema, "components": document["components"]})
        assert 'outcome="rejected"} 3.0' in (await http.get("/metrics")).text

    run(story)


def test_feedback_without_any_label_is_fine() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        answer = await http.post(LATE, json=[])
        assert (answer.status_code, answer.json()) == (200, {"accepted": 0, "rejected": []})

    run(story)


def test_bodies_may_be_packed_wherever_there_are_any() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        head = {"Content-Encoding": "gzip", "Content-Type": "application/json", **TOKEN}
        orders = {
            INFER: body(id="p"),
            "/v2/models/m/versions/3/infer": body(id="p"),
            LATE: [{"id": "x", "label": 1}],
            "/v2/models/m/promote": {"version": 2},
        }
        for path, order in orders.items():
            content = gzip.compress(json.dumps(order).encode())
            answer = await http.post(path, content=content, headers=head)
            assert answer.status_code == 200, answer.text
            bomb = gzip.compress(bytes(10_001))
            assert "more than 10000 bytes" in said(
                await http.post(path, content=bomb, headers=head), 413
            )
        assert backend.asked == [("x",), ("promote", {"version": 2}, "")]

    run(story)


def test_slash_at_the_end_of_a_path_changes_nothing() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        for path in ("/v2", "/v2/health/live", "/v2/models/m", "/v2/models/m/status"):
            one, other = await http.get(path), await http.get(f"{path}/")
            assert (other.status_code, other.content) == (200, one.content)
        assert (await http.post(f"{INFER}/", json=body())).status_code == 200
        assert "Bearer" in said(await http.post("/v2/models/m/pause/"), 401)
        assert "see GET /openapi.json" in said(await http.get("/"), 404)

    run(story)


def test_document_describes_exactly_the_routes_that_there_are() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        document = (await http.get("/openapi.json")).json()
        described = {
            (method.upper(), path)
            for path, item in document["paths"].items()
            for method in item
            if method != "parameters"
        }
        assert described == {(m, path) for m, path in routes(backend.api) if m != "HEAD"}

    run(story)


def test_events_are_read_by_a_cursor_within_bounds() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        path = "/v2/models/m/events"
        assert (await http.get(path)).json()["next"] == 1
        assert (await http.get(f"{path}?after=7&limit=2")).status_code == 200
        assert backend.asked == [(0, 1000), (7, 2)]
        assert "after: got" in said(await http.get(f"{path}?after=-1"), 400)
        assert "limit: got" in said(await http.get(f"{path}?limit=1001"), 400)
        assert "limit: got" in said(await http.get(f"{path}?limit=0"), 400)
        assert "unknown key 'page'" in said(await http.get(f"{path}?page=2"), 400)

    run(story)


def test_answers_are_what_the_document_says() -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        document = (await http.get("/openapi.json")).json()
        jsonschema.Draft202012Validator.check_schema(document["components"]["schemas"])
        request = document["components"]["schemas"]["InferRequest"]
        nulls = body(id=None, parameters=None, outputs=None, model_name="m")
        for asked in (body(id="a"), nulls):
            jsonschema.validate(asked, {**request, "components": document["components"]})
        for path, item in document["paths"].items():
            if "get" not in item or path.endswith("/metrics"):
                continue
            answer = await http.get(path.format(name="m", version=3))
            content = item["get"]["responses"][str(answer.status_code)]["content"]
            schema = content["application/json"]["schema"]
            whole = {**schema, "components": document["components"]}
            jsonschema.validate(answer.json(), whole)

    run(story)

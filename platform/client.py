"""The operator's side of a running platform, over HTTP: the same verbs as the command line."""

from __future__ import annotations

import os
import ssl
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO
from urllib.parse import urlencode

import httpx
import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic_core import to_json

from undrift.config import Config
from undrift.errors import BusyError, PlatformError
from undrift.host.process import ProcessFile, given_token
from undrift.ids import KEY_HEADER, new_id
from undrift.records import FloatArray, IntArray, TargetArray
from undrift.serve.body import ALL_REJECTED, FEEDBACK_BYTES, WEIGHTS
from undrift.serve.certificate import trusting
from undrift.serve.protocol import BINARY
from undrift.views import (
    AuditView,
    DriftView,
    EventsPage,
    EventView,
    StatusView,
    VersionView,
    read,
)

URL_VARIABLE = "UNDRIFT_URL"

LABELS_AT_ONCE = 5_000

Headers = dict[str, str] | None


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one inference request.

    Attributes:
        ids: n inference ids; a late label names its row by one.
        output: (n, c) class probabilities; of a regression (n,) numbers, or (n, c) of several.
        version: Model version that answered.
        weights_hash: Hash of that version's weights.
        numbers: Whether it is a regression.
    """

    ids: tuple[str, ...]
    output: FloatArray
    version: int
    weights_hash: str
    numbers: bool = False

    @property
    def label(self) -> TargetArray:
        """(n,) most probable class; of a regression what it answers."""
        if self.numbers:
            return self.output
        best: IntArray = self.output.argmax(axis=1)
        return best


class Client:
    """Talks to one model of a running platform; a context manager.

    Args:
        base_url: Where it listens, as ``http://127.0.0.1:8000``.
        model: Name of the model.
        token: Bearer token for labels and the operators' verbs.
        timeout_s: Longest wait for one answer, seconds.
        token_to_read: Whether all else carries the token, too.
        trust: Whose certificates to trust for https; else those of the system, or of the file that
            $SSL_CERT_FILE names.

    Raises:
        PlatformError: From every method: nothing answers, or the answer is an error; a `BusyError`
            where it is worth trying again.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        token: str = "",
        timeout_s: float = 60.0,
        *,
        token_to_read: bool = False,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._path = f"/v2/models/{model}"
        self._token = {"Authorization": f"Bearer {token}"} if token else {}
        self._read_token = self._token if token_to_read else {}
        https = httpx.URL(base_url).scheme == "https"
        verify = (trust or ssl.create_default_context()) if https else False
        self._http = httpx.Client(
            base_url=self.base_url,
            timeout=timeout_s,
            transport=httpx.HTTPTransport(verify=verify, retries=1, trust_env=False),
            trust_env=False,
        )

    @classmethod
    def of(cls, config: Config) -> Client:
        """Return a client of the platform that ``config`` describes, or of $UNDRIFT_URL.

        The token of the state folder goes to $UNDRIFT_URL, or to what our own record says runs: if
        the platform is down, somebody else may listen in its place.
        """
        runfile = ProcessFile.of(config)
        given, reads = os.environ.get(URL_VARIABLE, ""), config.serve.token_to_read
        if given:
            return cls(given, config.model.name, runfile.token(), token_to_read=reads)
        record = runfile.running()
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(config.serve.host, config.serve.host)
        url = f"{config.serve.scheme}://{host}:{config.serve.port}"
        url = record.url if record and record.url else url
        known = record is not None and runfile.is_ours()
        token = runfile.token() if known else given_token()
        trust = own_certificate(config)
        return cls(url, config.model.name, token, token_to_read=reads, trust=trust)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def infer(
        self,
        x: ArrayLike | Mapping[str, ArrayLike] | list[bytes | str],
        request_id: str | None = None,
    ) -> Answer:
        """Ask the model.

        Args:
            x: (n, *input_shape) input; of a model with several, those by name; or what rows are
                made of by `model.preprocess`, a list of n bytes or texts.
            request_id: Becomes the inference id; of several rows, with ``:0``, ``:1``, ... added.
        """
        body: dict[str, Any] = {"inputs": _tensors(x)}
        if request_id is not None:
            body["id"] = request_id
        answer = self._call("POST", "/infer", body)
        output = answer["outputs"][0]
        base, n = answer["id"], output["shape"][0]
        return Answer(
            ids=(base,) if n == 1 else tuple(f"{base}:{i}" for i in range(n)),
            output=np.array(output["data"], np.float32).reshape(output["shape"]),
            version=int(answer["model_version"]),
            weights_hash=answer["parameters"]["weights_hash"],
            numbers=output["name"] == "value",
        )

    def feedback(
        self,
        ids: Sequence[str],
        labels: Sequence[int | str | float | Sequence[float]],
        timestamps: Sequence[float | str] | None = None,
    ) -> dict[str, Any]:
        """Hand in late labels; when this returns, they are durable.

        They go in parts of 5,000 or fewer. If one fails, hand in all of them again: repeats do no
        harm.

        Args:
            ids: n inference ids.
            labels: n class indices or names; of a regression n numbers, or lists of them.
            timestamps: n times at which they became known, Unix seconds or ISO 8601; else now.

        Returns:
            How many were accepted, and which were rejected and why.
        """
        items: list[dict[str, Any]] = [
            {"id": i, "label": label} for i, label in zip(ids, labels, strict=True)
        ]
        if timestamps is not None:
            for item, when in zip(items, timestamps, strict=True):
                item["timestamp"] = when
        answer: dict[str, Any] = {"accepted": 0, "rejected": []}
        for start, body in _label_parts(items):
            part = self._call("POST", "/feedback", body, self._token, ALL_REJECTED)
            answer["accepted"] += part["accepted"]
            answer["rejected"] += [
                {**item, "index": start + item["index"]} for item in part["rejected"]
            ]
        return answer

    def status(self) -> StatusView:
        """Return the lifecycle phase, the live version and the counters."""
        return read(StatusView, self._call("GET", "/status"))

    def drift(self) -> DriftView:
        """Return the evidence: the level, the signals, challengers, labels and coverage."""
        return read(DriftView, self._call("GET", "/drift"))

    def versions(self) -> list[VersionView]:
        """Return all stored versions, oldest first."""
        return read(list[VersionView], self._call("GET", "/versions"))

    def events(self, after: int = 0) -> list[EventView]:
        """Return the notable events after number ``after``, oldest first."""
        found: list[EventView] = []
        more = True
        while more:
            page = read(EventsPage, self._call("GET", f"/events?after={after}"))
            found += page.events
            after, more = page.next, page.more
        return found

    def audit(self, version: int) -> AuditView:
        """Return how a stored version was made: what was chosen, what it cost and forgot."""
        return read(AuditView, self._call("GET", f"/versions/{version}/audit"))

    def retrain(
        self, method: str | None = None, steps: int | None = None, budget: str | None = None
    ) -> StatusView:
        """Start a retraining now; what is left out is as configured.

        Args:
            method: One of the methods that ``train.method`` may name.
            steps: Number of gradient steps.
            budget: Instead of steps: what may be spent, as 30s or 2.5TFLOP.

        Returns:
            The status; its ``run`` names the run, and shows later how far it is.
        """
        return self._act("/retrain", method=method, steps=steps, budget=budget)

    def promote(self, version: int, strategy: str = "now") -> StatusView:
        """Serve a stored version."""
        how = {} if strategy == "now" else {"strategy": strategy}
        return self._act("/promote", version=version, **how)

    def bring(self, weights: Path, origin: str) -> StatusView:
        """Have weights that were trained elsewhere judged, and served if the gate agrees.

        Args:
            weights: A safetensors file that fits the model.
            origin: What to call it in the version's manifest.
        """
        headers = {"Content-Type": BINARY, KEY_HEADER: new_id(), **self._token}
        with weights.open("rb") as file:
            path = f"/{WEIGHTS}?{urlencode({'origin': origin})}"
            return read(StatusView, self._call("POST", path, headers=headers, content=file))

    def rollback(self, version: int | None = None) -> StatusView:
        """Go back to the version before the live one, or to ``version``.

        Without one, it is looked up first: the order names it, and given twice it has the effect of
        once. A swap under way is called off, and so is a candidate in a rollout by stages.
        """
        if version is None:
            now = self.status()
            open_ = now.phase in ("swapping", "shadow", "canary")
            version = now.live_version if open_ else now.previous_version
        return self._act("/rollback", version=version)

    def pause(self) -> StatusView:
        """Stop automatic decisions; serving and monitoring go on."""
        return self._act("/pause")

    def resume(self) -> StatusView:
        """Let automatic decisions go on."""
        return self._act("/resume")

    def _act(self, path: str, **arguments: Any) -> StatusView:
        body = {key: value for key, value in arguments.items() if value is not None}
        headers = {**self._token, KEY_HEADER: new_id()}  # the load balancer may send it twice
        return read(StatusView, self._call("POST", path, body, headers))

    def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Headers = None,
        told_by: int = 0,
        content: BinaryIO | None = None,
    ) -> Any:
        headers, url = {**self._read_token, **(headers or {})}, self._path + path
        try:
            response = self._http.request(method, url, json=body, headers=headers, content=content)
        except httpx.TimeoutException:
            wait = self._http.timeout.read
            raise PlatformError(f"{self.base_url} did not answer within {wait:g} s") from None
        except httpx.ConnectError as error:
            raise PlatformError(_unreachable(self.base_url, error)) from None
        except httpx.TransportError as error:
            raise PlatformError(f"{self.base_url} broke off: {error}") from None
        try:
            answer = response.json()
        except ValueError:
            answer = None
        listed = response.status_code == told_by and isinstance(answer, dict)
        if answer is not None and (response.is_success or (listed and "rejected" in answer)):
            return answer
        wait = response.headers.get("Retry-After", "")
        if response.status_code == 503 and wait.isdecimal():
            raise BusyError(_explained(self.base_url, response, answer), float(wait))
        raise PlatformError(_explained(self.base_url, response, answer))


def _label_parts(items: list[dict[str, Any]]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yield labels in parts that a request may have, each with the place of its first."""
    start = 0
    while start < len(items):
        part = items[start : start + LABELS_AT_ONCE]
        while len(part) > 1 and len(to_json(part)) > FEEDBACK_BYTES:
            part = part[: len(part) // 2]
        yield start, part
        start += len(part)


def _unreachable(url: str, error: httpx.ConnectError) -> str:
    if "CERTIFICATE_VERIFY_FAILED" not in str(error):
        return f"nothing answers at {url}; start it with `undrift up`"
    return (
        f"the certificate of {url} is not trusted ({str(error).partition('failed: ')[2]}); "
        "name the file of its authority in SSL_CERT_FILE"
    )


def _explained(url: str, response: httpx.Response, answer: Any) -> str:
    text = str(answer["error"]) if isinstance(answer, dict) and "error" in answer else ""
    if response.status_code == 401:
        text += "; set UNDRIFT_TOKEN to the text of the file `token` in the state folder"
    detail = text.lstrip("; ") or "is something else listening there?"
    return f"{url} answered {response.status_code}: {detail}"


def _tensors(x: ArrayLike | Mapping[str, ArrayLike] | list[bytes | str]) -> list[dict[str, Any]]:
    """Return the tensors of a request."""
    if isinstance(x, Mapping):
        return [_tensor(name, np.asarray(values)) for name, values in x.items()]
    if isinstance(x, list) and x and isinstance(x[0], bytes | str):
        return [_values(x)]
    return [_tensor("input", np.asarray(x, np.float32))]


def _tensor(name: str, values: NDArray[Any]) -> dict[str, Any]:
    """Return a tensor as a request has it, floats as FP32."""
    kind, bits = values.dtype.kind, 8 * values.dtype.itemsize
    datatype = {"b": "BOOL", "i": f"INT{bits}", "u": f"UINT{bits}"}.get(kind, "FP32")
    if datatype == "FP32":
        values = values.astype(np.float32)
    return {
        "name": name,
        "shape": values.shape,
        "datatype": datatype,
        "data": values.ravel().tolist(),
    }


def _values(values: list[bytes | str]) -> dict[str, Any]:
    """Return bytes or texts as a request has them."""
    coded = [b64encode(v.encode() if isinstance(v, str) else v).decode() for v in values]
    return {
        "name": "input",
        "shape": [len(values)],
        "datatype": "BYTES",
        "parameters": {"content_type": "base64"},
        "data": coded,
    }


def own_certificate(config: Config) -> ssl.SSLContext | None:
    """Return what trusts the certificate of this machine's own platform, if we can read it."""
    path = config.serve.tls_certificate
    try:
        return None if path is None else trusting(path)
    except (OSError, ValueError):
        return None

"""Configuration of serving."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from undrift.settings import InputFile, Section


class TapSettings(Section):
    """How answers are handed to the monitor; a full tap drops rows rather than wait."""

    flush_rows: int = Field(default=512, gt=0)
    """Most rows of one message."""

    flush_ms: float = Field(default=100.0, gt=0)
    """Hand over all that waits after this time, in milliseconds."""

    max_rows: int = Field(default=16_384, ge=0)
    """Rows that may wait in one replica; more are dropped and counted. With 0 the monitor gets
    none, and nothing is watched."""

    max_bytes: int = Field(default=64 * 2**20, gt=0)
    """Bytes that may wait in one replica; more are dropped and counted."""

    rows_per_s: int | None = Field(default=2_000, gt=0)
    """Rows a second that one replica has watched in the long run. Where it answers more, what goes
    to the monitor is drawn at random, whole batches, and what is left out is counted: it is neither
    watched nor stored, and its labels find no prediction. Null: any number."""

    bytes_per_s: int | None = Field(default=4 * 2**20, gt=0)
    """Bytes a second of such rows, likewise."""


class SwapSettings(Section):
    """How patient a change of version over all replicas is."""

    lease_s: float = Field(default=5.0, gt=0)
    """A replica silent for this long, in seconds, no longer takes part."""

    start_grace_s: float = Field(default=60.0, gt=0)
    """A new replica is listed for this long, in seconds, before it first reports."""

    prepare_timeout_s: float = Field(default=60.0, gt=0)
    """The swap is given up if not all replicas have the new weights ready by then, in seconds."""

    max_slowdown: float = Field(default=10.0, gt=1)
    """A version that takes more than this many times the processor time of the live one for a few
    rows, and more than 10 ms, is refused."""

    candidate_timeout_s: float = Field(default=2.0, gt=0)
    """In a rollout by stages, a candidate that gives no answer within this time, in seconds, is
    called off; the live version answers instead."""


def _origin(text: str) -> str:
    found = re.fullmatch(r"(https?)://[a-z0-9.-]+(:\d+)?", text)
    if not found or found.groups() in (("http", ":80"), ("https", ":443")):
        raise ValueError(
            f"an origin as a browser names it, https://shop.example or http://localhost:3000, "
            f"in small letters, without path and default port; got {text!r}"
        )
    return text


Origin = Annotated[str, AfterValidator(_origin)]


class ListenSettings(Section):
    """Where HTTP listens: one place to a platform."""

    host: str = "127.0.0.1"
    """Address to listen on; the default is reachable from this machine only."""

    port: int = Field(default=8000, ge=1, le=65_535)
    """TCP port to listen on."""

    tls_certificate: InputFile | None = None
    """PEM file with a certificate, those of its authority, and the private key: `undrift up` then
    speaks HTTPS; without it HTTP."""

    allowed_origins: tuple[Origin, ...] = ()
    """Web sites whose pages may predict, read and hand in labels, each exactly as a browser names
    it, as `https://shop.example`; operators' verbs are for no page."""

    token_to_read: bool = False
    """Whether predictions and what the platform knows need a token with the scope `read`; health,
    metadata and metrics never do."""

    @property
    def scheme(self) -> str:
        """How URLs of the platform begin."""
        return "http" if self.tls_certificate is None else "https"

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine can reach the platform."""
        return self.host in ("127.0.0.1", "localhost", "::1")


class ReplicaSettings(Section):
    """The replicas of one model: how many, how they batch, what they refuse."""

    replicas: int = Field(default=1, ge=1)
    """Processes that each hold the model; with `max_replicas` the fewest."""

    max_replicas: int | None = Field(default=None, ge=1)
    """Most processes that Ray Serve starts under load; without it their number is fixed."""

    requests_per_replica: int = Field(default=16, ge=1)
    """Requests under way in each replica at which Ray Serve aims when it scales."""

    scale_up_after_s: float = Field(default=30.0, ge=0)
    """Seconds of high load after which Ray Serve starts a replica; load is averaged over 30 s."""

    scale_down_after_s: float = Field(default=600.0, ge=0)
    """Seconds of low load after which it stops one, when that has answered what it has."""

    max_batch_size: int = Field(default=64, ge=1)
    """Rows computed together at most, unless one request alone brings more."""

    batch_wait_ms: float = Field(default=2.0, ge=0)
    """Longest that a request waits for others to share its batch, in milliseconds; it only waits
    while requests come so fast that waiting pays."""

    max_body_bytes: int = Field(default=16 * 2**20, gt=0)
    """Largest request body, in bytes, as it comes and as it is unpacked."""

    max_json_bytes: int = Field(default=8 * 2**20, gt=0)
    """Largest JSON in a body, in bytes: nothing else is answered while it is read. Tensors that
    follow it as bytes are not counted."""

    max_json_values: int = Field(default=250_000, gt=0)
    """Most values in the JSON of a body, counted by its commas and opening brackets, for the
    same reason."""

    max_weights_bytes: int = Field(default=4 * 2**30, gt=0)
    """Largest file of weights that an operator may bring, in bytes; one replica takes one at a
    time."""

    max_rows_per_request: int = Field(default=4_096, ge=1)
    """Most rows in one request."""

    max_labels_per_request: int = Field(default=10_000, ge=1, le=25_000)
    """Most labels in one request of feedback, whose body may have 2 MiB."""

    max_queued_requests: int = Field(default=1_000, ge=1)
    """Requests that may be in one replica at a time; more are answered 503."""

    max_queued_bytes: int = Field(default=256 * 2**20, gt=0)
    """Bytes of their bodies that may be in one replica at a time; more are answered 503."""

    max_replica_bytes: int | None = Field(default=None, ge=2**28)
    """Memory that one replica may hold, in bytes; one that holds more is replaced by a new one.
    Null: any. With PyTorch alone it is some 400 MB, and while a version is loaded it is more."""

    request_timeout_s: float = Field(default=30.0, gt=0)
    """A request that waits longer, in seconds, is answered 504, and one whose body takes longer
    408. With `timeout`, in microseconds, a request can ask for less."""

    answer: Literal["model", "mixture"] = "mixture"
    """Who answers: `mixture`, the live version and heads beside it that go on learning from late
    labels, each with the share that its right answers have earned; `model`, the live version."""

    tap: TapSettings = TapSettings()
    """Hand-over to the monitor."""

    swap: SwapSettings = SwapSettings()
    """Change of version over all replicas."""

    @model_validator(mode="after")
    def _most_is_not_below_fewest(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(
                f"max_replicas, {self.max_replicas}, is below replicas, {self.replicas}"
            )
        return self

    @property
    def silence_s(self) -> int:
        """Seconds of silence after which the load balancer cuts a connection.

        The replicas, whose patience ends before, are left some time to say so.
        """
        return math.ceil(self.request_timeout_s) + 2

    @property
    def mixes(self) -> bool:
        """Whether heads that go on learning have a share in the answer."""
        return self.answer == "mixture"

    def scaling(self) -> dict[str, Any]:
        """Return the options of a Ray Serve deployment that set the number of replicas."""
        if self.max_replicas is None:
            return {"num_replicas": self.replicas}
        autoscaling = {
            "min_replicas": self.replicas,
            "max_replicas": self.max_replicas,
            "target_ongoing_requests": self.requests_per_replica,
            "upscale_delay_s": self.scale_up_after_s,
            "downscale_delay_s": self.scale_down_after_s,
        }
        return {"autoscaling_config": autoscaling}


class ServeSettings(ReplicaSettings, ListenSettings):
    """The HTTP side: where it listens, how it batches, what it refuses."""

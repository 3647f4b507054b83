"""Configuration of serving."""

from __future__ import annotations

from pydantic import Field

from undrift.section import Section


class TapSettings(Section):
    """How answers are handed to the monitor; a full tap drops rows rather than wait."""

    flush_rows: int = Field(default=512, gt=0)
    """Hand over as soon as this many rows wait."""

    flush_ms: float = Field(default=100.0, gt=0)
    """Hand over at the latest after this time, in milliseconds."""

    max_rows: int = Field(default=16_384, gt=0)
    """Rows that may wait in one replica; more are dropped and counted."""

    max_bytes: int = Field(default=64 * 2**20, gt=0)
    """Bytes that may wait in one replica; more are dropped and counted."""


class SwapSettings(Section):
    """How patient a change of version over all replicas is."""

    lease_s: float = Field(default=5.0, gt=0)
    """A replica silent for this long, in seconds, no longer takes part."""

    start_grace_s: float = Field(default=60.0, gt=0)
    """A new replica may take this long, in seconds, before it first reports."""

    prepare_timeout_s: float = Field(default=60.0, gt=0)
    """The swap is given up if not all replicas have the new weights ready by then, in seconds."""


class ServeSettings(Section):
    """The HTTP side: where it listens, how it batches, what it refuses."""

    host: str = "127.0.0.1"
    """Address to listen on; the default is reachable from this machine only."""

    port: int = Field(default=8000, ge=1, le=65_535)
    """TCP port to listen on."""

    replicas: int = Field(default=1, ge=1)
    """Processes that each hold the model."""

    max_batch_size: int = Field(default=64, ge=1)
    """Rows computed together at most, unless one request alone brings more."""

    batch_wait_ms: float = Field(default=2.0, ge=0)
    """How long a request may wait for others to share its batch, in milliseconds."""

    max_body_bytes: int = Field(default=16 * 2**20, gt=0)
    """Largest request body, in bytes."""

    max_rows_per_request: int = Field(default=4_096, ge=1)
    """Most rows in one request."""

    max_queued_requests: int = Field(default=1_000, ge=1)
    """Requests that may wait for one replica; more are answered 503."""

    request_timeout_s: float = Field(default=30.0, gt=0)
    """A request that waits longer, in seconds, is answered 503."""

    tap: TapSettings = TapSettings()
    """Hand-over to the monitor."""

    swap: SwapSettings = SwapSettings()
    """Change of version over all replicas."""

"""The feedback of late labels."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np

from undrift.errors import RequestError
from undrift.ids import row_ids
from undrift.records import Labels
from undrift.serve.body import (
    ALL_REJECTED,
    FEEDBACK_BYTES,
    check_id,
    check_keys,
    kind,
    parse_json,
    present,
    show,
)
from undrift.serve.numbers import as_labels, number_labels
from undrift.serve.protocol import ModelSpec
from undrift.serve.settings import ServeSettings

PARTS = "send labels in parts"


def parse_feedback(
    body: bytes, content_type: str, spec: ModelSpec, settings: ServeSettings, now: float
) -> tuple[Labels, list[dict[str, Any]]]:
    """Read late labels; a bad item never spoils the others.

    The body is a JSON list, or ``{"labels": [...]}``, of ``{"id", "label", "timestamp"}``. A label
    is a class index (a whole number, as 1 or 1.0), a class name, or a list of those for a request
    of several rows; of a regression, see `number_labels`. A timestamp is optional, in Unix seconds
    or ISO 8601 (UTC unless it names a zone). Null is as good as absent.

    Args:
        body: The HTTP body.
        content_type: The header of that name; empty if absent.
        spec: The model whose classes or targets count.
        settings: Limits on bytes and labels.
        now: Unix seconds, for items without a timestamp.

    Returns:
        The labels in order, and for each rejected item ``{"index": ..., "error": ...}``.

    Raises:
        RequestError: The body as a whole cannot be read, or has more labels than are accepted at
            once (413).
    """
    most = settings.max_labels_per_request
    if len(body) > FEEDBACK_BYTES:
        raise RequestError(
            f"{len(body):,} bytes of feedback; at most {FEEDBACK_BYTES:,} are accepted: {PARTS}",
            413,
        )
    items = parse_json(body, content_type, settings)
    if isinstance(items, dict):
        items = present(items)
        check_keys(items, {"labels"}, "the request")
        items = items.get("labels")
    if not isinstance(items, list):
        raise RequestError(
            f'the body must be a list of {{"id", "label"}} objects, not {kind(items)}'
        )
    lists = [v for item in items if isinstance(item, dict) and type(v := item.get("label")) is list]
    told = max(len(items), sum(map(len, lists)) // max(spec.targets, 1))
    if told > most:
        raise _too_many(f"{told:,} labels", most)
    by_name = {name: i for i, name in enumerate(spec.classes)}
    ids: list[str] = []
    label: list[Any] = []
    at: list[float] = []
    rejected: list[dict[str, Any]] = []
    for index, item in enumerate(items):
        try:
            new_ids, new_labels, when = _parse_label(item, spec, by_name, now)
        except RequestError as error:
            rejected.append({"index": index, "error": str(error)})
            continue
        ids += new_ids
        label += new_labels
        at += [when] * len(new_ids)
    told_by = as_labels(label, spec.targets) if spec.targets else np.array(label, np.int64)
    return Labels(tuple(ids), told_by, np.array(at, np.float64)), rejected


def acknowledgement(accepted: int, rejected: list[dict[str, Any]]) -> tuple[dict[str, Any], int]:
    """Return body and status of the answer to labels of which ``accepted`` are stored.

    Example:
        >>> acknowledgement(0, [{"index": 0, "error": "'id' is missing"}])[1]
        422
    """
    told = {"accepted": accepted, "rejected": rejected}
    if accepted or not rejected:
        return told, 200
    count, first = len(rejected), rejected[0]["error"]
    text = f"none of {count:,} items is accepted; the first: {first}"
    return {"error": text, **told}, ALL_REJECTED


def _too_many(got: str, most: int) -> RequestError:
    return RequestError(f"{got} in one request; at most {most:,} are accepted: {PARTS}", 413)


def _parse_label(
    item: Any, spec: ModelSpec, by_name: dict[str, int], now: float
) -> tuple[tuple[str, ...], list[Any], float]:
    if not isinstance(item, dict):
        raise RequestError(f'expected an object {{"id", "label"}}, got {kind(item)}')
    item = present(item)
    check_keys(item, {"id", "label", "timestamp"}, "the item")
    for key in ("id", "label"):
        if key not in item:
            raise RequestError(f"{key!r} is missing")
    given = item["label"] if isinstance(item["label"], list) else [item["label"]]
    if not given:
        raise RequestError("'label' is an empty list")
    if spec.targets:
        labels: list[Any] = list(number_labels(item["label"], spec.targets))
    else:
        labels = [_class_index(value, spec.n_classes, by_name) for value in given]
    request_id = check_id(item["id"], rows=len(labels) == 1)
    when = _parse_time(item["timestamp"]) if "timestamp" in item else now
    return row_ids(request_id, len(labels)), labels, when


def _class_index(value: Any, n_classes: int, by_name: dict[str, int]) -> int:
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is int and 0 <= value < n_classes:
        return value
    if isinstance(value, str) and value in by_name:
        return by_name[value]
    names = f" or one of {', '.join(map(repr, list(by_name)[:10]))}" if by_name else ""
    raise RequestError(
        f"'label' must be a class index from 0 to {n_classes - 1}{names}; got {show(value)}"
    )


def _parse_time(value: Any) -> float:
    when = -1.0
    if isinstance(value, str):
        with suppress(ValueError, OverflowError):
            parsed = datetime.fromisoformat(value)
            when = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    elif type(value) in (int, float):
        when = value
    if not 0 <= when < 2**40:
        raise RequestError(f"'timestamp' must be Unix seconds or ISO 8601; got {show(value)}")
    return float(when)

"""What an operator may ask for, from the body of a request to an event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from undrift.errors import ConfigError, RequestError
from undrift.events import (
    AdoptRequested,
    Event,
    PauseRequested,
    PromoteRequested,
    ResumeRequested,
    RetrainRequested,
    RollbackRequested,
)
from undrift.serve.body import WEIGHTS, check_keys, show
from undrift.train.budget import Budget
from undrift.train.settings import MethodName
from undrift.views import STRATEGIES, VERBS

NO_REPORT = "the monitor has not reported yet; ask again in a second"
METHODS: tuple[str, ...] = get_args(MethodName)


def event_of(
    verb: str, body: dict[str, Any], versions: Sequence[int], at: float, rows: int | None = None
) -> Event:
    """Return the event that a request asks for.

    Args:
        verb: A key of `views.VERBS`, or `WEIGHTS`, whose file is in the state already.
        body: Its arguments.
        versions: Stored versions.
        at: Now, Unix seconds.
        rows: Predictions that the monitor knows of; None while it has not reported.

    Raises:
        RequestError: The verb is unknown (status 404), ill-formed, or cannot be answered yet (503).

    Example:
        >>> event_of("rollback", {"version": 2}, versions=[1, 2], at=0.0).version
        2
    """
    if verb == WEIGHTS:
        return AdoptRequested(at=at, cause="operator", rows=_reported(rows), **body)
    if verb not in VERBS:
        raise RequestError(f"unknown verb {verb!r}", 404)
    check_keys(body, set(VERBS[verb]), "the request")
    if verb == "retrain":
        return _retrain(body, at, rows)
    if verb == "promote":
        strategy = body.get("strategy") or STRATEGIES[0]
        if strategy not in STRATEGIES:
            raise RequestError(f"strategy: got {show(strategy)}; there are {', '.join(STRATEGIES)}")
        version = _known(body, versions)
        return PromoteRequested(at=at, cause="operator", version=version, strategy=strategy)
    if verb == "rollback":
        wanted = None if body.get("version") is None else _known(body, versions)
        return RollbackRequested(at=at, cause="operator", version=wanted)
    return (PauseRequested if verb == "pause" else ResumeRequested)(at=at, cause="operator")


def _retrain(body: dict[str, Any], at: float, rows: int | None) -> RetrainRequested:
    method, steps = body.get("method") or "", body.get("steps") or 0
    budget = body.get("budget") or ""
    if method and method not in METHODS:
        raise RequestError(f"method: got {show(method)}; there are {', '.join(METHODS)}")
    if type(steps) is not int or steps < 0:
        raise RequestError(f"steps: got {show(steps)}, expected a number greater than 0")
    if not isinstance(budget, str):
        raise RequestError(f"budget: got {show(budget)}, expected text, as 30s or 2.5TFLOP")
    if steps and budget:
        raise RequestError("steps and budget: a budget decides the steps; give one of them")
    try:
        Budget.parse(budget)
    except ConfigError as error:
        raise RequestError(str(error)) from error
    rows = _reported(rows)
    return RetrainRequested(
        at=at, cause="operator", method=method, steps=steps, budget=budget, rows=rows
    )


def _reported(rows: int | None) -> int:
    if rows is None:
        raise RequestError(NO_REPORT, 503)
    return rows


def _known(body: dict[str, Any], versions: Sequence[int]) -> int:
    version = body.get("version")
    if type(version) is not int or version not in versions:
        raise RequestError(
            f"version: no version {show(version)}; stored versions are {list(versions)}", 404
        )
    return version

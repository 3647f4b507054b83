"""A result on its way through the log of a job."""

from __future__ import annotations

import random

import pytest
from pydantic_core import from_json, to_json

from undrift.errors import PlatformError
from undrift.jobs.result import MARK, Screen, lines, result_in

RESULT = random.Random(0).randbytes(20_000)


def test_result_is_found_between_what_others_write() -> None:
    said = "".join(f"{line}a warning of others\n" for line in lines(RESULT))
    assert said.count(MARK) > 3
    assert result_in(f"begun\n{said}") == RESULT


@pytest.mark.parametrize("lost", [slice(1), slice(1, 2), slice(-1, None), slice(None)])
def test_result_that_is_not_whole_is_none(lost: slice) -> None:
    parts = [*lines(RESULT)]
    del parts[lost]
    with pytest.raises(PlatformError, match="does not have the whole result"):
        result_in("".join(parts))


@pytest.mark.parametrize("size", [1, 7, 5000])
def test_log_is_shown_by_lines_without_the_result(size: int) -> None:
    shown: list[str] = []
    screen = Screen(shown.append)
    text = "begun\n" + "".join(lines(RESULT)) + "\n\nended\n"
    for start in range(0, len(text), size):
        screen(text[start : start + size])
    assert "".join(shown) == "begun\n\n\nended\n"


def test_numbers_that_are_none_travel() -> None:
    values = {"a": float("inf"), "b": -float("inf"), "c": 0.1}
    assert from_json(to_json(values, inf_nan_mode="constants")) == values

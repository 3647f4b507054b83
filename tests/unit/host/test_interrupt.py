"""Ctrl-C strikes after what must be made as a whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from undrift.host.interrupt import put_off


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """Python's own handler, whatever ran before."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_strikes_after_the_block_once() -> None:
    made = []

    def make() -> None:
        with put_off():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            made.append("whole")

    with pytest.raises(KeyboardInterrupt):
        make()
    assert made == ["whole"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_ctrl_c_nothing_strikes_and_an_error_passes() -> None:
    with pytest.raises(ValueError, match="ours"), put_off():
        raise ValueError("ours")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with put_off():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_another_thread_has_no_signals_to_put_off() -> None:
    seen: list[object] = []

    def block() -> None:
        with put_off():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]

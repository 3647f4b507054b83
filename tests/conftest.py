"""Tests not marked ``ray`` or ``demo`` cannot start Ray: `ray.init` raises in them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

import pytest

# Read when torch is first imported, here and in every process that a test starts. The models of
# the tests are too small for a second thread to be of use.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure() -> None:
    """End as by an interrupt when told to end, so that fixtures stop what they have started.

    A shell makes the jobs of its background deaf to interrupts, which some tests send.
    """
    for told in (signal.SIGINT, signal.SIGTERM):
        signal.signal(told, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell why tests were run again: each is a fault to be found, though they passed then."""
    for report in terminalreporter.stats.get("rerun", ()):
        terminalreporter.section(f"failed once: {report.nodeid}", sep="_")
        terminalreporter.write_line(report.longreprtext)
        for title, content in report.sections:
            terminalreporter.write_line(f"--- {title}\n{content}")


def _forbidden(*args: Any, **kwargs: Any) -> None:
    raise AssertionError("this test would start Ray; mark it `ray`, or test the core")


class _RayWithoutInit(MetaPathFinder):
    """Imports Ray as usual, then takes `init` away, so that no test need import it first."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != "ray":
            return None
        spec = PathFinder.find_spec(name, path, target)
        assert spec is not None
        assert spec.loader is not None
        run = spec.loader.exec_module

        def run_then_forbid(module: Any) -> None:
            run(module)
            self.patch.setattr(module, "init", _forbidden)

        spec.loader.exec_module = run_then_forbid  # type: ignore[method-assign]
        return spec


@pytest.fixture(autouse=True)
def _no_cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.node.get_closest_marker("ray") or request.node.get_closest_marker("demo"):
        yield
        return
    if "ray" in sys.modules:
        monkeypatch.setattr(sys.modules["ray"], "init", _forbidden)
    else:
        monkeypatch.setattr(sys, "meta_path", [_RayWithoutInit(monkeypatch), *sys.meta_path])
    yield


@pytest.fixture(autouse=True)
def _no_ambient_config(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UNDRIFT_CONFIG", "UNDRIFT_TOKEN"):
        monkeypatch.delenv(name, raising=False)

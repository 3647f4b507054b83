"""Every example through the whole platform: served, drifted, retrained, swapped, better."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.examples import NAMES, prepared, told
from tests.ray.running import free_port

pytestmark = [pytest.mark.demo, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("name", NAMES)
def test_loop_of_an_example_closes_and_pays(name: str, tmp_path: Path) -> None:
    folder, port = prepared(name, tmp_path), f"serve.port={free_port()}"
    found = told(folder, "demo", "--config", "undrift.yaml", "--pace", "100", "--set", port)
    assert found["counts"]["promoted"] >= 1
    assert found["failed_requests"] == 0
    last = found["fifths"][-1]
    assert last["ours"] > last["frozen"] + 0.2

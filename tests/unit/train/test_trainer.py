"""The trainer's actor in this process, without Ray."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import cast

import pytest

from undrift.model.settings import ModelSettings
from undrift.train.actor import SESSION_FILE, TrainerActor
from undrift.train.settings import TrainSettings


async def start(state: Path) -> TrainerActor:
    model = cast("ModelSettings", None)  # only a session needs it
    return TrainerActor(state, TrainSettings(), model, state, 100, mixed=False)


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"placement_group": 3}'])
def test_damaged_record_of_a_session_counts_as_none_with_a_word(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.run(start(tmp_path / "state"))
    record = tmp_path / "state" / SESSION_FILE
    record.write_text(damage, encoding="utf-8")
    asyncio.run(start(tmp_path / "state"))
    assert not record.exists()
    assert "training.json is damaged" in caplog.text


def test_record_of_a_session_is_written_whole_beside_what_only_its_owner_reads(
    tmp_path: Path,
) -> None:
    async def body() -> None:
        (await start(tmp_path / "state")).join("s", "ab" * 18)

    asyncio.run(body())
    state = tmp_path / "state"
    assert json.loads((state / SESSION_FILE).read_text())["session"] == "s"
    assert not list(state.glob(".tmp-*"))
    assert stat.S_IMODE(state.stat().st_mode) == 0o700

"""A replay that was made elsewhere is the same here."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from pydantic_core import from_json, to_json
from rich.console import Console

from tests.helpers.tuning import LAG, project, turning
from undrift.errors import PlatformError
from undrift.replay.run import ReplayOptions, main
from undrift.replay.travel import pack, unpack
from undrift.replay.views import replay_view


@pytest.mark.thorough
def test_replay_is_told_here_as_there(tmp_path: Path) -> None:
    live = turning().live
    lines = [
        f"{a:.5f},{b:.5f},{('no', 'yes')[y]}" for (a, b), y in zip(live.x, live.y, strict=True)
    ]
    data, picture = tmp_path / "t.csv", tmp_path / "there.svg"
    data.write_text("\n".join(["a,b,y", *lines]) + "\n", encoding="utf-8")
    options = ReplayOptions(config=project(tmp_path), data=data, label="y", lag=LAG, plot=picture)
    there = main(options, Console(file=StringIO()))
    assert any(entry.kind == "drift" for entry in there.timeline.entries)
    sent = from_json(to_json(pack(there, picture), inf_nan_mode="constants"))
    here = unpack(sent, "", tmp_path / "here.svg")
    assert here.to_dict() == there.to_dict()
    assert (tmp_path / "here.svg").read_bytes() == picture.read_bytes()
    for found in (here, there):
        Console(file=StringIO()).print(replay_view(found))
    assert unpack(sent, "mine.csv", None).source == "mine.csv"


def test_what_is_no_replay_is_told() -> None:
    with pytest.raises(PlatformError):
        unpack({"source": "x"}, "", None)

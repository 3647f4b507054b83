"""One play: what counts before and after the split, and what is remembered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.tuning import LAG, ROWS, SPLIT, TURN, history, turning
from undrift.config import load_config
from undrift.errors import ConfigError
from undrift.replay.loop import simulate
from undrift.replay.training import Trainer
from undrift.streams.stream import UNKNOWN
from undrift.tune.history import History, split_at
from undrift.tune.play import Memory, Play, Take, frozen_tally, play


def short(folder: Path) -> History:
    return history(folder, rows=250, split=200)


def same(first: Play, second: Play) -> bool:
    """Compare all but the seconds."""
    parts = ((p.search, p.held_out) for p in (first, second))
    return len({tuple(t and replace(t, training_s=0.0) for t in each) for each in parts}) == 1


def test_play_finds_the_turn_retrains_and_is_right_again(tmp_path: Path) -> None:
    found = play(history(tmp_path), Take({}, whole=True))
    assert found.search is not None
    assert found.held_out is not None
    assert found.search.labelled == SPLIT - LAG
    assert found.held_out.labelled == ROWS - SPLIT
    assert found.search.drifts >= 1
    assert found.search.promotions >= 1
    assert found.search.training_s > 0
    assert found.held_out.accuracy > 0.85
    assert frozen_tally(history(tmp_path)).accuracy < 0.15


@pytest.mark.thorough
def test_seed_zero_plays_as_replay_does(tmp_path: Path) -> None:
    past = history(tmp_path)
    config = load_config(past.config)
    shelf = past.shelf(config)
    told = simulate(
        past.stream,
        shelf,
        Trainer(shelf, config.train, config.monitor.min_reference_rows),
        monitor=config.monitor,
        lifecycle=config.lifecycle,
        train=config.train,
        pace=past.pace,
        mixes=config.serve.mixes,
    )
    found = play(past, Take({}, whole=True))
    right = int((told.predicted == past.stream.live.y)[SPLIT:].sum())
    assert found.held_out is not None
    assert found.held_out.right == right


@pytest.mark.thorough
def test_search_sees_nothing_after_the_split(tmp_path: Path) -> None:
    past = history(tmp_path)
    y = past.stream.live.y.copy()
    y[SPLIT:] ^= 1
    other = replace(past, stream=replace(past.stream, live=replace(past.stream.live, y=y)))
    assert same(play(past, Take({})), play(other, Take({})))
    assert not same(play(past, Take({}, whole=True)), play(other, Take({}, whole=True)))


def test_labels_that_came_after_the_split_do_not_count_before_it(tmp_path: Path) -> None:
    known = history(tmp_path).known(held_out=False)
    assert np.flatnonzero(known)[-1] == SPLIT - LAG - 1
    assert not (known & history(tmp_path).known(held_out=True)).any()


@pytest.mark.thorough
def test_part_before_the_split_is_the_same_whether_played_on_or_not(tmp_path: Path) -> None:
    past = history(tmp_path)
    short, whole = play(past, Take({})), play(past, Take({}, whole=True))
    assert same(short, replace(whole, held_out=None))


@pytest.mark.thorough
def test_settings_and_seed_make_a_difference(tmp_path: Path) -> None:
    past = history(tmp_path)
    plays = [
        play(past, Take({"train.steps": steps}, seed, whole=True))
        for steps, seed in (("50", 0), ("70", 0), ("50", 1))
    ]
    assert not any(same(plays[0], other) for other in plays[1:])


def test_settings_that_cannot_be_played_come_back_as_an_error(tmp_path: Path) -> None:
    past = history(tmp_path)
    take = Take({"monitor.join_window_rows": "200"})  # below label_lag_rows
    for found in (play(past, take), Memory(tmp_path / "plays", past).play(take)):
        assert found.search is None
        assert "join_window_rows (200) must be at least" in found.error


def test_play_is_remembered_with_its_seconds(tmp_path: Path) -> None:
    past = short(tmp_path)
    first = Memory(tmp_path / "plays", past).play(Take({"train.steps": "20"}))

    def forbidden(_: int) -> None:
        raise AssertionError("played again")

    again = Memory(tmp_path / "plays", past).play(Take({"train.steps": "20"}), forbidden)
    assert again == first


@pytest.mark.parametrize(
    "other", ["seed", "whole", "settings", "config", "weights", "labels", "pace", "split"]
)
def test_what_a_play_depends_on_is_not_confused(tmp_path: Path, other: str) -> None:
    past = short(tmp_path)
    Memory(tmp_path / "plays", past).play(Take({}))
    take = {
        "seed": Take({}, 1),
        "whole": Take({}, whole=True),
        "settings": Take({"train.steps": "20"}),
    }.get(other, Take({}))
    if other == "config":
        text = past.config.read_text(encoding="utf-8").replace("steps: 100", "steps: 99")
        past.config.write_text(text, encoding="utf-8")
    elif other == "weights":
        path = past.config.parent / "weights.safetensors"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    elif other == "labels":
        late = replace(past.stream, label_at=past.stream.label_at + 1)
        past = replace(past, stream=late)
    elif other == "pace":
        past = replace(past, pace=replace(past.pace, training_s=0.6))
    elif other == "split":
        past = replace(past, split=199)
    Memory(tmp_path / "plays", past).play(take)
    assert len(list((tmp_path / "plays").glob("*.json"))) == 2


def test_remembered_settings_that_say_what_the_file_says_are_one_play(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "plays", short(tmp_path))
    assert memory.play(Take({})) == memory.play(Take({"train.steps": "100"}))


def test_split_leaves_labels_on_both_sides() -> None:
    stream = turning()
    assert split_at(stream, 0.25) == SPLIT
    y = stream.live.y.copy()
    y[SPLIT:] = UNKNOWN
    unlabelled = replace(stream, live=replace(stream.live, y=y))
    with pytest.raises(ConfigError, match="0 after it; each part needs 100"):
        split_at(unlabelled, 0.25)
    assert TURN < SPLIT

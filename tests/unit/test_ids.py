"""Whole numbers of an input may be ids: nothing measures a distance between them."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from tests.helpers.retraining import CHANGE, SETTINGS, world
from tests.helpers.rows import joined, predictions
from undrift.config import Config
from undrift.errors import ConfigError
from undrift.evidence import DriftKind, Level
from undrift.model.door import Door
from undrift.model.layout import Layout
from undrift.monitor.challengers.challengers import Challengers
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.signals.input import InputSignal
from undrift.records import Predictions, Reference
from undrift.replay.sources import stream_for
from undrift.train.heads import heads_right
from undrift.train.pool import held_out, split_pool
from undrift.train.trainee import Trainee

INPUTS: list[dict[str, Any]] = [
    {"name": "shop", "datatype": "INT64"},
    {"name": "numeric", "shape": [2]},
    {"name": "basket", "shape": [2], "datatype": "UINT8"},
]


def config(inputs: list[dict[str, Any]], **monitor: Any) -> Config:
    model = {"name": "m", "factory": "a:b", "weights": "w", "classes": 2, "inputs": inputs}
    return Config.model_validate({"model": model, "reference": "r", "monitor": monitor})


def test_configuration_tells_the_monitor_of_ids() -> None:
    assert not config([INPUTS[1]]).monitor.by_embedding
    found = config(INPUTS, accuracy_window=77).monitor
    assert pickle.loads(pickle.dumps(found)).by_embedding
    assert found.accuracy_window == 77
    assert not MonitorSettings().by_embedding


def rows(rng: np.random.Generator, n: int, first: int = 0, renamed: int = 0) -> Predictions:
    """Return rows of two ids that mean the same under new names, which the embedding knows."""
    meant = rng.normal(size=(n, 3)).astype(np.float32)
    ids = (rng.integers(0, 20, size=(n, 2)) + renamed).astype(np.float32)
    return predictions(ids, first=first, embedding=meant, output=np.full((n, 2), 0.5))


def reference(found: Predictions) -> Reference:
    n = len(found)
    return Reference(found.x, np.arange(n) % 2, found.embedding, found.output, np.ones(n, np.bool_))


@pytest.mark.parametrize(("ids", "level"), [(True, Level.NONE), (False, Level.DRIFT)])
def test_input_signal_compares_what_ids_mean(ids: bool, level: Level) -> None:
    rng, settings = np.random.default_rng(0), MonitorSettings()
    signal = InputSignal(settings.with_ids() if ids else settings)
    signal.fit(reference(rows(rng, 600)))
    signal.update(rows(rng, 600, renamed=500))
    assert signal.report().level is level


def test_challengers_know_no_ids() -> None:
    rng = np.random.default_rng(0)
    one, other = (Challengers(s) for s in (MonitorSettings().with_ids(), MonitorSettings()))
    for signal in (one, other):
        signal.fit(reference(rows(rng, 200)))
    assert other.width - one.width == 2
    found, renamed = (rows(np.random.default_rng(1), 128, renamed=k) for k in (0, 500))
    np.testing.assert_array_equal(one.note(found), one.note(renamed))
    one.update(joined(np.zeros(128, np.bool_), label=np.arange(128) % 2, notes=one.note(found)))
    mixture = one.mixture(1, worse=False)
    assert mixture is not None
    said = [mixture(r.output, r.embedding, r.x) for r in (found, renamed)]
    np.testing.assert_array_equal(*said)


@pytest.mark.thorough
def test_rows_resemble_each_other_by_their_numbers_alone() -> None:
    w, rng = world(), np.random.default_rng(0)
    ids = [1000.0 * rng.random((len(part), 1)) for part in (w.pool.x, w.pool.newest)]
    wide = replace(
        w.pool,
        x=np.hstack([w.pool.x, ids[0]]).astype(np.float32),
        newest=np.hstack([w.pool.newest, ids[1] + 5000.0]).astype(np.float32),
    )

    def weights(pool: Any, numbers: np.ndarray | None = None) -> np.ndarray:
        found = split_pool(
            pool,
            kind=DriftKind.COVARIATE,
            regime_start=CHANGE,
            settings=SETTINGS,
            seed=0,
            numbers=numbers,
        )
        return found.weight[found.row >= 0]  # what is held out of the reference goes by content

    plain = weights(w.pool)
    np.testing.assert_allclose(weights(wide, np.arange(w.pool.x.shape[1])), plain, rtol=1e-9)
    assert not np.allclose(weights(wide), plain, rtol=1e-3)
    assert (weights(wide, np.arange(0)) == 1.0).all()


def test_heads_beside_a_candidate_know_no_ids() -> None:
    w = world()
    trainee = Trainee(w.model)
    trainee.load(w.state)
    chosen = split_pool(
        w.pool, kind=DriftKind.CONCEPT, regime_start=CHANGE, settings=SETTINGS, seed=0
    )
    index = np.flatnonzero(held_out(w.pool) & (w.pool.row >= CHANGE))
    scored = trainee.score(w.pool.x)

    class Known(Trainee):
        def score(self, x: Any, *_: Any, **__: Any) -> Any:
            return scored

    layout = Layout(config(INPUTS).model.inputs)
    with_ids = Known(Door(2, layout=layout).mark(nn.Sequential(nn.Linear(2, 2))))
    noise = np.random.default_rng(0).normal(size=w.pool.x.shape).astype(np.float32)
    found = [
        heads_right(with_ids, replace(w.pool, x=x), chosen, index, CHANGE)
        for x in (w.pool.x, noise)
    ]
    np.testing.assert_array_equal(*found)


TABLE = "shop,a,b,first,second,label\n" + "".join(
    f"{2**40 + i % 7},{i % 5 / 2},{i % 3},{i % 4},{i % 11},{i % 2}\n" for i in range(40)
)


def test_columns_of_a_table_are_the_inputs_in_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(TABLE)
    found = config(INPUTS, features=["shop", "a", "b", "first", "second"])
    stream = stream_for(found, path, "label", 5)
    i = np.arange(40)
    arrays = {
        "shop": 2**40 + i % 7,
        "numeric": np.stack([i % 5 / 2, i % 3], axis=1),
        "basket": np.stack([i % 4, i % 11], axis=1),
    }
    np.testing.assert_array_equal(stream.live.x, Layout(found.model.inputs).pack(arrays))
    other = config(INPUTS, features=["second", "first", "b", "a", "shop"])
    with pytest.raises(ConfigError, match=r"1099511627776\.0 in row \d+ of 'basket' is not UINT8"):
        stream_for(other, path, "label", 5)
    with pytest.raises(ConfigError, match=r"0\.5 in row \d+ of 'shop' is not INT64"):
        stream_for(config(INPUTS, features=["a", "b", "first", "second", "b"]), path, "label", 5)

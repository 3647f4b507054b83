from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.streams import Stream
from undrift.errors import ConfigError
from undrift.evidence import Level
from undrift.model.layout import Layout
from undrift.model.settings import InputSettings
from undrift.monitor.base import Measures
from undrift.monitor.join import Joined, LabelJoin
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.signals.segments import Segments
from undrift.records import Labels, Predictions, Reference

FEATURES = ("age", "site", "b", "c", "d", "e")


def settings(*segments: str | int, **more: int) -> MonitorSettings:
    return MonitorSettings.model_validate({"features": FEATURES, "segments": segments} | more)


class Sites(Stream):
    """The stream of :class:`Stream` with a column ``site`` of 1, 2 and 3, independent of labels."""

    def take(
        self, n: int, *, shift: float = 0.0, flipped: float = 0.0, version: int = 1
    ) -> tuple[Predictions, Labels]:
        rows, labels = super().take(n, shift=shift, flipped=flipped, version=version)
        rows.x[:, 1] = self.rng.integers(1, 4, n)
        return rows, labels

    def bad_site(self, n: int, site: int) -> tuple[Predictions, Labels]:
        """Rows whose labels are inverted on one site."""
        rows, labels = self.take(n)
        there = rows.x[:, 1] == site
        return rows, replace(labels, label=np.where(there, 1 - labels.label, labels.label))


def reference(n: int = 900, seed: int = 99) -> Reference:
    rows, labels = Sites(seed).take(n)
    recent = np.ones(n, dtype=np.bool_)
    return Reference(rows.x, labels.label, rows.embedding, rows.output, recent)


def fitted(*segments: str | int, seed: int = 99) -> Segments:
    found = Segments(settings(*segments))
    found.fit(reference(seed=seed))
    return found


def joined(segments: Segments, rows: Predictions, labels: Labels) -> Joined:
    join = LabelJoin(max(len(rows), 1))
    other = np.full((len(rows), 3), 7.0, dtype=np.float32)  # what the performance signal noted
    join.add(rows, np.hstack([other, segments.note(rows)]))
    return join.label(labels)[0]


def feed(segments: Segments, rows: Predictions, labels: Labels) -> None:
    segments.count(segments.note(rows))
    segments.update(joined(segments, rows, labels))


def test_few_values_are_a_segment_each_and_many_are_cut_at_quartiles() -> None:
    segments = fitted("site", 0)
    low, middle, high = (f"{q:.6g}" for q in np.quantile(reference().x[:, 0], [0.25, 0.5, 0.75]))
    assert [r.name for r in segments.report()] == [
        "site=1",
        "site=2",
        "site=3",
        f"age<={low}",
        f"{low}<age<={middle}",
        f"{middle}<age<={high}",
        f"age>{high}",
    ]
    rows, labels = Sites(1).take(4_000)
    feed(segments, rows, labels)
    counts = np.array([r.rows for r in segments.report()])
    assert counts[:3].tolist() == [int(np.sum(rows.x[:, 1] == site)) for site in (1, 2, 3)]
    assert counts[3:].sum() == 4_000
    assert (np.abs(counts[3:] - 1_000) < 150).all()
    assert [r.labelled for r in segments.report()] == counts.tolist()


def test_column_without_a_name_is_called_by_its_number() -> None:
    segments = Segments(MonitorSettings(segments=(1,)))
    segments.fit(reference())
    assert [r.name for r in segments.report()] == ["x[1]=1", "x[1]=2", "x[1]=3"]


def test_name_and_number_of_one_column_are_one_segmentation() -> None:
    assert len(fitted("site", 1).report()) == 3


def test_fall_of_accuracy_on_one_site_is_drift_there_alone() -> None:
    for seed in range(3):
        stream = Sites(seed)
        segments = fitted("site", seed=100 + seed)
        feed(segments, *stream.take(1_500))
        assert segments.level is Level.NONE
        assert segments.changes() == ()
        feed(segments, *stream.bad_site(600, 2))
        one, two, three = segments.report()
        assert (one.level, two.level, three.level) == (Level.NONE, Level.DRIFT, Level.NONE)
        assert two.change_row is not None
        assert abs(two.change_row - 1_500) < 100
        assert two.accuracy_now is not None
        assert two.accuracy_before > 0.75
        assert two.accuracy_now < 0.35
        (change,) = segments.changes()
        assert (change.what, change.name, change.measure) == ("segment", "site=2", "accuracy")
        assert change.effect == pytest.approx(change.now - change.before)
        assert change.now == two.accuracy_now


def test_value_that_the_reference_lacks_is_other_and_held_to_the_whole() -> None:
    segments = fitted("site", "age")
    stream = Sites(2)
    rows, labels = stream.take(400)
    rows.x[:200, 1] = 8.0
    rows.x[200:, 1] = np.nan
    rows.x[:5, 0] = np.nan
    wrong = replace(labels, label=1 - rows.output.argmax(axis=1))
    feed(segments, rows, wrong)
    found = {r.name: r for r in segments.report()}
    assert (found["site=other"].rows, found["age=other"].rows) == (400, 5)
    assert found["site=1"].rows == 0
    assert found["site=1"].accuracy_now is None
    whole = np.mean(reference().output.argmax(axis=1) == reference().y)
    assert found["site=other"].accuracy_before == pytest.approx(whole)
    assert found["site=other"].level is Level.DRIFT


def test_constant_column_is_one_segment() -> None:
    flat = reference()
    flat.x[:, 1] = 5.0
    segments = Segments(settings("site"))
    segments.fit(flat)
    assert [r.name for r in segments.report()] == ["site=5"]


def test_column_of_mostly_one_value_has_fewer_quarters() -> None:
    mostly = reference()
    mostly.x[:, 0] = np.where(mostly.x[:, 0] < 1.0, 0.0, mostly.x[:, 0])
    segments = Segments(settings("age"))
    segments.fit(mostly)
    names = [r.name for r in segments.report()]
    assert names[0] == "age<=0"
    assert names[-1] == "age>0"


def test_segments_together_keep_the_budget() -> None:
    budget, alarms, seen = 500, 0, 0
    for seed in range(12):
        stream = Sites(seed)
        segments = Segments(settings("site", "age", rows_per_false_drift=budget))
        segments.fit(reference(300, seed=200 + seed))
        for _ in range(10):
            feed(segments, *stream.take(100))
            seen += 100
            if segments.level is Level.DRIFT:
                alarms += 1
                break
    assert alarms >= 1
    assert seen / alarms >= 0.7 * budget


def test_cut_into_ticks_and_shards_change_nothing() -> None:
    stream = Sites(3)
    parts = [stream.take(500), stream.bad_site(700, 3)]
    rows = Predictions.concat([p for p, _ in parts])
    labels = Labels.concat([found for _, found in parts])
    whole, pieces, folded = (fitted("site", "age") for _ in range(3))
    feed(whole, rows, labels)
    cuts = np.sort(np.random.default_rng(0).choice(np.arange(1, 1_200), 60, replace=False))
    for index in np.split(np.arange(1_200), cuts):
        part = rows.take(index)
        feed(pieces, part, Labels(part.ids, labels.label[index], part.at))
    shards = []
    for shard in range(4):
        part = rows.take(np.arange(1_200) % 4 == shard)
        mine = Labels(part.ids, labels.label[shard::4], part.at)
        shards.append(folded.measure(joined(folded, part, mine)))
        folded.count(folded.note(part))
    folded.advance(Measures.merge(shards))
    assert whole.level is Level.DRIFT
    assert pieces.report() == folded.report() == whole.report()


def test_saved_and_loaded_mid_stream_decides_alike() -> None:
    stream = Sites(4)
    segments = fitted("site", "age")
    feed(segments, *stream.take(700))
    loaded = Segments(settings("site", "age"))
    loaded.load(segments.state())
    assert loaded.report() == segments.report()
    for size in (1, 90, 500):
        rows, labels = stream.bad_site(size, 1)
        feed(segments, rows, labels)
        feed(loaded, rows, labels)
        assert loaded.report() == segments.report()
    assert segments.level is Level.DRIFT
    for name, value in segments.state().items():
        np.testing.assert_array_equal(value, loaded.state()[name])


def test_refit_forgets_the_stream() -> None:
    segments = fitted("site")
    feed(segments, *Sites(5).bad_site(900, 1))
    segments.fit(reference())
    assert segments.report() == fitted("site").report()


def test_without_configured_segments_there_are_none() -> None:
    segments = Segments(MonitorSettings())
    picture = replace(reference(), x=np.zeros((900, 1, 4, 4), dtype=np.float32))
    assert segments.fit(picture).notes == ()
    rows, labels = Sites(6).take(50)
    assert segments.note(rows).shape == (50, 0)
    feed(segments, rows, labels)
    assert (segments.report(), segments.changes(), segments.level) == ((), (), Level.NONE)
    loaded = Segments(MonitorSettings())
    loaded.load(segments.state())
    assert loaded.report() == ()


def test_segment_with_few_reference_rows_is_told() -> None:
    few = reference()
    few.x[:, 1] = np.where(np.arange(900) < 7, 4.0, 1.0)
    segments = Segments(settings("site"))
    (note,) = segments.fit(few).notes
    assert "fewer than 30 reference rows" in note
    assert note.endswith("site=4 (7)")


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ("sight", r"'sight' is not among the names of monitor.features: age, site, b, c, d, e"),
        (-1, "columns count from 0"),
        (6, r"column 6 asked for, but an input of the model has shape \(6,\)"),
    ],
)
def test_segment_that_is_no_column_is_refused(segment: str | int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fitted(segment)


def test_segments_of_pictures_are_refused() -> None:
    segments = Segments(settings("site"))
    picture = replace(reference(), x=np.zeros((900, 1, 4, 4), dtype=np.float32))
    with pytest.raises(ConfigError, match=r"shape \(1, 4, 4\); segments are columns of a one-"):
        segments.fit(picture)


BIG = 5 * 2**24
LARGE = (3, BIG + 3, -BIG + 3, 2**40 + 3)  # alike in their lowest digit


def of_large_numbers(n: int = 1200, bad: int | None = None) -> tuple[Segments, Reference]:
    """Segments of a whole number, whose values differ in their higher digits alone."""
    inputs = (
        InputSettings(name="site", datatype="INT64"),
        InputSettings(name="rest", shape=(2,)),
    )
    rng, layout = np.random.default_rng(1), Layout(inputs)
    site = np.array(LARGE)[np.arange(n) % len(LARGE)]
    x = layout.pack({"site": site, "rest": rng.normal(size=(n, 2))})
    rows, labels = Stream(7).take(n)
    label = np.where(site == bad, 1 - labels.label, labels.label)
    recent = np.ones(n, dtype=np.bool_)
    own = MonitorSettings(features=("site", "a", "b"), segments=("site",))
    found = Segments(own.with_ids(layout.digits()))
    return found, Reference(x, label, rows.embedding, rows.output, recent)


def test_large_whole_numbers_are_told_apart_by_all_of_their_digits() -> None:
    segments, reference = of_large_numbers(bad=LARGE[1])
    segments.fit(reference)
    found = {r.name: r.accuracy_before for r in segments.report()}
    assert list(found) == [f"site={value}" for value in sorted(LARGE)]
    assert found.pop(f"site={LARGE[1]}") < 0.5 < min(found.values())


def test_higher_digits_are_no_columns() -> None:
    _, reference = of_large_numbers()
    digits = Layout((InputSettings(name="site", datatype="INT64"),)).digits()
    other = Segments(MonitorSettings(segments=(3,)).with_ids({0: (3, 4)}))
    assert digits == {0: (1, 2)}
    with pytest.raises(ConfigError, match="column 3 asked for"):
        other.fit(reference)

"""A start from a snapshot leads to where a replay of the whole journal leads."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.helpers.controlling import controlling, until
from tests.helpers.recording import two_versions
from tests.unit.control.test_walk import SETTINGS, World
from undrift.control import memory as module
from undrift.control import snapshot
from undrift.control.actor import ControllerActor
from undrift.control.lifecycle import initial, step
from undrift.control.memory import Memory
from undrift.control.settings import LifecycleSettings
from undrift.control.state import State
from undrift.control.story import FIRST_VERSION, Story, recover
from undrift.errors import IllegalTransitionError, StoreError
from undrift.events import Codec, Configured, PauseRequested, ResumeRequested
from undrift.store.blobs import Blobs
from undrift.store.journal import EVENTS, TOLD, Journal
from undrift.store.place import Where
from undrift.store.root import open_root
from undrift.store.tables import Table


def life(seed: int) -> Iterator[dict[str, Any]]:
    """Yield what a journal of a random life holds."""
    world, state = World(random.Random(seed)), initial(SETTINGS, FIRST_VERSION)
    while True:
        event = world.event(state)
        try:
            outcome = step(state, event)
        except IllegalTransitionError:
            continue
        if outcome.state != state or outcome.instructions:
            yield json.loads(json.dumps(Codec.encode(event)))
        state = outcome.state


def write(root: Where, records: list[dict[str, Any]], first: int = 0) -> None:
    """Append many events at once."""
    rows = [
        {"seq": seq, "at": 0.0, "type": r["type"], "run_id": "", "cause": "", "body": json.dumps(r)}
        for seq, r in enumerate(records, first)
    ]
    table = Table(open_root(root) / "tables" / EVENTS)
    table.append(rows[-1]["seq"], pa.Table.from_pylist(rows))


def plain(state: State, story: Story) -> dict[str, Any]:
    """Return all that is remembered, but for how many of the newest events are in memory."""
    packed: dict[str, Any] = json.loads(json.dumps(snapshot.pack(state, story)))
    del packed["story"]["entries"]
    return packed


def told(memory: Memory, story: Story, limit: int) -> list[dict[str, Any]]:
    """Read all that was told by pages."""
    found: list[dict[str, Any]] = []
    after, more = 0, True
    while more:
        page = memory.page(story, after, limit)
        found += [json.loads(json.dumps(asdict(entry))) for entry in page.events]
        after, more = page.next, page.more
    return found


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the types of the events that are folded."""
    seen: list[str] = []
    follow = Story.follow

    def counted(self: Story, state: State, record: dict[str, Any]) -> State:
        seen.append(record["type"])
        return follow(self, state, record)

    monkeypatch.setattr(Story, "follow", counted)
    return seen


SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 4))]


@pytest.mark.parametrize("seed", SEEDS)
def test_any_snapshot_and_the_rest_lead_to_where_the_whole_journal_leads(
    root: Where, monkeypatch: pytest.MonkeyPatch, folded: list[str], seed: int
) -> None:
    monkeypatch.setattr(module, "PAGE", 16)
    monkeypatch.setattr(module, "EVERY", 1)
    rng, records, source = random.Random(seed), [], life(seed)
    for _ in range(4):
        begin = len(records)
        records += [next(source) for _ in range(rng.randrange(1, 300))]
        write(root, records[begin:], begin)
        memory = Memory(root, SETTINGS)
        folded.clear()
        state, story = memory.recall()
        assert len(folded) == len(records) - begin
        expected, whole = recover(records, SETTINGS)
        assert state == expected
        assert plain(state, story) == plain(expected, whole)
        assert len(story.entries) <= 2 * 16 or story.told < 2 * 16
        known = [json.loads(json.dumps(asdict(entry))) for entry in whole.entries]
        assert told(memory, story, rng.randrange(40, 400)) == known
        assert [e.seq for e in story.entries] == list(
            range(story.told - len(story.entries) + 1, story.told + 1)
        )


def kept(root: Path, count: int = 600) -> list[dict[str, Any]]:
    """Leave a journal and a snapshot of all of it."""
    source = life(3)
    records = [next(source) for _ in range(count)]
    write(root, records)
    Memory(root, SETTINGS).recall()
    assert Blobs(root).load(module.SNAPSHOT) is not None
    return records


def change(root: Path, **values: Any) -> None:
    found = Blobs(root).load(module.SNAPSHOT)
    assert found is not None
    Blobs(root).save(module.SNAPSHOT, {}, {**found[1], **values})


def cut(root: Path) -> None:
    path = root / "blobs" / "lifecycle.npz"
    path.write_bytes(path.read_bytes()[:-100])


def lose_field(root: Path) -> None:
    found = Blobs(root).load(module.SNAPSHOT)
    assert found is not None
    state = dict(found[1]["state"])
    del state["attempts"]
    change(root, state=state)


def lose_pages(root: Path) -> None:
    (root / "tables" / TOLD).rename(root / "lost")


UNUSABLE = {
    "missing": lambda root: (root / "blobs" / "lifecycle.npz").unlink(),
    "empty": lambda root: (root / "blobs" / "lifecycle.npz").write_bytes(b""),
    "cut": cut,
    "of an older format": lambda root: change(root, format=0),
    "of a newer format": lambda root: change(root, format=99, new="field"),
    "of another shape": lose_field,
    "ahead of the journal": lambda root: change(root, seq=5000),
    "of another journal": lambda root: change(root, seq=7),
    "without its pages": lose_pages,
}


@pytest.mark.parametrize("how", UNUSABLE)
def test_snapshot_that_cannot_be_used_costs_a_whole_replay_and_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folded: list[str], how: str
) -> None:
    monkeypatch.setattr(module, "PAGE", 32)
    records = kept(tmp_path)
    UNUSABLE[how](tmp_path)
    folded.clear()
    memory = Memory(tmp_path, SETTINGS)
    state, story = memory.recall()
    assert len(folded) == len(records)
    expected, whole = recover(records, SETTINGS)
    assert (state, memory.trouble) == (expected, "")
    assert len(told(memory, story, 1000)) == whole.told
    folded.clear()
    assert Memory(tmp_path, SETTINGS).recall()[0] == expected
    assert folded == []  # another snapshot was made


def test_snapshot_with_any_byte_changed_is_noticed(tmp_path: Path) -> None:
    records = kept(tmp_path)
    expected, _ = recover(records, SETTINGS)
    path = tmp_path / "blobs" / "lifecycle.npz"
    whole, rng = path.read_bytes(), random.Random(zlib.crc32(b"undrift"))
    memory = Memory(tmp_path, SETTINGS)
    ends = [*range(40), *range(len(whole) - 120, len(whole))]  # what zip says of the file
    for at in [*ends, *rng.sample(range(len(whole)), 40)]:
        broken = bytearray(whole)
        broken[at] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        found = memory._snapshot()
        assert found is None or found[1] == expected


def test_long_journal_is_not_folded_again_at_the_next_start(
    tmp_path: Path, folded: list[str]
) -> None:
    kept(tmp_path, 3_000)
    folded.clear()
    _, story = Memory(tmp_path, SETTINGS).recall()
    assert folded == []
    assert len(story.entries) < 2 * module.PAGE < story.told
    size = (tmp_path / "blobs" / "lifecycle.npz").stat().st_size
    kinds = (PauseRequested, ResumeRequested) * module.EVERY
    write(tmp_path, [Codec.encode(kind(at=1e6)) for kind in kinds], 3_000)
    Memory(tmp_path, SETTINGS).recall()
    assert (tmp_path / "blobs" / "lifecycle.npz").stat().st_size < 2 * size


def test_snapshot_from_before_a_trigger_was_known_counts_it_from_zero(tmp_path: Path) -> None:
    packed = snapshot.pack(initial(SETTINGS, FIRST_VERSION), Story())
    known = [entry for entry in packed["story"]["retrainings"] if entry[0] != "weights"]
    assert len(known) < len(packed["story"]["retrainings"])
    packed["story"]["retrainings"] = known
    assert snapshot.unpack(packed)[1].retrainings == Story().retrainings


def test_setting_that_is_gone_stops_no_replay(tmp_path: Path) -> None:
    policy = {**SETTINGS.model_dump(), "of_old": 3}
    event = Configured(at=1.0, policy=policy, live_version=1)
    write(tmp_path, [Codec.encode(event)])
    assert Memory(tmp_path, LifecycleSettings()).recall()[0].settings == SETTINGS


def test_snapshot_that_cannot_be_written_is_told_and_stops_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVERY", 2)
    two_versions(tmp_path)
    save = Blobs.save

    def full(*_: Any) -> None:
        raise StoreError("cannot save: No space left on device")

    async def body(actor: ControllerActor) -> None:
        monkeypatch.setattr(Blobs, "save", full)
        for verb in ("pause", "resume", "pause"):
            await actor.request(verb, {})
        status = await until(actor, lambda s: "No space left" in s.failures["controller"])
        assert status.phase == "paused"
        monkeypatch.setattr(Blobs, "save", save)
        await actor.request("resume", {})
        await until(actor, lambda s: s.failures["controller"] == "")

    controlling(tmp_path, body)
    assert Blobs(tmp_path).load(module.SNAPSHOT) is not None


def test_controller_shows_what_was_told_long_ago(tmp_path: Path) -> None:
    two_versions(tmp_path)
    records = kept(tmp_path, 1_000)
    _, whole = recover(records, SETTINGS)

    async def body(actor: ControllerActor) -> None:
        page = await actor.events(0, 10)
        assert [e.text for e in page.events] == [e.text for e in whole.entries[:10]]
        assert (page.next, page.more) == (10, True)
        end = await actor.events(10**9, 10)
        assert (end.events, end.more) == ((), False)

    controlling(tmp_path, body, SETTINGS)
    assert Journal(tmp_path).read()[: len(records)] == records

"""Another version made live while nothing runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.controlling import controlling, until
from tests.helpers.recording import two_versions
from undrift.control.actor import ControllerActor
from undrift.control.offline import roll_back, way_out
from undrift.control.settings import LifecycleSettings
from undrift.control.story import recover
from undrift.errors import IllegalTransitionError, StoreError
from undrift.events import Codec, PromoteRequested, Swapped
from undrift.records import Assignment
from undrift.store.journal import Journal
from undrift.store.store import Store

POLICY = LifecycleSettings()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    two_versions(tmp_path / "state")
    return tmp_path / "state"


def damage(root: Path, version: int) -> None:
    (root / "versions" / str(version) / "model.safetensors").write_bytes(b"")


def promote(root: Path, version: int) -> None:
    for event in (
        PromoteRequested(at=1.0, version=version),
        Swapped(at=2.0, run_id="run-1", version=version),
    ):
        Journal(root).append(Codec.encode(event), event.at)


def test_next_start_serves_the_version_before(root: Path) -> None:
    promote(root, 2)
    damage(root, 2)
    assert roll_back(root, POLICY, None, at=3.0) == 1

    async def body(actor: ControllerActor) -> None:
        status = await until(actor, lambda s: s.replicas == {"r": 1})
        assert (status.live_version, status.phase) == (1, "cooldown")

    controlling(root, body, POLICY.model_copy(update={"cooldown_s": 1e12}))


def test_order_that_was_left_unfinished_is_replaced(root: Path) -> None:
    journal = Journal(root)
    journal.append(Codec.encode(PromoteRequested(at=1.0, version=1 + 1)), 1.0)
    assert roll_back(root, POLICY, 2, at=3.0) == 2
    state, _ = recover(Journal(root).read(), POLICY)
    assert (state.live, state.outstanding) == (2, ())


def test_version_that_cannot_be_read_is_refused_and_nothing_recorded(root: Path) -> None:
    damage(root, 2)
    for version, said in ((2, "is damaged"), (7, "no model version 7")):
        with pytest.raises(StoreError, match=said):
            roll_back(root, POLICY, version, at=3.0)
    assert Journal(root).read() == []


def test_refusal_names_a_version_that_can_be_read(root: Path) -> None:
    with pytest.raises(IllegalTransitionError, match=r"no previous.*rollback --offline 2$"):
        roll_back(root, POLICY, None, at=3.0)


def test_way_out_is_the_version_before_or_else_the_newest_that_can_be_read(root: Path) -> None:
    def told() -> str:
        return way_out(Store(root), recover(Journal(root).read(), POLICY)[0])

    assert told() == "to serve version 2 instead: undrift rollback --offline 2"
    promote(root, 2)
    assert told() == "to serve version 1 instead: undrift rollback --offline"
    damage(root, 1)
    assert told() == "no other version can be read"


@pytest.mark.parametrize("version", [None, 1, 2])
def test_what_was_tried_in_a_rollout_is_called_off_first(root: Path, version: int | None) -> None:
    promote(root, 2)
    asked = PromoteRequested(at=2.5, version=1, strategy="shadow")
    Journal(root).append(Codec.encode(asked), 2.5)
    if version == 2:
        with pytest.raises(IllegalTransitionError, match="already live"):
            roll_back(root, POLICY, version, at=3.0)
        return
    assert roll_back(root, POLICY, version, at=3.0) == 1
    state, _ = recover(Journal(root).read(), POLICY)
    assert (state.live, state.trial, state.assignment) == (1, None, Assignment(1))

"""Weights, references and configurations that were damaged at random: read, or refused in words."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.helpers.tuning import project
from undrift.config import load_config
from undrift.errors import ConfigError, ModelError
from undrift.model.artifacts import load_reference
from undrift.model.network import check_state_dict, load_safetensors

TOKENS = [b"\xff", b"\0", b"\n", b": ", b"- ", b"{", b"[", b"*a", b"&a", b"<<: ", b"1e999", b"\t"]
TOKENS += [b"'", b'"', b"#", b"null", b"-1", b"true", b"9" * 21, b"%", b"\xe2\x80\xa8"]
TOKENS += [b"!!python/object/apply:os.getcwd []"]
Look = Callable[[Path], object]


def damaged(data: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0:
                data = data[:at] + rng.choice(TOKENS) + data[at:]
            case 1:
                data = data[:at] + data[at + rng.randint(1, 40) :]
            case 2:
                data = data[:at] + data[max(0, at - 30) : at] * rng.randint(1, 3) + data[at:]
            case 3:
                data = data[: rng.randrange(len(data) + 1)]
            case _:
                data = bytes(rng.randrange(256) if rng.random() < 0.01 else b for b in data)
    return data


def weights(folder: Path) -> tuple[Path, Look]:
    model = torch.nn.Linear(3, 2)
    path = folder / "weights.safetensors"
    save_file(model.state_dict(), path)
    return path, lambda found: check_state_dict(model, load_safetensors(found))


def reference(folder: Path) -> tuple[Path, Look]:
    path = folder / "reference.npz"
    rng = np.random.default_rng(0)
    np.savez(path, x=rng.normal(size=(20, 2)), y=rng.integers(0, 2, 20), row=np.arange(20))
    return path, lambda found: load_reference(found, (2,), 2)


def configuration(folder: Path) -> tuple[Path, Look]:
    return project(folder), load_config


def told(path: Path, refusal: Exception) -> None:
    assert path.name in str(refusal) or "do not fit" in str(refusal), refusal


def look(folder: Path, kind: Callable[[Path], tuple[Path, Look]], seeds: range) -> None:
    path, read = kind(folder)
    whole = path.read_bytes()
    for seed in seeds:
        path.write_bytes(damaged(whole, random.Random(seed)))
        try:
            read(path)
        except (ConfigError, ModelError) as refusal:
            told(path, refusal)


KINDS = [weights, reference, configuration]


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_file_is_read_or_refused(
    kind: Callable[[Path], tuple[Path, Look]], tmp_path: Path
) -> None:
    look(tmp_path, kind, range(150))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_damaged_files_are_read_or_refused(
    kind: Callable[[Path], tuple[Path, Look]], tmp_path: Path
) -> None:
    look(tmp_path, kind, range(1_000, 11_000))

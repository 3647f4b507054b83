"""Model versions: weights, reference sample and manifest, immutable once they exist."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import safe_open

from undrift.errors import StoreError
from undrift.records import Reference
from undrift.store.files import explained, locked, make_folder, sync, write_file
from undrift.store.place import Where, read_json

if TYPE_CHECKING:
    import torch

WEIGHTS = "model.safetensors"
REFERENCE = "reference.safetensors"
MANIFEST = "manifest.json"
CHOICES = "bandit_log.parquet"
CONDITIONS = "conditions"  # among the metrics: what has to be the same to train it again
_TEMPORARY = ".tmp-"
_NEWEST = "newest."  # of a reference's newest rows


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is known of one model version.

    Attributes:
        version: Number of the version, counted from 1.
        hash: SHA-256 of the weights file, in hexadecimal.
        parent: Version that it was trained from, None for the first.
        created_at: When it was stored, Unix seconds.
        run_id: Run that made it; empty if no run did.
        metrics: Measurements of the run and of its gate, plain JSON values.
        plan: The retraining plan, plain JSON values; None if there was no retraining.
        tables: Last commit of each table that it was trained on.
        bandit_log_hash: SHA-256 of the file of the bandits' choices; empty if there is none.
        reference_hash: SHA-256 of the reference sample; empty if it lies in a folder.
    """

    version: int
    hash: str
    parent: int | None
    created_at: float
    run_id: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] | None = None
    tables: dict[str, int] = field(default_factory=dict)
    bandit_log_hash: str = ""
    reference_hash: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        found = asdict(self)
        if not self.reference_hash:
            del found["reference_hash"]  # which earlier releases do not know
        return found

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Manifest:
        """Return the manifest that `to_dict` described."""
        return Manifest(**data)

    def hash_of(self, name: str) -> str:
        """Return the SHA-256 of a file of the version; empty if it is not known."""
        return {
            WEIGHTS: self.hash,
            REFERENCE: self.reference_hash,
            CHOICES: self.bandit_log_hash,
        }[name]


class Versions:
    """The directory of versions; several processes may add to it.

    Args:
        path: The directory; created if missing. What an interrupted `add` left is removed.
        read_only: Whether to do neither.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._lock = path / ".lock"
        self._manifests: dict[int, tuple[int, Manifest]] = {}  # read, with their file's time
        if read_only:
            return
        with explained("prepare the versions in", path):
            make_folder(path)
            if any(path.glob(_TEMPORARY + "*")):
                with locked(self._lock):
                    self._remove_interrupted()

    def add(
        self,
        state_dict: Mapping[str, torch.Tensor],
        reference: Reference,
        draft: Manifest,
        choices: Mapping[str, NDArray[Any]] | None = None,
        *,
        once: bool = False,
    ) -> Manifest:
        """Store a version: all of it, or after a crash nothing.

        Args:
            state_dict: The weights.
            reference: Its reference sample.
            draft: Its manifest, but for number and hashes. If it names a run that has a version
                already, that version's manifest is returned and nothing is stored.
            choices: What the bandits of its run chose, by column.
            once: Whether a version with the same weights, if there is one, stands for it.

        Raises:
            StoreError: The disk refuses.
        """
        with explained("store a version in", self._path), locked(self._lock):
            for done in self.all() if draft.run_id else []:
                if done.run_id == draft.run_id:
                    return done
            self._remove_interrupted()
            temporary = self._path / f"{_TEMPORARY}{os.getpid()}"
            temporary.mkdir()
            written = write_files(temporary, state_dict, reference, draft, choices)
            for same in self.all() if once else []:
                if same.hash == written.hash:
                    shutil.rmtree(temporary)
                    return same
            number = self._newest() + 1
            manifest = replace(written, version=number, reference_hash="")
            write_file(temporary / MANIFEST, json.dumps(manifest.to_dict(), indent=2).encode())
            os.rename(temporary, self._path / str(number))
            sync(self._path)
        return manifest

    def drop(self, version: int) -> None:
        """Remove a version, all but its manifest, which then lies beside the others.

        Raises:
            StoreError: There is no such version, or the disk refuses.
        """
        path = self._path / str(version)
        with explained("drop the version", path), locked(self._lock):
            write_file(self._left(version), self._file(version, MANIFEST).read_bytes())
            temporary = self._path / f"{_TEMPORARY}dropped-{version}"
            os.rename(path, temporary)
            sync(self._path)
            shutil.rmtree(temporary)

    def _left(self, version: int) -> Path:
        return self._path / f"{version}.dropped.json"

    def numbers(self) -> list[int]:
        """Return the numbers of all versions, ascending."""
        with explained("list the versions in", self._path):
            return sorted(int(p.name) for p in self._path.iterdir() if p.name.isdecimal())

    def all(self) -> list[Manifest]:
        """Return the manifests of all versions that are not `damaged`, oldest first."""
        numbers = self.numbers()
        for gone in self._manifests.keys() - set(numbers):
            self._manifests.pop(gone, None)
        return [self.manifest(number) for number in numbers if not self._damage(number)]

    def damaged(self) -> dict[int, str]:
        """Return what is wrong with each version of which a file is gone, torn or unreadable.

        What takes a look at every byte, `weights_path` finds when the version is asked for.
        """
        found = {number: self._damage(number) for number in self.numbers()}
        return {number: told for number, told in found.items() if told}

    def _damage(self, version: int) -> str:
        try:
            self.manifest(version)
            for name in (WEIGHTS, REFERENCE):
                path = self._file(version, name)
                with explained("read", path), safe_open(path, framework="numpy"):
                    pass
        except StoreError as error:
            return str(error)
        return ""

    def manifest(self, version: int) -> Manifest:
        """Return the manifest of ``version``, also of one that was dropped."""
        left = self._left(version)
        path = left if left.exists() else self._file(version, MANIFEST)
        with explained("read", path):
            written = path.stat().st_mtime_ns
        known = self._manifests.get(version)
        if known is not None and known[0] == written:
            return known[1]
        manifest = read_manifest(path, version)
        self._manifests[version] = written, manifest
        return manifest

    def weights_path(self, version: int) -> Path:
        """Return the path of the weights of ``version``, verified against its manifest."""
        return self._verified(version, WEIGHTS, "restore the file or serve another version")

    def state_dict(self, version: int) -> dict[str, torch.Tensor]:
        """Return the weights of ``version`` on the CPU, verified against its manifest."""
        path = self.weights_path(version)
        with explained("read", path):
            from safetensors.torch import load_file

            return load_file(path)

    def bandit_log(self, version: int) -> dict[str, NDArray[Any]] | None:
        """Return what the bandits chose for ``version``, verified; None if nothing was kept."""
        if not self.manifest(version).bandit_log_hash:
            return None
        path = self._verified(version, CHOICES, "restore the file")
        with explained("read", path):
            table = pq.read_table(path)
        return {name: table[name].to_numpy() for name in table.column_names}

    def reference(self, version: int) -> Reference:
        """Return the reference sample of ``version``."""
        path = self._verified(version, REFERENCE, "restore the file")
        with explained("read", path):
            try:
                return _reference(safetensors.numpy.load_file(path))
            except TypeError as error:
                raise StoreError(f"{path} is damaged: {error}") from error

    def _verified(self, version: int, name: str, remedy: str) -> Path:
        """Return the path of a file of a version, after a look at every byte of it."""
        path, manifest = self._file(version, name), self.manifest(version)
        expected = manifest.hash_of(name)
        if expected:
            verify(path, expected, remedy)
        return path

    def _file(self, version: int, name: str) -> Path:
        path = self._path / str(version) / name
        if path.is_file():
            return path
        if version in self.numbers():
            raise StoreError(f"model version {version} is damaged: {path} is missing")
        raise self._unknown(version, self._path, dropped=self._left(version).exists())

    def _unknown(self, version: int, where: object, *, dropped: bool) -> StoreError:
        stored = ", ".join(map(str, self.numbers())) or "none"
        if dropped:
            return StoreError(
                f"model version {version} is not kept any more (retention.versions); "
                f"stored: {stored}"
            )
        return StoreError(f"no model version {version} in {where}; stored: {stored}")

    def _newest(self) -> int:
        """Return the highest number that was given, also to a version that was set aside."""
        given = (path.name.partition(".")[0] for path in self._path.iterdir())
        return max((int(name) for name in given if name.isdecimal()), default=0)

    def _remove_interrupted(self) -> None:
        for left in self._path.glob(_TEMPORARY + "*"):
            shutil.rmtree(left)


def write_files(
    folder: Path,
    state_dict: Mapping[str, torch.Tensor],
    reference: Reference,
    draft: Manifest,
    choices: Mapping[str, NDArray[Any]] | None,
) -> Manifest:
    """Write the files of a version into a folder; return its draft with their hashes."""
    digest = _write_weights(folder / WEIGHTS, state_dict)
    _write_reference(folder / REFERENCE, reference)
    logged = _write_choices(folder / CHOICES, choices) if choices is not None else ""
    known = sha256(folder / REFERENCE)
    return replace(draft, hash=digest, bandit_log_hash=logged, reference_hash=known)


def read_manifest(where: Where, version: int) -> Manifest:
    """Return the manifest of a version that lies in a place.

    Raises:
        StoreError: It is missing or damaged, or a newer release wrote it.
    """
    try:
        manifest = Manifest.from_dict(read_json(where))
    except TypeError as error:
        raise StoreError(f"{where} is damaged or from a newer release: {error}") from error
    if manifest.version != version or not isinstance(manifest.metrics, dict):
        raise StoreError(f"{where} is damaged: it is not the manifest of version {version}")
    return manifest


def weights_hash(state_dict: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 that the file of these weights would have, in hexadecimal."""
    from safetensors.torch import save

    return hashlib.sha256(save(_own(state_dict))).hexdigest()


def _write_weights(path: Path, state_dict: Mapping[str, torch.Tensor]) -> str:
    from safetensors.torch import save_file

    save_file(_own(state_dict), path)
    sync(path)
    return sha256(path)


def _own(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return copies, because safetensors refuses tensors that share memory, as tied layers do."""
    import torch

    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in state_dict.items()
    }


def _write_reference(path: Path, reference: Reference) -> None:
    arrays = _arrays(reference)
    if reference.newest is not None:
        arrays |= {_NEWEST + name: array for name, array in _arrays(reference.newest).items()}
    safetensors.numpy.save_file({k: np.array(v, order="C") for k, v in arrays.items()}, path)
    sync(path)


def _arrays(reference: Reference) -> dict[str, NDArray[Any]]:
    return {
        "x": reference.x,
        "y": reference.y,
        "embedding": reference.embedding,
        "output": reference.output,
        "recent": reference.recent,
        "row": reference.rows,
    }


def _reference(arrays: Mapping[str, Any]) -> Reference:
    """Return the reference that was written as ``arrays``."""
    own = {k: v for k, v in arrays.items() if not k.startswith(_NEWEST)}
    newest = {k.removeprefix(_NEWEST): v for k, v in arrays.items() if k.startswith(_NEWEST)}
    found = Reference(**own)
    return replace(found, newest=Reference(**newest)) if newest else found


def _write_choices(path: Path, choices: Mapping[str, NDArray[Any]]) -> str:
    table = pa.table({name: pa.array(values) for name, values in choices.items()})
    pq.write_table(table, path, compression="zstd")
    sync(path)
    return sha256(path)


def verify(path: Path, expected: str, remedy: str) -> None:
    """Check the SHA-256 of a file.

    Raises:
        StoreError: It is another.
    """
    found = sha256(path)
    if found != expected:
        raise StoreError(f"{path} is damaged: expected SHA-256 {expected}, found {found}; {remedy}")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with explained("read", path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

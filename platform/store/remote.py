"""Model versions in a bucket: there once their manifest is, which is created last."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from undrift.errors import StoreError
from undrift.records import Reference
from undrift.store.bucket import Bucket
from undrift.store.cached import Cache
from undrift.store.files import explained
from undrift.store.place import Place
from undrift.store.versions import (
    CHOICES,
    MANIFEST,
    REFERENCE,
    WEIGHTS,
    Manifest,
    Versions,
    read_manifest,
    write_files,
)

if TYPE_CHECKING:
    import torch

_DROPPED = ".dropped.json"
_FILES = (WEIGHTS, REFERENCE, CHOICES)


class BucketVersions(Versions):
    """The versions below one prefix; several processes, on several machines, may add to it.

    The key of a file has its hash, so two that add a version of one number overwrite nothing of
    each other, and the one that creates the manifest has won. Files are read through a cache.

    Args:
        place: The prefix.
    """

    def __init__(self, place: Bucket) -> None:
        self._place = place
        self._cache = Cache(place.local / "cache")
        self._manifests = {}

    def add(
        self,
        state_dict: Mapping[str, torch.Tensor],
        reference: Reference,
        draft: Manifest,
        choices: Mapping[str, NDArray[Any]] | None = None,
        *,
        once: bool = False,
    ) -> Manifest:
        """Store a version, as `Versions.add`."""
        with (
            explained("store a version in", self._place),
            tempfile.TemporaryDirectory(prefix=".tmp-", dir=self._cache.make()) as folder,
        ):
            written = None
            while True:
                for done in self.all() if draft.run_id else []:
                    if done.run_id == draft.run_id:
                        return done
                if written is None:
                    written = write_files(Path(folder), state_dict, reference, draft, choices)
                for same in self.all() if once else []:
                    if same.hash == written.hash:
                        return same
                manifest = replace(written, version=self._newest() + 1)
                if self._put(manifest, Path(folder)):
                    self._sweep(manifest.version)
                    return manifest

    def _put(self, manifest: Manifest, folder: Path) -> bool:
        """Upload a version; tell whether it is ours that has the number."""
        for name in _FILES:
            if manifest.hash_of(name):
                self._object(manifest, name).write(folder / name)
        target, content = self._manifest(manifest.version), _packed(manifest)
        try:
            target.create(content)
        except FileExistsError:
            return target.read() == content  # the answer to our own may have been lost
        return True

    def drop(self, version: int) -> None:
        """Remove a version, all but its manifest, as `Versions.drop`.

        The manifest stays where it is, so that nobody is given the number again.
        """
        with explained("drop the version", self._place / str(version)):
            content = _packed(self.manifest(version))
            (self._place / f"{version}{_DROPPED}").write(content)  # from now on there is none
            self._sweep(version)

    def numbers(self) -> list[int]:
        """Return the numbers of all versions, ascending."""
        return sorted(self._listed())

    def _listed(self, *, whole: bool = True) -> dict[int, set[str]]:
        """Return the names of the objects of each version, or of each number that was uploaded."""
        with explained("list the versions in", self._place):
            keys = self._place.sizes()
        found: dict[int, set[str]] = {}
        for number, _, name in (key.partition("/") for key in keys):
            if number.isdecimal() and name:
                found.setdefault(int(number), set()).add(name)
        if not whole:
            return found
        return {n: k for n, k in found.items() if MANIFEST in k and f"{n}{_DROPPED}" not in keys}

    def damaged(self) -> dict[int, str]:
        """Return what is wrong with each version of which an object is gone or unreadable."""
        found = {}
        for number, names in self._listed().items():
            try:
                manifest = self.manifest(number)
                for name in _FILES:
                    key = self._object(manifest, name)
                    if manifest.hash_of(name) and key.name not in names:
                        raise StoreError(f"model version {number} is damaged: {key} is missing")
            except StoreError as error:
                found[number] = str(error)
        return found

    def all(self) -> list[Manifest]:
        """Return the manifests of all versions that are not `damaged`, oldest first."""
        numbers, damaged = self.numbers(), self.damaged()
        return [self.manifest(number) for number in numbers if number not in damaged]

    def manifest(self, version: int) -> Manifest:
        """Return the manifest of ``version``, also of one that was dropped."""
        known = self._manifests.get(version)
        if known is None:
            place = self._manifest(version)
            with explained("read", place):
                there = place.exists()
            if not there:
                raise self._unknown(version, self._place, dropped=False)
            known = self._manifests[version] = 0, read_manifest(place, version)
        return known[1]

    def _verified(self, version: int, name: str, remedy: str) -> Path:
        if version not in self.numbers():
            dropped = (self._place / f"{version}{_DROPPED}").exists()
            raise self._unknown(version, self._place, dropped=dropped)
        manifest = self.manifest(version)
        source, expected = self._object(manifest, name), manifest.hash_of(name)
        try:
            return self._cache.path(source, expected, remedy)
        except StoreError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            raise StoreError(f"model version {version} is damaged: {source} is missing") from None

    def _newest(self) -> int:
        """Return the highest number that was given, also to a version that was set aside."""
        marks = [name.partition(".") for name in self._place.names()]
        aside = [int(number) for number, dot, _ in marks if dot and number.isdecimal()]
        return max([*aside, *self._listed()], default=0)

    def _sweep(self, version: int) -> None:
        """Remove what a torn upload or removal has left under this number or a lower one."""
        for number, names in self._listed(whole=False).items():
            named = {MANIFEST}
            if number in self.numbers():
                manifest = self.manifest(number)
                named |= {self._object(manifest, name).name for name in _FILES}
            for name in names - named if number <= version else ():
                (self._place / str(number) / name).remove()

    def _object(self, manifest: Manifest, name: str) -> Bucket:
        stem, _, suffix = name.partition(".")
        return self._place / str(manifest.version) / f"{stem}-{manifest.hash_of(name)}.{suffix}"

    def _manifest(self, version: int) -> Bucket:
        return self._place / str(version) / MANIFEST


def open_versions(root: Place, *, read_only: bool) -> Versions:
    """Return the versions of a model.

    Args:
        root: The model's folder of the state.
        read_only: As `Versions` says.
    """
    if isinstance(root, Bucket):
        return BucketVersions(root / "versions")
    return Versions(root.path / "versions", read_only=read_only)


def _packed(manifest: Manifest) -> bytes:
    return json.dumps(manifest.to_dict(), indent=2).encode()

"""A disk that loses what nobody waited for, when the power goes.

It watches `os.fsync`. After a cut a file has the content that was last waited for, and what was
written since as it likes: nothing, a part, or all of it. A directory has the entries that were last
waited for, and changes since, by whomever (Delta Lake writes from Rust), as it likes.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

Moment = Callable[[], None]


class Disk:
    """Watches a folder that is on the disk as it is now.

    Args:
        folder: The folder.
        links: An empty folder beside it, for links that keep numbers of files from coming again.
        patch: Watches `os.fsync`.

    Attributes:
        moment: Called before and after each wait for the folder's files.
    """

    def __init__(self, folder: Path, links: Path, patch: pytest.MonkeyPatch) -> None:
        self._folder, self._links = folder, links
        self._contents: dict[int, bytes] = {}  # waited for, by inode
        self._entries: dict[int, dict[str, int]] = {}
        self._folders: set[int] = set()
        self.moment: Moment = lambda: None
        self._fsync = os.fsync
        patch.setattr(os, "fsync", self._watched)
        self._wait_for(folder)

    def _watched(self, descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        ours = path == self._folder or self._folder in path.parents
        if ours:
            self.moment()
        self._fsync(descriptor)
        if ours:
            self._wait_for(path)
            self.moment()

    def _wait_for(self, path: Path) -> None:
        if path.is_dir():
            self._entries[path.stat().st_ino] = self._listed(path)
        else:
            self._contents[path.stat().st_ino] = path.read_bytes()

    def _listed(self, path: Path) -> dict[str, int]:
        found = {}
        for entry in path.iterdir():
            status = entry.lstat()
            found[entry.name] = status.st_ino
            if stat.S_ISDIR(status.st_mode):
                self._folders.add(status.st_ino)
            elif not (self._links / str(status.st_ino)).exists():
                os.link(entry, self._links / str(status.st_ino))
        return found

    def cut(self, target: Path, rng: random.Random, luck: float) -> None:
        """Write what a power cut at this moment may leave.

        Args:
            target: Where to.
            rng: Decides what happens to what nobody waited for.
            luck: Share of it that is on the disk all the same.
        """
        present = {self._folder.stat().st_ino: self._listed(self._folder)}
        for path in self._folder.rglob("*"):
            if path.is_dir():
                present[path.stat().st_ino] = self._listed(path)
        self._leave(self._folder.stat().st_ino, target, present, rng, luck)

    def _leave(
        self,
        number: int,
        target: Path,
        present: dict[int, dict[str, int]],
        rng: random.Random,
        luck: float,
    ) -> None:
        target.mkdir()
        kept, now = self._entries.get(number, {}), present.get(number, {})
        for name in sorted(kept.keys() | now.keys()):
            found = (now if rng.random() < luck else kept).get(name)
            if found in self._folders:
                self._leave(found, target / name, present, rng, luck)
            elif found is not None:
                (target / name).write_bytes(self._content(found, rng, luck))

    def _content(self, number: int, rng: random.Random, luck: float) -> bytes:
        written = (self._links / str(number)).read_bytes()
        if self._contents.get(number) == written or rng.random() < luck:
            return written
        return self._contents.get(number) or written[: rng.choice((0, len(written) // 2))]

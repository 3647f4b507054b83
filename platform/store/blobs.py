"""Named arrays with plain data beside them, replaced as a whole: checkpoints of what is a fold."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undrift.errors import StoreError
from undrift.store.files import explained
from undrift.store.place import Place, Where, place

_META, _ARRAY = "meta", "array."
_DAMAGED = (ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile)
"""What is raised for a file that is not what was written; zipfile takes some for encrypted."""


class Blobs:
    """The blobs of a state folder.

    Args:
        root: The state folder.
    """

    def __init__(self, root: Where) -> None:
        self._folder = place(root) / "blobs"

    def save(self, name: str, arrays: Mapping[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Replace the blob ``name``; a crash leaves the old one or the new one.

        Args:
            name: Letters, digits, ``.``, ``_`` and ``-``.
            arrays: Arrays of any dtype but object.
            meta: Plain JSON values.

        Raises:
            StoreError: The name is unusable, or the disk refuses.
        """
        path = self._path(name)
        buffer = io.BytesIO()
        packed = {_ARRAY + key: value for key, value in arrays.items()}
        np.savez(buffer, allow_pickle=False, **packed, **{_META: np.array(json.dumps(meta))})
        with explained("save", path):
            path.write(buffer.getvalue())

    def load(self, name: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """Return arrays and meta of the blob ``name``, None if it was never saved.

        Raises:
            StoreError: The blob is damaged.
        """
        path = self._path(name)
        if not path.exists():
            return None
        with explained("load", path):
            try:
                with np.load(io.BytesIO(path.read()), allow_pickle=False) as stored:
                    meta = json.loads(str(stored[_META]))
                    arrays = {k.removeprefix(_ARRAY): stored[k] for k in stored if k != _META}
            except _DAMAGED as error:
                raise StoreError(f"{path} is damaged: {error}; delete it to rebuild") from error
        return arrays, meta

    def names(self) -> list[str]:
        """Return the names of all blobs, in no order."""
        names = self._folder.names()
        return [name.removesuffix(".npz") for name in names if name.endswith(".npz")]

    def remove(self, name: str) -> None:
        """Remove the blob ``name``, if there is one.

        Raises:
            StoreError: The disk refuses.
        """
        path = self._path(name)
        with explained("remove", path):
            path.remove()

    def _path(self, name: str) -> Place:
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
            raise StoreError(f"blob name {name!r} must be letters, digits, '.', '_' and '-'")
        return self._folder / f"{name}.npz"

"""The folder of one model in the state: its format, and where it has to be."""

from __future__ import annotations

import json
import shlex

from undrift.errors import StoreError
from undrift.store.bucket import Bucket
from undrift.store.files import explained, make_folder
from undrift.store.place import Folder, Place, Root, Where, place, read_json

MODELS_FOLDER = "models"
FORMAT = 3
FORMAT_DROPPED = 4  # what is left begins with a state that is kept, of which format 3 knows nothing
FORMAT_FILE = "store.json"
_DURABLE = (FORMAT_FILE, "tables", "versions", "blobs", "training", "training.json")


def open_root(root: Where, *, create: bool = True) -> Place:
    """Return the folder of one model in the state.

    Args:
        root: Where it is.
        create: Whether to create it if it is missing.

    Raises:
        StoreError: It is missing, cannot be created or written, or another release wrote it.
    """
    path = place(root)
    if isinstance(path, Folder) and path.path.is_file():
        raise StoreError(f"state must be a directory, but {path} is a file; name another place")
    marker = path / FORMAT_FILE
    if not marker.exists():
        if not create:
            raise StoreError(f"nothing was recorded in {path}: it has no {FORMAT_FILE}")
        with explained("create the state directory", path):
            if isinstance(path, Folder):
                make_folder(path.path, mode=0o700)  # what is recorded is private
            marker.write(json.dumps({"format": FORMAT}).encode())
    found = read_json(marker).get("format")
    if not isinstance(found, int):
        raise StoreError(f"{marker} is damaged: it must hold a format number, found {found!r}")
    if found not in (FORMAT, FORMAT_DROPPED):
        age, remedy = ("newer", "upgrade") if found > FORMAT else ("older", "install that")
        raise StoreError(
            f"{path} was written by {'a' if age == 'newer' else 'an'} {age} release (format "
            f"{found}, this one reads {FORMAT} and {FORMAT_DROPPED}): {remedy} undrift or use "
            "another state directory"
        )
    return path


def mark_dropped(root: Place, first: int | None, before: int) -> None:
    """Record, before rows or events are dropped, that they are: older releases refuse the state.

    They would fold what is left as if nothing had been before.

    Args:
        root: The model's folder of the state.
        first: Number of the first that is there, None if there is none.
        before: That of the first that will be left.

    Raises:
        StoreError: The disk refuses.
    """
    marker = root / FORMAT_FILE
    if first is None or first >= before:
        return
    if read_json(marker).get("format") != FORMAT_DROPPED:
        with explained("write", marker):
            marker.write(json.dumps({"format": FORMAT_DROPPED}).encode())


def check_layout(state: Root, model: Root) -> None:
    """Check that a state folder keeps what is durable by model.

    Args:
        state: The state folder of a platform.
        model: Folder of a model in it.

    Raises:
        StoreError: It is from before that, or is itself the folder of one model.
    """
    if isinstance(state, Bucket) or isinstance(model, Bucket):
        return  # they came later
    old = [name for name in _DURABLE if (state / name).exists()]
    if not old:
        return
    if state.parent.name == model.parent.name:
        raise StoreError(
            f"{state} is the folder of one model; name the state folder, {state.parent.parent}"
        )
    here, there = shlex.quote(str(state)), shlex.quote(str(model.relative_to(state)))
    raise StoreError(
        f"{state} was made before each model had a folder of its own; with nothing running on it: "
        f"cd {here} && mkdir -p {there} && mv {' '.join(old)} {there}/"
    )

"""The user's code: found by name, and what it raises told with his file and line."""

from __future__ import annotations

import importlib
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from undrift.errors import ModelError

_NOT_THE_USERS = (
    "<",
    str(Path(__file__).parents[1]),
    str(Path(torch.__file__).parents[1]),
    sysconfig.get_path("stdlib"),
)


def load_function(name: str, search_path: Path | None, what: str) -> Callable[..., Any]:
    """Find a function of the user's.

    Args:
        name: ``module:attribute``.
        search_path: Folder to import from before all others; it stays on ``sys.path``, so that
            the module can import its neighbours whenever it likes.
        what: What it is for, for the text of an error.

    Raises:
        ModelError: There is no such module or attribute, importing it fails, or it is no function.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ModelError(f"{what} {name!r} must read module:attribute, as my_model:build")
    if search_path is not None and str(search_path) not in sys.path:
        sys.path.insert(0, str(search_path))
        importlib.invalidate_caches()
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        where = f" (looked in {search_path} too)" if search_path is not None else ""
        raise ModelError(
            f"{what} {name!r}: cannot import {module_name!r}{where}: {explain(error)}"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ModelError(f"{what} {name!r}: {module_name!r} has no {attribute!r}")
        found = getattr(found, part)
    if not callable(found):
        raise ModelError(f"{what} {name!r} is a {type(found).__name__}, not a function")
    function: Callable[..., Any] = found
    return function


def explain(error: BaseException) -> str:
    """Return what the user's code raised in one line, with the last line of his that it was in."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith(_NOT_THE_USERS)]
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return one_line(error) + where


def one_line(error: BaseException) -> str:
    """Return what was raised in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__

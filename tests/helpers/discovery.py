"""Finds the members of a family of classes, so that a contract holds for the next one too."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from types import ModuleType
from typing import Any


def concrete(base: type, package: ModuleType) -> set[type]:
    """Return every public subclass of ``base`` that a package defines and that can be built."""
    names = [m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return {
        cls
        for module in map(importlib.import_module, names)
        for name, cls in inspect.getmembers(module, inspect.isclass)
        if cls.__module__ == module.__name__
        and issubclass(cls, base)
        and not inspect.isabstract(cls)
        and not name.startswith("_")
    }


def hold_all(family: set[type], held: Iterable[Any], where: str) -> None:
    """Fail if a class of the family is held to no contract; says where to enter it."""
    missing = sorted(cls.__qualname__ for cls in family - set(held))
    assert family, "found none; has the package moved?"
    assert not missing, f"enter {', '.join(missing)} in {where}, to be held to its contract"

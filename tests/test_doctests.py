"""Every example in a docstring runs, in the module under its real name."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.test_architecture import SHELLS, SOURCES

WITH_EXAMPLES = [
    module
    for module, path in SOURCES.items()
    if module not in SHELLS and ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples(module: str) -> None:
    loaded = importlib.import_module(module)
    assert doctest.testmod(loaded, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0

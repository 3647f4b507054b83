"""Hooks of ours on the layers of a user's model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

Hook = TypeVar("Hook", bound=Callable[..., Any])


def heed_hooks() -> None:
    """Have code that ``torch.compile`` makes call hooks that are registered later."""
    dynamo: Any = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.config.skip_nnmodule_hook_guards = False


def untraced(hook: Hook) -> Hook:
    """Return a hook that ``torch.compile`` calls and does not compile: it keeps tensors for us."""
    dynamo: Any = sys.modules.get("torch._dynamo")  # slow to import, and needless without it
    found: Hook = hook if dynamo is None else dynamo.disable(hook)
    return found

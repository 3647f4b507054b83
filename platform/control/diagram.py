"""The lifecycle drawn from its table: `python -m undrift.control.diagram` prints its page."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection

from undrift.control.lifecycle import edges
from undrift.control.state import Phase
from undrift.events import (
    EVENTS,
    AdoptRequested,
    Event,
    PauseRequested,
    PromoteRequested,
    ResumeRequested,
    RetrainRequested,
    RollbackRequested,
)

MEANING = {
    Phase.HEALTHY: "the live version is as good as it was on its reference; signals are watched.",
    Phase.WARNING: "something has moved; training workers are started, and wait.",
    Phase.DRIFT: "labels show that it hurts; waits for enough of them, for a back-off, or for you; "
    "over when they no longer show it.",
    Phase.RETRAINING: "one run is being trained; its candidate goes through the gate.",
    Phase.CANDIDATE: "the gate accepted; not in mode `auto`, so an operator decides.",
    Phase.SHADOW: "a candidate is asked what is asked of the live version, and answers nobody.",
    Phase.CANARY: "a candidate answers a share of the requests; the live one is asked them too.",
    Phase.SWAPPING: "every replica is being brought to one version; the old one answers till then.",
    Phase.PROBATION: "the new version is compared, on late labels, with the one that it left.",
    Phase.COOLDOWN: "an older version is live again; a cooldown has to end first.",
    Phase.PAUSED: "nothing is decided; serving and monitoring go on.",
}
OPERATORS = (
    RetrainRequested,
    AdoptRequested,
    PromoteRequested,
    RollbackRequested,
    PauseRequested,
    ResumeRequested,
)


def diagram(events: Collection[type[Event]] = EVENTS) -> str:
    """Return the transitions that these events make, as a state diagram in Mermaid.

    Example:
        >>> print(diagram([ResumeRequested]))
        stateDiagram-v2
            [*] --> healthy
            paused --> healthy: resume
            paused --> probation: resume
    """
    labels: dict[tuple[Phase, Phase], list[str]] = {}
    for phase, event, target in edges():
        if event in events:
            labels.setdefault((phase, target), []).append(_words(event))
    lines = [f"{a} --> {b}: {', '.join(names)}" for (a, b), names in labels.items()]
    return "\n    ".join(["stateDiagram-v2", f"[*] --> {Phase.HEALTHY}", *lines])


def page() -> str:
    """Return the page on the lifecycle: what each phase means, and two diagrams."""
    by_itself = [event for event in EVENTS if event not in OPERATORS]
    meaning = "\n".join(f"- **{phase}**: {MEANING[phase]}" for phase in Phase)
    return f"""# Lifecycle

Where a deployed model is in its life. This page is written by `make docs` from the table in
`control/lifecycle.py`; a test holds it current. An event that is not drawn changes no phase: it is
ignored, or refused with the reason why.

{meaning}

## What happens by itself

```mermaid
{diagram(by_itself)}
```

`scored` is the monitor's evidence, `tick` the passing of time. A run that fails returns to where
it came from; a probation goes on where a pause, a retraining or a swap had interrupted it.

## What an operator may ask for

```mermaid
{diagram(OPERATORS)}
```

There is one run at a time. Asking for another version gives up what is being trained or swapped.

Stages before a promotion, a shadow and a canary, have [a page of their own](rollout.md).
"""


def _words(event: type[Event]) -> str:
    """Return an event's name as words, without what all of an operator's have in common."""
    name = event.__name__.removesuffix("Requested")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


if __name__ == "__main__":
    sys.stdout.write(page())

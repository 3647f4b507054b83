"""Undrift beside other servers of models: rates, latencies, processor time and memory.

    python -m benchmarks.serving --minutes 30

Each server runs as its own documentation starts it, in an environment of its own, with one process
for the model, the same weights and one thread; wrk asks it from another process. All servers of a
model run at the same time and are asked in turn, in an order that is drawn anew for each round, for
three seconds after one to warm up. Each run is kept as a line of JSON under build/serving; what is
there is not measured again. The page docs/serving_figures.md is written from all lines.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.serving.page import page
from benchmarks.serving.rivals import RIVALS, before
from benchmarks.serving.run import kept, measure_all
from benchmarks.serving.servers.net import SHAPES

PAGE = Path("docs/serving_figures.md")


def main() -> None:
    """Measure and write the page."""
    known = {rival.name: rival for rival in RIVALS}
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--minutes", type=float, default=30.0, help="after which no run begins")
    parser.add_argument("--rivals", nargs="*", choices=known, default=list(known))
    parser.add_argument("--models", nargs="*", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--before", default="", help="PYTHONPATH of another checkout of undrift")
    args = parser.parse_args()
    rivals = [known[name] for name in args.rivals]
    if args.before:
        rivals.append(before(args.before))
    if args.minutes > 0:
        measure_all(rivals, args.models, args.minutes)
    PAGE.write_text(page(kept()), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Writes the table of `docs/faults.md` from what the suite saw; the page names the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
_START, _END = "<!-- made from a run -->", "<!-- end -->"
_HEAD = "fault", "asked", "requests", "failed, raw", "failed, reconnecting", "longest wait", "back"


def table(lines: list[str]) -> str:
    """Return the table in Markdown.

    Args:
        lines: One JSON object each, as `tests.ray.faults.Load.tell` writes them.
    """
    rows = [_HEAD, ("---", "---", *["--:"] * (len(_HEAD) - 2))]
    for seen in map(json.loads, lines):
        counts = (seen[key] for key in ("requests", "raw", "failed"))
        times = (f"{seen[key]:.1f} s" for key in ("longest_s", "back_s"))
        rows.append((seen["fault"], seen["asked"], *map(str, counts), *times))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(path: Path) -> None:
    """Put the table in the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(_START)[0], text.split(_END)[1]
    made = table(path.read_text(encoding="utf-8").splitlines())
    PAGE.write_text(f"{before}{_START}\n{made}\n{_END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

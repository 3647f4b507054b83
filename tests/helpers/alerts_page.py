"""Writes the table of `docs/runbooks.md` from what the suite saw; the page names the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

FIGURES = "ALERTS_JSON"
PAGE = Path(__file__).parents[2] / "docs" / "runbooks.md"
_START, _END = "<!-- made from a run -->", "<!-- end -->"
_HEAD = "alert", "how it was made to fire", "fired after", "waits besides"


def table(lines: list[str]) -> str:
    """Return the table in Markdown; each line is what the test noted of one alert, as JSON."""
    rows = [_HEAD, ("---", "---", "--:", "--:")]
    rows += [
        (seen["alert"], seen["how"], f"{seen['seconds']:.1f} s", seen["waits"])
        for seen in map(json.loads, lines)
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(path: Path) -> None:
    """Put the table in the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(_START)[0], text.split(_END)[1]
    made = table(path.read_text(encoding="utf-8").splitlines())
    PAGE.write_text(f"{before}{_START}\n{made}\n{_END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

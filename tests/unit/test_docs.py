"""The pages lead where they say: links, paths, words and decisions."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DECISIONS = ROOT / "docs" / "decisions"
PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
WITH_PATHS = [
    ROOT / "ARCHITECTURE.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "docs" / "glossary.md",
    *sorted(DECISIONS.glob("*.md")),
]
FORBIDDEN = {"platform/__init__.py"}  # named because it must not exist
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\((?!\w+:)([^)\s]+)\)")
PATH = re.compile(r"`([\w.-]+(?:/[\w.-]+)*(?:\.(?:py|md|yaml|json|toml)|/))`")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    lost = []
    for link in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert not lost


@pytest.mark.parametrize("page", WITH_PATHS, ids=name_of)
def test_every_path_in_backticks_exists(page: Path) -> None:
    found = set(PATH.findall(page.read_text(encoding="utf-8"))) - FORBIDDEN
    places = (ROOT, ROOT / "platform")
    assert not [p for p in found if not any((place / p).exists() for place in places)]


def test_targets_named_to_contributors_are_in_the_makefile() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    wanted = set(re.findall(r"`make ([a-z-]+)`", text))
    assert wanted
    assert wanted <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


def test_glossary_is_in_order_and_says_each_word_once() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"^\| ([^|]+?) \|", text, re.MULTILINE)[1:]
    assert len(words) > 30
    assert [w.lower() for w in words if "(" not in w] == sorted(
        {w.lower() for w in words if "(" not in w}
    )


def test_index_of_decisions_says_what_the_files_say() -> None:
    index = (DECISIONS / "README.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| \[(\d+)\]\((\S+)\) \| (\S+) \| ([^|]+) \| (.+) \|$", index, re.MULTILINE
    )
    files = sorted(path.name for path in DECISIONS.glob("[0-9]*.md"))
    assert [file for _, file, *_ in rows] == files
    for number, file, date, status, title in rows:
        text = (DECISIONS / file).read_text(encoding="utf-8")
        assert file.startswith(f"{int(number):04d}-")
        assert text.startswith(f"# {number}. {title}\n\n- Date: {date}\n- Status: {status}\n")
        assert re.match(r"accepted|not done|known weakness|superseded by \d+", status)
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Consequence"]


@pytest.mark.parametrize(
    ("page", "first"), [("cases.md", "| case "), ("findings.md", "| finding ")]
)
def test_every_fault_that_a_page_lists_names_tests_that_there_are(page: str, first: str) -> None:
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    cases = [line for line in lines if line.startswith("| ") and not line.startswith(first)]
    assert len(cases) > 30
    for case in cases:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", case.split(" | ")[-1])
        assert named, case
        for file, test in named:
            found = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
            functions = (ast.FunctionDef, ast.AsyncFunctionDef)
            assert test in {part.name for part in found if isinstance(part, functions)}, case

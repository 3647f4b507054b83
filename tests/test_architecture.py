"""The rules of ARCHITECTURE.md that a machine can check, on paths and syntax trees."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLATFORM, BANDITS = ROOT / "platform", ROOT / "bandits"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAX_LINES = 400

# The layers, lowest first: a part imports only from layers below its own. `settings` modules are
# leaves that describe a section of the configuration; every part may read every section.
LAYERS = (
    ("errors", "settings", "bandits"),
    ("ids", "records", "evidence", "dashboard"),
    ("events", "views"),
    ("store", "model"),
    ("streams",),
    ("serve", "monitor", "train"),
    ("control",),
    ("config",),
    ("host", "k8s"),
    ("client", "replay"),
    ("tune",),
    ("actors",),
    ("app",),
    ("jobs", "demo", "fleet"),
    ("cli",),
)
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
MAX_ROOT_MODULES = 10
MAX_CLASS_LINES = 250


def module_of(path: Path) -> str:
    if path.is_relative_to(BANDITS):
        parts = ("undrift", "bandits", *path.relative_to(BANDITS).with_suffix("").parts)
    else:
        parts = ("undrift", *path.relative_to(PLATFORM).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


SOURCES = {
    module_of(path): path
    for folder in (PLATFORM, BANDITS)
    for path in sorted(folder.rglob("*.py"))
    if "starter" not in path.parts
}


# Ruff's list of files that may import ray is the list of shells; ARCHITECTURE.md names them too.
SHELLS = {
    module_of(ROOT / path)
    for path in PROJECT["tool"]["ruff"]["lint"]["per-file-ignores"]
    if path.startswith("platform/")
}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in SOURCES else node.module


def within(name: str, prefixes: set[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def ours(module: str) -> set[str]:
    """Modules of ours that a module imports."""
    found = {n for n in imports(SOURCES[module]) if within(n, {"undrift"}) and n != "undrift"}
    return {name.removeprefix("undrift.") for name in found}


def part_of(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize("module", SOURCES)
def test_imports_point_downward(module: str) -> None:
    part = part_of(module.removeprefix("undrift."))
    assert part in RANK, f"give {part} a layer"
    others = {name for name in ours(module) if part_of(name) != part}
    wrong = {n for n in others if RANK[part_of(n)] >= RANK[part] and not n.endswith(".settings")}
    assert not wrong, f"{module} may not import {sorted(wrong)}"


def test_settings_are_leaves() -> None:
    allowed = {"settings", "errors", "train.budget"}
    for module in (m for m in SOURCES if m.endswith(".settings")):
        assert {n for n in ours(module) if not n.endswith("settings")} <= allowed, module


def test_no_import_circle() -> None:
    above: dict[str, set[str]] = {m.removeprefix("undrift."): ours(m) for m in SOURCES}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " imports ".join((*path[path.index(name) :], name))
        if name not in done:
            for other in above.get(name, set()):
                visit(other, (*path, name))
            done.add(name)

    for name in above:
        visit(name, ())


def test_root_is_a_short_corridor() -> None:
    assert len(list(PLATFORM.glob("*.py"))) <= MAX_ROOT_MODULES


@pytest.mark.parametrize("module", SOURCES)
def test_classes_are_short(module: str) -> None:
    for node in ast.walk(ast.parse(SOURCES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and node.end_lineno is not None:
            lines = node.end_lineno - node.lineno + 1
            assert lines <= MAX_CLASS_LINES, f"{node.name} has {lines} lines; split it"


def test_every_folder_has_its_line_on_the_map() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    folders = {m.removeprefix("undrift.") for m, p in SOURCES.items() if p.name == "__init__.py"}
    missing = [f for f in folders if not re.search(rf"^ +{f.rpartition('.')[2]}/ ", text, re.M)]
    assert not missing, f"say in README's map what is in {missing}"


@pytest.mark.parametrize("module", sorted(SOURCES.keys() - SHELLS))
def test_only_shells_import_ray(module: str) -> None:
    assert not [name for name in imports(SOURCES[module]) if within(name, {"ray"})]


def test_shells_are_documented() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    names = [module.removeprefix("undrift.").replace(".", "/") + ".py" for module in SHELLS]
    assert not [name for name in names if f"`{name}`" not in text]


def loaded_by(modules: list[str]) -> set[str]:
    """Top-level packages in memory after importing ``modules`` in a fresh interpreter."""
    program = (
        f"import sys, {', '.join(modules)}; print(*{{m.partition('.')[0] for m in sys.modules}})"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


@pytest.mark.thorough
def test_cores_import_without_ray() -> None:
    folders = ("undrift.serve", "undrift.monitor", "undrift.train", "undrift.bandits")
    cores = [m for m in SOURCES if m.startswith(folders) and m not in SHELLS]
    loaded = loaded_by(cores)
    assert "torch" in loaded
    assert "ray" not in loaded


@pytest.mark.thorough
def test_control_plane_starts_without_torch() -> None:
    actors = [f"undrift.{part}.actor" for part in ("control", "monitor", "train")]
    assert "torch" not in loaded_by(actors)


@pytest.mark.thorough
def test_command_line_starts_without_ray_and_torch() -> None:
    assert not loaded_by(["undrift.cli"]) & {"ray", "torch", "scipy", "matplotlib"}


@pytest.mark.parametrize(
    "path",
    sorted(
        path
        for folder in ("platform", "bandits", "tests", "benchmarks", "examples")
        for path in (ROOT / folder).rglob("*.py")
    ),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_file_is_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{lines} lines; split it"


def test_platform_folder_is_not_a_package() -> None:
    assert not (PLATFORM / "__init__.py").exists(), "it would shadow the standard library"


def test_import_platform_is_the_standard_library() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import platform; print(platform.system())"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_every_package_is_listed_for_installation() -> None:
    found = {module for module, path in SOURCES.items() if path.name == "__init__.py"}
    assert {"undrift", "undrift.kuberay"} | found == set(PROJECT["tool"]["setuptools"]["packages"])


def test_ray_cannot_start_in_a_unit_test() -> None:
    import ray

    with pytest.raises(AssertionError, match="would start Ray"):
        ray.init()

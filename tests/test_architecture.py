"""The rules of ARCHITECTURE.md that a machine can check, on paths and syntax trees."""

from __future__ import annotations

import ast
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

SHARED = {"errors", "section", "records", "events", "model"}
ON_DISK = {"checkpoints", "store", "journal", "config"}
SECTIONS = {"serve.settings", "monitor.settings", "train.settings", "k8s.settings"}
HEADS = {"cli", "app", "controller", "demo", "deploy"}

# What each part may import of ours, as prefixes; a new loose module needs a row here.
MAY_IMPORT: dict[str, set[str]] = {
    "bandits": {"bandits"},
    "serve": {"serve"} | SHARED,
    "monitor": {"monitor"} | SHARED,
    "train": {"train", "bandits"} | SHARED,
    "errors": set(),
    "section": set(),
    "records": {"errors"},
    "events": {"errors", "records"},
    "model": {"errors", "records"},
    "states": {"errors", "events", "section"},
    "lifecycle": {"errors", "events", "states"},
    "story": {"events", "lifecycle", "states"},
    "durable": {"errors"},
    "tables": {"durable", "errors"},
    "versions": {"durable", "errors", "records"},
    "store": {"durable", "errors", "records", "tables", "versions"},
    "journal": {"durable", "errors", "tables"},
    "checkpoints": {"durable", "errors"},
    "operators": {"errors", "events", "serve.body", "train.budget", "train.settings"},
    "config": {"errors", "section", "states"} | SECTIONS,
    "inputs": {"config"} | SHARED,
    "runfile": {"errors"},
    "client": {"config", "runfile"} | SHARED,
    "detached": {"config", "errors", "runfile"},
    "cli_run": {"cli_views", "client", "errors"},
    "cli_views": set(),
    "cli_cluster": {"cli_views", "config", "deploy", "submit"},
    "submit": {"bandits", "cluster", "config", "detached", "errors", "k8s.project"},
    "replay": {"replay", "config", "demo", "inputs", "journal", "lifecycle", "monitor", "states"}
    | {"store", "train"}
    | SHARED,
    "tune": {"tune", "cli_views", "cluster", "config", "demo", "durable", "monitor", "replay"}
    | {"store", "train"}
    | SHARED,
    "haproxy": {"errors", "runfile"},
    "k8s": {"k8s", "config", "cli_views"} | SHARED,
    "cluster": {"errors", "haproxy", "serve.settings", "train.environment"},
}


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


@pytest.mark.parametrize("module", SOURCES)
def test_imports_point_downward(module: str) -> None:
    part = module.removeprefix("undrift.").partition(".")[0]
    ours = {
        name.removeprefix("undrift.")
        for name in imports(SOURCES[module])
        if within(name, {"undrift"})
    }
    if part in HEADS:
        wrong = {name for name in ours if part != "cli" and within(name, {"cli", "cli_views"})}
    else:
        assert part in MAY_IMPORT, f"say in MAY_IMPORT what {module} may import"
        allowed = MAY_IMPORT[part] | (ON_DISK if module in SHELLS else set())
        wrong = {name for name in ours if not within(name, allowed)}
    assert not wrong, f"{module} may not import {sorted(wrong)}"


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


def test_cores_import_without_ray() -> None:
    folders = ("undrift.serve", "undrift.monitor", "undrift.train", "undrift.bandits")
    cores = [m for m in SOURCES if m.startswith(folders) and m not in SHELLS]
    loaded = loaded_by(cores)
    assert "torch" in loaded
    assert "ray" not in loaded


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

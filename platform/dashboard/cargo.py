"""What travels with a job: undrift itself, and the project's Python files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import undrift.bandits
from undrift import errors

_SKIPPED = shutil.ignore_patterns("__pycache__", "kuberay")


def ourselves(scratch: Path) -> tuple[Path, Path]:
    """Write a copy of this package, and of what tells its version, to travel with a job.

    Args:
        scratch: Folder for both.

    Returns:
        The two Python modules, for the ``py_modules`` of a job.
    """
    package = scratch / "undrift"
    shutil.copytree(Path(errors.__file__).parent, package, ignore=_SKIPPED, dirs_exist_ok=True)
    bandits = Path(str(undrift.bandits.__file__)).parent
    shutil.copytree(bandits, package / "bandits", ignore=_SKIPPED, dirs_exist_ok=True)
    told = scratch / f"undrift-{version('undrift')}.dist-info"
    told.mkdir()
    head = f"Metadata-Version: 2.1\nName: undrift\nVersion: {version('undrift')}\n"
    (told / "METADATA").write_text(head, encoding="utf-8")
    return package, told


def modules_in(folder: Path, state: Path | str) -> Iterator[Path]:
    """Return the project's Python files; hidden folders, environments and the state have none.

    Args:
        folder: The project's.
        state: Where the state lies.

    Returns:
        Their paths, relative to the folder.
    """

    def walk(here: Path) -> Iterator[Path]:
        for path in here.iterdir():
            if path.is_dir():
                skip = path.name.startswith(".") or path == state or (path / "pyvenv.cfg").exists()
                if not skip and path.name != "__pycache__":
                    yield from walk(path)
            elif path.suffix == ".py":
                yield path.relative_to(folder)

    return walk(folder)

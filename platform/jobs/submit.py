"""Running a verb as a Ray job on a cluster: the project and undrift itself travel with it."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from undrift.config import ALONE, CONFIG_NAME, changed, find_config, parse_config, read_config
from undrift.dashboard.cargo import ourselves
from undrift.dashboard.jobs import Dashboard
from undrift.errors import ConfigError, PlatformError, last_line
from undrift.host.interrupt import put_off
from undrift.jobs.result import Screen
from undrift.k8s.project import files
from undrift.store.place import Folder

NO_AGENT = "No available agent"  # what Ray answers while a cluster is starting
AGENT_S = 60.0
OTHER_RAY = (
    "If another Ray runs on that machine, their agents want the same port: start one with "
    "`ray start --head --dashboard-agent-listen-port=PORT`"
)


@dataclass(frozen=True, slots=True)
class Cargo:
    """What travels with a job; Ray compresses it, and sends nothing that the cluster has already.

    Attributes:
        project: A copy of the project's files that the model needs.
        modules: A copy of undrift, and what tells its version.
        project_files: Number of files of the project.
        project_bytes: What they take.
        package_bytes: What undrift takes.
    """

    project: Path
    modules: tuple[Path, ...]
    project_files: int
    project_bytes: int
    package_bytes: int


@contextmanager
def packed(
    config: Path | None,
    changes: Sequence[str],
    brought: Mapping[str, Path] | None = None,
    state_by: str = "--set state",
) -> Iterator[Cargo]:
    """Copy what travels with a job; the copy goes in the end.

    Args:
        config: The YAML file.
        changes: What to set instead, each as ``section.key=value``.
        brought: More files to travel, by their names in the copy.
        state_by: The option that names a state, for a message; empty: none is needed.

    Raises:
        ConfigError: The project is not fit to travel.
    """
    path = find_config(config)
    data = changed(read_config(path), changes)
    settings = parse_config(data, path, way_out=ALONE)
    state = settings.state
    told = Path(str(data.get("state", state.name) if isinstance(state, Path) else "/"))
    if state_by and not told.is_absolute():
        raise ConfigError(
            "state: expected an absolute path that all nodes of the cluster share, since the "
            f"project is only copied there; set one, as {state_by}=/mnt/undrift"
        )
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch) / "project"
        there = {str(name): path.parent / name for name in files(settings)}
        for name, file in {**there, **(brought or {})}.items():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, project / name)
        text = yaml.safe_dump(data, sort_keys=False)
        (project / CONFIG_NAME).write_text(text, encoding="utf-8")
        modules = ourselves(Path(scratch))
        sizes = Folder(project).sizes()
        package = sum(sum(Folder(part).sizes().values()) for part in modules)
        yield Cargo(project, modules, len(sizes), sum(sizes.values()), package)


class Jobs(Dashboard):
    """Verbs as jobs of one Ray cluster; see `Dashboard`."""

    def submit(self, cargo: Cargo, verb: Sequence[str]) -> str:
        """Start a job that runs a verb in a copy of the project.

        Args:
            cargo: What travels with it.
            verb: The verb and its arguments.

        Returns:
            The id of the job.

        Raises:
            PlatformError: The cluster does not take the job.
        """
        return self._taken(
            entrypoint=shlex.join(["python", "-m", "undrift.cli", *verb]),
            runtime_env={
                "working_dir": str(cargo.project),
                "py_modules": [str(part) for part in cargo.modules],
            },
        )

    def _taken(self, **job: Any) -> str:
        """Hand in a job; the agents of a cluster that has just started may not be there yet."""
        until = time.monotonic() + AGENT_S
        while True:
            try:
                return str(self._client.submit_job(**job))
            except Exception as error:
                starting = NO_AGENT in str(error)
                if not starting or time.monotonic() > until:
                    hint = f". {OTHER_RAY}" if starting else ""
                    told = f"{self.address} did not take the job: {error}{hint}"
                    raise PlatformError(told) from None
            time.sleep(1.0)

    def follow(self, job: str, show: Callable[[str], None]) -> str:
        """Show what a job says until it ends, and return all that it said.

        Raises:
            PlatformError: It failed.
        """
        screen = Screen(show)

        async def tail() -> None:
            async for text in self._client.tail_job_logs(job):
                screen(text)

        work = tail()
        try:
            with put_off():
                runner = asyncio.Runner()
                runner.get_loop()
            with runner:
                runner.run(work)
            info = self._client.get_job_info(job)
            said = self._client.get_job_logs(job)
        except Exception as error:
            raise PlatformError(f"{self.address} broke off, job {job}: {error}") from None
        finally:
            work.close()  # Python warns of one that Ctrl-C kept from beginning
        if info.status != "SUCCEEDED":
            told = last_line(said or str(info.message))
            raise PlatformError(f"job {job} {str(info.status).lower()}: {told}")
        return str(said)

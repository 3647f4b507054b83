"""Running a verb as a Ray job on a cluster: the project and undrift itself travel with it."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

import undrift.bandits
from undrift import errors
from undrift.config import ALONE, CONFIG_NAME, changed, find_config, parse_config, read_config
from undrift.errors import ConfigError, PlatformError
from undrift.host.cluster import TOKEN_REFUSED
from undrift.host.daemon import last_line
from undrift.jobs.result import Screen
from undrift.k8s.project import files
from undrift.store.place import Folder

NO_AGENT = "No available agent"  # what Ray answers while a cluster is starting
AGENT_S = 60.0
OTHER_RAY = (
    "If another Ray runs on that machine, their agents want the same port: start one with "
    "`ray start --head --dashboard-agent-listen-port=PORT`"
)
_SKIPPED = shutil.ignore_patterns("__pycache__", "kuberay")


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
        modules = _ourselves(Path(scratch))
        sizes = Folder(project).sizes()
        package = sum(sum(Folder(part).sizes().values()) for part in modules)
        yield Cargo(project, modules, len(sizes), sum(sizes.values()), package)


class Jobs:
    """The jobs of one Ray cluster.

    Args:
        address: Its dashboard, as ``http://HEAD:8265``.

    Raises:
        PlatformError: It does not answer, or refuses the token.
    """

    def __init__(self, address: str) -> None:
        if not address.startswith(("http://", "https://")):
            raise PlatformError(
                f"{address}: expected the dashboard of a Ray cluster, as http://HEAD:8265"
            )
        for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
            os.environ.pop(name, None)  # Ray would prefer them to the address
        if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        self.address = address
        for module in ("dashboard_sdk", "job.sdk"):  # they tell each step
            logging.getLogger(f"ray.dashboard.modules.{module}").setLevel(logging.ERROR)
        try:
            self._client: Any = JobSubmissionClient(address)
        except AuthenticationError:
            raise PlatformError(f"the Ray cluster at {address} {TOKEN_REFUSED}") from None
        except ConnectionError:
            raise PlatformError(
                f"no Ray dashboard answers at {address}; is `ray start --head` running there, with "
                "a dashboard?"
            ) from None
        except Exception as error:  # whatever else may answer there
            raise PlatformError(f"{address} is no Ray dashboard: {error}") from None

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

        try:
            asyncio.run(tail())
            info = self._client.get_job_info(job)
            said = self._client.get_job_logs(job)
        except Exception as error:
            raise PlatformError(f"{self.address} broke off, job {job}: {error}") from None
        if info.status != "SUCCEEDED":
            told = last_line(said or str(info.message))
            raise PlatformError(f"job {job} {str(info.status).lower()}: {told}")
        return str(said)


def _ourselves(scratch: Path) -> tuple[Path, Path]:
    """Write a copy of this package, and of what tells its version, to travel with a job."""
    package = scratch / "undrift"
    shutil.copytree(Path(errors.__file__).parent, package, ignore=_SKIPPED, dirs_exist_ok=True)
    bandits = Path(str(undrift.bandits.__file__)).parent
    shutil.copytree(bandits, package / "bandits", ignore=_SKIPPED, dirs_exist_ok=True)
    told = scratch / f"undrift-{version('undrift')}.dist-info"
    told.mkdir()
    head = f"Metadata-Version: 2.1\nName: undrift\nVersion: {version('undrift')}\n"
    (told / "METADATA").write_text(head, encoding="utf-8")
    return package, told

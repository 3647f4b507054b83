"""The models of one platform: what shall run is compared with what runs, and made so.

One model alone answers at ``/``, as it always did. From the second on each has a route of its own,
``/v2/models/NAME``, and a front answers at ``/``; the first is moved there without a pause, for its
replicas know all their paths by the whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from undrift.actors import application_name, route_of
from undrift.app import Say, place, ready
from undrift.config import Config, Wanted, names_in, wanted
from undrift.errors import ConfigError, PlatformError, UndriftError
from undrift.fleet.door import Door, Request
from undrift.fleet.models import (
    Checking,
    Placed,
    await_application,
    await_model,
    end,
    run,
    run_at,
    start,
)
from undrift.host import cluster
from undrift.host.handle import Handle
from undrift.ids import new_id
from undrift.serve.front import NAME, Front
from undrift.serve.settings import ListenSettings

ROOT = "/"
_ASIDE = "/v2/undrift"
TICK_S = 0.2


@dataclass
class Changes:
    """What became of each model when the platform was made to serve what it shall.

    Attributes:
        added: Those that serve now.
        changed: Those that serve with another configuration.
        removed: Those that are gone, with the place of their state.
        problems: What is wrong with others, by name.
        notes: Remarks for the user.
    """

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Fleet:
    """The running models.

    Args:
        path: The platform's YAML file.
        shared: One of its configurations at the start, for what all models share.
        handle: The platform.
        door: By which verbs ask.

    Attributes:
        handle: The platform.
        running: The models that were started, by name.
        problems: What is wrong with others, by name.
    """

    def __init__(self, path: Path, shared: Config, handle: Handle, door: Door) -> None:
        self._path, self._shared, self.handle, self._door = path, shared, handle, door
        self.running: dict[str, Placed] = {}
        self.problems: dict[str, str] = {}
        self._front, self._version = "", new_id()

    def begin(self, found: Wanted, say: Say) -> None:
        """Start the models of a platform that has none yet.

        Raises:
            PlatformError: None of them starts.
        """
        if found.is_alone:
            config = found.platform
            place(config, self.handle)
            ready(config, self.handle)
            placed = Placed(config, self.handle.actors, ROOT, self.handle.version)
            self.running[config.model.name] = placed
            return
        self._make_so(found, say, frozenset())
        if not self.running:
            raise PlatformError("\n".join(_lines(self.problems)))
        self.handle.runfile.claim(self.handle.url)
        self.handle.interrupt.check()

    def wait(self) -> None:
        """Do what verbs ask for until the platform is asked to stop, as `Handle.wait` does."""
        while True:
            self.handle.check()
            self._door.attend(self.obey, TICK_S)

    def obey(self, request: Request, say: Say) -> Any:
        """Carry out a request of `Door`."""
        verb = request["verb"]
        if verb == "list":
            routes = {name: placed.route for name, placed in self.running.items()}
            return {"url": self.handle.url, "routes": routes, "problems": self.problems}
        if verb == "up":
            return asdict(self._make_so(wanted(self._path), say, frozenset()))
        if verb == "add":
            return asdict(self._add(Path(request["file"]), say))
        if verb == "remove":
            return asdict(self._remove(request["name"], say))
        raise ConfigError(f"this release knows no {verb!r}")

    def _add(self, path: Path, say: Say) -> Changes:
        found = wanted(self._path)
        after, names = found.adding(path), names_in(path)
        after.write(self._shared)
        done = self._make_so(wanted(self._path), say, frozenset(names))
        for name in names:
            if name not in found.files and name not in self.running:  # nothing is left of it
                after = after.without(name, listed=path == found.path)
                self.problems.pop(name, None)
        after.write(self._shared)
        return done

    def _remove(self, name: str, say: Say) -> Changes:
        wanted(self._path).removing(name).write(self._shared)
        return self._make_so(wanted(self._path), say, frozenset())

    # ------------------------------------------------------------------ what shall run, runs

    def _make_so(self, found: Wanted, say: Say, anew: frozenset[str]) -> Changes:
        """Start, change and end models until those run that shall.

        Args:
            found: What shall run.
            say: Called with one line for each stage.
            anew: Names of those that are started again even if nothing has changed.
        """
        done = Changes(problems=dict(found.broken), notes=self._shared_notes(found))
        for name in [name for name in self.running if name not in found.files]:
            say(f"removing {name}")
            end(name)
            done.removed[name] = str(self.running.pop(name).config.model_state)
        todo = {
            name: config
            for name, config in self._as_hosted(found.models)
            if name not in self.running or config != self.running[name].config or name in anew
        }
        before = [*self.running]
        if todo and len(found.files) > 1:
            self._move_to_its_own(say)
        done.problems |= self._start(todo, say)
        self._open_front()
        good = [name for name in todo if name not in done.problems]
        done.changed = [name for name in good if name in before]
        done.added = [name for name in good if name not in before]
        done.notes += [f"{n} goes on as it was" for n in done.problems if n in self.running]
        self.problems = dict(done.problems)
        return done

    def _start(self, todo: dict[str, Config], say: Say) -> dict[str, str]:
        """Start models, or start them again, and return what is wrong with those that fail."""
        problems: dict[str, str] = {}
        if todo:
            say(f"checking {', '.join(todo)}")
        checks = {
            name: Checking(config, self.handle, mend=name not in self.running)
            for name, config in todo.items()
        }
        for name, check in checks.items():
            try:
                check.end()
            except UndriftError as error:
                problems[name] = str(error)
        started: dict[str, Placed] = {}
        for name in [name for name in todo if name not in problems]:
            say(f"starting {name}")
            try:
                started[name] = start(todo[name], self.handle, self._route(name))
            except UndriftError as error:
                problems[name] = str(error)
                self._take_back(name, say)
        for name, placed in started.items():
            try:
                await_model(placed, self.handle)
                self.running[name] = placed
            except UndriftError as error:
                problems[name] = str(error)
                self._take_back(name, say)
        return problems

    def _take_back(self, name: str, say: Say) -> None:
        """End what did not start; what ran before under that name is started again."""
        before = self.running.pop(name, None)
        if before is None:
            end(name)
            return
        say(f"starting {name} as it was")
        self.running[name] = start(before.config, self.handle, before.route)
        await_model(self.running[name], self.handle)

    def _route(self, name: str) -> str:
        return self.running[name].route if name in self.running else route_of(name)

    def _as_hosted(self, models: dict[str, Config]) -> Iterable[tuple[str, Config]]:
        """Yield the configurations, with the address where the platform listens until it ends."""
        listen = {key: getattr(self._shared.serve, key) for key in ListenSettings.model_fields}
        for name, config in models.items():
            serve = config.serve.model_copy(update=listen)
            yield name, config.model_copy(update={"serve": serve})

    def _shared_notes(self, found: Wanted) -> list[str]:
        """Return what takes effect at the next start."""
        now, then = self._shared, found.platform
        keys = [
            key for key in ListenSettings.model_fields if _listen(now, key) != _listen(then, key)
        ]
        notes = [f"serve.{key} has changed: it takes effect at the next start" for key in keys]
        for name, config in found.models.items():
            if config.serve.silence_s > now.serve.silence_s:
                notes.append(
                    f"{name}: until the next start a request is cut off after "
                    f"{now.serve.silence_s} s, though its serve.request_timeout_s is longer"
                )
        return notes

    # ------------------------------------------------------------------ who answers at /

    def _move_to_its_own(self, say: Say) -> None:
        """Give the model that answers at ``/``, if there is one, a route of its own."""
        for name, placed in self.running.items():
            if placed.route == ROOT:
                say(f"moving {name} to {route_of(name)}")
                self._front_at(_ASIDE)  # it takes a while to start
                placed.route = route_of(name)
                run(placed, self.handle)
                await_application(application_name(name), self.handle.check)
                self._open_front()

    def _open_front(self) -> None:
        """Have the front answer at ``/``, unless a model does."""
        if not any(placed.route == ROOT for placed in self.running.values()):
            self._front_at(ROOT)

    def _front_at(self, route: str) -> None:
        if self._front == route:
            return
        front: Any = Front
        deployment = front.options(
            _internal=True,
            version=self._version,
            ray_actor_options={"num_cpus": 0},
            max_ongoing_requests=1_000,
            logging_config={"log_level": "WARNING", "enable_access_log": False},
        )
        run_at(deployment.bind(self._shared.serve, cluster.NAMESPACE), NAME, route)
        await_application(NAME, self.handle.check)
        self._front = route


def _listen(config: Config, key: str) -> Any:
    return getattr(config.serve, key)


def _lines(problems: dict[str, str]) -> Iterable[str]:
    for name, problem in problems.items():
        yield f"{name}: {problem}"

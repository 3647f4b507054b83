"""Which models a platform shall serve: those of its YAML file, and what verbs have changed since.

`undrift models add` and `remove` leave the YAML alone. What they decide lies in the platform's
folder of this machine, so that the next start finds it again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from undrift.config.files import changed, find_config, load_config, parse_platform, read_config
from undrift.config.sections import Config, PlatformConfig, StateConfig
from undrift.config.several import MODELS, is_long
from undrift.errors import ConfigError, StoreError
from undrift.store.files import explained, write_file

FILE = "models.json"


@dataclass(frozen=True)
class Added:
    """What verbs have changed.

    Attributes:
        added: The YAML file of each model that was added, by name.
        removed: Models of the platform's own file that are not to be served.
    """

    added: dict[str, str] = field(default_factory=dict)
    removed: tuple[str, ...] = ()

    @staticmethod
    def of(platform: StateConfig) -> Added:
        """Read what is known of a platform; nothing, if nothing was changed.

        Raises:
            StoreError: The file is damaged.
        """
        path = platform.machine / FILE
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return Added(dict(found["added"]), tuple(found["removed"]))
        except FileNotFoundError:
            return Added()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{path} is damaged ({error}); remove it, and add the models again"
            ) from None

    def write(self, platform: StateConfig) -> None:
        """Keep it for the next start."""
        path = platform.machine / FILE
        with explained("write", path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(path, json.dumps(asdict(self), indent=1).encode())

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)

    def with_file(self, own: Path, path: Path, names: Sequence[str]) -> Added:
        """Return what holds once the models of a file are to be served, too."""
        if path == own:
            return replace(self, removed=tuple(n for n in self.removed if n not in names))
        return replace(self, added=self.added | dict.fromkeys(names, str(path)))

    def without(self, name: str, *, listed: bool) -> Added:
        """Return what holds once a model is not to be served; ``listed`` in the platform's file."""
        removed = {*self.removed, name} if listed else self.removed
        left = {n: file for n, file in self.added.items() if n != name}
        return Added(left, tuple(sorted(removed)))


@dataclass
class Wanted:
    """The models that a platform shall serve.

    Attributes:
        path: Its own YAML file.
        known: What verbs have changed.
        models: Each model with the platform, by name.
        files: The YAML file of each, those of broken ones too.
        broken: What is wrong with the configuration of others, by name.
    """

    path: Path
    known: Added
    models: dict[str, Config]
    files: dict[str, Path]
    broken: dict[str, str]

    @property
    def names(self) -> list[str]:
        """The names of all of them, the broken ones too."""
        return [*self.files]

    @property
    def listed(self) -> list[str]:
        """The names of those in the platform's own file."""
        return [name for name, file in self.files.items() if file == self.path]

    @property
    def platform(self) -> Config:
        """One of them, for what they share."""
        return next(iter(self.models.values()))

    @property
    def is_alone(self) -> bool:
        """Whether there is one model alone, which answers at ``/``."""
        return len(self.files) == 1

    @property
    def may_be_several(self) -> bool:
        """Whether the file lists models by name, or verbs have changed which there are."""
        return bool(self.known) or is_long(read_config(self.path))

    def adding(self, path: Path) -> Added:
        """Return what holds once the models of a file are to be served, too.

        Raises:
            ConfigError: One of them has a problem, or its name is that of another.
        """
        path = Path(os.path.normpath(path.absolute()))
        names = names_in(path)
        for name in names:
            other = self.files.get(name)
            if other is not None and other != path:
                raise ConfigError(
                    f"there is a model {name!r} already, from {other}; give this one another "
                    f"name, or remove that one first: undrift models remove {name}"
                )
        return self.known.with_file(self.path, path, names)

    def removing(self, name: str) -> Added:
        """Return what holds once a model is not to be served any more.

        Raises:
            ConfigError: There is no such model, or it is the last.
        """
        if name not in self.files:
            raise ConfigError(no_model(name, self.names))
        if self.is_alone:
            raise ConfigError(f"{name!r} is the last model; `undrift down` stops the platform")
        if [*self.models] == [name]:
            broken = "\n".join(self.broken.values())
            raise ConfigError(f"{name!r} is the last model that can be served:\n{broken}")
        return self.known.without(name, listed=name in self.listed)


def wanted(path: Path | None = None) -> Wanted:
    """Read which models a platform shall serve; one with a broken configuration breaks no other.

    Args:
        path: The platform's YAML file; else as `find_config` finds it.

    Raises:
        ConfigError: The file cannot be used at all: then the text tells everything.
        StoreError: What verbs have changed cannot be read.
    """
    path = Path(os.path.normpath(find_config(path)))
    good, bad = _each(path)
    first = next(iter(good.values()))
    known = Added.of(first)
    found = Wanted(path, known, {}, dict.fromkeys((*good, *bad), path), {})
    for name in known.removed:
        found.files.pop(name, None)
    found.models |= {n: one.view(n) for n, one in good.items() if n in found.files}
    found.broken |= {n: why for n, why in bad.items() if n in found.files}
    for name, file in known.added.items():
        if name in found.files:
            found.broken[name] = f"models: {name} is both in {path} and added from {file}"
            found.models.pop(name, None)
            continue
        found.files[name] = Path(file)
        try:
            found.models[name] = _one(Path(file), name).view(name, first)
        except ConfigError as error:
            found.broken[name] = str(error)
    if not found.models:
        raise ConfigError("\n".join(found.broken.values()) or f"{path.name}: no model is left")
    return found


def names_in(path: Path) -> list[str]:
    """Return the names of the models in a YAML file that is to be added.

    Raises:
        ConfigError: One of them has a problem.
    """
    return [*parse_platform(read_config(find_config(path)), path).models]


def load_model(path: Path | None, model: str | None, changes: Sequence[str] = ()) -> Config:
    """Read the configuration of one model of a platform.

    Args:
        path: The platform's YAML file; else as `find_config` finds it.
        model: Its name; without one the file must have one model alone.
        changes: What to set instead in the platform's file, each as ``section.key=value``.

    Raises:
        ConfigError: It has problems, or there is no such model.
    """
    if model is None:
        return load_config(path, changes)
    if changes:
        path = find_config(path)
        platform = parse_platform(read_config(path), path, changes)
        if model in platform.models:
            return platform.view(model)
    found = wanted(path)
    if model in found.models:
        return found.models[model]
    raise ConfigError(found.broken.get(model) or no_model(model, found.names))


def no_model(name: str, names: Sequence[str]) -> str:
    """Return what to say of a name that no model has."""
    return f"no model {name!r}; there {'are' if len(names) > 1 else 'is'} {', '.join(names)}"


def _one(path: Path, name: str) -> PlatformConfig:
    """Return a file of one or more models that is to have one of a name."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; it was added as model {name!r}")
    good, bad = _each(path)
    if name in good:
        return good[name]
    raise ConfigError(bad.get(name) or f"{path}: no model {name!r}, as which it was added")


def _each(path: Path) -> tuple[dict[str, PlatformConfig], dict[str, str]]:
    """Return the models of a file, each with a platform of its own, and what is wrong with others.

    Raises:
        ConfigError: There is none that can be used.
    """
    data = changed(read_config(path), ())
    try:
        whole = parse_platform(data, path)
        return dict.fromkeys(whole.models, whole), {}
    except ConfigError as error:
        entries = data.get(MODELS)
        if not isinstance(entries, dict) or len(entries) < 2:
            raise
        told = error
    good, bad = dict[str, PlatformConfig](), dict[str, str]()
    for name, entry in entries.items():
        try:
            good[name] = parse_platform({**data, MODELS: {name: entry}}, path)
        except ConfigError as error:
            bad[str(name)] = str(error)
    if not good:
        raise told
    return good, bad

"""What the configuration is made of: what is a model's, what is the platform's, and both as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from undrift.config.regression import answered_alone, check_monitor
from undrift.control.settings import LifecycleSettings
from undrift.errors import ConfigError
from undrift.k8s.settings import KubernetesSettings
from undrift.model.layout import Layout
from undrift.model.settings import ModelSettings
from undrift.monitor.settings import MonitorSettings
from undrift.serve.settings import ListenSettings, ReplicaSettings, ServeSettings
from undrift.settings import Folder, InputFile, Section, State
from undrift.store.bucket import Bucket, local_folder
from undrift.store.place import Root
from undrift.store.root import MODELS_FOLDER
from undrift.store.settings import RetentionSettings
from undrift.train.settings import TrainSettings

_SHARED = ("state", "local", "logs", "kubernetes")


class ModelConfig(Section):
    """Everything that is one model's own."""

    model: ModelSettings
    """The model to serve."""

    reference: InputFile
    """Held-out labelled rows: an `.npz` or `.safetensors` file with `x`, (n, *input_shape), or one
    array for each of `model.inputs`, and `y`, (n,) class index, or (n,) or (n, outputs) numbers of
    a regression, in order of time; `row`, (n,), where each stood in its stream, if they are not
    consecutive."""

    serve: ReplicaSettings = ReplicaSettings()
    """Its replicas."""

    monitor: MonitorSettings = MonitorSettings()
    """What counts as drift."""

    train: TrainSettings = TrainSettings()
    """How to retrain."""

    lifecycle: LifecycleSettings = LifecycleSettings()
    """When to act."""

    retention: RetentionSettings = RetentionSettings()
    """How much of what was recorded is kept."""

    @model_validator(mode="after")
    def _ids_have_no_distance(self) -> Self:
        if any(one.is_integer for one in self.model.inputs):
            digits = Layout(self.model.inputs).digits()
            self.__dict__["monitor"] = self.monitor.with_ids(digits)  # a section is frozen
        return self

    @model_validator(mode="after")
    def _numbers_have_no_classes(self) -> Self:
        if self.model.is_regression:
            check_monitor(self.monitor)
            self.__dict__["serve"] = answered_alone(self.serve)
        return self


class StateConfig(Section):
    """Where everything is kept that outlives a process."""

    state: State = Field(default=Path("state"), validate_default=True)
    """Folder for everything that outlives a restart, created if missing; or `s3://bucket/prefix`."""

    local: Folder | None = None
    """Folder of this machine for what belongs to it: token, log, cache; null: the state folder, or
    for a bucket one below `$XDG_STATE_HOME/undrift`."""

    logs: Literal["text", "json"] = "text"
    """How controller, monitor, trainer and replicas write their logs. json: one object on a line,
    with `run` and `version` where they concern one; then all events are logged, too."""

    @property
    def root(self) -> Root:
        """The state: its folder, or its place in a bucket."""
        return Bucket(self.state, self.machine) if isinstance(self.state, str) else self.state

    @property
    def machine(self) -> Path:
        """Folder of this machine for what belongs to it."""
        if self.local is not None:
            return self.local
        return local_folder(self.state) if isinstance(self.state, str) else self.state


class Config(StateConfig, ModelConfig):
    """One model and the platform that serves it: the short form of the YAML file."""

    serve: ServeSettings = ServeSettings()
    """HTTP and replicas."""

    kubernetes: KubernetesSettings = KubernetesSettings()
    """Where and how `undrift k8s` deploys."""

    _folder: Path = PrivateAttr(default_factory=Path.cwd)

    @property
    def artifacts(self) -> tuple[ModelSettings, Path, Path, int]:
        """What `undrift.model.artifacts.load_inputs` reads."""
        return self.model, self.reference, self.folder, self.monitor.min_reference_rows

    @property
    def folder(self) -> Path:
        """Folder of the YAML file; the model's module is imported from there."""
        return self._folder

    @property
    def model_state(self) -> Root:
        """Folder of all that is durable of the model; a state folder has more beside it."""
        return self.model_in(self.root)

    def model_in(self, state: Root) -> Root:
        """Return the folder of the model in a state."""
        return state / MODELS_FOLDER / self.model.name


class PlatformConfig(StateConfig):
    """One platform and the models that it serves: the long form of the YAML file."""

    models: dict[str, ModelConfig] = Field(min_length=1)
    """The models by name, each with the sections that are its own."""

    serve: ListenSettings = ListenSettings()
    """Where HTTP listens."""

    kubernetes: KubernetesSettings = KubernetesSettings()
    """Where and how `undrift k8s` deploys."""

    _folder: Path = PrivateAttr(default_factory=Path.cwd)

    @field_validator("models", mode="before")
    @classmethod
    def _key_is_the_name(cls, models: Any) -> Any:
        """Give each model its key as its name."""
        if not isinstance(models, dict):
            return models
        named = {}
        for key, entry in models.items():
            model = entry.get("model") if isinstance(entry, dict) else None
            if not isinstance(model, dict):
                named[key] = entry
                continue
            if model.get("name", key) != key:
                raise ValueError(f"{key} has model.name {model['name']!r}; leave the name out")
            named[key] = {**entry, "model": {**model, "name": key}}
        return named

    @staticmethod
    def of(config: Config) -> PlatformConfig:
        """Return the long form of a configuration of one model."""
        serve = dict(config.serve)
        listen = {key: serve.pop(key) for key in ListenSettings.model_fields}
        own = {key: getattr(config, key) for key in ModelConfig.model_fields}
        shared = {key: getattr(config, key) for key in _SHARED}
        model = ModelConfig(**own | {"serve": ReplicaSettings(**serve)})
        platform = PlatformConfig(
            models={config.model.name: model}, serve=ListenSettings(**listen), **shared
        )
        platform._folder = config.folder
        return platform

    def view(self, name: str, on: PlatformConfig | None = None) -> Config:
        """Return one model with the platform that serves it, or with another, ``on``."""
        on = on or self
        shared = {key: getattr(on, key) for key in _SHARED}
        serve = ServeSettings(**dict(self.models[name].serve), **dict(on.serve))
        config = Config(**dict(self.models[name]) | shared | {"serve": serve})
        config._folder = self._folder
        return config

    def only(self, way_out: str = "name one with --model") -> Config:
        """Return the one model with the platform that serves it.

        Args:
            way_out: What to do if there are several, for the message.

        Raises:
            ConfigError: There are several.
        """
        if len(self.models) > 1:
            raise ConfigError(f"models: there are several, {', '.join(self.models)}; {way_out}")
        return self.view(next(iter(self.models)))

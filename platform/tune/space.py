"""What is searched: keys of the configuration and the values that each may take."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import yaml

from undrift.config import Config, load_config
from undrift.errors import ConfigError
from undrift.train.settings import MethodName

SECTIONS = ("monitor", "train", "lifecycle")
RANGES = ("uniform", "loguniform", "randint", "lograndint")
WHOLE = ("randint", "lograndint")
# Where it runs, not how it decides: a replay comes out the same whatever these say.
INERT = frozenset({
    "lifecycle.mode", "monitor.features", "monitor.seed", "train.address", "train.idle_s",
    "train.keep_staged", "train.nice", "train.threads", "train.token_file", "train.use_gpu",
    "train.workers",
})  # fmt: skip

Settings = dict[str, str]
"""Values by ``section.key``, as YAML text."""


@dataclass(frozen=True, slots=True)
class Domain:
    """The values that one key may take, in the words of Ray Tune.

    Attributes:
        kind: ``choice``, ``uniform``, ``loguniform``, ``randint`` or ``lograndint``.
        options: What there is to choose from, as YAML text.
        low: Lower bound of a range.
        high: Upper bound; whole numbers stay below it.

    Example:
        >>> str(Domain.parse("loguniform(1e-4, 1e-2)"))
        'loguniform(0.0001, 0.01)'
    """

    kind: str
    options: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0

    @staticmethod
    def parse(text: str) -> Domain:
        """Read an expression such as ``choice(bandit, full)``.

        Raises:
            ConfigError: It is none; the text says what was expected.
        """
        match = re.fullmatch(r"\s*(?:tune\.)?(\w+)\((.*)\)\s*", text, re.DOTALL)
        kind = match[1] if match else ""
        if match is None or kind not in ("choice", *RANGES):
            raise ConfigError(f"expected choice(a, b, ...) or {', '.join(RANGES)}(low, high)")
        options = tuple(part.strip().strip("\"'") for part in match[2].strip("[] ").split(","))
        if kind == "choice":
            if "" in options or len(set(options)) < len(options):
                raise ConfigError("expected one value or more, all different")
            return Domain(kind, options)
        return _range(kind, options)

    @property
    def extremes(self) -> tuple[str, ...]:
        """Values that are all allowed only if every value is."""
        last = self.high - 1 if self.kind in WHOLE else self.high
        return self.options or (value_text(self._typed(self.low)), value_text(self._typed(last)))

    def _typed(self, value: float) -> int | float:
        return int(value) if self.kind in WHOLE else value

    def __str__(self) -> str:
        bounds = (value_text(self._typed(self.low)), value_text(self._typed(self.high)))
        return f"{self.kind}({', '.join(self.options or bounds)})"


def _range(kind: str, bounds: tuple[str, ...]) -> Domain:
    try:
        low, high = map(float, bounds)
    except ValueError:
        raise ConfigError(f"expected {kind}(low, high), two numbers") from None
    if kind in WHOLE and not (low.is_integer() and high.is_integer()):
        raise ConfigError(f"{kind} draws whole numbers between whole numbers")
    if not low < high:
        raise ConfigError("the lower bound must be below the upper one")
    if kind.startswith("log") and low <= 0:
        raise ConfigError("a logarithmic scale needs a lower bound above 0")
    return Domain(kind, low=low, high=high)


def value_text(value: str | float) -> str:
    """Return a drawn value as YAML text; three digits of a fraction are enough.

    Example:
        >>> value_text(0.00123456), value_text(0.00001), value_text(20_000), value_text("bandit")
        ('0.00123', '1.0e-05', '20000', 'bandit')
    """
    if not isinstance(value, float):
        return str(value)
    text = repr(float(f"{value:.3g}"))
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}.0e{exponent}" if e and "." not in mantissa else text


def read_space(file: Path | None, expressions: tuple[str, ...], config: Config) -> dict[str, str]:
    """Return what the user asks to search, by ``section.key``; a good default if nothing.

    Args:
        file: A YAML file with sections and keys as in the configuration, expressions as values.
        expressions: More of them, each as ``section.key=expression``.
        config: The present configuration.

    Raises:
        ConfigError: The file or an expression is not of this form.
    """
    wanted = dict(_from_file(file)) if file else {}
    for text in expressions:
        name, equals, expression = text.partition("=")
        if not equals:
            raise ConfigError(
                f"{text!r}: expected section.key=expression, "
                "as train.learning_rate=loguniform(1e-4, 1e-2)"
            )
        wanted[name.strip()] = expression.strip()
    return wanted or default_space(config)


def _from_file(path: Path) -> Iterator[tuple[str, str]]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a YAML file: {error}") from None
    if not isinstance(data, dict) or not all(isinstance(part, dict) for part in data.values()):
        raise ConfigError(f"{path}: expected sections of keys, as in undrift.yaml")
    for section, part in data.items():
        for key, expression in part.items():
            yield f"{section}.{key}", str(expression)


def default_space(config: Config) -> dict[str, str]:
    """Return what is worth searching where nothing is known: the policy, and how to retrain."""
    days = config.monitor.days_per_false_drift
    budget = (
        {"monitor.rows_per_false_drift": "lograndint(1000, 100001)"}
        if days is None
        else {"monitor.days_per_false_drift": f"loguniform({days / 30!r}, {days * 3!r})"}
    )
    return budget | {
        "lifecycle.retrain_when": "choice(better, worse)",
        "lifecycle.min_regime_rows": "lograndint(100, 2001)",  # read where drift alone is enough
        "lifecycle.retrain_every_rows": "choice(0, 250, 500, 1000, 2000)",
        "train.method": f"choice({', '.join(get_args(MethodName))})",
        "train.learning_rate": "loguniform(0.0005, 0.02)",
        "train.steps": "lograndint(100, 1501)",
        "train.retention_share": "uniform(0.0, 0.7)",
    }


def checked_space(wanted: Mapping[str, str], path: Path) -> dict[str, Domain]:
    """Return the domains, after the configuration has accepted every value that they allow.

    Args:
        wanted: Expressions by ``section.key``.
        path: The configuration that is tuned.

    Raises:
        ConfigError: A key cannot be searched, or a value is not allowed; the text lists them all.
    """
    space, problems = {}, []
    for key, expression in wanted.items():
        try:
            space[key] = _checked(key, expression, path)
        except ConfigError as error:
            problems += [f"{key}={expression}: {line}" for line in str(error).splitlines()]
    if problems:
        raise ConfigError("\n".join(problems))
    return space


def _checked(key: str, expression: str, path: Path) -> Domain:
    section, _, name = key.partition(".")
    if section not in SECTIONS or not name:
        raise ConfigError(f"expected a key of {', '.join(SECTIONS)}, as train.learning_rate")
    if key in INERT:
        raise ConfigError("a replay comes out the same whatever this is; set it by hand")
    domain = Domain.parse(expression)
    for value in domain.extremes:
        config = load_config(path, (f"{key}={value}",))
    kind = type(getattr(config, section)).model_fields[name].annotation
    if kind is int and domain.kind in ("uniform", "loguniform"):
        raise ConfigError("a whole number; draw it with randint or lograndint")
    return domain

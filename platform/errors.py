"""One tree of errors, all of which survive pickling between Ray processes.

UndriftError
├── ConfigError        the YAML, or a file it names, is wrong
├── ModelError         the factory, the architecture or the weights are wrong
├── RequestError       one HTTP request is wrong; carries the status to answer with
├── StoreError         durable state is missing, damaged or written by a newer release
├── TrainingError      a retraining could not start or could not finish
├── SwapError          the replicas could not change version
├── IllegalTransitionError  an event that cannot happen in the present lifecycle phase
└── PlatformError      starting, finding or stopping a running platform
    ├── AwayError      another cluster does not answer now, and may later
    └── BusyError      it has too much to do now; says when to try again
"""

from __future__ import annotations


class UndriftError(Exception):
    """Base of every error that undrift raises on purpose; its text is meant for a person."""


class ConfigError(UndriftError):
    """The configuration, or a file it names, cannot be used."""


class ModelError(UndriftError):
    """The model factory failed, or weights do not fit the architecture."""


class StoreError(UndriftError):
    """Durable state is missing, damaged, or from a newer release."""


class TrainingError(UndriftError):
    """A retraining could not start or finish; the live model is untouched."""


class SwapError(UndriftError):
    """The replicas could not all change version; the live model is untouched."""


class IllegalTransitionError(UndriftError):
    """An event that cannot happen in the present lifecycle phase."""


class PlatformError(UndriftError):
    """The platform could not be started, found or stopped."""


class AwayError(PlatformError):
    """Another cluster does not answer now, or not as it should; it may later."""


class BusyError(PlatformError):
    """The platform has too much to do now.

    Args:
        message: What it said.
        retry_after_s: Seconds after which to try again.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[type[BusyError], tuple[str, float]]:
        return type(self), (str(self), self.retry_after_s)


class RequestError(UndriftError):
    """One HTTP request is wrong.

    Args:
        message: What was wrong and what was expected.
        status: HTTP status to answer with, 400 to 499, or 503 for back-pressure.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[type[RequestError], tuple[str, int]]:
        return type(self), (str(self), self.status)


def last_line(text: str) -> str:
    """Return the last error that a program told, or else its last line."""
    lines = [line for line in text.splitlines() if line.strip()] or ["it said nothing"]
    errors = [line for line in lines if line.startswith("error: ")] or lines
    return errors[-1].removeprefix("error: ")

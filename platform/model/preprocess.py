"""The user's function that makes the model's input of what requests bring: images, texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from undrift.errors import ConfigError, RequestError
from undrift.model.layout import Layout, layout_of, rows_of
from undrift.model.settings import ModelSettings
from undrift.model.usercode import explain, load_function
from undrift.records import FloatArray


class Preprocess:
    """Makes rows of values, by a function of the user's.

    Args:
        name: How the configuration names the function.
        function: Gets a list of bytes, and returns an array of (n, *shape), or of several inputs
            a dict of arrays by name.
        shape: Shape of one row.
        layout: The inputs, if there are several.

    Example:
        >>> lengths = Preprocess("m:f", lambda values: [[len(v)] for v in values], (1,), None)
        >>> lengths([b"ab", b"c"]).tolist()
        [[2.0], [1.0]]
    """

    def __init__(
        self,
        name: str,
        function: Callable[[list[bytes]], Any],
        shape: tuple[int, ...],
        layout: Layout | None,
    ) -> None:
        self._name, self._function = name, function
        self._shape, self._layout = shape, layout

    def __call__(self, values: Sequence[bytes]) -> FloatArray:
        """Return (n, *row_shape) rows of n values.

        Raises:
            RequestError: 422, the function fails, or what it returns are no such rows.
        """
        try:
            made = self._function(list(values))
        except Exception as error:
            raise self._refused(f"fails: {explain(error)}") from error
        several = self._layout is not None
        if isinstance(made, Mapping) != several:
            wanted = "a dict of arrays by name" if several else "one array"
            raise self._refused(f"returns a {type(made).__name__}, not {wanted}")
        try:
            arrays = {k: np.asarray(v) for k, v in (made if several else {"x": made}).items()}
            rows = rows_of(arrays, self._shape, self._layout)
        except (TypeError, ValueError) as error:
            raise self._refused(f"returns no rows: {error}") from error
        if len(rows) != len(values):
            raise self._refused(f"returns {len(rows)} rows for {len(values)} values")
        return rows

    def _refused(self, what: str) -> RequestError:
        return RequestError(f"model.preprocess {self._name} {what}", 422)


def load_preprocess(model: ModelSettings, folder: Path | None) -> Preprocess | None:
    """Return the configured function; None if there is none.

    Raises:
        ModelError: It cannot be found.
    """
    if model.preprocess is None:
        return None
    function = load_function(model.preprocess, folder, "model.preprocess")
    return Preprocess(model.preprocess, function, model.input_shape, layout_of(model))


def check_preprocess(model: ModelSettings, folder: Path) -> None:
    """Try the configured function on its example, if there are both.

    Raises:
        ModelError: It cannot be found.
        ConfigError: It makes no rows of the example.
    """
    function = load_preprocess(model, folder)
    if function is None or model.preprocess_example is None:
        return
    value = model.preprocess_example.read_bytes()
    try:
        one, two = function([value]), function([value, value])
    except RequestError as error:
        raise ConfigError(f"{model.preprocess_example}: {error}") from error
    if not np.array_equal(two, np.concatenate([one, one])):
        raise ConfigError(
            f"{model.preprocess_example}: model.preprocess {model.preprocess} makes other rows of "
            "two values than of one: a row must depend on its value alone"
        )

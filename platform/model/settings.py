"""The model section of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from undrift.settings import InputFile, Section

_FUNCTION = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"


def _classes(value: int | tuple[str, ...]) -> int | tuple[str, ...]:
    if isinstance(value, int):
        if value < 2:
            raise ValueError("2 or more classes")
    elif len(value) < 2 or len(set(value)) < len(value):
        raise ValueError("2 or more class names, all different")
    return value


class InputSettings(Section):
    """One of several inputs of a model."""

    name: str = Field(pattern=r"^[A-Za-z_]\w*$", max_length=64)
    """Its name in requests and in the reference."""

    shape: tuple[Annotated[int, Field(gt=0)], ...] = ()
    """Shape of one row of it, without the batch."""

    datatype: Literal["FP32", "BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64"] = "FP32"
    """What it consists of."""

    @property
    def is_integer(self) -> bool:
        """Whether it is whole numbers, which the model gets as such."""
        return self.datatype != "FP32"


class ModelSettings(Section):
    """Where the model comes from, and what goes in and out."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)
    """Name in URLs: letters, digits, dots, dashes and underscores."""

    factory: str = Field(pattern=_FUNCTION)
    """Function without arguments that returns the `nn.Module`, as `module:function`; the module
    may lie beside the YAML file. The model maps a batch to one logit per class, or to numbers with
    `task: regression`."""

    weights: InputFile
    """Initial weights, a `.safetensors` file that fits the factory's model."""

    input_shape: tuple[Annotated[int, Field(gt=0)], ...] = ()
    """Shape of one input row, without the batch, of a model that takes one tensor of floats."""

    inputs: tuple[InputSettings, ...] = ()
    """Instead of `input_shape`: the inputs of a model that takes several, or whole numbers, each
    with `name`, `shape` without the batch and `datatype`: FP32, BOOL, UINT8, INT8, INT16, INT32 or
    INT64. `forward` gets them by keyword where it has parameters of these names or `**kwargs`, else
    by position in this order."""

    preprocess: str | None = Field(None, pattern=_FUNCTION)
    """Function that makes rows of what requests bring, as `module:function`: requests then have one
    tensor `input` of datatype BYTES, an image or a text for each row; it gets them as a list of
    bytes and returns an array (rows, *input_shape), or a dict of arrays by name of `inputs`."""

    preprocess_example: InputFile | None = None
    """File with the bytes of one such value, on which `preprocess` is tried beforehand."""

    task: Literal["classification", "regression"] = "classification"
    """What the model answers: `classification`, one logit per class; `regression`, one number or
    several for each row, as many as a forward pass shows."""

    classes: Annotated[int | tuple[str, ...], AfterValidator(_classes)] | None = None
    """Number of classes, or their names in the order of the model's outputs; not with
    `task: regression`."""

    embedding: str = "auto"
    """Module whose input is the embedding; `auto` is the last linear layer."""

    output: str | int | None = None
    """Name or index of the logits, or numbers, where the model answers a tuple, a dict or a
    dataclass, as `logits` or `0`; by default the one floating tensor of shape (rows, classes)."""

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        names = [one.name for one in self.inputs]
        if bool(self.input_shape) == bool(self.inputs):
            raise ValueError(
                "input_shape, the shape of one input row without the batch, or inputs, a list of "
                "several with name, shape and datatype; one of the two is needed"
            )
        if len(set(names)) < len(names) or {"y", "row"} & set(names):
            raise ValueError("inputs need different names, none of them y or row")
        return self

    @model_validator(mode="after")
    def _classes_or_numbers(self) -> Self:
        if not self.is_regression and self.classes is None:
            raise ValueError(
                "classes is missing, the number of classes or their names; a model that answers "
                "numbers has task: regression instead"
            )
        if self.is_regression and self.classes is not None:
            raise ValueError(
                "task: regression has no classes; leave classes out, the number of outputs is "
                "found by a forward pass"
            )
        return self

    @property
    def is_regression(self) -> bool:
        """Whether the model answers numbers instead of classes."""
        return self.task == "regression"

    @property
    def class_count(self) -> int:
        """Number of classes; 0 of a regression."""
        return self.classes if isinstance(self.classes, int) else len(self.classes or ())

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; their numbers as text where the config names none."""
        if isinstance(self.classes, int):
            return tuple(str(i) for i in range(self.classes))
        return self.classes or ()

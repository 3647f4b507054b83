"""The model section of the configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from undrift.settings import InputFile, Section


def _classes(value: int | tuple[str, ...]) -> int | tuple[str, ...]:
    if isinstance(value, int):
        if value < 2:
            raise ValueError("2 or more classes")
    elif len(value) < 2 or len(set(value)) < len(value):
        raise ValueError("2 or more class names, all different")
    return value


class ModelSettings(Section):
    """Where the model comes from, and what goes in and out."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)
    """Name in URLs: letters, digits, dots, dashes and underscores."""

    factory: str = Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")
    """Function without arguments that returns the `nn.Module`, as `module:function`; the module
    may lie beside the YAML file. The model maps a batch to one logit per class."""

    weights: InputFile
    """Initial weights, a `.safetensors` file that fits the factory's model."""

    input_shape: tuple[Annotated[int, Field(gt=0)], ...] = Field(min_length=1)
    """Shape of one input row, without the batch."""

    classes: Annotated[int | tuple[str, ...], AfterValidator(_classes)]
    """Number of classes, or their names in the order of the model's outputs."""

    embedding: str = "auto"
    """Module whose input is the embedding; `auto` is the last linear layer."""

    output: str | int | None = None
    """Name or index of the logits where the model answers a tuple, a dict or a dataclass, as
    `logits` or `0`; by default the one floating tensor of shape (rows, classes)."""

    @property
    def class_count(self) -> int:
        """Number of classes."""
        return self.classes if isinstance(self.classes, int) else len(self.classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; their numbers as text where the config names none."""
        if isinstance(self.classes, int):
            return tuple(str(i) for i in range(self.classes))
        return self.classes

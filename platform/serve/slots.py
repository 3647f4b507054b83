"""The model that answers, and beside it the one that is about to."""

from __future__ import annotations

import itertools
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from undrift.errors import ModelError, RequestError, SwapError
from undrift.model.door import door_of
from undrift.model.mixture import Mixture
from undrift.model.network import Factory, find_head, forward_with_embedding, load_weights
from undrift.model.receipt import Receipt
from undrift.records import FloatArray, IntArray, TargetArray

with warnings.catch_warnings(action="ignore"):  # PyTorch warns once of rows that are read-only
    torch.from_numpy(np.frombuffer(bytes(4), np.float32))

NEGLIGIBLE_S = 0.01  # a forward pass of the probe below this is never called slow


@dataclass(frozen=True, slots=True)
class Answer:
    """What one version of the model says about a batch, alone or in a mixture.

    Attributes:
        output: (n, c) class probabilities, or numbers of a regression, that are answered.
        alone: (n, c) the same by the model alone; the same array without a mixture.
        embedding: (n, e) input of the head.
        version: Version that computed all rows.
        hash: Hash of its weights.
        labels: Labels that the mixture has learnt from; 0 without one.
    """

    output: FloatArray
    alone: FloatArray
    embedding: FloatArray
    version: int
    hash: str
    labels: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of what the model says, of all rows."""
        return self.embedding.nbytes + self.alone.nbytes

    def rows(self, part: slice) -> Answer:
        """Return the answer to some of the rows."""
        return replace(
            self,
            output=self.output[part],
            alone=self.alone[part],
            embedding=self.embedding[part],
        )


@dataclass(frozen=True, slots=True)
class Slot:
    """A version that is loaded, and was tried on a few rows."""

    version: int
    hash: str
    model: nn.Module
    head: nn.Linear
    width: int
    probe_s: float
    mixture: Mixture | None = None  # by which it answers


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    return itertools.chain(model.parameters(), model.buffers())


class DoubleBuffer:
    """Holds the live model and, during a swap, the prepared one.

    Preparing runs beside answering. Forward passes run one at a time, and the flip takes the same
    lock: once ``commit`` returns, no answer of the old version is still being computed. The version
    before is kept until the monitor no longer wants to know what it would have answered.

    Args:
        factory: Builds a new model, unfilled, on each call.
        head: Dotted name of the last linear layer, or ``auto``.
        device: Where the models live.
        max_slowdown: A version that takes more than this many times the processor time of the
            live one is refused.
    """

    def __init__(
        self,
        factory: Factory,
        head: str = "auto",
        device: str = "cpu",
        max_slowdown: float = 10.0,
    ) -> None:
        self._factory = factory
        self._head = head
        self._max_slowdown = max_slowdown
        self._device = torch.device(device)
        self._compute = threading.Lock()
        self._state = threading.Lock()
        self._live: Slot | None = None
        self._prepared: Slot | None = None
        self._former: Slot | None = None
        self._ticket = 0  # raised by whatever makes a preparation that still runs obsolete

    @property
    def version(self) -> int | None:
        """Version that answers now; None before the first."""
        return self._live.version if self._live is not None else None

    @property
    def hash(self) -> str:
        """Hash of the weights that answer now; empty before the first."""
        return self._live.hash if self._live is not None else ""

    @property
    def nbytes(self) -> int:
        """Bytes of the live version's weights; 0 before the first."""
        return 0 if self._live is None else sum(t.nbytes for t in _tensors(self._live.model))

    @property
    def prepared(self) -> int | None:
        """Version that ``commit`` would make live."""
        return self._prepared.version if self._prepared is not None else None

    def predict(self, x: FloatArray) -> Answer:
        """Answer a batch with the live version.

        Args:
            x: (n, *input_shape) input.

        Raises:
            RequestError: 503, nothing is loaded yet.
        """
        with self._compute:
            live = self._live
            if live is None:
                raise RequestError("the model is not loaded yet; try again", status=503)
            alone, embedding = self._forward(live.model, live.head, x)
        if live.mixture is None:
            return Answer(alone, alone, embedding, live.version, live.hash)
        output = live.mixture(alone, embedding, x)
        return Answer(output, alone, embedding, live.version, live.hash, live.mixture.labels)

    @property
    def compares(self) -> bool:
        """Whether there is a version before that is still asked what it would answer."""
        return self._former is not None

    def former(self, x: FloatArray, version: int) -> TargetArray | None:
        """Return what the version before would have answered where ``version`` did.

        Args:
            x: (n, *input_shape) input.
            version: Version that has answered it.

        Returns:
            (n,) classes, or (n, c) numbers of a regression; None if the version before is not asked
            any more, or another one is live.
        """
        with self._compute:
            former = self._former
            if former is None or version != self.version:
                return None
            output, embedding = self._forward(former.model, former.head, x)
        if former.mixture is not None:
            output = former.mixture(output, embedding, x)
        if door_of(former.model).numbers:
            return output
        classes: IntArray = output.argmax(axis=1)
        return classes

    @property
    def mixing(self) -> tuple[int, int]:
        """Name of the mixture that answers; (0, 0) while the live version answers alone."""
        live = self._live
        return live.mixture.name if live is not None and live.mixture is not None else (0, 0)

    def heed(self, receipt: Receipt) -> None:
        """Take a newer mixture of the live version, and let the version before go in time."""
        with self._state:
            live, mixture = self._live, receipt.mixture
            if live is None or receipt.watched != live.version:
                return  # the monitor has not heard of the swap
            if mixture is not None and mixture.version == live.version:
                self._live = replace(live, mixture=mixture)
            if self._former is not None and self._former.version != receipt.against:
                self._former = None

    def prepare(
        self, version: int, hash_: str, state: Mapping[str, torch.Tensor], probe: FloatArray
    ) -> None:
        """Build, fill and warm up ``version`` beside the live model.

        Args:
            version: Version of the weights.
            hash_: Their hash, for the answers.
            state: The weights.
            probe: (n, *input_shape) rows to warm up with; the answers must be finite.

        Raises:
            ModelError: The weights do not fit, or the answers are not finite, of another width than
                the live version's, or far slower; nothing is prepared.
            SwapError: ``abort`` or a newer ``prepare`` overtook this one.
        """
        with self._state:
            self._ticket += 1
            ticket = self._ticket
            self._prepared = None
        slot = self.load_beside(version, hash_, state, probe)
        with self._state:
            if ticket != self._ticket:
                raise SwapError(f"the preparation of version {version} was aborted")
            self._prepared = slot

    def load_beside(
        self, version: int, hash_: str, state: Mapping[str, torch.Tensor], probe: FloatArray
    ) -> Slot:
        """Return a version that nothing here holds yet; arguments and errors as for ``prepare``."""
        return self._probed(version, hash_, self._build(state), probe)

    def take_up(self, slot: Slot) -> None:
        """Prepare a version that is loaded already."""
        with self._state:
            self._ticket += 1
            self._prepared = slot

    def ask(self, slot: Slot, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return (n, c) outputs and (n, e) embeddings by a version that is loaded beside."""
        return self._forward(slot.model, slot.head, x)

    def commit(self, version: int) -> None:
        """Make the prepared ``version`` live; a repeated commit does nothing.

        Raises:
            SwapError: That version is neither prepared nor live.
        """
        with self._compute, self._state:
            if self._prepared is not None and self._prepared.version == version:
                self._former, self._live, self._prepared = self._live, self._prepared, None
            elif self.version != version:
                raise SwapError(
                    f"version {version} is not prepared (prepared: {self.prepared}, "
                    f"live: {self.version})"
                )

    def abort(self) -> None:
        """Drop the prepared version, or one that is still being prepared."""
        with self._state:
            self._ticket += 1
            self._prepared = None

    def load(
        self, version: int, hash_: str, state: Mapping[str, torch.Tensor], probe: FloatArray
    ) -> None:
        """Prepare and commit in one go; arguments and errors as for ``prepare``."""
        self.prepare(version, hash_, state, probe)
        self.commit(version)

    def _build(self, state: Mapping[str, torch.Tensor]) -> nn.Module:
        model = self._factory()
        live = self._live
        if live is not None:
            ours = {id(p) for p in live.model.parameters()}
            if model is live.model or any(id(p) in ours for p in model.parameters()):
                raise ModelError(
                    "the model factory returned the model that is serving; "
                    "it must build a new one on each call"
                )
        load_weights(model, state)
        return model.to(self._device).eval().requires_grad_(False)

    def _probed(self, version: int, hash_: str, model: nn.Module, probe: FloatArray) -> Slot:
        """Warm a model up, and compare its answers and its cost with those of the live one."""
        head = find_head(model, self._head)[1]
        output, _ = self._forward(model, head, probe)
        if not np.isfinite(output).all():
            raise ModelError(f"version {version} gives answers that are not finite; is it trained?")
        probe_s = min(self._seconds(model, head, probe) for _ in range(3))
        live, width = self._live, output.shape[-1]
        if live is not None and width != live.width:
            raise ModelError(
                f"version {version} gives {width} outputs a row, version {live.version} gives "
                f"{live.width}; they must be of the same classes"
            )
        if live is not None and probe_s > max(NEGLIGIBLE_S, self._max_slowdown * live.probe_s):
            raise ModelError(
                f"version {version} takes {probe_s / live.probe_s:.0f} times as long as version "
                f"{live.version}, more than serve.swap.max_slowdown, {self._max_slowdown:g}"
            )
        return Slot(version, hash_, model, head, width, probe_s)

    def _seconds(self, model: nn.Module, head: nn.Linear, x: FloatArray) -> float:
        """Return the processor time of a forward pass, which other work hardly changes."""
        begun = time.thread_time()
        self._forward(model, head, x)
        return time.thread_time() - begun

    def _forward(
        self, model: nn.Module, head: nn.Linear, x: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        rows = torch.from_numpy(x).to(self._device)  # `ask` copies it before anybody can write
        with torch.inference_mode():
            logits, embedding = forward_with_embedding(model, head, rows)
            output = logits.float()
            if not door_of(model).numbers:
                output = torch.softmax(output, dim=-1)
        return output.cpu().numpy(), embedding.float().cpu().numpy()

"""The folder of one model in the state: predictions, labels, versions, the monitor's checkpoint.

<root>/store.json                 format number
<root>/tables/predictions|labels  Delta Lake, see `record`; `journal` adds events
<root>/versions/<n>/              see `versions`
<root>/blobs/<name>.npz           checkpoints
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from undrift.records import Reference
from undrift.store.place import Where
from undrift.store.record import Record
from undrift.store.remote import open_versions
from undrift.store.versions import Manifest

if TYPE_CHECKING:
    import torch

__all__ = ["Manifest", "Store"]


class Store(Record):
    """Durable state of one model: its record, and its versions.

    Args:
        root: The model's folder of the state; created if missing.
        read_only: Whether nothing may be written, and the directory has to be there.

    Raises:
        StoreError: The directory cannot be used, or a newer release wrote it.
    """

    def __init__(self, root: Where, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._versions = open_versions(self._root, read_only=read_only)

    def add_version(
        self,
        state_dict: Mapping[str, torch.Tensor],
        *,
        parent: int | None,
        reference: Reference,
        metrics: dict[str, Any],
        plan: dict[str, Any] | None,
        run_id: str = "",
        choices: Mapping[str, NDArray[Any]] | None = None,
        once: bool = False,
    ) -> Manifest:
        """Store a model version: all of it, or after a crash nothing.

        Args:
            state_dict: The weights.
            parent: Version that it was trained from.
            reference: Its reference sample.
            metrics: Plain JSON values.
            plan: Retraining plan as plain JSON values. Its ``as_of``, else the present
                ones, become the manifest's ``tables``.
            run_id: Run that made it; a second call for the same run returns the first manifest.
            choices: What the bandits of that run chose, by column.
            once: Whether a version with the same weights, if there is one, stands for it.

        Raises:
            StoreError: The disk refuses, or a stored manifest is damaged.
        """
        draft = Manifest(
            version=0,
            hash="",
            parent=parent,
            created_at=time.time(),
            run_id=run_id,
            metrics=metrics,
            plan=plan,
            tables=(plan or {}).get("as_of") or self.as_of(),
        )
        return self._versions.add(state_dict, reference, draft, choices, once=once)

    def versions(self) -> list[Manifest]:
        """Return the manifests of all model versions, oldest first."""
        return self._versions.all()

    def version_numbers(self) -> list[int]:
        """Return the numbers of all model versions, ascending."""
        return self._versions.numbers()

    def manifest(self, version: int) -> Manifest:
        """Return the manifest of a model version.

        Raises:
            StoreError: There is no such version, or it is damaged.
        """
        return self._versions.manifest(version)

    def state_dict(self, version: int) -> dict[str, torch.Tensor]:
        """Return the weights of a model version on the CPU, their hash verified.

        Raises:
            StoreError: There is no such version, or it is damaged.
        """
        return self._versions.state_dict(version)

    def bandit_log(self, version: int) -> dict[str, NDArray[Any]] | None:
        """Return what the bandits chose for a model version, by column; None if nothing was kept.

        Raises:
            StoreError: There is no such version, or the file is damaged.
        """
        return self._versions.bandit_log(version)

    def weights_path(self, version: int) -> Path:
        """Return the path of the weights of a model version, their hash verified.

        Raises:
            StoreError: There is no such version, or it is damaged.
        """
        return self._versions.weights_path(version)

    def reference(self, version: int) -> Reference:
        """Return the reference sample of a model version.

        Raises:
            StoreError: There is no such version, or it is damaged.
        """
        return self._versions.reference(version)

"""Whether a state is ours to write; once another platform has taken it over, it never is again."""

from __future__ import annotations

from undrift.errors import RequestError, StoreError
from undrift.store.bucket import Bucket
from undrift.store.lease import Keeper, Lease
from undrift.store.place import Root


class Tenure:
    """Keeps the lease of a state in a bucket, if it is the controller who does.

    Args:
        state: The model's folder of the state.
        keeps_lease: Whether to keep its lease; without one the state is ours.

    Raises:
        StoreError: The store does not say whose it is.
    """

    def __init__(self, state: Root, keeps_lease: bool) -> None:
        self._keeper: Keeper | None = None
        self._lost = ""
        if not keeps_lease or not isinstance(state, Bucket) or state.held is None:
            return
        try:
            self._keeper = Keeper(Lease.resume(state.held, state.local))
        except StoreError as error:
            if error.__cause__ is not None:
                raise
            self._lost = str(error)

    @property
    def lost(self) -> str:
        """Who has it now, in a sentence; empty while it is ours."""
        return self._lost or (self._keeper.lost if self._keeper else "")

    def check(self) -> None:
        """Check that it is ours.

        Raises:
            RequestError: It is not, status 503.
        """
        if self.lost:
            raise RequestError(self.lost, 503)

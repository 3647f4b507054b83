"""Making rows of what requests bring, beside the event loop and within their deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

from undrift.errors import RequestError
from undrift.model.preprocess import Preprocess
from undrift.records import FloatArray


class Preparing:
    """Runs the user's function in a few threads, one request in each.

    A call that is past its deadline goes on, for a thread cannot be stopped, and nobody waits for
    it; a request that waits for a thread is then not begun.

    Args:
        function: The user's function.
    """

    AT_ONCE: ClassVar[int] = 4

    def __init__(self, function: Preprocess) -> None:
        self._function = function
        self._threads = ThreadPoolExecutor(self.AT_ONCE, "preprocess")

    async def rows(self, values: Sequence[bytes], deadline: float) -> FloatArray:
        """Return the rows of a request's values.

        Args:
            values: The values, one a row.
            deadline: Time of the event loop after which nobody wants them any more.

        Raises:
            RequestError: 422, the function makes no rows of them; 504, the deadline passed.
        """
        call = asyncio.get_running_loop().run_in_executor(self._threads, self._function, values)
        try:
            async with asyncio.timeout_at(deadline):
                return await call
        except TimeoutError:
            raise RequestError("the deadline passed before the rows were made", 504) from None

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The one place where code that is not asynchronous meets the driver, which is."""

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, ParamSpec, TypeVar

from spigate.firmware_py.errors import InputError

Given = ParamSpec("Given")
Result = TypeVar("Result")

CLOSED = "the gateway must be open, and it has been closed"


class Bridge:
    """An event loop in a thread of its own. It goes on between two calls, so that links hear at once what
    comes and that their other end is gone; and it works where another event loop runs in the caller's
    thread, as in a notebook.
    """

    def __init__(self) -> None:
        self._turn, self._over = asyncio.Lock(), asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spigate", daemon=True)
        self._thread.start()
        self._ready.wait()

    def call(
        self,
        function: Callable[Given, Coroutine[Any, Any, Result]],
        *arguments: Given.args,
        **named: Given.kwargs,
    ) -> Result:
        """What the coroutine function returns or raises. Where the wait for it is interrupted (Ctrl-C), it
        is cancelled.

        Raises
        ------
        InputError
            The bridge is closed, or another thread closes it meanwhile.
        """
        if not self._thread.is_alive():
            raise InputError(CLOSED)
        waiting = asyncio.run_coroutine_threadsafe(function(*arguments, **named), self._loop)
        try:
            return waiting.result()
        except CancelledError:
            raise InputError(CLOSED) from None
        except BaseException:
            waiting.cancel()
            raise

    def call_alone(
        self,
        function: Callable[Given, Coroutine[Any, Any, Result]],
        *arguments: Given.args,
        **named: Given.kwargs,
    ) -> Result:
        """The same for what must not happen twice at a time, whatever thread calls: a driver knows what
        stands in the tables only between two of its writes.
        """

        async def alone() -> Result:
            async with self._turn:
                return await function(*arguments, **named)

        return self.call(alone)

    def close(self, last: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        """Does what is to be done at last, and ends loop and thread; what still waits is cancelled. A second
        time nothing happens.

        Garbage may be collected in any thread. In the loop's own nobody can wait for it: there it is done
        after this.
        """
        if threading.current_thread() is self._thread:
            self._last = self._loop.create_task(self._finish(last))
        elif self._thread.is_alive():
            try:
                if last is not None:
                    self.call_alone(last)
            finally:
                self._loop.call_soon_threadsafe(self._over.set)
                self._thread.join()

    async def _finish(self, last: Callable[[], Coroutine[Any, Any, None]] | None) -> None:
        try:
            if last is not None:
                await last()
        finally:
            self._over.set()

    def _run(self) -> None:
        # A signal that came to this thread would not wake the one that waits for the answer.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        await self._over.wait()

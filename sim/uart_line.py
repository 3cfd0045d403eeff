# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Inside the simulator: the host's end of a serial line, and a file whose bytes go over it."""

import errno
import os
from typing import Any

import cocotb
from cocotb.triggers import Event

SEND_BYTES, KEEP_BYTES = 64, 256
"""Of the model in ``uart.v``: as many are handed over, and kept, at a time."""
MAX_WAITING = 4096
"""Bytes that wait to be sent; the others wait in the file."""
MAX_UNREAD = 1 << 16
"""Bytes that wait for whoever reads the file; what comes then is lost."""


class UartLine:
    """Parameters
    ----------
    handle
        A ``uart_host``.
    fd : int
        Such as the master of a pseudo-terminal.

    Members
    -------
    sent, received : int
        Bytes that have been handed to the line, and that came over it.
    """

    def __init__(self, handle: Any, fd: int):
        self._handle, self.fd = handle, fd
        os.set_blocking(fd, False)
        self._input, self._output = bytearray(), bytearray()
        self.sent = self.received = 0
        self._more = Event()
        cocotb.start_soon(self._send())

    @property
    def listening(self) -> bool:
        """Whether more is to be read from the file."""
        return len(self._input) < MAX_WAITING

    @property
    def busy(self) -> bool:
        """Whether bytes wait to be sent."""
        return bool(self._input)

    def read(self) -> bool:
        """Takes from the file what there is; False where there was nothing."""
        try:
            data = os.read(self.fd, MAX_WAITING - len(self._input))
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:  # nobody has the other end
                raise
            return False
        self._input += data
        self._more.set()
        return bool(data)

    def write(self) -> bool:
        """Gives the file what came over the line; False where nothing did. More than a few hundred bit
        times must not pass between two calls.
        """
        new = int(self._handle.count.value) - self.received
        if new:
            kept = int(self._handle.received.value).to_bytes(KEEP_BYTES, "little")
            for at in range(self.received, self.received + new):
                if len(self._output) < MAX_UNREAD:
                    self._output.append(kept[at % KEEP_BYTES])
            self.received += new
        try:
            while self._output:
                del self._output[: os.write(self.fd, self._output)]
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self._output.clear()
        return bool(new)

    async def _send(self) -> None:
        handle = self._handle
        while True:
            while self._input:
                chunk = bytes(self._input[:SEND_BYTES])
                handle.data.value = int.from_bytes(chunk, "little")
                handle.length.value = len(chunk)
                handle.request.value = not handle.accepted.value
                await handle.accepted.value_change
                del self._input[: len(chunk)]
                self.sent += len(chunk)
            self._more.clear()
            await self._more.wait()

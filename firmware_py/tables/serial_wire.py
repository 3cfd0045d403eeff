# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A serial line to a board: bursts of UARTBone, many under way at a time.

pyserial sets the line, because Linux has rates such as 3,000,000 only by an ioctl that differs from machine
to machine. Bytes move by asyncio's own readers and writers.
"""

import asyncio
import errno
import os
import termios
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

import serial

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.tables import uartbone
from spigate.firmware_py.tables.bus import Gone, NotThere
from spigate.firmware_py.words import nearest
from spigate.hdl.contract.constants import LINK_BAUD

FORM = "serial:///dev/DEVICE?baud=RATE"
SILENT_SECONDS = 10.0
"""An answer of which no byte comes for so long does not come any more."""
QUIET_SECONDS = 0.15
"""Longer than the pause that ends a command half sent."""
_CHUNK = 1 << 16
_WHY = {
    errno.ENOENT: "there is no such device",
    errno.EACCES: "this user may not open it; on Debian the group dialout may",
    errno.EAGAIN: "another program has it",
    errno.EBUSY: "another program has it",
    errno.ENOTTY: "it is no serial line",
}


def _why(error: serial.SerialException) -> str:
    """pyserial tells the number of an error in one of two places, and of a lock none."""
    inner = error.__context__
    number = error.errno or (inner.args[0] if isinstance(inner, termios.error) else None)
    if number is None and "lock" in str(error):
        number = errno.EBUSY
    return _WHY.get(number or 0) or error.strerror or str(error)


Write = tuple[int, Sequence[int]]
"""Byte address, and the words that are written from there on."""


@dataclass(frozen=True)
class Line:
    """A serial line by its device and its rate in bits a second."""

    path: str
    baud: int

    @classmethod
    def of(cls, url: str) -> "Line":
        """The line that a URL of :data:`FORM` names. Raises InputError where it names none."""
        rest, _, query = url.removeprefix("serial:").partition("?")
        path = "/" + rest.lstrip("/") if rest.startswith("///") else rest
        if not url.startswith("serial:") or not path or path.startswith("//"):
            raise InputError(f"expected {FORM}, not {url!r}")
        baud = LINK_BAUD
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name != "baud":
                meant = "; do you mean baud?" if nearest(name, ["baud"]) else ""
                raise InputError(f"{url}: the only option is baud, not {name!r}{meant}")
            if not value.isascii() or not value.isdigit() or int(value) == 0:
                raise InputError(f"{url}: baud must be a number of bits a second, not {value!r}")
            baud = int(value)
        return cls(path, baud)


@dataclass
class _Asked:
    """A burst whose answer is not whole. ``sent``: bytes of all its commands."""

    answer: asyncio.Future[list[int]]
    words: int
    sent: int


class SerialWire:
    """Carries bursts over a serial line, in order. Make one with :meth:`open`.

    Members
    -------
    receive_bytes : int
        What the board keeps while it is busy with an answer; more than that is never under way behind one.
    """

    def __init__(self, url: str, port: serial.Serial):
        self._url, self._port, self._fd = url, port, port.fileno()
        self._loop = asyncio.get_running_loop()
        self._asked: deque[_Asked] = deque()
        self._input, self._output = bytearray(), bytearray()
        self._moved = asyncio.Event()
        self._silent: asyncio.TimerHandle | None = None
        self._failure: Gone | None = None
        self.receive_bytes = uartbone.COMMAND_BYTES
        self._loop.add_reader(self._fd, self._read)

    @classmethod
    async def open(cls, url: str) -> "SerialWire":
        """The line that a URL names, with nothing under way on it.

        Raises
        ------
        NotThere
            It cannot be opened now; the message says why.
        InputError
            The line has no such rate.
        """
        line = Line.of(url)
        try:
            port = serial.Serial(line.path, line.baud, timeout=0, write_timeout=0, exclusive=True)
        except serial.SerialException as error:
            raise NotThere(f"{url}: {_why(error)}") from None
        except (OSError, ValueError, OverflowError) as error:
            raise InputError(f"{url}: {line.baud} baud cannot be set: {error}") from None
        wire = cls(url, port)
        await asyncio.sleep(QUIET_SECONDS)
        wire._input.clear()
        return wire

    @property
    def failure(self) -> Gone | None:
        """Why nothing can be asked any more; None where it can."""
        return self._failure

    async def close(self) -> None:
        """Hangs up, behind what was written: whoever waits hears so."""
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                while self._output and not self._failure:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            pass
        self.fail("is not listened to any more")

    def size(self, writes: Sequence[Write], reads: Sequence[tuple[int, int]]) -> int:
        """Bytes on the line of such a burst."""
        return len(self._commands(writes, reads))

    def _commands(self, writes: Sequence[Write], reads: Sequence[tuple[int, int]]) -> bytes:
        return b"".join(
            [
                *(uartbone.write(address, words) for address, words in writes),
                *(uartbone.read(address, count) for address, count in reads),
            ]
        )

    async def room(self, size: int) -> None:
        """Waits until so many bytes may follow what is under way. Raises Gone."""
        while True:
            if self._failure:
                raise self._failure
            if not self._asked or size + sum(each.sent for each in self._asked) <= self.receive_bytes:
                return
            self._moved.clear()
            await self._moved.wait()

    def send(self, writes: Sequence[Write], reads: Sequence[tuple[int, int]]) -> asyncio.Future[list[int]]:
        """Sends a burst, behind all that was sent before: writes, then reads of so many words from an
        address on, one or more. What is read comes by the future, as one list.
        """
        if self._failure:
            raise self._failure
        answer: asyncio.Future[list[int]] = self._loop.create_future()
        data = self._commands(writes, reads)
        if not self._asked:
            self._expect()
        self._asked.append(_Asked(answer, sum(count for _, count in reads), len(data)))
        self._output += data
        self._write()
        return answer

    def _write(self) -> None:
        try:
            while self._output:
                del self._output[: os.write(self._fd, self._output)]
        except BlockingIOError:
            self._loop.add_writer(self._fd, self._write)
            return
        except OSError:
            self.fail("its serial line is gone")
            return
        self._loop.remove_writer(self._fd)
        self._moved.set()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.fail("its serial line is gone")
            return
        self._input += data
        self._expect()
        while self._asked and len(self._input) >= self._asked[0].words * uartbone.WORD_BYTES:
            asked = self._asked.popleft()
            size = asked.words * uartbone.WORD_BYTES
            words = uartbone.unpack(bytes(self._input[:size]))
            del self._input[:size]
            if not asked.answer.done():
                asked.answer.set_result(words)
            self._moved.set()
        if not self._asked and self._silent is not None:
            self._silent.cancel()
            self._silent = None

    def _expect(self) -> None:
        """From now on a byte is waited for."""
        if self._silent is not None:
            self._silent.cancel()
        self._silent = self._loop.call_later(
            SILENT_SECONDS, self.fail, f"does not answer for {SILENT_SECONDS:.0f} s"
        )

    def fail(self, why: str) -> Gone:
        """From now on nothing can be asked any more: whoever waits hears ``why``."""
        if self._failure is None:
            self._failure = Gone(f"{self._url}: the gateway {why}")
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._port.close()
            if self._silent is not None:
                self._silent.cancel()
            for each in self._asked:
                if not each.answer.done():
                    each.answer.set_exception(self._failure)
                    each.answer.exception()
            self._asked.clear()
            self._moved.set()
        return self._failure

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A gateway on a board, behind its host link (``hdl/contract/board.rdl``): registers and punted frames.

Writes have no answer on the wire. So behind each burst the link's status is read: how many words it has
taken, their CRC, and what was refused. Writes wait for that no longer than until the next read; what was
refused is told then. What did not arrive as it was sent ends the link, because nobody knows what stands in
the tables.
"""

import asyncio
import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from spigate.firmware_py.errors import InputError, UnsupportedError
from spigate.firmware_py.tables import uartbone
from spigate.firmware_py.tables.bus import BusError, Gone, NotThere, check_burst
from spigate.firmware_py.tables.punt import (
    InjectHeader,
    InjectMode,
    Place,
    PuntHeader,
    pack_inject,
    punt_class,
    unpack_punt,
)
from spigate.firmware_py.tables.punt_queues import Classes
from spigate.firmware_py.tables.serial_wire import SerialWire, Write
from spigate.firmware_py.words import counted
from spigate.hdl.contract import rdl
from spigate.hdl.contract.ce_header import CE_HEADER_BYTES
from spigate.hdl.contract.constants import LINK_MAGIC, LINK_MAP, MAX_FRAME
from spigate.hdl.contract.enums import Port, PuntClass

OPEN_SECONDS = 4.0
"""So long a board may take to say what it is."""
STUCK_SECONDS = 30.0
"""So long the gateway may take no injected frame while one waits."""
POLL_SECONDS = (0.001, 0.008)
"""Between two questions for punts: when there was one just now, and when there was none for long."""
BATCH_BYTES = 512
"""Bytes of writes that are gathered while a burst is under way."""
FETCH_WORDS = 255
"""Words of punts that are read at a time: others get their turn between."""
LONGEST_PUNT = 4096
"""Bytes; a longer one is none."""

_REGISTERS = rdl.registers("board")
_LINK = [name.removeprefix("link.") for name in _REGISTERS if name.startswith("link.")]
_STATUS = ("writes", "crc", "refused", "refused_at", "punt_head", "inject_tail")
_PUNT, _INJECT = _REGISTERS["punt"].address, _REGISTERS["inject"].address
_MASK = 0xFFFF_FFFF
_ADDRESS_BITS = 18
_LONGEST_INJECT = CE_HEADER_BYTES + MAX_FRAME


def _at(name: str) -> int:
    return _REGISTERS[f"link.{name}"].address


_STATUS_READ = (_at(_STATUS[0]), len(_STATUS))


def as_words(data: bytes) -> list[int]:
    """A frame in a ring: its length, then its words, the first byte in low bits."""
    padded = data + bytes(-len(data) % 4)
    return [len(data), *struct.unpack(f"<{len(padded) // 4}I", padded)]


class BoardLink:
    """The gateway behind a host link, as :class:`~spigate.firmware_py.tables.bus.Bus` and
    :class:`~spigate.firmware_py.tables.bus.PacketPort`. Make one with :meth:`open`.

    The whole space of ``board.rdl`` can be read and written, the gateway's registers from 0 on.

    Members
    -------
    fresh : bool
        Nobody had written anything over the link since the board's reset, when this one was opened. There is
        no other way to the gateway, so its tables were empty.
    """

    def __init__(self, url: str, wire: SerialWire, state: dict[str, int]):
        geometry = _REGISTERS["link.geometry"].unpack(state["geometry"])
        wire.receive_bytes = geometry["receive_bytes"] or wire.receive_bytes
        self._url, self._wire = url, wire
        self._punt_words, self._inject_words = 1 << geometry["punt_bits"], 1 << geometry["inject_bits"]
        self._crc, self._writes, self._refused = state["crc"], state["writes"], state["refused"]
        self._punt_head = self._punt_tail = state["punt_head"]
        self._part: list[int] = []
        self._inject_tail = state["inject_tail"]
        self._inject_head = (state["inject_tail"] + state["inject_used"]) & _MASK
        self.fresh = not state["writes"] and not state["crc"]
        self._turn, self._inject_turn = asyncio.Lock(), asyncio.Lock()
        self._gathered: list[Write] = [
            (_at("punt_tail"), [self._punt_tail])
        ]  # what came up before is nobody's
        self._error: BusError | None = None
        self._punts: Classes[bytes] = Classes()
        self._came, self._taken, self._told = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._pushes: set[asyncio.Task[None]] = set()
        self._under_way, self._full, self._answers = 0, 0, 0
        self._polling = asyncio.create_task(self._poll())

    @classmethod
    async def open(cls, url: str) -> "BoardLink":
        """The gateway at the board of a URL.

        Raises
        ------
        NotThere
            Nothing is there, or no board of ours; the message says what was found.
        UnsupportedError
            The board has another map.
        """
        wire = await SerialWire.open(url)
        try:
            words = await _ask(url, wire, _at("id"), 2)
            if words[0] != LINK_MAGIC:
                raise NotThere(
                    f"{url}: what answers is no spigate: it says {words[0]:#010x}, not {LINK_MAGIC:#010x}; "
                    "is the rate that of the board?"
                )
            found = _REGISTERS["link.geometry"].unpack(words[1])["map"]
            if found != LINK_MAP:
                raise UnsupportedError(f"{url}: the board has map {found}; this driver is for map {LINK_MAP}")
            words = await _ask(url, wire, _at("id"), len(_LINK))
        except BaseException:
            await wire.close()
            raise
        return cls(url, wire, dict(zip(_LINK, words, strict=True)))

    async def close(self) -> None:
        """Hangs up, behind all that was written: whoever waits hears so."""
        self._polling.cancel()
        try:
            with suppress(BusError, TimeoutError):
                async with asyncio.timeout(OPEN_SECONDS):
                    await asyncio.shield(await self._begin())
        finally:
            await self._wire.close()
        await asyncio.gather(self._polling, *self._pushes, return_exceptions=True)

    @property
    def failure(self) -> Gone | None:
        """Why nothing can be asked any more; None where it can."""
        return self._wire.failure

    def take_lost(self) -> Counter[PuntClass]:
        """Punted frames that nobody took in time, since the last call."""
        return self._punts.take_lost()

    # Registers

    async def read(self, address: int, count: int = 1) -> list[int]:
        """Words from consecutive addresses. Raises :class:`BusError`, also for what was written before."""
        check_burst(address, count, bits=_ADDRESS_BITS)
        words = await asyncio.shield(await self._begin((address, count)))
        self._raise()
        return words[:count]

    async def write(self, address: int, words: Sequence[int]) -> None:
        """Writes words to consecutive addresses, behind all that was written before. Raises
        :class:`BusError` for that; for these words the next call does.
        """
        check_burst(address, len(words), bits=_ADDRESS_BITS)
        self._raise()
        self._gathered.append((address, list(words)))
        await self._push()

    def _raise(self) -> None:
        if self._wire.failure:
            raise self._wire.failure
        error, self._error = self._error, None
        if error:
            raise error

    async def _push(self) -> None:
        """Sends what is gathered, unless a burst is under way: then that may become some more."""
        if not self._under_way or self._wire.size(self._gathered, []) >= BATCH_BYTES:
            await self._begin()

    async def _begin(self, *reads: tuple[int, int]) -> asyncio.Future[list[int]]:
        """Sends what is gathered and then ``reads``, and asks for the status behind them. The future gives
        all words that are read; when it does, the status has been looked at.
        """
        async with self._turn:
            count = len(self._gathered)
            asked = [*reads, _STATUS_READ]
            await self._wire.room(self._wire.size(self._gathered, asked))
            writes, self._gathered = self._gathered[:count], self._gathered[count:]
            for address, words in writes:
                self._crc = zlib.crc32(uartbone.summed(address, words), self._crc)
                self._writes = (self._writes + len(words)) & _MASK
            answer = self._wire.send(writes, asked)
            self._under_way += 1
            answer.add_done_callback(partial(self._answered, self._writes, self._crc))
            return answer

    def _answered(self, writes: int, crc: int, answer: asyncio.Future[list[int]]) -> None:
        """Looks at the status behind a burst, when so many words had been written, with that CRC."""
        self._under_way -= 1
        self._answers += 1
        if answer.cancelled() or answer.exception():
            return
        status = dict(zip(_STATUS, answer.result()[-len(_STATUS) :], strict=True))
        if lost := (writes - status["writes"]) & _MASK:
            self._wire.fail(f"has not taken the {counted(lost, 'word')} last written, or it was reset")
        elif crc != status["crc"]:
            self._wire.fail("has taken other words than were written")
        if status["refused"] != self._refused:
            self._refused = status["refused"]
            where = _REGISTERS["link.refused_at"].unpack(status["refused_at"])
            self._error = BusError(
                f"The gateway refused to {'write' if where['write'] else 'read'} {where['address']:#06x}"
            )
        if status["punt_head"] != self._punt_head:
            self._punt_head = status["punt_head"]
            self._told.set()
        if status["inject_tail"] != self._inject_tail:
            self._inject_tail = status["inject_tail"]
            self._taken.set()
        if self._gathered and not self._under_way and not self._wire.failure:
            push = asyncio.get_running_loop().create_task(self._push_on())
            self._pushes.add(push)
            push.add_done_callback(self._pushes.discard)

    async def _push_on(self) -> None:
        with suppress(BusError):
            await self._push()

    # Frames

    async def receive(self) -> tuple[PuntHeader, bytes]:
        """The next punted frame, by the turns of their classes; waits for one. Raises :class:`BusError`
        where none can come any more.
        """
        while not self._punts:
            if self._wire.failure:
                raise self._wire.failure
            self._came.clear()
            await self._came.wait()
        return unpack_punt(self._punts.pop()[1])

    async def _poll(self) -> None:
        """Asks for punts: soon where there was one just now, and not where other answers say it anyway."""
        soon, late = POLL_SECONDS
        pause = soon
        try:
            while True:
                if self._punt_head != self._punt_tail:
                    await self._fetch()
                    pause = soon
                    continue
                self._told.clear()
                before = self._answers
                with suppress(TimeoutError):
                    async with asyncio.timeout(soon if self._full else pause):
                        await self._told.wait()
                        continue
                pause = min(2 * pause, late)
                if before == self._answers and not self._under_way:
                    await asyncio.shield(await self._begin())
        except BusError:
            pass  # it is the failure, which everybody hears
        finally:
            self._came.set()
            self._taken.set()

    async def _fetch(self) -> None:
        """Reads what the ring has, up to a limit, and gives back the room of the frames that are whole."""
        begin = self._punt_tail + len(self._part)
        count = min((self._punt_head - begin) & _MASK, FETCH_WORDS)
        words = await asyncio.shield(
            await self._begin((_PUNT + uartbone.WORD_BYTES * (begin % self._punt_words), count))
        )
        if self._wire.failure:
            raise self._wire.failure
        self._part += words[:count]
        while self._part:
            length = self._part[0]
            if not 0 < length <= LONGEST_PUNT:
                raise self._wire.fail(f"has a punted frame of {counted(length, 'byte')}")
            size = 1 + (length + 3) // uartbone.WORD_BYTES
            if len(self._part) < size:
                break
            data = struct.pack(f"<{size - 1}I", *self._part[1:size])[:length]
            del self._part[:size]
            self._punt_tail = (self._punt_tail + size) & _MASK
            self._punts.push(punt_class(data), data)
            self._came.set()
            self._gathered.append((_at("punt_tail"), [self._punt_tail]))
        await self._push()

    async def inject(
        self, mode: InjectMode, port: Port, depth: int, frame: bytes, out_of: Place | None = None
    ) -> None:
        """Sends ``frame`` down; waits while the gateway has no room. Raises :class:`BusError`."""
        data = pack_inject(InjectHeader(mode, port, depth, out_of), frame)
        if len(data) > _LONGEST_INJECT:
            raise InputError(
                f"a frame must be at most {counted(_LONGEST_INJECT - len(data) + len(frame), 'byte')}, "
                f"not {len(frame)}"
            )
        words = as_words(data)
        async with self._inject_turn:
            await self._room(len(words))
            at = self._inject_head % self._inject_words
            self._inject_head = (self._inject_head + len(words)) & _MASK
            self._gathered += [
                (_INJECT + uartbone.WORD_BYTES * at, words),
                (_at("inject_head"), [self._inject_head]),
            ]
        await self._push()

    async def _room(self, words: int) -> None:
        """Waits until the ring of injected frames has room for so many words."""
        self._full += 1
        try:
            async with asyncio.timeout(STUCK_SECONDS):
                while True:
                    self._raise()
                    self._taken.clear()
                    if (self._inject_head + words - self._inject_tail) & _MASK <= self._inject_words:
                        return
                    await self._taken.wait()
        except TimeoutError:
            raise self._wire.fail(f"takes no frame for {STUCK_SECONDS:.0f} s") from None
        finally:
            self._full -= 1


async def _ask(url: str, wire: SerialWire, address: int, count: int) -> list[int]:
    """Words from a board of which nothing is known. Raises NotThere where it does not answer."""
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            return await wire.send([], [(address, count)])
    except TimeoutError:
        raise NotThere(
            f"{url}: nothing answers there; has the board power and its gateware, and is the rate right?"
        ) from None
    except Gone as error:
        raise NotThere(str(error)) from None

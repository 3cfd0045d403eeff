# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A gateway behind a socket: its registers and the control element's packet port, as one stream of messages.

The gateway's side says :data:`GREETING` first. Then messages go both ways, each a header of 8 bytes, little
endian, and a body: kind (1 byte), status (1 byte), address (2 bytes), bytes of the body (4 bytes). Requests
are answered in their order, by a message of the same kind.

======  =========================  ===========================================
kind    request (CE)               answer (gateway)
======  =========================  ===========================================
READ    body: count, 32 bits       the words, 32 bits each
WRITE   body: the words            nothing
INJECT  body: header and frame     none
PUNT    none                       body: header and frame, without a request
======  =========================  ===========================================

``status`` of an answer is 0, or 1 where the gateway refused: then the body says why, in UTF-8. Headers of
frames are those of
:mod:`spigate.firmware_py.tables.punt`.
"""

import asyncio
import struct
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from spigate.firmware_py.errors import InputError
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
from spigate.firmware_py.words import counted
from spigate.hdl.contract.enums import Port, PuntClass

GREETING = b"spigate1"
SCHEME = "unix:"
MAX_BODY = 1 << 16
ANSWER_SECONDS = 30.0
"""So long a gateway may take for one burst, and to take what waits for it."""
_HEADER = struct.Struct("<BBHI")


class Kind(IntEnum):
    """What a message is about."""

    READ, WRITE, INJECT, PUNT = range(4)


@dataclass(frozen=True)
class Message:
    """One message; see above."""

    kind: Kind
    body: bytes = b""
    address: int = 0
    refused: bool = False

    def pack(self) -> bytes:
        return _HEADER.pack(self.kind, self.refused, self.address, len(self.body)) + self.body


class Messages:
    """Takes messages out of a stream of bytes, which comes in pieces of any length."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are whole now.

        Raises
        ------
        InputError
            That is no message.
        """
        self._buffer += data
        found = []
        while len(self._buffer) >= _HEADER.size:
            kind, status, address, length = _HEADER.unpack_from(self._buffer)
            if kind >= len(Kind) or status > 1 or length > MAX_BODY:
                raise InputError(f"no message: kind {kind}, status {status}, {length} bytes")
            if len(self._buffer) < _HEADER.size + length:
                break
            body = bytes(self._buffer[_HEADER.size : _HEADER.size + length])
            del self._buffer[: _HEADER.size + length]
            found.append(Message(Kind(kind), body, address, bool(status)))
        return found


def pack_words(words: Sequence[int]) -> bytes:
    """Words as a body."""
    return struct.pack(f"<{len(words)}I", *words)


def unpack_words(body: bytes) -> list[int]:
    """The words of a body. Raises InputError where they are not whole."""
    if len(body) % 4:
        raise InputError(f"words of 4 bytes each do not take {counted(len(body), 'byte')}")
    return list(struct.unpack(f"<{len(body) // 4}I", body))


def path_of(url: str) -> str:
    """The path of the socket that ``unix:PATH`` names. Raises InputError where it names none."""
    path = url.removeprefix(SCHEME)
    if not url.startswith(SCHEME) or not path:
        raise InputError(f"expected {SCHEME}PATH with the socket of a gateway in hardware, not {url!r}")
    return path


class RemoteGateway:
    """The gateway at a socket, as :class:`~spigate.firmware_py.tables.bus.Bus` and
    :class:`~spigate.firmware_py.tables.bus.PacketPort`. Make one with :meth:`open`."""

    fresh = False  # who was here before, nobody says

    def __init__(self, url: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._url, self._reader, self._writer = url, reader, writer
        self._answers: deque[asyncio.Future[Message]] = deque()
        self._punts: Classes[bytes] = Classes()
        self._came = asyncio.Event()
        self._failure: Gone | None = None
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, url: str) -> "RemoteGateway":
        """The gateway at ``unix:PATH``.

        Raises
        ------
        NotThere
            Nobody is there, or no gateway.
        """
        path = path_of(url)
        try:
            reader, writer = await asyncio.open_unix_connection(path)
        except OSError as error:
            raise NotThere(
                f"{url}: {error.strerror or error}; is the gateway running, and may this user reach it?"
            ) from None
        try:
            greeting = await asyncio.wait_for(reader.readexactly(len(GREETING)), ANSWER_SECONDS)
        except (asyncio.IncompleteReadError, TimeoutError, OSError):
            greeting = b""
        if greeting != GREETING:
            writer.close()
            raise NotThere(f"{url}: no gateway answers there, or another control element has it")
        return cls(url, reader, writer)

    async def close(self) -> None:
        """Hangs up: whoever waits hears so."""
        self._fail("is not listened to any more")
        self._writer.close()
        await asyncio.gather(self._task, return_exceptions=True)

    async def read(self, address: int, count: int = 1) -> list[int]:
        """Words from consecutive addresses. Raises :class:`BusError`."""
        check_burst(address, count)
        body = (await self._ask(Message(Kind.READ, pack_words([count]), address))).body
        if len(body) != 4 * count:
            raise self._fail(f"answered {counted(len(body), 'byte')}, not {count} words")
        return unpack_words(body)

    async def write(self, address: int, words: Sequence[int]) -> None:
        """Writes words to consecutive addresses. Raises :class:`BusError`."""
        check_burst(address, len(words))
        await self._ask(Message(Kind.WRITE, pack_words(words), address))

    async def receive(self) -> tuple[PuntHeader, bytes]:
        """The next punted frame, by the turns of their classes; waits for one. Raises :class:`BusError`
        where none can come any more.
        """
        while not self._punts:
            if self._failure:
                raise self._failure
            self._came.clear()
            await self._came.wait()
        return unpack_punt(self._punts.pop()[1])

    @property
    def failure(self) -> Gone | None:
        """Why nothing can be asked any more; None where it can."""
        return self._failure

    def take_lost(self) -> Counter[PuntClass]:
        """Punted frames that nobody took in time, since the last call."""
        return self._punts.take_lost()

    async def inject(
        self, mode: InjectMode, port: Port, depth: int, frame: bytes, out_of: Place | None = None
    ) -> None:
        """Sends ``frame`` down. Raises :class:`BusError`."""
        await self._send(Message(Kind.INJECT, pack_inject(InjectHeader(mode, port, depth, out_of), frame)))

    async def _send(self, message: Message) -> None:
        if self._failure:
            raise self._failure
        try:
            self._writer.write(message.pack())
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._writer.drain()
        except TimeoutError:
            raise self._fail(f"takes nothing for {ANSWER_SECONDS:.0f} s") from None
        except OSError:
            raise self._fail("hung up") from None

    async def _ask(self, message: Message) -> Message:
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        await self._send(message)
        try:
            async with asyncio.timeout(
                ANSWER_SECONDS
            ):  # not wait_for: of a task that is cancelled while the answer comes it loses that
                found = await answer
        except TimeoutError:
            raise self._fail(f"no answer within {ANSWER_SECONDS:.0f} s") from None
        if found.kind != message.kind:
            raise self._fail("answered what was not asked")
        if found.refused:
            raise BusError(found.body.decode(errors="replace"))
        return found

    async def _read(self) -> None:
        messages = Messages()
        try:
            while data := await self._reader.read(1 << 16):
                for message in messages.feed(data):
                    self._take(message)
            self._fail("hung up")
        except OSError:
            self._fail("hung up")
        except InputError as error:
            self._fail(str(error))

    def _take(self, message: Message) -> None:
        if message.kind == Kind.PUNT:
            self._punts.push(punt_class(message.body), message.body)
            self._came.set()
            return
        if not self._answers:
            raise InputError("answered what was not asked")
        answer = self._answers.popleft()
        if not answer.done():
            answer.set_result(message)

    def _fail(self, why: str) -> Gone:
        """From now on nothing can be asked any more: whoever waits hears ``why``."""
        if self._failure is None:
            self._failure = Gone(f"{self._url}: the gateway {why}")
            self._came.set()
            for answer in self._answers:
                if not answer.done():
                    answer.set_exception(self._failure)
                    answer.exception()  # who could not even send its request hears of it there
            self._answers.clear()
            self._task.cancel()
        return self._failure

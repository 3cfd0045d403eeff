# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Inside the simulator: the control element's side of a live gateway.

:class:`Client` is what is said with a control element over a socket, sans-I/O; :class:`SocketControl` says
it. With :class:`SerialControl` the board's own host link does that, and bytes are all there is here.
"""

import errno
import socket
from collections import deque
from typing import Any, NamedTuple, Protocol

import cocotb
from cocotb.triggers import Event

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.tables.bus import BusError
from spigate.firmware_py.tables.punt import punt_class
from spigate.firmware_py.tables.punt_queues import Classes
from spigate.firmware_py.tables.remote import GREETING, Kind, Message, Messages, pack_words, unpack_words
from spigate.firmware_py.words import counted
from spigate.sim.board import MAX_BYTES, Arrival, Board
from spigate.sim.tally import Tally
from spigate.sim.uart_line import UartLine

MAX_REQUESTS = 16
"""Requests that wait before no more is read."""
MAX_OUTPUT = 1 << 20
"""Bytes that wait for a control element that does not read; beyond, requests wait."""
PUNT_OUTPUT = 1 << 16
"""The same, beyond which punts wait, by class; what finds its class full is dropped."""
_RECEIVE_BYTES = 1 << 16


class Control(Protocol):
    """Who leads a control element to the gateway.

    Members
    -------
    busy : bool
        The gateway has something to do for it.
    """

    @property
    def busy(self) -> bool:
        """See above."""

    def reads(self) -> list[Any]:
        """Files that are to be read when something is in them."""

    def writes(self) -> list[Any]:
        """Files that are to be written when they have room."""

    def move(self, readable: list[Any], writable: list[Any]) -> None:
        """Moves what can be moved; some of these files can be read or written."""


class SerialControl:
    """A :class:`Control` by the board's own host link."""

    def __init__(self, line: UartLine, tally: Tally):
        self._line, self._tally = line, tally

    @property
    def busy(self) -> bool:
        return self._line.busy

    def reads(self) -> list[Any]:
        return [self._line.fd] if self._line.listening else []

    def writes(self) -> list[Any]:
        return []

    def move(self, readable: list[Any], writable: list[Any]) -> None:
        line = self._line
        moved = line.fd in readable and line.read()
        if line.write() or moved:
            self._tally.stir()
        self._tally.counts["bytes down"], self._tally.counts["bytes up"] = line.sent, line.received


class Client:
    """What is said with one control element, without its socket.

    Members
    -------
    output : bytearray
        What is to be sent to it.
    """

    def __init__(self) -> None:
        self._messages = Messages()
        self._requests: deque[Message] = deque()
        self._punts: Classes[bytes] = Classes()
        self.output = bytearray(GREETING)

    @property
    def listening(self) -> bool:
        """Whether more is to be read from it."""
        return len(self._requests) < MAX_REQUESTS

    def feed(self, data: bytes) -> None:
        """Takes what it sent. Raises InputError where that is no request."""
        for message in self._messages.feed(data):
            if (
                message.kind == Kind.PUNT
                or message.refused
                or message.kind == Kind.WRITE
                and len(message.body) % 4
                or message.kind == Kind.READ
                and len(message.body) != 4
            ):
                raise InputError(f"no request: {message.kind.name} with {counted(len(message.body), 'byte')}")
            self._requests.append(message)

    def next(self) -> Message | None:
        """The next request; None where there is none, or no room for its answer."""
        return self._requests.popleft() if self._requests and len(self.output) < MAX_OUTPUT else None

    def answer(self, request: Message, body: bytes = b"", *, refused: bool = False) -> None:
        """Answers a request."""
        self.output += Message(request.kind, body, request.address, refused).pack()

    def punt(self, data: bytes) -> bool:
        """Tells a punted frame; False where there is no room for it."""
        told = self._punts.push(punt_class(data), data)
        self._fill()
        return told

    def sent(self, count: int) -> None:
        """So many bytes of ``output`` have been sent."""
        del self.output[:count]
        self._fill()

    def _fill(self) -> None:
        while self._punts and len(self.output) < PUNT_OUTPUT:
            self.output += Message(Kind.PUNT, self._punts.pop()[1]).pack()


class _Link(NamedTuple):
    """A control element that is connected."""

    client: Client
    socket: socket.socket


class SocketControl:
    """A :class:`Control` by a socket.

    Parameters
    ----------
    board : Board
    listener : socket.socket
        Where control elements come: one at a time.
    tally : Tally
    """

    def __init__(self, board: Board, listener: socket.socket, tally: Tally):
        self._board, self._listener, self._tally = board, listener, tally
        board.punt.on_arrival = self._come_up
        self._link: _Link | None = None
        self._asked = Event()
        self._working = False
        listener.setblocking(False)
        cocotb.start_soon(self._serve())

    @property
    def busy(self) -> bool:
        return self._working

    def reads(self) -> list[Any]:
        listening = self._link is not None and self._link.client.listening
        return [self._listener, *([self._link.socket] if self._link and listening else [])]

    def writes(self) -> list[Any]:
        return [self._link.socket] if self._link and self._link.client.output else []

    def move(self, readable: list[Any], writable: list[Any]) -> None:
        if self._link and self._link.socket in writable:
            self._flush(self._link)
        if self._link and self._link.socket in readable:
            self._listen(self._link)
        if self._listener in readable:  # behind what may have been the end of the one before
            self._accept()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                raise
            return
        if self._link:
            connection.close()
            return
        connection.setblocking(False)
        self._link = _Link(Client(), connection)
        self._flush(self._link)

    def _listen(self, link: _Link) -> None:
        try:
            data = link.socket.recv(_RECEIVE_BYTES)
            if data:
                link.client.feed(data)
        except BlockingIOError:
            return
        except (OSError, InputError):
            data = b""
        if data:
            self._asked.set()
        else:
            self._hang_up(link)

    def _flush(self, link: _Link) -> None:
        try:
            link.client.sent(link.socket.send(link.client.output, socket.MSG_NOSIGNAL))
        except BlockingIOError:
            return
        except OSError:
            self._hang_up(link)
            return
        self._asked.set()

    def _hang_up(self, link: _Link) -> None:
        """What it asked for and was not begun is not done."""
        link.socket.close()
        self._link = None

    def _come_up(self, arrival: Arrival) -> None:
        self._tally.count("punted")
        if not self._link or not self._link.client.punt(arrival.frame):
            self._tally.dropped["punts"] += 1
            return
        self._flush(self._link)

    async def _serve(self) -> None:
        """Does what is asked, in order."""
        while True:
            link = self._link
            request = link.client.next() if link else None
            if link is None or request is None:
                self._asked.clear()
                await self._asked.wait()
                continue
            self._working = True
            if request.kind == Kind.INJECT:
                await self._inject(request.body)
            else:
                body, refused = await self._burst(request)
                link.client.answer(request, body, refused=refused)
            self._working = False
            if link is self._link and link.client.output:
                self._flush(link)

    async def _inject(self, data: bytes) -> None:
        if 1 <= len(data) <= MAX_BYTES:
            await self._board.inject.send(data)
            self._tally.count("injected")
        else:
            self._tally.dropped["too long"] += 1

    async def _burst(self, request: Message) -> tuple[bytes, bool]:
        """Body of the answer, and whether the gateway refused."""
        self._tally.counts["bursts"] += 1
        try:
            if request.kind == Kind.WRITE:
                await self._board.bus.write(request.address, unpack_words(request.body))
                return b"", False
            return pack_words(await self._board.bus.read(request.address, *unpack_words(request.body))), False
        except (BusError, InputError) as error:
            return str(error).encode(), True

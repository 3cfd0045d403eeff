# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Inside the simulator: a gateway at work between two TAP devices and the socket of its control element.

:class:`Client` is what is said with a control element, sans-I/O; :class:`Live` moves frames and messages,
and lets the simulation
run while there is something to do.
"""

import errno
import select
import socket
from collections import Counter, deque
from itertools import islice
from typing import NamedTuple

import cocotb
from cocotb.triggers import Event

from spigate.firmware_py.daemon.links import Tap
from spigate.firmware_py.errors import InputError
from spigate.firmware_py.tables.bus import BusError
from spigate.firmware_py.tables.punt import punt_class
from spigate.firmware_py.tables.punt_queues import Classes
from spigate.firmware_py.tables.remote import GREETING, Kind, Message, Messages, pack_words, unpack_words
from spigate.firmware_py.words import counted
from spigate.sim.board import MAX_BYTES, Arrival, Board, Sink, Source

POLL_CLOCKS = 100
"""Clocks between two looks at devices and sockets while something goes on in the gateway."""
IDLE_CLOCKS, IDLE_SECONDS = 20, 0.02
"""Otherwise; and so long it sleeps between them, at most."""
LINGER = 120
"""Looks without a frame in or out after which none is thought to be inside: 12,000 clocks, four times what
the longest one takes.
"""
MAX_WAITING = 4
"""Frames that wait in front of a port. The others wait in the device's queue, whose end drops, as a network
card's does.
"""
MAX_REQUESTS = 16
"""Requests that wait before no more is read."""
MAX_OUTPUT = 1 << 20
"""Bytes that wait for a control element that does not read; beyond, requests wait."""
PUNT_OUTPUT = 1 << 16
"""The same, beyond which punts wait, by class; what finds its class full is dropped."""
_RECEIVE_BYTES = 1 << 16


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


class _Device:
    """A TAP device that leads to a port of the gateway, and from it."""

    def __init__(self, live: "Live", name: str, tap: Tap, source: Source, sink: Sink):
        self._live, self._name, self.tap, self._source = live, name, tap, source
        self._frames: deque[bytes] = deque()
        self._more = Event()
        sink.on_arrival = self._leave
        cocotb.start_soon(self._enter())

    @property
    def waiting(self) -> int:
        """Frames that have not been handed over."""
        return len(self._frames)

    def read(self) -> None:
        """Takes from the device what there is, and room for. Raises DeviceGone."""
        for frame in islice(self.tap.packets(), MAX_WAITING - len(self._frames)):
            if len(frame) > MAX_BYTES:
                self._live.dropped["too long"] += 1
            else:
                self._frames.append(frame)
        self._more.set()

    async def _enter(self) -> None:
        while True:
            while self._frames:
                await self._source.send(self._frames[0])
                self._frames.popleft()
                self._live.count(f"{self._name} in")
            self._more.clear()
            await self._more.wait()

    def _leave(self, arrival: Arrival) -> None:
        self._live.count(f"{self._name} out")
        try:
            self.tap.write(arrival.frame)
        except OSError:  # it is down or full, or the frame is none that a host takes
            self._live.dropped[f"at device {self._name}"] += 1


class Live:
    """A gateway between TAP devices and a control element.

    Parameters
    ----------
    board : Board
        Started.
    network, server : Tap
        What is at its ports.
    listener : socket.socket
        Where control elements come: one at a time.
    end : socket.socket
        When its other side is closed, the run is over.

    Members
    -------
    counts, dropped : Counter of str
        What happened, and what was lost outside the gateway.
    """

    def __init__(self, board: Board, network: Tap, server: Tap, listener: socket.socket, end: socket.socket):
        self._board, self._listener, self._end = board, listener, end
        self.counts: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self._devices = [
            _Device(self, "network", network, board.network, board.network_out),
            _Device(self, "server", server, board.server, board.server_out),
        ]
        board.punt.on_arrival = self._come_up
        self._link: _Link | None = None
        self._asked = Event()
        self._working = False
        self._quiet = LINGER
        listener.setblocking(False)
        cocotb.start_soon(self._serve())

    def count(self, what: str) -> None:
        """A frame has gone in or out."""
        self.counts[what] += 1
        self._quiet = 0

    async def run(self) -> None:
        """Until the end is told.

        Raises
        ------
        Unsound
            The gateway broke the rules of a port.
        DeviceGone
            Somebody has taken a device away.
        """
        while self._poll(0 if self._busy else IDLE_SECONDS):
            self._quiet += 1
            await self._board.clocks(POLL_CLOCKS if self._busy else IDLE_CLOCKS)
            self._board.check()

    @property
    def _busy(self) -> bool:
        return self._working or self._quiet < LINGER or any(device.waiting for device in self._devices)

    def _poll(self, seconds: float) -> bool:
        """Moves what comes within that time; False: the end."""
        devices = [device for device in self._devices if device.waiting < MAX_WAITING]
        reads: list[socket.socket | Tap] = [self._end, self._listener, *(device.tap for device in devices)]
        writes = []
        if self._link and self._link.client.listening:
            reads.append(self._link.socket)
        if self._link and self._link.client.output:
            writes.append(self._link.socket)
        readable, writable, _ = select.select(reads, writes, [], seconds)
        if self._end in readable:
            return False
        for device in devices:
            if device.tap in readable:
                device.read()
        if self._link and self._link.socket in writable:
            self._flush(self._link)
        if self._link and self._link.socket in readable:
            self._listen(self._link)
        if self._listener in readable:  # behind what may have been the end of the one before
            self._accept()
        return True

    # The control element

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
        self.count("punted")
        if not self._link or not self._link.client.punt(arrival.frame):
            self.dropped["punts"] += 1
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
            self.count("injected")
        else:
            self.dropped["too long"] += 1

    async def _burst(self, request: Message) -> tuple[bytes, bool]:
        """Body of the answer, and whether the gateway refused."""
        self.counts["bursts"] += 1
        try:
            if request.kind == Kind.WRITE:
                await self._board.bus.write(request.address, unpack_words(request.body))
                return b"", False
            return pack_words(await self._board.bus.read(request.address, *unpack_words(request.body))), False
        except (BusError, InputError) as error:
            return str(error).encode(), True

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Two sides of one IKE SA in dialogue (RFC 7296 2.1 to 2.3): one request at a time each, sealed, repeated,
answered once.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from spigate.firmware_py.ike.crypto import decryption_table
from spigate.firmware_py.ike.crypto.keys import IkeKeys
from spigate.firmware_py.ike.crypto.proposals import Suite
from spigate.firmware_py.ike.crypto.protect import OF_STRANGERS, Protection
from spigate.firmware_py.ike.engine.actions import NAT_PORT, Datagram, KeyLog, Socket
from spigate.firmware_py.ike.engine.context import Context
from spigate.firmware_py.ike.engine.exchange import Exchange, Reply
from spigate.firmware_py.ike.engine.message_ids import Arrival, GivenUp, RequestWindow, ResponseWindow
from spigate.firmware_py.ike.engine.nat import MARKER, Path
from spigate.firmware_py.ike.engine.timers import Timer
from spigate.firmware_py.ike.peers.retransmission import Retransmission
from spigate.firmware_py.ike.wire.errors import NotAuthentic, PeerError
from spigate.firmware_py.ike.wire.message import Header, Message

if TYPE_CHECKING:
    from spigate.firmware_py.ike.engine.ike_sa import IkeSa

MAX_INITS_REPEATED = 8
FRAGMENT_BYTES = 1280
"""Largest datagram to whom has not said who it is."""


class Dialogue(ABC):
    """Parameters
    ----------
    context : Context
    initiator : bool
        This side is the original initiator: of IKE_SA_INIT, or of the exchange that rekeyed.
    spi_i, spi_r : bytes
        ``spi_r`` is zero until the responder's is known.
    path : Path

    Members
    -------
    suite, keys : Suite, IkeKeys
        Not there before the first :meth:`use_keys`.
    protection : Protection or None
        With these; None: there are no keys yet.
    fragmentation : bool
        The peer understands fragments.
    fragment_bytes : int
        Largest datagram, where it does.
    closed : bool
        Nothing is begun or answered any more; only the last response can still be had.
    active : Exchange or None
        The exchange whose response is waited for.
    stillborn : set of (int, bytes)
        Protocol and SPI of child SAs that the peer deleted and that the active exchange may yet make, some
        at most.

    An exchange has its :class:`~spigate.firmware_py.ike.engine.holdings.Holdings` from when its turn comes
    until it is over: its response was dealt with, or it is abandoned. There is no third way out.
    """

    def __init__(self, context: Context, *, initiator: bool, spi_i: bytes, spi_r: bytes, path: Path):
        self.context = context
        self.initiator = initiator
        self.spi_i, self.spi_r = spi_i, spi_r
        self.path = path
        self.suite: Suite
        self.keys: IkeKeys
        self.protection: Protection | None = None
        self.fragmentation = False
        self.fragment_bytes = FRAGMENT_BYTES
        self.closed = False
        self.active: Exchange | None = None
        self.stillborn: set[tuple[int, bytes]] = set()
        self._former: Protection | None = None
        self._queue: deque[Exchange] = deque()
        self._inits_repeated = 0
        self._requests = RequestWindow(Retransmission())
        self._responses = ResponseWindow()
        self._repeat: Timer | None = None

    # What an IKE SA makes of it

    @property
    @abstractmethod
    def ike(self) -> "IkeSa":
        """The IKE SA that this is."""

    @abstractmethod
    def answer(self, now: float, message: Message) -> Reply:
        """The answer to a request. Raises PeerError."""

    @abstractmethod
    def refuse(self, now: float, error: PeerError) -> Reply:
        """The answer to a request in which something was wrong."""

    @abstractmethod
    def wrong_response(self, now: float, error: PeerError) -> None:
        """A response was wrong."""

    @abstractmethod
    def given_up(self, now: float) -> None:
        """A request was never answered."""

    @abstractmethod
    def heard_from(self, now: float, local: Socket, remote: Socket) -> None:
        """An authentic message that is no repetition came along ``local`` and ``remote``."""

    @property
    def spi(self) -> bytes:
        """The one that this side chose."""
        return self.spi_i if self.initiator else self.spi_r

    @property
    def name(self) -> str:
        return f"{self.spi_i.hex()}-{self.spi_r.hex()}"

    def use_keys(self, suite: Suite, keys: IkeKeys) -> None:
        """Protects with ``keys`` from here on; what was sent under the former ones is still understood."""
        self.suite, self.keys = suite, keys
        self._forget_fragments()
        self._former = self.protection
        self.protection = Protection(suite, keys, initiator=self.initiator, limits=OF_STRANGERS)
        line = (
            decryption_table.line(suite, keys, self.spi_i, self.spi_r)
            if self.context.settings.key_log
            else None
        )
        if line is not None:
            self.context.emit(KeyLog(line))

    def _forget_fragments(self) -> None:
        if self.protection is not None:
            self.protection.forget_fragments()

    # Sending

    def repeat_requests(self, retransmission: Retransmission) -> None:
        """How often, from the first request on."""
        self._requests = RequestWindow(retransmission)

    def fall_silent(self, now: float) -> None:
        """Nothing more is sent, but the last response where it is asked for again. Exchanges are
        abandoned.
        """
        self.closed = True
        self._forget_fragments()
        self._stop_repeating()
        unfinished = [exchange for exchange in (self.active, *self.waiting()) if exchange is not None]
        self.active = None
        self._abandon(unfinished, now)
        self.stillborn.clear()

    def abandon_waiting(self, now: float) -> None:
        """What has not begun never will."""
        self._abandon(self.waiting(), now)

    def _abandon(self, exchanges: Iterable[Exchange], now: float) -> None:
        step = self.context.boundary.step
        for exchange in exchanges:
            step(partial(exchange.abandoned, self.ike, now))
            exchange.over()

    def submit(self, exchange: Exchange, now: float) -> None:
        """Begins ``exchange``, at once or when those before it are through."""
        self._queue.append(exchange)
        self._begin(now)

    def submit_first(self, exchange: Exchange, now: float) -> None:
        """Begins ``exchange`` before all others that wait."""
        self._queue.appendleft(exchange)
        self._begin(now)

    @property
    def queued(self) -> int:
        """How many exchanges wait for their turn."""
        return len(self._queue)

    def plans(self, like: Callable[[Exchange], bool]) -> bool:
        """Whether an exchange that is ``like`` it is on its way or waits."""
        return any(map(like, (*((self.active,) if self.active is not None else ()), *self._queue)))

    def waiting(self) -> tuple[Exchange, ...]:
        """Exchanges that have not begun; they are taken out, and are their taker's to begin or to abandon."""
        waiting, self._queue = tuple(self._queue), deque()
        return waiting

    def _begin(self, now: float) -> None:
        while self.active is None and self._queue and not self.closed:
            exchange = self._queue.popleft()
            exchange.begin(self.context)
            try:
                payloads = exchange.request(self.ike, now)
            except BaseException:
                exchange.over()
                raise
            if payloads is None:
                exchange.over()
                continue
            self.active = exchange
            self.stillborn.clear()
            message = Message(
                self.spi_i,
                self.spi_r,
                exchange.exchange_type,
                self.initiator,
                False,
                self._requests.next_id,
                tuple(payloads),
            )
            datagrams = self._seal(message)
            self._transmit(self._requests.send(now, datagrams), self.path.local, self.path.remote)
            self._repeat_when_due()
            exchange.sent(self.ike, message, datagrams)

    def _seal(self, message: Message) -> tuple[bytes, ...]:
        if self.protection is None:
            return (message.pack(),)
        return tuple(self.protection.seal(message, self.fragment_bytes if self.fragmentation else None))

    def _transmit(self, datagrams: tuple[bytes, ...], local: Socket, remote: Socket) -> None:
        marker = MARKER if local.port == NAT_PORT else b""
        for datagram in datagrams:
            self.context.emit(Datagram(local, remote, marker + datagram))

    def _repeat_when_due(self) -> None:
        due = self._requests.deadline
        if due is not None:
            self._repeat = self.context.timers.at(due, self._repeat_request, lambda: self.ike)

    def _stop_repeating(self) -> None:
        if self._repeat is not None:
            self._repeat.cancel()

    def _repeat_request(self, now: float) -> None:
        try:
            datagrams = self._requests.repeat(now)
        except GivenUp:
            self.given_up(now)
            return
        self._transmit(datagrams, self.path.local, self.path.remote)
        self._repeat_when_due()

    # Receiving

    def receive(self, now: float, header: Header, data: bytes, local: Socket, remote: Socket) -> None:
        """A datagram, without marker, whose SPIs are those of this IKE SA."""
        if header.initiator == self.initiator:
            return
        if header.response:
            self._receive_response(now, header, data, local, remote)
        else:
            self._receive_request(now, header, data, local, remote)

    def _receive_request(
        self, now: float, header: Header, data: bytes, local: Socket, remote: Socket
    ) -> None:
        arrival = self._responses.arrival(header.message_id)
        if arrival == Arrival.REPEATED and self._asks_again(data):
            self._transmit(self._responses.response, local, remote)
        if arrival != Arrival.NEW or self.protection is None or self.closed:
            return
        try:
            message = self.protection.open(data)
            if message is None:
                return
            self.heard_from(now, local, remote)
            reply = self.answer(now, message)
        except NotAuthentic:
            return
        except PeerError as error:
            self.heard_from(now, local, remote)
            reply = self.refuse(now, error)
        answer = Message(
            self.spi_i, self.spi_r, header.exchange, self.initiator, True, header.message_id, reply.payloads
        )
        datagrams = self._responses.answer(self._seal(answer))
        self._transmit(datagrams, local, remote)
        if reply.then is not None:
            reply.then(answer, datagrams)
        self._begin(now)

    def answer_init(self, response: bytes, local: Socket, remote: Socket) -> None:
        """Answers the IKE_SA_INIT that made this IKE SA, now and when it comes again."""
        self._transmit(self._responses.answer((response,)), local, remote)

    def repeat_init(self, local: Socket, remote: Socket) -> None:
        """The IKE_SA_INIT came again: who did not get the answer asks a few times; an address that somebody
        else writes there is not sent more than that."""
        if self._responses.expected == 1 and self._inits_repeated < MAX_INITS_REPEATED:
            self._inits_repeated += 1
            self._transmit(self._responses.response, local, remote)

    def _asks_again(self, data: bytes) -> bool:
        """Whether ``data``, with the last request's ID, is authentic and not one of the later fragments."""
        for protection in (self.protection, self._former):
            if protection is not None:
                try:
                    return protection.authentic(data) == 1
                except NotAuthentic:
                    continue
        return False

    def _receive_response(
        self, now: float, header: Header, data: bytes, local: Socket, remote: Socket
    ) -> None:
        exchange = self.active
        if exchange is None or not self._requests.expects(header.message_id):
            return
        if (
            header.exchange != exchange.exchange_type
            or self.protection is None
            and remote != self.path.remote
        ):
            return
        if self.protection is None:
            self._receive_clear(now, exchange, data)
            return
        try:
            message = self.protection.open(data)
            if message is None:
                return
        except NotAuthentic:
            return
        except PeerError as error:
            self._request_answered()
            self._abandon((exchange,), now)
            self.wrong_response(now, error)
            return
        self.heard_from(now, local, remote)
        self._request_answered()
        held = exchange.held  # what it passes on is not in there any more
        try:
            exchange.response(self.ike, now, message)
        except PeerError as error:
            self.wrong_response(now, error)
            return
        finally:
            held.release()
        self._begin(now)

    def _receive_clear(self, now: float, exchange: Exchange, data: bytes) -> None:
        """A response to IKE_SA_INIT. Anybody may have sent it: whatever it is, the exchange goes on."""
        try:
            exchange.received(data)
            exchange.response(self.ike, now, Message.parse(data))
        except PeerError:
            return

    def _request_answered(self) -> None:
        """The active exchange is over; the next request gets the next message ID."""
        self._stop_repeating()
        self._requests.answered()
        self.active = None

    def request_again(self, exchange: Exchange, now: float) -> None:
        """The active exchange was sent back: ``exchange`` takes its place, and its message ID."""
        assert self.active is not None
        self._stop_repeating()
        self._requests.again()
        self.active.pass_on(exchange)
        self.active = None
        self.submit_first(exchange, now)

    def begins_with(self, message_id: int) -> None:
        """The first request has another ID than 0: IKE_SA_INIT went before."""
        self._requests.next_id = message_id

    def wait_for_more(self) -> None:
        """The request was answered, and other answers to it may still come; meanwhile it is not repeated."""
        self._stop_repeating()

    def go_on_repeating(self, now: float) -> None:
        """None of the answers was worth anything."""
        self._stop_repeating()
        self._requests.resume(now)
        self._repeat_when_due()

    def request_in_vain(self, tries: int) -> None:
        """An answer that proves nothing says that the request fails: it is repeated a few times at most."""
        self._requests.shorten(tries)

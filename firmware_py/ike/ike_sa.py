"""One IKE SA: its windows, its exchanges one after the other, what it answers, and its life and end."""
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from spigate.firmware_py.ike import create_child, creating, informational, keylog, rekey_ike
from spigate.firmware_py.ike.context import Context
from spigate.firmware_py.ike.errors import InvalidSyntax, NotAuthentic, PeerError
from spigate.firmware_py.ike.events import NAT_PORT, Datagram, EventKind, KeyLog, Socket
from spigate.firmware_py.ike.exchanges import Exchange, Reply
from spigate.firmware_py.ike.keys import IkeKeys
from spigate.firmware_py.ike.message import Header, Message
from spigate.firmware_py.ike.nat import KEEPALIVE, MARKER, Path
from spigate.firmware_py.ike.pad import Peer
from spigate.firmware_py.ike.payloads import Delete, Notify, SecurityAssociation
from spigate.firmware_py.ike.proposals import Suite
from spigate.firmware_py.ike.protect import Protection
from spigate.firmware_py.ike.registry import ExchangeType, ProtocolId
from spigate.firmware_py.ike.state import State
from spigate.firmware_py.ike.timers import Timer
from spigate.firmware_py.ike.window import Arrival, GivenUp, RequestWindow, ResponseWindow, Retransmission

if TYPE_CHECKING:
    from spigate.firmware_py.ike.children import ChildSa
    from spigate.firmware_py.ike.responder import Responder

KEEPALIVE_SECONDS = 20.0
"""Between packets that keep a NAT's mapping (RFC 3948 4)."""
UNKNOWN_PEER_FRAGMENT_BYTES = 1280
"""Largest datagram to whom has not said who it is."""


class IkeSa:
    """Parameters
    ----------
    context : Context
    initiator : bool
        This side is the original initiator: of IKE_SA_INIT, or of the exchange that rekeyed.
    spi_i, spi_r : bytes
        ``spi_r`` is zero until the responder's is known.
    path : Path
    peer : Peer or None
        None: the peer has not said who it is.
    now : float

    Members
    -------
    state : State
    suite, keys : Suite, IkeKeys
        As soon as there are any; so is ``protection``.
    identity : Identity
        The peer's, once it is shown.
    children : dict of int to ChildSa
        By the SPI that this side receives on.
    handshake : Responder or None
        What answers until the IKE SA is established, on the responder's side.
    active : Exchange or None
        The exchange whose response is waited for.
    pending : FollowUp or None
        A peer's CREATE_CHILD_SA that additional key exchanges are still to complete.
    rekeying, rival
        As in :class:`~spigate.firmware_py.ike.children.ChildSa`, of the IKE SA itself.
    heir, predecessor : IkeSa or None
        What replaced it; what it replaces, or may replace.
    stillborn : set of (int, bytes)
        Protocol and SPI of child SAs that the peer deleted and that the active exchange may yet make.
    on_settled : callable
        Called when it is established, or gone.
    on_gone : callable
        Called with the time and the IKE SA.
    created, established, heard : float
        When it was made, when it was authenticated, and when the peer's last authentic message came.
    """

    def __init__(self, context: Context, *, initiator: bool, spi_i: bytes, spi_r: bytes, path: Path,
                 peer: Peer | None, now: float):
        self.context = context
        self.initiator = initiator
        self.spi_i, self.spi_r = spi_i, spi_r
        self.path = path
        self.peer = peer
        self.state = State.CONNECTING
        self.suite: Suite | None = None
        self.keys: IkeKeys | None = None
        self.protection: Protection | None = None
        self.fragmentation = False
        self.identity = None
        self.children: dict[int, ChildSa] = {}
        self.handshake: Responder | None = None
        self.active: Exchange | None = None
        self.pending: creating.FollowUps | None = None
        self.created = self.established = self.heard = now
        self.on_settled: Callable[[], None] = lambda: None
        self.on_gone: Callable[[float, IkeSa], None] = lambda now, ike: None
        self.rekeying = False
        self.rival: tuple[IkeSa, bytes] | None = None
        self.heir: IkeSa | None = None
        self.predecessor: IkeSa | None = None
        self.stillborn: set[tuple[int, bytes]] = set()
        self._former: Protection | None = None
        self._queue: deque[Exchange] = deque()
        self._requests = RequestWindow(peer.retransmission if peer is not None else Retransmission())
        self._responses = ResponseWindow()
        self._repeat: Timer | None = None
        self._timers: list[Timer] = []
        context.ikes[self.spi] = self

    @property
    def spi(self) -> bytes:
        """The one that this side chose."""
        return self.spi_i if self.initiator else self.spi_r

    @property
    def name(self) -> str:
        return f"{self.spi_i.hex()}-{self.spi_r.hex()}"

    @property
    def alive(self) -> bool:
        """It is made, or being made, and nobody wants it gone; nor is it undecided whether it replaces another."""
        return self.state in (State.CONNECTING, State.ESTABLISHED) and self.predecessor is None

    def event(self, kind: EventKind, text: str, child: str = "") -> None:
        who = self.peer.name if self.peer is not None else str(self.path.remote.address)
        self.context.event(kind, who, text, self.name, child)

    def know(self, peer: Peer) -> None:
        """The peer said which entry it is of."""
        self.peer = peer
        self._requests = RequestWindow(peer.retransmission)

    # Keys

    def use_keys(self, suite: Suite, keys: IkeKeys) -> None:
        """Protects with ``keys`` from here on; what was sent under the former ones is still understood."""
        self.suite, self.keys = suite, keys
        self._former = self.protection
        self.protection = Protection(suite, keys, initiator=self.initiator)
        line = keylog.line(suite, keys, self.spi_i, self.spi_r) if self.context.settings.key_log else None
        if line is not None:
            self.context.emit(KeyLog(line))

    # Sending

    def submit(self, exchange: Exchange, now: float) -> None:
        """Begins ``exchange``, at once or when those before it are through."""
        self._queue.append(exchange)
        self._begin(now)

    def submit_first(self, exchange: Exchange, now: float) -> None:
        """Begins ``exchange`` before all others that wait."""
        self._queue.appendleft(exchange)
        self._begin(now)

    def submit_later(self, exchange: Exchange, now: float, seconds: float) -> None:
        """Begins ``exchange`` after a while, unless the IKE SA is gone by then."""
        self.context.timers.at(now + seconds, lambda then: self.last_heir.submit(exchange, then))

    def waiting(self) -> tuple[Exchange, ...]:
        """Exchanges that have not begun; they are taken out: a successor does them."""
        waiting, self._queue = tuple(self._queue), deque()
        return waiting

    def _begin(self, now: float) -> None:
        while self.active is None and self._queue and self.state != State.GONE:
            exchange = self._queue.popleft()
            payloads = exchange.request(self, now)
            if payloads is None:
                continue
            self.active = exchange
            self.stillborn.clear()
            message = Message(self.spi_i, self.spi_r, exchange.exchange_type, self.initiator, False,
                              self._requests.next_id, tuple(payloads))
            datagrams = self._seal(message)
            self._transmit(self._requests.send(now, datagrams), self.path.local, self.path.remote)
            self._repeat_at(self._requests.deadline)
            exchange.sent(self, message, datagrams)

    def _seal(self, message: Message) -> tuple[bytes, ...]:
        if self.protection is None:
            return (message.pack(),)
        largest = self.peer.fragment_bytes if self.peer is not None else UNKNOWN_PEER_FRAGMENT_BYTES
        return tuple(self.protection.seal(message, largest if self.fragmentation else None))

    def _transmit(self, datagrams: tuple[bytes, ...], local: Socket, remote: Socket) -> None:
        marker = MARKER if local.port == NAT_PORT else b""
        for datagram in datagrams:
            self.context.emit(Datagram(local, remote, marker + datagram))

    def _repeat_at(self, when: float) -> None:
        self._repeat = self.context.timers.at(when, self._repeat_request)

    def _stop_repeating(self) -> None:
        if self._repeat is not None:
            self._repeat.cancel()

    def _repeat_request(self, now: float) -> None:
        try:
            datagrams = self._requests.repeat(now)
        except GivenUp:
            self._given_up(now)
            return
        self._transmit(datagrams, self.path.local, self.path.remote)
        self._repeat_at(self._requests.deadline)

    def _given_up(self, now: float) -> None:
        if self.state == State.CONNECTING:
            self.close(now, EventKind.IKE_FAILED, "the peer does not answer")
        elif self.state == State.ESTABLISHED:
            self.close(now, EventKind.PEER_DEAD, "the peer does not answer any more")
        else:
            self.close(now, EventKind.IKE_DOWN, "deleted, and the peer did not confirm it")

    # Receiving

    def receive(self, now: float, header: Header, data: bytes, local: Socket, remote: Socket) -> None:
        """A datagram, without marker, whose SPIs are those of this IKE SA."""
        if header.initiator == self.initiator:
            return
        if header.response:
            self._receive_response(now, header, data, local, remote)
        else:
            self._receive_request(now, header, data, local, remote)

    def _receive_request(self, now: float, header: Header, data: bytes, local: Socket, remote: Socket) -> None:
        arrival = self._responses.arrival(header.message_id)
        if arrival == Arrival.REPEATED and self._asks_again(data):
            self._transmit(self._responses.response, local, remote)
        if arrival != Arrival.NEW or self.protection is None or self.state == State.GONE:
            return
        try:
            message = self.protection.open(data)
            if message is None:
                return
            self._heard(now, local, remote)
            reply = self._dispatch(now, message)
        except NotAuthentic:
            return
        except PeerError as error:
            self._heard(now, local, remote)
            reply = self._refuse(now, header.exchange, error)
        answer = Message(self.spi_i, self.spi_r, header.exchange, self.initiator, True, header.message_id,
                         reply.payloads)
        datagrams = self._responses.answer(self._seal(answer))
        self._transmit(datagrams, local, remote)
        if reply.then is not None:
            reply.then(answer, datagrams)
        self._begin(now)

    def answer_init(self, response: bytes, local: Socket, remote: Socket) -> None:
        """Answers the IKE_SA_INIT that made this IKE SA, now and when it comes again."""
        self._transmit(self._responses.answer((response,)), local, remote)

    def repeat_init(self, local: Socket, remote: Socket) -> None:
        """The IKE_SA_INIT came again."""
        if self._responses.expected == 1:
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

    def _dispatch(self, now: float, message: Message) -> Reply:
        if self.handshake is not None:
            return self.handshake.answer(self, now, message)
        if self.state == State.CONNECTING:
            raise NotAuthentic("a request before the handshake ended")
        if self.predecessor is not None and _about_children(message):  # the peer knows already which one survives
            self.predecessor.hand_over(self, now)
        match message.exchange:
            case ExchangeType.CREATE_CHILD_SA:
                of_ike = message.one(SecurityAssociation).proposals[0].protocol == ProtocolId.IKE
                return (rekey_ike if of_ike else create_child).answer(self, now, message)
            case ExchangeType.IKE_FOLLOWUP_KE:
                return creating.answer_follow_up(self, message)
            case ExchangeType.INFORMATIONAL:
                return informational.answer(self, now, message)
        raise InvalidSyntax(f"exchange {message.exchange} has no place here")

    def _refuse(self, now: float, exchange: int, error: PeerError) -> Reply:
        """The answer to a request that was wrong. What cannot be read ends the IKE SA (RFC 7296 2.21.3), and so does
        whatever goes wrong before it is established."""
        payloads = (Notify(error.notify, error.data),) if error.notify is not None else ()
        if self.state == State.CONNECTING:
            kind, fatal = EventKind.IKE_FAILED, True
        else:
            kind, fatal = EventKind.IKE_DOWN, isinstance(error, InvalidSyntax)
        if fatal:
            return Reply(payloads, lambda message, datagrams: self.close(now, kind, str(error), linger=True))
        self.event(EventKind.REFUSED, f"refused a request: {error}")
        return Reply(payloads)

    def _receive_response(self, now: float, header: Header, data: bytes, local: Socket, remote: Socket) -> None:
        exchange = self.active
        if exchange is None or not self._requests.expects(header.message_id):
            return
        if header.exchange != exchange.exchange_type:
            return
        try:
            if self.protection is None:
                exchange.received(data)
                message = Message.parse(data)
            else:
                message = self.protection.open(data)
            if message is None:
                return
        except NotAuthentic:
            return
        except PeerError as error:
            if self.protection is not None:  # otherwise anybody may have sent it
                self._end_after(now, error)
            return
        if self.protection is not None:
            self._heard(now, local, remote)
        self._take(now, exchange, message)

    def _take(self, now: float, exchange: Exchange, message: Message) -> None:
        """Gives an answer to the exchange that waits for it."""
        if self.protection is not None:
            self.request_answered()
        try:
            exchange.response(self, now, message)
        except PeerError as error:
            self._end_after(now, error)
            return
        self._begin(now)

    def request_answered(self) -> None:
        """The active exchange is over; the next request gets the next message ID."""
        self._stop_repeating()
        self._requests.answered()
        self.active = None

    def request_again(self, exchange: Exchange, now: float) -> None:
        """The active exchange was sent back: ``exchange`` takes its place, and its message ID."""
        self._stop_repeating()
        self._requests.again()
        self.active = None
        self.submit_first(exchange, now)

    def request_in_vain(self, tries: int) -> None:
        """An answer that proves nothing says that the request fails: it is repeated a few times at most."""
        self._requests.shorten(tries)

    def _end_after(self, now: float, error: PeerError) -> None:
        """Ends after a response that is wrong (RFC 7296 2.21.3), and tells the peer, where it stands."""
        if self.active is not None:
            exchange = self.active
            self.request_answered()
            exchange.abandoned(self, now)
        if self.state == State.CONNECTING:
            self.close(now, EventKind.IKE_FAILED, str(error))
        else:
            self.delete(now, str(error))

    def _heard(self, now: float, local: Socket, remote: Socket) -> None:
        """An authentic message that is no repetition came along ``local`` and ``remote`` (RFC 7296 2.23)."""
        self.heard = now
        if self.state == State.CONNECTING and not self.initiator:
            self.path = replace(self.path, local=local, remote=remote)
        elif self.path.remote_nat and not self.path.local_nat and remote != self.path.remote:
            self.event(EventKind.PEER_MOVED, f"the peer moved from {self.path.remote} to {remote}")
            self.path = replace(self.path, local=local, remote=remote)
            for child in self.children.values():
                child.move(self.path)

    # Life and end

    def establish(self, now: float) -> None:
        """Both sides are shown to be who they say, or the IKE SA replaces one of which that is so."""
        self.state, self.established, self.handshake = State.ESTABLISHED, now, None
        self._settle()
        peer = self.peer
        if peer.rekey_seconds is not None:
            wait = peer.rekey_seconds * (1 - peer.jitter * self.context.fraction())
            self._at(now + wait, lambda then: self.rekey(then))
        if peer.lifetime_seconds is not None:
            self._at(now + peer.lifetime_seconds, lambda then: self.delete(then, "its lifetime is over"))
        if peer.dpd_seconds is not None:
            self._at(now + peer.dpd_seconds, self._ask_if_alive)
        if self.path.local_nat:
            self._at(now + KEEPALIVE_SECONDS, self._keep_mapping)

    def rekey(self, now: float) -> None:
        """Replaces this IKE SA."""
        if self.state == State.ESTABLISHED and self.alive:
            self.submit(rekey_ike.RekeyIke(self), now)

    def rekey_child(self, child: "ChildSa", now: float) -> None:
        """Replaces a child SA."""
        self.submit(create_child.CreateChild(child.config, replaces=child), now)

    def delete_child(self, child: "ChildSa", now: float, why: str) -> None:
        """Ends a child SA and tells the peer."""
        self.submit(informational.DeleteChild(child, why), now)

    def spawn(self, now: float, *, initiator: bool, spi_i: bytes, spi_r: bytes, suite: Suite, keys: IkeKeys) -> "IkeSa":
        """An IKE SA that may replace this one: the same two sides, other SPIs and keys."""
        heir = IkeSa(self.context, initiator=initiator, spi_i=spi_i, spi_r=spi_r, path=replace(self.path),
                     peer=self.peer, now=now)
        heir.fragmentation, heir.identity, heir.on_gone = self.fragmentation, self.identity, self.on_gone
        heir.use_keys(suite, keys)
        heir.establish(now)
        return heir

    def hand_over(self, heir: "IkeSa", now: float) -> None:
        """``heir`` takes the children and all that is still to be done."""
        if self.state != State.ESTABLISHED:
            return
        self.state, self.heir = State.REKEYED, heir
        heir.predecessor = None
        for child in self.children.values():
            child.ike = heir
        heir.children.update(self.children)
        self.children = {}
        self.event(EventKind.IKE_REKEYED, f"gave way to {heir.name}, {heir.suite}")
        for exchange in self.waiting():
            heir.submit(exchange, now)

    @property
    def last_heir(self) -> "IkeSa":
        """The IKE SA that this one has become."""
        return self if self.heir is None else self.heir.last_heir

    def expire(self, now: float, seconds: float) -> None:
        """Goes without a word after a while, if it is not alive then, and the peer did not delete it before."""
        def gone(then: float) -> None:
            if not self.alive:
                self.close(then, EventKind.IKE_DOWN, "redundant, and never deleted")

        self._at(now + seconds, gone)

    def delete(self, now: float, why: str) -> None:
        """Ends the IKE SA and tells the peer."""
        if self.state in (State.ESTABLISHED, State.REKEYED):
            self._queue.clear()
            self.state = State.DELETING
            self.submit(informational.DeleteIke(why), now)
        elif self.state == State.CONNECTING:
            self.close(now, EventKind.IKE_FAILED, why)

    def close(self, now: float, kind: EventKind, why: str, *, linger: bool = False) -> None:
        """Ends the IKE SA and its children, here and now.

        Parameters
        ----------
        linger
            The last response can still be had for a while.
        """
        if self.state == State.GONE:
            return
        self.state = State.GONE
        self._settle()
        for child in list(self.children.values()):
            child.remove(now, why)
        for timer in self._timers:
            timer.cancel()
        self._stop_repeating()
        waiting = [exchange for exchange in (self.active, *self.waiting()) if exchange is not None]
        self.active = None
        if self.heir is None:  # otherwise it has long given way
            self.event(kind, why)
        for exchange in waiting:
            exchange.abandoned(self, now)
        if linger:
            self.context.timers.at(now + self.context.settings.closed_seconds, lambda then: self._forget())
        else:
            self._forget()
        self.on_gone(now, self)

    def _settle(self) -> None:
        settled, self.on_settled = self.on_settled, lambda: None
        settled()

    def _forget(self) -> None:
        self.context.ikes.pop(self.spi, None)

    def _at(self, when: float, call: Callable[[float], None]) -> None:
        self._timers = [timer for timer in self._timers if timer.active]
        self._timers.append(self.context.timers.at(when, call))

    def _ask_if_alive(self, now: float) -> None:
        """Dead peer detection (RFC 7296 2.4)."""
        silence = self.peer.dpd_seconds
        if self.heard + silence > now:
            self._at(self.heard + silence, self._ask_if_alive)
            return
        if self.active is None:
            self.submit(informational.Liveness(), now)
        self._at(now + silence, self._ask_if_alive)

    def _keep_mapping(self, now: float) -> None:
        self.context.emit(Datagram(self.path.local, self.path.remote, KEEPALIVE))
        self._at(now + KEEPALIVE_SECONDS, self._keep_mapping)


def _about_children(message: Message) -> bool:
    return message.exchange == ExchangeType.CREATE_CHILD_SA or any(
        each.protocol != ProtocolId.IKE for each in message.all(Delete))

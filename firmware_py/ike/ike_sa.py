"""One IKE SA: what it answers, and its life and end."""
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from spigate.firmware_py.ike import create_child, creating, informational, rekey_ike
from spigate.firmware_py.ike.context import Context
from spigate.firmware_py.ike.dialogue import Dialogue
from spigate.firmware_py.ike.errors import InvalidSyntax, NotAuthentic, PeerError
from spigate.firmware_py.ike.events import Datagram, Event, EventKind, Socket
from spigate.firmware_py.ike.exchanges import Exchange, Reply
from spigate.firmware_py.ike.identities import Identity
from spigate.firmware_py.ike.keys import IkeKeys
from spigate.firmware_py.ike.message import Header, Message
from spigate.firmware_py.ike.nat import KEEPALIVE, Path
from spigate.firmware_py.ike.pad import Peer
from spigate.firmware_py.ike.payloads import Delete, Notify, SecurityAssociation
from spigate.firmware_py.ike.proposals import Suite
from spigate.firmware_py.ike.registry import ExchangeType, ProtocolId
from spigate.firmware_py.ike.state import State
from spigate.firmware_py.ike.timers import Timer

if TYPE_CHECKING:
    from spigate.firmware_py.ike.children import ChildSa
    from spigate.firmware_py.ike.responder import Responder

FOLLOW_SECONDS = 1.0
"""A peer moves no more often than this."""


class IkeSa(Dialogue):
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
    identity : Identity
        The peer's, once it is shown.
    children : dict of int to ChildSa
        By the SPI that this side receives on.
    handshake : Responder or None
        What answers until the IKE SA is established, on the responder's side.
    pending : FollowUps or None
        A peer's CREATE_CHILD_SA that additional key exchanges are still to complete.
    rekeying, rival
        As in :class:`~spigate.firmware_py.ike.children.ChildSa`, of the IKE SA itself.
    heir, predecessor : IkeSa or None
        What replaced it; what it may replace, as long as that is undecided.
    on_settled : callable
        Called when it is established, or gone.
    on_gone : callable
        Called with the time and the IKE SA.
    created, established, heard : float
        When it was made, when it was authenticated, and when the peer's last authentic message came.
    """

    def __init__(self, context: Context, *, initiator: bool, spi_i: bytes, spi_r: bytes, path: Path,
                 peer: Peer | None, now: float):
        super().__init__(context, initiator=initiator, spi_i=spi_i, spi_r=spi_r, path=path)
        self.peer: Peer | None = None
        self.state = State.CONNECTING
        self.identity: Identity | None = None
        self.children: dict[int, ChildSa] = {}
        self.handshake: Responder | None = None
        self.pending: creating.FollowUps | None = None
        self.rekeying = False
        self.rival: tuple[IkeSa, bytes] | None = None
        self.heir: IkeSa | None = None
        self.predecessor: IkeSa | None = None
        self.on_settled: Callable[[], None] = lambda: None
        self.on_gone: Callable[[float, IkeSa], None] = lambda now, ike: None
        self.created = self.established = self.heard = now
        self._timers: list[Timer] = []
        self._stays_until = now
        if peer is not None:
            self.know(peer)
        context.ikes[self.spi] = self

    @property
    def alive(self) -> bool:
        """It is made, or being made, and nobody wants it gone; nor is it undecided whether it replaces another."""
        return self.state in (State.CONNECTING, State.ESTABLISHED) and self.predecessor is None

    @property
    def _who(self) -> str:
        return self.peer.name if self.peer is not None else str(self.path.remote.address)

    def event(self, kind: EventKind, text: str, child: str = "") -> None:
        self.context.event(kind, self._who, text, self.name, child)

    def unproved(self, now: float, kind: EventKind, text: str) -> None:
        """An event that anybody may have brought about."""
        self.context.strangers.tell(now, Event(kind, self._who, text, self.name))

    def know(self, peer: Peer) -> None:
        """The peer said which entry it is of."""
        self.peer = peer
        self.fragment_bytes = peer.fragment_bytes
        self.repeat_requests(peer.retransmission)

    def submit_later(self, exchange: Exchange, now: float, seconds: float) -> None:
        """Begins ``exchange`` after a while, unless the IKE SA is gone by then."""
        self.context.timers.at(now + seconds, lambda then: self.last_heir.submit(exchange, then))

    def given_up(self, now: float) -> None:
        if self.state == State.CONNECTING:
            self.close(now, EventKind.IKE_FAILED, "the peer does not answer")
        elif self.state == State.ESTABLISHED:
            self.close(now, EventKind.PEER_DEAD, "the peer does not answer any more")
        else:
            self.close(now, EventKind.IKE_DOWN, "deleted, and the peer did not confirm it")

    def answer(self, now: float, message: Message) -> Reply:
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

    def refuse(self, now: float, error: PeerError) -> Reply:
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

    def wrong_response(self, now: float, error: PeerError) -> None:
        """Ends after a response that is wrong (RFC 7296 2.21.3), and tells the peer, where it stands."""
        if self.state in (State.CONNECTING, State.DELETING):
            kind = EventKind.IKE_FAILED if self.state == State.CONNECTING else EventKind.IKE_DOWN
            self.close(now, kind, str(error))
        else:
            self.delete(now, str(error))

    def receive(self, now: float, header: Header, data: bytes, local: Socket, remote: Socket) -> None:
        """A datagram whose SPIs are those of this IKE SA. From where the peer may not be, it is neither looked at nor answered:
        anybody can send a copy of what was said from an address of somebody else's."""
        if self._may_be_at(remote):
            super().receive(now, header, data, local, remote)

    def _may_be_at(self, remote: Socket) -> bool:
        if self.peer is not None:
            return self.peer.may_come_from(remote.address)
        return remote == self.path.remote or bool(self.context.pad.candidates(remote.address))

    def heard_from(self, now: float, local: Socket, remote: Socket) -> None:
        """An authentic message that is no repetition came along ``local`` and ``remote`` (RFC 7296 2.23)."""
        self.heard = now
        if self.state == State.CONNECTING and not self.initiator:
            self.path = replace(self.path, local=local, remote=remote)
        else:
            self.follow(now, local, remote)

    def follow(self, now: float, local: Socket, remote: Socket) -> None:
        """Something authentic came along ``local`` and ``remote``: a peer behind a NAT is sent to where it is now. A host that
        is behind one itself stays: anybody can send it a copy from elsewhere (RFC 7296 2.23). Who only changes addresses of
        what passes, without keys, can move a peer too: so that happens no more often than FOLLOW_SECONDS."""
        if (self.path.remote_nat and not self.path.local_nat and remote != self.path.remote and self._may_be_at(remote)
                and now >= self._stays_until):
            self._stays_until = now + FOLLOW_SECONDS
            self.unproved(now, EventKind.PEER_MOVED, f"the peer moved from {self.path.remote} to {remote}")
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
        if self.path.local_nat and peer.keepalive_seconds is not None:
            self._at(now + peer.keepalive_seconds, self._keep_mapping)

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
        """``heir`` takes the children and all that is still to be done; where this IKE SA is being ended, it is ended too."""
        if self.state == State.DELETING and self.heir is None:
            self.heir, heir.predecessor = heir, None
            heir.delete(now, "what it replaces was ended")
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
            self.waiting()
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
        if self.predecessor is not None:  # a rival that is gone replaces nothing
            self.predecessor.rival = None
        for child in list(self.children.values()):
            child.remove(now, why)
        for timer in self._timers:
            timer.cancel()
        unfinished = self.fall_silent()
        if self.heir is None:  # otherwise it has long given way
            if self.handshake is not None:
                self.unproved(now, kind, why)
            else:
                self.event(kind, why)
        for exchange in unfinished:
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
        self._at(now + self.peer.keepalive_seconds, self._keep_mapping)


def _about_children(message: Message) -> bool:
    return message.exchange == ExchangeType.CREATE_CHILD_SA or any(
        each.protocol != ProtocolId.IKE for each in message.all(Delete))

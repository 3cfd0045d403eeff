# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""One IKE SA: what it answers, and its life and end."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from spigate.firmware_py.ike.crypto.keys import IkeKeys
from spigate.firmware_py.ike.crypto.proposals import Suite
from spigate.firmware_py.ike.crypto.protect import Limits
from spigate.firmware_py.ike.engine import create_child, informational, keyed_exchange, rekey_ike
from spigate.firmware_py.ike.engine.actions import Datagram, Event, EventKind, Socket
from spigate.firmware_py.ike.engine.attempt import Attempt
from spigate.firmware_py.ike.engine.context import Context
from spigate.firmware_py.ike.engine.exchange import Exchange, Reply
from spigate.firmware_py.ike.engine.nat import KEEPALIVE, Path
from spigate.firmware_py.ike.engine.state import State
from spigate.firmware_py.ike.engine.timers import Timer
from spigate.firmware_py.ike.peers.identities import Identity
from spigate.firmware_py.ike.peers.pad import Peer
from spigate.firmware_py.ike.wire.errors import InvalidSyntax, NotAuthentic, PeerError
from spigate.firmware_py.ike.wire.message import Header, Message
from spigate.firmware_py.ike.wire.payloads import Delete, Notify, SecurityAssociation
from spigate.firmware_py.ike.wire.registry import ExchangeType, NotifyType, ProtocolId

if TYPE_CHECKING:
    from spigate.firmware_py.ike.engine.children import ChildSa
    from spigate.firmware_py.ike.engine.responder import Responder

FOLLOW_SECONDS = 1.0
"""A peer moves no more often than this."""
MAX_ANCESTORS = 4
DELETING_SECONDS = 180.0
"""So long a peer has to confirm a deletion: longer than it is repeated, unless something else has to be
answered first.
"""


class IkeSa(Attempt):
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
        As in :class:`~spigate.firmware_py.ike.engine.children.ChildSa`, of the IKE SA itself.
    heir, predecessor : IkeSa or None
        What replaced it; what it may replace, as long as that is undecided.
    ancestors : list of IkeSa
        Which it replaced and that are not deleted yet: the last few.
    on_settled : callable
        Called with the time when it is established, or gone.
    on_gone : callable
        Called with the time and the IKE SA.
    created, established, heard : float
        When it was made, when it was authenticated, and when the peer's last authentic message came.
    """

    def __init__(
        self,
        context: Context,
        *,
        initiator: bool,
        spi_i: bytes,
        spi_r: bytes,
        path: Path,
        peer: Peer | None,
        now: float,
        root: "IkeSa | None" = None,
    ):
        super().__init__(context, initiator=initiator, spi_i=spi_i, spi_r=spi_r, path=path, root=root)
        self.peer: Peer | None = None
        self.state = State.CONNECTING
        self.identity: Identity | None = None
        self.children: dict[int, ChildSa] = {}
        self.handshake: Responder | None = None
        self.pending: keyed_exchange.FollowUps | None = None
        self.rekeying: rekey_ike.RekeyIke | None = None
        self.rival: tuple[IkeSa, bytes] | None = None
        self.heir: IkeSa | None = None
        self.predecessor: IkeSa | None = None
        self.ancestors: list[IkeSa] = []
        self.on_settled: Callable[[float], None] = lambda now: None
        self.on_gone: Callable[[float, IkeSa], None] = lambda now, ike: None
        self.created = self.established = self.heard = now
        self._timers: list[Timer] = []
        self._stays_until = now
        self._later: list[Timer] = []
        self._pending_timer: Timer
        if peer is not None:
            self.know(peer)
        if root is None:
            context.ikes[self.spi] = self
        context.boundary.born.append(self)

    @property
    def ike(self) -> "IkeSa":
        return self

    @property
    def entry(self) -> Peer:
        """The peer's, which is known by now."""
        assert self.peer is not None
        return self.peer

    @property
    def alive(self) -> bool:
        """It is made, or being made, and nobody wants it gone; nor is it undecided whether it replaces
        another.
        """
        return self.state in (State.CONNECTING, State.ESTABLISHED) and self.predecessor is None

    @property
    def who(self) -> str:
        return self.peer.name if self.peer is not None else str(self.path.remote.address)

    def event(self, kind: EventKind, text: str, child: str = "") -> None:
        self.context.event(kind, self.who, text, self.name, child)

    def unproved(self, now: float, kind: EventKind, text: str) -> None:
        """An event that anybody may have brought about."""
        self.context.strangers.tell(now, Event(kind, self.who, text, self.name))

    def know(self, peer: Peer) -> None:
        """The peer said which entry it is of."""
        self.peer = peer
        self.fragment_bytes = peer.fragment_bytes
        self.repeat_requests(peer.retransmission)

    def submit_later(self, exchange: Exchange, now: float, seconds: float) -> None:
        """Begins ``exchange`` after a while, on what this IKE SA has become by then, unless that is gone."""
        self._later = [timer for timer in self._later if timer.active]
        self._later.append(
            self.context.timers.at(
                now + seconds, lambda then: self.last_heir.submit(exchange, then), lambda: self.last_heir
            )
        )

    def keep_pending(self, pending: keyed_exchange.FollowUps, now: float, seconds: float) -> None:
        """What a peer began, in place of what it began before; dropped if it does not go on in time."""
        self.drop_pending()
        self.pending = pending
        self._pending_timer = self.context.timers.at(
            now + seconds, lambda then: self.drop_pending(), lambda: self
        )

    def drop_pending(self) -> None:
        """The peer goes on with it, or never will."""
        if self.pending is not None:
            pending, self.pending = self.pending, None
            self._pending_timer.cancel()
            pending.held.release()

    def given_up(self, now: float) -> None:
        if self.state == State.CONNECTING:
            self.close(now, EventKind.IKE_FAILED, self._why)
        elif self.state == State.ESTABLISHED:
            self.close(now, EventKind.PEER_DEAD, "the peer does not answer any more")
        else:
            self.close(now, EventKind.IKE_DOWN, "deleted, and the peer did not confirm it")

    def answer(self, now: float, message: Message) -> Reply:
        if self.handshake is not None:
            return self.handshake.answer(self, now, message)
        if self.state == State.CONNECTING:
            raise NotAuthentic("a request before the handshake ended")
        if self.predecessor is not None and _about_children(
            message
        ):  # the peer knows already which one survives
            self.predecessor.hand_over(self, now)
        match message.exchange:
            case ExchangeType.CREATE_CHILD_SA:
                of_ike = message.one(SecurityAssociation).proposals[0].protocol == ProtocolId.IKE
                answer = rekey_ike.answer if of_ike else create_child.answer
                return answer(self, now, message)
            case ExchangeType.IKE_FOLLOWUP_KE:
                return keyed_exchange.answer_follow_up(self, now, message)
            case ExchangeType.INFORMATIONAL:
                return informational.answer(self, now, message)
        raise InvalidSyntax(f"exchange {message.exchange} has no place here")

    def refuse(self, now: float, error: PeerError) -> Reply:
        """The answer to a request that was wrong. What cannot be read ends the IKE SA (RFC 7296 2.21.3),
        and so does whatever goes wrong before it is established."""
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
        """A datagram whose SPIs are those of this IKE SA. From where the peer may not be, it is neither
        looked at nor answered: anybody can send a copy of what was said from an address of somebody
        else's."""
        if self._may_be_at(remote):
            super().receive(now, header, data, local, remote)

    def _may_be_at(self, remote: Socket) -> bool:
        """Who began and has not shown who it is, nowhere but where its IKE_SA_INIT came from, whatever the
        port: there it has heard the answer. Any other address may be somebody else's."""
        if self.initiator or self.identity is not None:
            return self.entry.may_come_from(remote.address)
        return remote.address == self.path.remote.address

    def heard_from(self, now: float, local: Socket, remote: Socket) -> None:
        """An authentic message that is no repetition came along ``local`` and ``remote`` (RFC 7296 2.23)."""
        self.heard = now
        if self.state == State.CONNECTING and not self.initiator:
            self.path = replace(self.path, local=local, remote=remote)
        else:
            self.follow(now, local, remote)

    def follow(self, now: float, local: Socket, remote: Socket) -> None:
        """Something authentic came along ``local`` and ``remote``: a peer behind a NAT is sent to where it
        is now. A host that is behind one itself stays: anybody can send it a copy from elsewhere (RFC 7296
        2.23). Who only changes addresses of what passes, without keys, can move a peer too: so that happens
        no more often than FOLLOW_SECONDS."""
        if (
            self.path.remote_nat
            and not self.path.local_nat
            and remote != self.path.remote
            and self._may_be_at(remote)
            and now >= self._stays_until
        ):
            self._stays_until = now + FOLLOW_SECONDS
            self.unproved(now, EventKind.PEER_MOVED, f"the peer moved from {self.path.remote} to {remote}")
            self.path = replace(self.path, local=local, remote=remote)
            for child in self.children.values():
                child.move(self.path)

    # Life and end

    def establish(self, now: float) -> None:
        """Both sides are shown to be who they say, or the IKE SA replaces one of which that is so."""
        self.state, self.established, self.handshake = State.ESTABLISHED, now, None
        assert self.protection is not None
        self.protection.limits = Limits()
        if self.root is not None:
            self._won(self.root, now)
        self._settle(now)
        peer = self.entry
        if peer.rekey_seconds is not None:
            wait = peer.rekey_seconds * (1 - peer.jitter * self.context.fraction())
            self._at(now + wait, lambda then: self.rekey(then))
        if peer.lifetime_seconds is not None:
            self._at(now + peer.lifetime_seconds, lambda then: self.end(then, "its lifetime is over"))
        if peer.dpd_seconds is not None:
            self._ask_if_alive_after(now, peer.dpd_seconds)
        if self.path.local_nat and peer.keepalive_seconds is not None:
            self._keep_mapping_after(now, peer.keepalive_seconds)

    def rekey(self, now: float) -> None:
        """Replaces this IKE SA."""
        if self.state == State.ESTABLISHED and self.alive:
            self.submit(rekey_ike.RekeyIke(self), now)

    def rekey_child(self, child: "ChildSa", now: float) -> None:
        """Replaces a child SA, if that is not under way. Only once, however often it is asked for."""
        if not child.rekeying and not self.plans(
            lambda each: isinstance(each, create_child.CreateChild) and each.replaces is child
        ):
            self.submit(create_child.CreateChild(child.config, replaces=child), now)

    def delete_child(self, child: "ChildSa", now: float, why: str) -> None:
        """Ends a child SA as soon as the peer knows, and tells it."""
        if not self.plans(lambda each: isinstance(each, informational.DeleteChild) and each.child is child):
            self.submit(informational.DeleteChild(child, why), now)

    def forget_child(self, child: "ChildSa", now: float) -> None:
        """Tells the peer that a child SA ended."""
        self.submit(informational.DeleteSpi(child.config.protocol, child.inbound.spi), now)

    def spawn(
        self, now: float, *, initiator: bool, spi_i: bytes, spi_r: bytes, suite: Suite, keys: IkeKeys
    ) -> "IkeSa":
        """An IKE SA that may replace this one: the same two sides, other SPIs and keys."""
        heir = IkeSa(
            self.context,
            initiator=initiator,
            spi_i=spi_i,
            spi_r=spi_r,
            path=replace(self.path),
            peer=self.peer,
            now=now,
        )
        heir.fragmentation, heir.identity, heir.on_gone = self.fragmentation, self.identity, self.on_gone
        heir.use_keys(suite, keys)
        heir.establish(now)
        return heir

    def hand_over(self, heir: "IkeSa", now: float) -> None:
        """``heir`` takes the children and all that is still to be done; where this IKE SA is being ended,
        it is ended too.
        """
        if self.state == State.DELETING and self.heir is None:
            self.heir, heir.predecessor = heir, None
            heir.delete(now, "what it replaces was ended")
        if self.state != State.ESTABLISHED:
            return
        self.state, self.heir = State.REKEYED, heir
        heir.predecessor = None
        self.drop_pending()
        heir._inherit(self, now)
        for child in self.children.values():
            child.ike = heir
        heir.children.update(self.children)
        self.children = {}
        self.event(EventKind.IKE_REKEYED, f"gave way to {heir.name}, {heir.suite}")
        for exchange in self.waiting():
            heir.submit(exchange, now)

    def _inherit(self, ancestor: "IkeSa", now: float) -> None:
        """Knows all that it replaced, and keeps the last few of them; the peer should have deleted the
        others.
        """
        self._later, ancestor._later = ancestor._later, []
        known = [each for each in (*ancestor.ancestors, ancestor) if each.state != State.GONE]
        ancestor.ancestors = []
        for each in known[:-MAX_ANCESTORS]:
            each.close(now, EventKind.IKE_DOWN, "replaced, and never deleted")
        self.ancestors = known[-MAX_ANCESTORS:]

    @property
    def last_heir(self) -> "IkeSa":
        """The IKE SA that this one has become."""
        last = self
        while last.heir is not None:
            last = last.heir
        return last

    def rekeying_is_over(self, exchange: "rekey_ike.RekeyIke", now: float) -> None:
        """An exchange that was to replace it ended, whichever way, and no other one took its place. If it
        did not replace it, the peer's did."""
        if self.rekeying is not exchange:
            return
        self.rekeying = None
        if self.rival is not None and self.heir is None and self.state != State.GONE:
            self.hand_over(self.rival[0], now)

    def deadline(self, now: float, seconds: float, why: str) -> None:
        """Its handshake must have ended by then."""

        def late(then: float) -> None:
            if self.state == State.CONNECTING:
                self.close(then, EventKind.IKE_FAILED, why)

        self._at(now + seconds, late)

    def expire(self, now: float, seconds: float) -> None:
        """Goes without a word after a while, if it is not alive then, and the peer did not delete it
        before.
        """

        def gone(then: float) -> None:
            if not self.alive:
                self.close(then, EventKind.IKE_DOWN, "redundant, and never deleted")

        self._at(now + seconds, gone)

    def delete(self, now: float, why: str) -> None:
        """Ends the IKE SA and tells the peer, which has its time to confirm it."""
        if self.state in (State.ESTABLISHED, State.REKEYED):
            self.abandon_waiting(now)
            self.drop_pending()
            self.state = State.DELETING
            self.submit(informational.DeleteIke(why), now)
            self._at(now + DELETING_SECONDS, lambda then: self.close(then, EventKind.IKE_DOWN, why))
        elif self.state == State.CONNECTING:
            self.close(now, EventKind.IKE_FAILED, why)

    def disown(self, now: float, why: str, error: NotifyType) -> None:
        """The peer is not who it must be, and believes that all is well (RFC 7296 2.21.2): it is told."""
        self.state = State.DELETING
        self._at(now + DELETING_SECONDS, lambda then: self.close(then, EventKind.IKE_FAILED, why))
        self.submit_first(informational.DeleteIke(why, error), now)
        if self.root is not None:
            self.root.lost(now, why)

    def end(self, now: float, why: str) -> None:
        """A hard limit: its child SAs end at once, whether the peer answers or not, and it is told."""
        for child in list(self.children.values()):
            child.remove(now, why, at_once=True)
        self.delete(now, why)

    def dismiss(self, now: float, why: str) -> None:
        """Ends at once; the peer is told, and not waited for."""
        self.delete(now, why)
        self.close(now, EventKind.IKE_DOWN, why)

    def fail(self, now: float) -> None:
        """Something went wrong that nobody expected: it ends here and now. What has no peer yet goes on:
        all that happened is a datagram."""
        if (
            self.state == State.CONNECTING
            and self.initiator
            and self.root is None
            and self.active is not None
        ):
            return
        kind = EventKind.IKE_FAILED if self.state == State.CONNECTING else EventKind.IKE_DOWN
        self.close(now, kind, "internal error")

    def close(self, now: float, kind: EventKind, why: str, *, linger: bool = False) -> None:
        """Ends the IKE SA and its children, here and now.

        Parameters
        ----------
        linger
            The last response can still be had for a while.
        """
        if self.state == State.GONE:
            return
        connecting, self.state = self.state == State.CONNECTING, State.GONE
        stranger = self.handshake is not None
        tell: Callable[[EventKind, str], None] = partial(self.unproved, now) if stranger else self.event
        self._leave(now, why, linger)
        step = self.context.boundary.step
        if self.root is not None:
            self.root.candidates.remove(self)
            if connecting:
                step(partial(self.root.lost, now, why))
            return
        if self.heir is None:  # otherwise it has long given way
            tell(kind, why)
        step(lambda: self.on_gone(now, self))

    def _leave(self, now: float, why: str = "", linger: bool = False) -> None:
        """Gives back all that it has, each thing whatever became of the others."""
        step = self.context.boundary.step
        for child in list(self.children.values()):
            step(partial(child.remove, now, why))
        step(lambda: self._settle(now))
        for timer in (*self._timers, *self._later):
            timer.cancel()
        self._timers, self._later, self.handshake, self._first = [], [], None, None
        self.drop_pending()
        self.fall_silent(now)
        if self.predecessor is not None:  # a rival that is gone replaces nothing
            self.predecessor.rival = None
        if self.rival is not None and self.rival[0].predecessor is self:
            step(partial(self.rival[0].close, now, EventKind.IKE_DOWN, why))
        candidates, self.candidates = self.candidates, []
        for each in candidates:
            step(partial(each.dissolve, now))
        if self.root is None and self.context.ikes.get(self.spi) is self:
            if linger:
                self._linger(now)
            else:
                self._forget()

    def _linger(self, now: float) -> None:
        context = self.context
        context.lingering.add(self, self.path.remote.address, self._forget)
        self._timers.append(
            context.timers.at(now + context.settings.closed_seconds, lambda then: self._forget())
        )

    def _settle(self, now: float) -> None:
        settled, self.on_settled = self.on_settled, lambda now: None
        settled(now)

    def _forget(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self.context.lingering.remove(self)
        self.context.ikes.pop(self.spi, None)

    def _at(self, when: float, call: Callable[[float], None]) -> None:
        self._timers = [timer for timer in self._timers if timer.active]
        self._timers.append(self.context.timers.at(when, call, lambda: self))

    def _ask_if_alive_after(self, since: float, silence: float) -> None:
        """Dead peer detection (RFC 7296 2.4), as soon as the peer is silent for so long."""

        def ask(now: float) -> None:
            if self.heard + silence > now:
                self._ask_if_alive_after(self.heard, silence)
                return
            if self.active is None:
                self.submit(informational.Liveness(), now)
            self._ask_if_alive_after(now, silence)

        self._at(since + silence, ask)

    def _keep_mapping_after(self, now: float, seconds: float) -> None:
        def keep(then: float) -> None:
            self.context.emit(Datagram(self.path.local, self.path.remote, KEEPALIVE))
            self._keep_mapping_after(then, seconds)

        self._at(now + seconds, keep)


def _about_children(message: Message) -> bool:
    return message.exchange == ExchangeType.CREATE_CHILD_SA or any(
        each.protocol != ProtocolId.IKE for each in message.all(Delete)
    )

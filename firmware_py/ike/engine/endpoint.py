# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""An IKEv2 endpoint, sans-I/O: datagrams and a clock in; datagrams, SAs, policies and events out.

Whoever drives it calls :meth:`Endpoint.receive` for what comes on UDP ports 500 and 4500,
:meth:`Endpoint.tick` when
:attr:`Endpoint.next_timer` is due, and does after each call what :meth:`Endpoint.take` says, in order.

Each datagram, timer and command stands by itself (:mod:`~spigate.firmware_py.ike.engine.boundary`): none
raises, but for InputError where an operator asks for what cannot be.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from spigate.firmware_py.ike.engine import responder
from spigate.firmware_py.ike.engine.actions import (
    NAT_PORT,
    Datagram,
    Event,
    EventKind,
    InstallSa,
    MoveSa,
    Output,
    Socket,
)
from spigate.firmware_py.ike.engine.admission import Cookies, HalfOpen
from spigate.firmware_py.ike.engine.context import Context, Settings
from spigate.firmware_py.ike.engine.create_child import CreateChild
from spigate.firmware_py.ike.engine.ike_sa import IkeSa
from spigate.firmware_py.ike.engine.initiator import Init, Plan, Wanted
from spigate.firmware_py.ike.engine.nat import MARKER, Path
from spigate.firmware_py.ike.engine.state import State
from spigate.firmware_py.ike.engine.timers import Timer
from spigate.firmware_py.ike.peers.pad import Pad, Peer
from spigate.firmware_py.ike.wire.errors import InvalidMajorVersion, PeerError
from spigate.firmware_py.ike.wire.message import NO_SPI, Header, Message
from spigate.firmware_py.ike.wire.payloads import KeyExchange, Nonce, Notify, SecurityAssociation
from spigate.firmware_py.ike.wire.registry import ExchangeType, NotifyType
from spigate.firmware_py.ipsec.sa import Sa, Selectors
from spigate.firmware_py.words import counted

VERSION = 0x20
MAX_INIT = 8192
"""Longest IKE_SA_INIT of a stranger's: with every algorithm and the largest key exchange it is half of that.
"""
MAX_WAITING = 256
"""So many child SAs of one peer may wait to be made."""
_T = TypeVar("_T")


class Endpoint:
    """Parameters
    ----------
    pad : Pad
        Who may take part.
    settings : Settings
    random : callable
        So many bytes, unpredictable: SPIs, nonces, cookies, jitter. Key exchanges have their own source.
    utc : callable
        Date and time, for certificates. Everything else goes by ``now``: seconds that only grow, of any
        origin.
    """

    def __init__(
        self,
        pad: Pad,
        settings: Settings | None = None,
        *,
        random: Callable[[int], bytes] = os.urandom,
        utc: Callable[[], datetime] = lambda: datetime.now(UTC),
    ):
        self._context = Context(pad, settings or Settings(), random=random, utc=utc)
        limits = self._context.settings.limits
        self._cookies = Cookies(limits.cookie_seconds, random)
        self._half_open = HalfOpen(limits)
        self._inits: dict[tuple[bytes, Socket], tuple[bytes, IkeSa]] = {}
        self._open: dict[IkeSa, None] = {}
        self._plans: dict[IkeSa, Plan] = {}
        self._stopped: set[str] = set()
        self._retries: dict[str, Timer] = {}
        self._loaded = False

    # What comes out

    def take(self) -> list[Output]:
        """What is to be done since the last call, in order."""
        outputs = list(self._context.outputs)
        self._context.outputs.clear()
        return outputs

    @property
    def next_timer(self) -> float | None:
        """When :meth:`tick` is due."""
        return self._context.timers.next

    @property
    def ikes(self) -> Iterator[IkeSa]:
        """All IKE SAs that are not closed, for tables; to be read only."""
        return iter([ike for ike in self._context.ikes.values() if ike.state != State.GONE])

    def census(self) -> dict[str, int]:
        """What is reserved, kept and waited for, by kind."""
        return {
            **self._context.census(),
            "half_open": len(self._half_open),
            "inits": len(self._inits),
            "plans": len(self._plans),
        }

    @property
    def half_open(self) -> int:
        """Handshakes that peers began and have not finished."""
        return len(self._half_open)

    # What goes in

    def tick(self, now: float) -> None:
        """Does what is due."""
        self._context.timers.run(now)

    def receive(self, now: float, data: bytes, local: Socket, remote: Socket) -> bool:
        """A UDP datagram that came from ``remote`` to ``local``.

        Returns
        -------
        bool
            False: it is not IKE, but ESP in UDP or a keepalive, on port 4500. Not for this endpoint.
        """
        if local.port == NAT_PORT:
            if data[:4] != MARKER:
                return False
            data = data[4:]
        self._within(now, lambda: self._receive(now, data, local, remote))
        return True

    def _within(self, now: float, call: Callable[[], _T], ike: IkeSa | None = None) -> _T | None:
        return self._context.boundary.run(now, call, lambda: ike)

    def _receive(self, now: float, data: bytes, local: Socket, remote: Socket) -> None:
        try:
            header = Header.parse(data)
        except InvalidMajorVersion:
            self._refuse_version(data, local, remote)
            return
        except PeerError:
            return
        if header.exchange == ExchangeType.IKE_SA_INIT and not header.response:
            if (
                header.initiator
                and header.spi_r == NO_SPI
                and header.spi_i != NO_SPI
                and header.message_id == 0
            ):
                self._begun(now, data, local, remote)
            return
        found = self._context.ikes.get(header.spi_r if header.initiator else header.spi_i)
        for ike in found.addressed(header) if found is not None else ():
            self._within(now, partial(ike.receive, now, header, data, local, remote), ike)

    def _refuse_version(self, data: bytes, local: Socket, remote: Socket) -> None:
        """A request of a later IKE is told that 2 is the highest (RFC 7296 2.5); of an earlier one it is
        dropped.
        """
        if data[17] > VERSION | 0x0F and not data[19] & 0x20 and self._context.pad.candidates(remote.address):
            answer = Message(
                data[:8],
                data[8:16],
                data[18],
                False,
                True,
                int.from_bytes(data[20:24]),
                (Notify(NotifyType.INVALID_MAJOR_VERSION),),
            ).pack()
            if len(answer) <= len(data):  # who says more with less has somebody else's address
                self._send(answer, local, remote)

    def _send(self, data: bytes, local: Socket, remote: Socket) -> None:
        marker = MARKER if local.port == NAT_PORT else b""
        self._context.emit(Datagram(local, remote, marker + data))

    def _of_stranger(self, now: float, kind: EventKind, remote: Socket, text: str) -> None:
        self._context.strangers.tell(now, Event(kind, str(remote.address), text))

    # Handshakes that peers begin

    def _begun(self, now: float, data: bytes, local: Socket, remote: Socket) -> None:
        """IKE_SA_INIT from ``remote``. Until it is answered, nothing of it is kept; then, as long as its
        IKE SA stands, what it was: it may come twice, and the second time late."""
        if data[:8] in self._context.ikes:
            return  # an SPI of this side's: its own message came back
        key, digest = (data[:8], remote), hashlib.sha256(data).digest()
        known = self._inits.get(key)
        if known is not None and known[0] == digest:
            known[1].repeat_init(local, remote)
            return
        candidates = [
            peer
            for peer in self._context.pad.candidates(remote.address)
            if peer.local_address in (None, local.address)
        ]
        if not candidates:
            self._of_stranger(now, EventKind.REFUSED, remote, "no peer may come from there")
            return
        if len(data) > MAX_INIT:
            self._of_stranger(now, EventKind.REFUSED, remote, f"IKE_SA_INIT of {counted(len(data), 'byte')}")
            return
        try:
            message = Message.parse(data)
            if not self._admitted(now, message, len(data), local, remote):
                return
            ike = responder.begin(self._context, now, message, data, Path(local, remote), candidates)
        except PeerError as error:
            if error.notify not in (None, NotifyType.INVALID_SYNTAX):
                refusal = Message(
                    data[:8],
                    NO_SPI,
                    ExchangeType.IKE_SA_INIT,
                    False,
                    True,
                    0,
                    (Notify(error.notify, error.data),),
                )
                self._send(refusal.pack(), local, remote)
            if error.notify != NotifyType.INVALID_KE_PAYLOAD:
                self._of_stranger(now, EventKind.REFUSED, remote, f"IKE_SA_INIT: {error}")
            return
        self._keep(now, ike, key, digest)

    def _admitted(self, now: float, message: Message, size: int, local: Socket, remote: Socket) -> bool:
        """Whether there is room for one more handshake, and under load, whether its beginner has the
        address that it says it has. The others are asked for a cookie, or dropped."""
        for kind in (SecurityAssociation, KeyExchange, Nonce):  # what has them is longer than a cookie
            message.one(kind)
        half_open = self._half_open
        loaded = half_open.load(now) >= self._context.settings.limits.cookie_threshold
        if loaded != self._loaded:
            self._loaded = loaded
            text = (
                f"{len(half_open)} handshakes are half open and {half_open.load(now) - len(half_open)} "
                f"failed lately; cookies "
                f"are {'asked for' if loaded else 'not asked for any more'}"
            )
            self._of_stranger(now, EventKind.UNDER_LOAD, remote, text)
        if half_open.asks(now, remote.address):
            nonce, cookie = message.one(Nonce).data, message.notify(NotifyType.COOKIE)
            asked = nonce, remote.address, message.spi_i
            if cookie is None or not self._cookies.valid(now, cookie.data, *asked):
                answer = Message(
                    message.spi_i,
                    NO_SPI,
                    ExchangeType.IKE_SA_INIT,
                    False,
                    True,
                    0,
                    (Notify(NotifyType.COOKIE, self._cookies.make(now, *asked)),),
                ).pack()
                if len(answer) <= size:  # else whose address it has gets more than was sent in its name
                    self._send(answer, local, remote)
                return False
        if not half_open.room(remote.address):
            return False
        if half_open.full:  # whoever means it is through in a moment
            next(iter(self._open)).close(now, EventKind.IKE_FAILED, "too many handshakes are half open")
        return True

    def _keep(self, now: float, ike: IkeSa, key: tuple[bytes, Socket], digest: bytes) -> None:
        address = key[1].address
        self._inits[key] = digest, ike
        self._open[ike] = None
        self._half_open.add(address)
        ike.deadline(
            now, self._context.settings.limits.half_open_seconds, "the peer did not finish the handshake"
        )

        def settled(then: float) -> None:
            self._half_open.remove(address)
            if ike.state != State.ESTABLISHED:
                self._half_open.failed(then, address)
            del self._open[ike]

        def gone(then: float, ended: IkeSa) -> None:
            if self._inits.get(key, (b"", None))[1] is ended:
                del self._inits[key]
            self._gone(then, ended)

        ike.on_settled, ike.on_gone = settled, gone

    # What the operator and the data plane say

    def start(self, now: float) -> None:
        """Begins with all peers that are configured so."""
        for peer in self._context.pad:
            if peer.initiate:
                self._restart(now, peer)

    def initiate(
        self, now: float, peer: str, child: str | None = None, packet: Selectors | None = None
    ) -> None:
        """Sets up an IKE SA with ``peer``, or on the one that stands, ``child``; None: all that are
        configured so.

        ``packet``: the addresses, protocol and ports of the packet that is waiting for it.

        Raises
        ------
        InputError
            No such peer or child, or a peer without an address.
        """
        self._context.boundary.run(now, lambda: self._initiate(now, peer, child, packet), command=True)

    def _initiate(self, now: float, peer: str, child: str | None, packet: Selectors | None) -> None:
        entry = self._context.pad[peer]
        wanted = (
            [Wanted(each, packet) for each in entry.parts_of(child, packet)]
            if child is not None
            else [Wanted(each) for each in entry.parts if each.initiate]
        )
        self._stopped.discard(peer)
        standing = [ike for ike in self._context.with_peer(entry) if ike.state == State.ESTABLISHED]
        begun = [ike for ike in self._plans if ike.peer is entry and ike.state == State.CONNECTING]
        if standing:
            made = {each.config for each in standing[-1].children.values()}
            for each in wanted:
                if child is not None or each.config not in made:
                    self._within(now, partial(self._create, now, standing[-1], each), standing[-1])
        elif begun:
            plan = self._plans[begun[-1]]
            plan.wanted += [each for each in wanted if each not in plan.wanted][
                : MAX_WAITING - len(plan.wanted)
            ]
        else:
            self._connect(now, entry, wanted)

    def _create(self, now: float, ike: IkeSa, wanted: Wanted) -> None:
        """Makes a child SA, unless the very same one is on its way, or too many are."""

        def same(each: object) -> bool:
            return (
                isinstance(each, CreateChild)
                and each.replaces is None
                and Wanted(each.config, each.packet) == wanted
            )

        if ike.queued < MAX_WAITING and not ike.plans(same):
            ike.submit(CreateChild(wanted.config, packet=wanted.packet), now)

    def _connect(self, now: float, peer: Peer, wanted: list[Wanted]) -> None:
        local, remote = peer.ends()
        port = self._context.settings.port
        plan = Plan(wanted, initial_contact=not any(self._context.with_peer(peer)))
        ike = IkeSa(
            self._context,
            initiator=True,
            spi_i=self._context.ike_spi(),
            spi_r=NO_SPI,
            path=Path(Socket(local, port), Socket(remote, port)),
            peer=peer,
            now=now,
        )
        self._plans[ike] = plan

        def settled(then: float) -> None:
            del self._plans[ike]

        ike.on_settled, ike.on_gone = settled, self._gone
        ike.deadline(now, self._context.settings.handshake_seconds, "the handshake took too long")
        ike.submit(Init(plan), now)

    def _gone(self, now: float, ike: IkeSa) -> None:
        """An IKE SA ended. What the operator wants to stand is begun again after a while."""
        peer = ike.peer
        if peer is not None and peer.initiate and peer.name not in self._stopped:
            self._retry(now, peer)

    def _restart(self, now: float, peer: Peer) -> None:
        if peer.name not in self._stopped and not any(self._context.with_peer(peer)):
            self.initiate(now, peer.name)
            if not any(self._context.with_peer(peer)):  # something went wrong that nobody expected
                self._retry(now, peer)

    def _retry(self, now: float, peer: Peer) -> None:
        """Once at a time, whatever ended."""
        waiting = self._retries.get(peer.name)
        if waiting is None or not waiting.active:
            self._retries[peer.name] = self._context.timers.at(
                now + peer.retry_seconds, lambda then: self._restart(then, peer)
            )

    def terminate(self, now: float, peer: str, child: str | None = None) -> None:
        """Ends all IKE SAs with ``peer``, and begins none again; or only its child SAs ``child``. Raises
        InputError.
        """
        entry = self._context.pad[peer]
        if child is not None:
            entry.child(child)
        else:
            self._stopped.add(peer)
        why = "the operator wants it so"

        def end(ike: IkeSa) -> None:
            if child is None:
                ike.delete(now, why)
                return
            for each in [each for each in ike.children.values() if each.config.name == child]:
                ike.delete_child(each, now, why)

        for ike in self._context.with_peer(entry):
            self._within(now, partial(end, ike), ike)

    def stop(self, now: float) -> None:
        """Ends everything, and tells the peers."""
        for peer in self._context.pad:
            self.terminate(now, peer.name)

    def rekey(self, now: float, peer: str, child: str | None = None) -> bool:
        """Replaces the IKE SAs with ``peer``, or its child SAs ``child``; False where there are none.
        Raises InputError.
        """
        entry = self._context.pad[peer]
        if child is not None:
            entry.child(child)

        def renew(ike: IkeSa) -> None:
            if child is None:
                ike.rekey(now)
                return
            for each in [each for each in ike.children.values() if each.config.name == child]:
                ike.rekey_child(each, now)

        ikes = list(self._context.with_peer(entry))
        found = any(
            ike.state == State.ESTABLISHED
            if child is None
            else any(each.config.name == child for each in ike.children.values())
            for ike in ikes
        )
        for ike in ikes:
            self._within(now, partial(renew, ike), ike)
        return found

    def expired(self, now: float, sa: Sa, *, hard: bool) -> None:
        """The data plane says that ``sa``, in or out, used up its bytes, packets or sequence numbers: the
        soft limit, so that it is replaced, or the ``hard`` one, so that it ends."""
        for ike in self.ikes:
            for child in [child for child in ike.children.values() if child.is_of(sa)]:
                end = (
                    partial(child.end, now, "it is used up") if hard else partial(ike.rekey_child, child, now)
                )
                self._within(now, end, ike)

    def alive(self, now: float, spi: int) -> None:
        """The data plane says that an authentic packet came on the inbound SA with ``spi``: its
        peer lives.
        """
        for ike in self.ikes:
            if spi in ike.children:
                ike.heard = now

    def moved(self, now: float, spi: int, local: Socket, remote: Socket) -> None:
        """The data plane says that an authentic packet came in UDP on the inbound SA with ``spi``, from
        elsewhere than its peer was."""
        for ike in self.ikes:
            if spi in ike.children:
                self._within(now, partial(ike.follow, now, local, remote), ike)

    def undone(self, now: float, output: Output, error: Exception) -> None:
        """What :meth:`take` wanted could not be done: where an SA was to be installed, or moved, its child
        SA ends, and the peer is told. Nothing is left half there."""
        self._context.boundary.tell(None, error)
        if isinstance(output, InstallSa | MoveSa):
            sa = output.sa if isinstance(output, InstallSa) else output.new
            for ike in self.ikes:
                for child in [child for child in ike.children.values() if child.is_of(sa)]:
                    self._within(now, partial(child.end, now, "the data plane could not take it"), ike)

    def expects(self, spi: int) -> bool:
        """Whether a peer may send on ``spi`` although there is no SA: its answer, which makes one, may
        still be on its way.
        """
        return self._context.expects(spi)

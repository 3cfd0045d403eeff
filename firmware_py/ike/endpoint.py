"""An IKEv2 endpoint, sans-I/O: datagrams and a clock in; datagrams, SAs, policies and events out.

Whoever drives it calls :meth:`Endpoint.receive` for what comes on UDP ports 500 and 4500, :meth:`Endpoint.tick` when
:attr:`Endpoint.next_timer` is due, and does after each call what :meth:`Endpoint.take` says, in order.
"""
import hashlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from spigate.firmware_py.ike import responder
from spigate.firmware_py.ike.admission import Cookies, HalfOpen
from spigate.firmware_py.ike.context import Context, Settings
from spigate.firmware_py.ike.create_child import CreateChild
from spigate.firmware_py.ike.errors import InvalidMajorVersion, PeerError
from spigate.firmware_py.ike.events import NAT_PORT, Datagram, Event, EventKind, Output, Socket
from spigate.firmware_py.ike.ike_sa import IkeSa
from spigate.firmware_py.ike.initiator import Init, Plan, Wanted
from spigate.firmware_py.ike.message import NO_SPI, Header, Message
from spigate.firmware_py.ike.nat import MARKER, Path
from spigate.firmware_py.ike.pad import Pad, Peer
from spigate.firmware_py.ike.payloads import Nonce, Notify
from spigate.firmware_py.ike.registry import ExchangeType, NotifyType
from spigate.firmware_py.ike.state import State
from spigate.firmware_py.sa import Selectors

VERSION = 0x20


class Endpoint:
    """Parameters
    ----------
    pad : Pad
        Who may take part.
    settings : Settings
    random : callable
        So many bytes, unpredictable: SPIs, nonces, cookies, jitter. Key exchanges have their own source.
    utc : callable
        Date and time, for certificates. Everything else goes by ``now``: seconds that only grow, of any origin.
    """

    def __init__(self, pad: Pad, settings: Settings | None = None, *, random: Callable[[int], bytes] = os.urandom,
                 utc: Callable[[], datetime] = lambda: datetime.now(UTC)):
        self._context = Context(pad, settings or Settings(), random=random, utc=utc)
        limits = self._context.settings.limits
        self._cookies = Cookies(limits.cookie_seconds, random)
        self._half_open = HalfOpen(limits)
        self._inits: dict[tuple[bytes, Socket], tuple[bytes, IkeSa]] = {}
        self._plans: dict[IkeSa, Plan] = {}
        self._stopped: set[str] = set()
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
        try:
            header = Header.parse(data)
        except InvalidMajorVersion:
            self._refuse_version(data, local, remote)
            return True
        except PeerError:
            return True
        if header.exchange == ExchangeType.IKE_SA_INIT and not header.response:
            if header.initiator and header.spi_r == NO_SPI and header.spi_i != NO_SPI and header.message_id == 0:
                self._begun(now, data, local, remote)
            return True
        ike = self._context.ikes.get(header.spi_r if header.initiator else header.spi_i)
        if ike is not None and _belongs(header, ike):
            ike.receive(now, header, data, local, remote)
        return True

    def _refuse_version(self, data: bytes, local: Socket, remote: Socket) -> None:
        """A request of a later IKE is told that 2 is the highest (RFC 7296 2.5); of an earlier one it is dropped."""
        if data[17] > VERSION | 0x0F and not data[19] & 0x20:
            answer = Message(data[:8], data[8:16], data[18], False, True, int.from_bytes(data[20:24]),
                             (Notify(NotifyType.INVALID_MAJOR_VERSION),))
            self._send(answer.pack(), local, remote)

    def _send(self, data: bytes, local: Socket, remote: Socket) -> None:
        marker = MARKER if local.port == NAT_PORT else b""
        self._context.emit(Datagram(local, remote, marker + data))

    def _of_stranger(self, now: float, kind: EventKind, remote: Socket, text: str) -> None:
        self._context.strangers.tell(now, Event(kind, str(remote.address), text))

    # Handshakes that peers begin

    def _begun(self, now: float, data: bytes, local: Socket, remote: Socket) -> None:
        """IKE_SA_INIT from ``remote``. Until it is answered, nothing of it is kept."""
        key, digest = (data[:8], remote), hashlib.sha256(data).digest()
        known = self._inits.get(key)
        if known is not None and known[0] == digest:
            known[1].repeat_init(local, remote)
            return
        candidates = self._context.pad.candidates(remote.address)
        candidates = [peer for peer in candidates if peer.local_address in (None, local.address)]
        if not candidates:
            self._of_stranger(now, EventKind.REFUSED, remote, "no peer may come from there")
            return
        message = None
        try:
            message = Message.parse(data)
            if not self._admitted(now, message, local, remote):
                return
            ike = responder.begin(self._context, now, message, data, Path(local, remote), candidates)
        except PeerError as error:
            if error.notify not in (None, NotifyType.INVALID_SYNTAX):
                refusal = Message(data[:8], NO_SPI, ExchangeType.IKE_SA_INIT, False, True, 0,
                                  (Notify(error.notify, error.data),))
                self._send(refusal.pack(), local, remote)
            if error.notify != NotifyType.INVALID_KE_PAYLOAD:
                self._of_stranger(now, EventKind.REFUSED, remote, f"IKE_SA_INIT: {error}")
            return
        self._keep(now, ike, key, digest)

    def _admitted(self, now: float, message: Message, local: Socket, remote: Socket) -> bool:
        """Whether there is room for one more handshake, and under load, whether its beginner has the address that it
        says it has. The others are asked for a cookie, or dropped."""
        if self._half_open.loaded != self._loaded:
            self._loaded = self._half_open.loaded
            text = f"{len(self._half_open)} handshakes are half open; cookies are " + (
                "asked for" if self._loaded else "not asked for any more")
            self._of_stranger(now, EventKind.UNDER_LOAD, remote, text)
        if self._loaded:
            nonce, cookie = message.one(Nonce).data, message.notify(NotifyType.COOKIE)
            asked = nonce, remote.address, message.spi_i
            if cookie is None or not self._cookies.valid(now, cookie.data, *asked):
                answer = Message(message.spi_i, NO_SPI, ExchangeType.IKE_SA_INIT, False, True, 0,
                                 (Notify(NotifyType.COOKIE, self._cookies.make(now, *asked)),))
                self._send(answer.pack(), local, remote)
                return False
        return self._half_open.room(remote.address)

    def _keep(self, now: float, ike: IkeSa, key: tuple[bytes, Socket], digest: bytes) -> None:
        address = key[1].address
        self._inits[key] = digest, ike
        self._half_open.add(address)
        deadline = self._context.timers.at(
            now + self._context.settings.limits.half_open_seconds,
            lambda then: ike.close(then, EventKind.IKE_FAILED, "the peer did not finish the handshake"))

        def settled() -> None:
            deadline.cancel()
            self._half_open.remove(address)
            if self._inits.get(key, (b"", None))[1] is ike:
                del self._inits[key]

        ike.on_settled, ike.on_gone = settled, self._gone

    # What the operator and the data plane say

    def start(self, now: float) -> None:
        """Begins with all peers that are configured so."""
        for peer in self._context.pad:
            if peer.initiate:
                self.initiate(now, peer.name)

    def initiate(self, now: float, peer: str, child: str | None = None, packet: Selectors | None = None) -> None:
        """Sets up an IKE SA with ``peer``, or on the one that stands, ``child``; None: all that are configured so.

        ``packet``: the addresses, protocol and ports of the packet that is waiting for it.

        Raises
        ------
        InputError
            No such peer or child, or a peer without an address.
        """
        entry = self._context.pad[peer]
        wanted = [Wanted(each, packet) for each in entry.parts_of(child, packet)] if child is not None else [
            Wanted(each) for each in entry.parts if each.initiate]
        self._stopped.discard(peer)
        standing = [ike for ike in self._context.with_peer(entry) if ike.state == State.ESTABLISHED]
        begun = [ike for ike in self._plans if ike.peer is entry and ike.state == State.CONNECTING]
        if standing:
            made = {each.config for each in standing[-1].children.values()}
            for each in wanted:
                if child is not None or each.config not in made:
                    standing[-1].submit(CreateChild(each.config, packet=packet), now)
        elif begun:
            plan = self._plans[begun[-1]]
            plan.wanted += [each for each in wanted if each not in plan.wanted]
        else:
            self._connect(now, entry, wanted)

    def _connect(self, now: float, peer: Peer, wanted: list[Wanted]) -> None:
        peer.need_address()
        port = self._context.settings.port
        plan = Plan(wanted, initial_contact=not any(self._context.with_peer(peer)))
        ike = IkeSa(self._context, initiator=True, spi_i=self._context.ike_spi(), spi_r=NO_SPI,
                    path=Path(Socket(peer.local_address, port), Socket(peer.address, port)), peer=peer, now=now)
        self._plans[ike] = plan
        ike.on_settled = lambda: self._plans.pop(ike)
        ike.on_gone = self._gone
        ike.submit(Init(plan), now)

    def _gone(self, now: float, ike: IkeSa) -> None:
        """An IKE SA ended. What the operator wants to stand is begun again after a while."""
        peer = ike.peer
        if peer is not None and peer.initiate and peer.name not in self._stopped:
            self._context.timers.at(now + peer.retry_seconds, lambda then: self._restart(then, peer))

    def _restart(self, now: float, peer: Peer) -> None:
        if peer.name not in self._stopped and not any(self._context.with_peer(peer)):
            self.initiate(now, peer.name)

    def terminate(self, now: float, peer: str, child: str | None = None) -> None:
        """Ends all IKE SAs with ``peer``, and begins none again; or only its child SAs ``child``. Raises InputError."""
        entry = self._context.pad[peer]
        if child is not None:
            entry.child(child)
        else:
            self._stopped.add(peer)
        for ike in self._context.with_peer(entry):
            if child is None:
                ike.delete(now, "the operator wants it so")
                continue
            for each in [each for each in ike.children.values() if each.config.name == child]:
                ike.delete_child(each, now, "the operator wants it so")

    def stop(self, now: float) -> None:
        """Ends everything, and tells the peers."""
        for peer in self._context.pad:
            self.terminate(now, peer.name)

    def rekey(self, now: float, peer: str, child: str | None = None) -> None:
        """Replaces the IKE SAs with ``peer``, or its child SAs ``child``. Raises InputError."""
        entry = self._context.pad[peer]
        if child is not None:
            entry.child(child)
        for ike in self._context.with_peer(entry):
            if child is None:
                ike.rekey(now)
                continue
            for each in [each for each in ike.children.values() if each.config.name == child]:
                ike.rekey_child(each, now)

    def expired(self, now: float, spi: int, *, hard: bool) -> None:
        """The data plane says that the SA with ``spi``, in or out, used up its bytes, packets or sequence numbers:
        the soft limit, so that it is replaced, or the ``hard`` one."""
        for ike in self.ikes:
            for child in list(ike.children.values()):
                if spi in (child.inbound.spi, child.outbound.spi):
                    if hard:
                        ike.delete_child(child, now, "it is used up")
                    elif not child.rekeying:
                        ike.rekey_child(child, now)

    def alive(self, now: float, spi: int) -> None:
        """The data plane says that an authentic packet came on the inbound SA with ``spi``: its peer lives."""
        for ike in self.ikes:
            if spi in ike.children:
                ike.heard = now

    def moved(self, now: float, spi: int, local: Socket, remote: Socket) -> None:
        """The data plane says that an authentic packet came in UDP on the inbound SA with ``spi``, from elsewhere than its
        peer was."""
        for ike in self.ikes:
            if spi in ike.children:
                ike.follow(now, local, remote)

    def expects(self, spi: int) -> bool:
        """Whether a peer may send on ``spi`` although there is no SA: its answer, which makes one, may still be on its way."""
        return self._context.expects(spi)


def _belongs(header: Header, ike: IkeSa) -> bool:
    """Whether both SPIs are the IKE SA's; the responder's may not be known yet."""
    if header.spi_i != ike.spi_i:
        return False
    return header.spi_r == ike.spi_r or (ike.spi_r == NO_SPI and header.response
                                         and header.exchange == ExchangeType.IKE_SA_INIT)

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Peers that say whatever a test wants: one that begins, with keys and a secret, and one that answers and
has none.
"""

import random
from collections.abc import Callable, Iterable
from ipaddress import ip_address

from spigate.firmware_py.ike.crypto import authentication, key_exchange, keys, proposals, protect
from spigate.firmware_py.ike.engine.actions import NAT_PORT, Datagram, Event, Output, Socket
from spigate.firmware_py.ike.engine.context import Settings
from spigate.firmware_py.ike.engine.endpoint import Endpoint
from spigate.firmware_py.ike.engine.nat import MARKER
from spigate.firmware_py.ike.peers.pad import Pad
from spigate.firmware_py.ike.wire import selectors
from spigate.firmware_py.ike.wire.errors import PeerError
from spigate.firmware_py.ike.wire.message import NO_SPI, Header, Message
from spigate.firmware_py.ike.wire.payloads import (
    IdI,
    KeyExchange,
    Nonce,
    Payload,
    SecurityAssociation,
    Vendor,
)
from spigate.firmware_py.ike.wire.registry import ExchangeType, IdType, NotifyType, ProtocolId
from tests.firmware_py.ike.network import FAST_ESP, FAST_IKE, SECRET, child, net, peer, reverse

GATEWAY = Socket(ip_address("192.0.2.2"), 500)
NAME = IdI(IdType.FQDN, b"a.example")
TRAFFIC = net("10.1.0.0/24=10.2.0.0/24")
_RANDOM = random.Random(11)


def gateway(settings: Settings | None = None, **values) -> Endpoint:
    """B, which takes A from anywhere."""
    return Endpoint(
        Pad(
            [
                peer(
                    "a",
                    "b",
                    "a",
                    **{
                        "children": (reverse(child()),),
                        "address": None,
                        "local_address": None,
                        "networks": (),
                        "dpd_seconds": None,
                        **values,
                    },
                )
            ]
        ),
        settings,
    )


def without_marker(datagram: Datagram) -> bytes:
    """What an endpoint sent."""
    return datagram.data[4:] if datagram.source.port == NAT_PORT else datagram.data


def events(outputs: Iterable[Output], kind: str) -> list[Event]:
    return [each for each in outputs if isinstance(each, Event) and each.kind == kind]


class RawInitiator:
    """Begins with ``endpoint``, one request after the other, each as it is told.

    Members
    -------
    outputs : list of Output
        Of the endpoint, after the last request.
    """

    def __init__(self, endpoint: Endpoint, source: str = "192.0.2.1", port: int = 500):
        self.endpoint, self.me = endpoint, Socket(ip_address(source), port)
        self.spi_i, self.message_id = _RANDOM.randbytes(8), 0
        self.outputs: list[Output] = []

    def send(self, now: float, data: bytes) -> list[Output]:
        self.endpoint.receive(now, data, GATEWAY, self.me)
        self.outputs = self.endpoint.take()
        return self.outputs

    def init(self, now: float, *more: Payload, padding: int = 0) -> Message | None:
        """IKE_SA_INIT, with the cookie that it is asked for; keys, if it was answered so."""
        answer = self._init(now, more, padding)
        cookie = answer.notify(NotifyType.COOKIE) if answer is not None else None
        return self._init(now, (cookie, *more), padding) if cookie is not None else answer

    def _init(self, now: float, more: tuple[Payload, ...], padding: int) -> Message | None:
        offered = proposals.offer(FAST_IKE)
        begun, self.ni = (
            key_exchange.start(31),
            _RANDOM.randbytes(32) if self.message_id == 0 and not more else self.ni,
        )
        message = Message(
            self.spi_i,
            NO_SPI,
            ExchangeType.IKE_SA_INIT,
            True,
            False,
            0,
            (
                *more,
                SecurityAssociation(offered),
                KeyExchange(31, begun.public),
                Nonce(self.ni),
                authentication.hashes_notify(),
                *((Vendor(bytes(padding)),) if padding else ()),
            ),
        )
        self.request = message.pack()
        answers = [each for each in self.send(now, self.request) if isinstance(each, Datagram)]
        if not answers:
            return None
        answer = Message.parse(answers[0].data)
        if answer.optional(KeyExchange) is None:
            return answer
        self.spi_r, self.nr = answer.spi_r, answer.one(Nonce).data
        self.suite = proposals.check(answer.one(SecurityAssociation).proposals, offered)
        seed = keys.skeyseed(self.suite.prf, begun.finish(answer.one(KeyExchange).data), self.ni, self.nr)
        self.use(seed, self.ni, self.nr, 1)
        return answer

    def use(self, seed: bytes, ni: bytes, nr: bytes, message_id: int) -> None:
        self.keys = keys.ike_keys(self.suite, seed, ni, nr, self.spi_i, self.spi_r)
        self.protection = protect.Protection(self.suite, self.keys, initiator=True)
        self.message_id = message_id

    def ask(self, now: float, kind: int, *payloads: Payload) -> Message | None:
        """A request, and its answer."""
        message = Message(self.spi_i, self.spi_r, kind, True, False, self.message_id, payloads)
        self.last = self.protection.seal(message, None)[0]
        self.message_id += 1
        return next(
            (
                self.protection.open(each.data)
                for each in self.send(now, self.last)
                if isinstance(each, Datagram) and Header.parse(each.data).response
            ),
            None,
        )

    def auth(
        self,
        now: float,
        *more: Payload,
        identity: IdI = NAME,
        secret: bytes = SECRET.secret,
        spi: bytes = b"\0\0\1\1",
        traffic=TRAFFIC,
        childless: bool = False,
        ts: tuple[Payload, ...] = (),
    ) -> Message | None:
        """IKE_AUTH with a secret. ``ts``: traffic selectors that no ``traffic`` says."""
        octets = authentication.signed_octets(self.request, self.nr, self.suite.prf, self.keys.pi, identity)
        offer = (
            ()
            if childless
            else (
                SecurityAssociation(proposals.offer(FAST_ESP, spi, key_exchange=False)),
                *(ts or selectors.payloads((traffic,))),
            )
        )
        return self.ask(
            now,
            ExchangeType.IKE_AUTH,
            identity,
            authentication.psk_auth(secret, self.suite.prf, octets),
            *offer,
            *more,
        )

    def create(
        self,
        now: float,
        spi: int,
        *more: Payload,
        esp=FAST_ESP,
        ke: tuple[Payload, ...] = (),
        ts: tuple[Payload, ...] = (),
    ) -> Message | None:
        """CREATE_CHILD_SA for one child."""
        return self.ask(
            now,
            ExchangeType.CREATE_CHILD_SA,
            *more,
            SecurityAssociation(proposals.offer(esp, spi.to_bytes(4))),
            Nonce(_RANDOM.randbytes(32)),
            *ke,
            *(ts or selectors.payloads((TRAFFIC,))),
        )

    def rekey_ike(self, now: float) -> None:
        """Replaces the IKE SA, and never deletes the old one."""
        offered, begun, ni = (
            proposals.offer(FAST_IKE, _RANDOM.randbytes(8)),
            key_exchange.start(31),
            _RANDOM.randbytes(32),
        )
        answer = self.ask(
            now,
            ExchangeType.CREATE_CHILD_SA,
            SecurityAssociation(offered),
            Nonce(ni),
            KeyExchange(31, begun.public),
        )
        suite, nr = (
            proposals.check(answer.one(SecurityAssociation).proposals, offered),
            answer.one(Nonce).data,
        )
        seed = keys.skeyseed_rekey(
            self.suite.prf, self.keys.d, [begun.finish(answer.one(KeyExchange).data)], ni, nr
        )
        self.suite, self.spi_i, self.spi_r = suite, offered[0].spi, suite.peer_spi
        self.use(seed, ni, nr, 0)

    def requests(self, outputs: Iterable[Output]) -> list[Message]:
        """What the endpoint asks."""
        asked = [
            each for each in outputs if isinstance(each, Datagram) and not Header.parse(each.data).response
        ]
        return [self.protection.open(each.data) for each in asked]

    def answer(self, now: float, request: Message, *payloads: Payload) -> list[Output]:
        message = Message(self.spi_i, self.spi_r, request.exchange, True, True, request.message_id, payloads)
        return self.send(now, self.protection.seal(message, None)[0])


def connected(endpoint: Endpoint, now: float = 0, **values) -> RawInitiator:
    """A peer with one child SA."""
    made = RawInitiator(endpoint, **values)
    made.init(now)
    made.auth(now)
    return made


class Impostor:
    """Answers IKE_SA_INIT in somebody's name, and whatever follows with ``reply(message)``: without a
    secret, so that nothing of it is authentic."""

    def __init__(self, reply: Callable[[Message], tuple[Payload, ...]]):
        self._reply = reply
        self._known: dict[tuple[bytes, bytes], protect.Protection] = {}

    def answer(self, datagram: Datagram) -> Datagram | None:
        """None: nothing that it has keys for, or can read."""
        try:
            return self._answer(datagram)
        except PeerError:
            return None

    def _answer(self, datagram: Datagram) -> Datagram | None:
        data = without_marker(datagram)
        header = Header.parse(data)
        if header.exchange == ExchangeType.IKE_SA_INIT:
            answer = self._init(Message.parse(data))
        elif (header.spi_i, header.spi_r) in self._known:
            protection = self._known[header.spi_i, header.spi_r]
            message = protection.open(data)
            if message is None:
                return None
            answer = protection.seal(
                Message(
                    header.spi_i,
                    header.spi_r,
                    header.exchange,
                    False,
                    True,
                    header.message_id,
                    self._reply(message),
                )
            )[0]
        else:
            return None
        marker = MARKER if datagram.source.port == NAT_PORT else b""
        return Datagram(datagram.destination, datagram.source, marker + answer)

    def _init(self, message: Message) -> bytes:
        suite = proposals.choose(
            message.one(SecurityAssociation).proposals, FAST_IKE, group=message.one(KeyExchange).group
        )
        done = key_exchange.respond(suite.group, message.one(KeyExchange).data)
        ni, nr, spi_r = message.one(Nonce).data, _RANDOM.randbytes(32), _RANDOM.randbytes(8)
        made = keys.ike_keys(
            suite, keys.skeyseed(suite.prf, done.secret, ni, nr), ni, nr, message.spi_i, spi_r
        )
        self._known[message.spi_i, spi_r] = protect.Protection(suite, made, initiator=False)
        return Message(
            message.spi_i,
            spi_r,
            ExchangeType.IKE_SA_INIT,
            False,
            True,
            0,
            (suite.answer(), KeyExchange(done.group, done.public), Nonce(nr), authentication.hashes_notify()),
        ).pack()


OWN_ESP = proposals.parse("aes128gcm16-curve25519-ke1_ecp256", ProtocolId.ESP)

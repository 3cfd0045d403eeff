# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Mutated IKE messages through everything below the state machine: nothing but the named errors may come out.

``python -m tests.firmware_py.ike.fuzz --count 1000000`` prints its seed and what became of the messages.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric import ec

from spigate.firmware_py.errors import UnsupportedError
from spigate.firmware_py.ike.crypto import authentication, key_exchange, proposals
from spigate.firmware_py.ike.crypto.keys import ike_keys
from spigate.firmware_py.ike.crypto.protect import Protection, int_auth_octets
from spigate.firmware_py.ike.peers import certificates, identities
from spigate.firmware_py.ike.wire import selectors
from spigate.firmware_py.ike.wire.errors import PeerError
from spigate.firmware_py.ike.wire.message import HEADER, Message
from spigate.firmware_py.ike.wire.payloads import (
    Auth,
    Cert,
    Identification,
    KeyExchange,
    Notify,
    Payload,
    SecurityAssociation,
    Skf,
    TrafficSelectors,
    TsI,
    TsR,
    Unknown,
    pack_chain,
)
from spigate.firmware_py.ike.wire.registry import ExchangeType, IdType, Ke, NotifyType, PayloadType
from spigate.firmware_py.ipsec.sa import ANY_IPV4, ANY_IPV6
from tests.firmware_py import fuzzing
from tests.firmware_py.ike.authority import Authority
from tests.firmware_py.ike.messages import EVERY_PAYLOAD, EVERYTHING, SPI_I, SPI_R, TSI, TSR, message

NOW = datetime(2026, 6, 1, tzinfo=UTC)
INTERESTING = (0, 1, 2, 3, 4, 7, 8, 0x7F, 0x80, 0xFE, 0xFF)


def mutate(rng: random.Random, data: bytes) -> bytes:
    """Some bytes changed, taken out, put in, repeated; the header's length mostly right, so that more is
    looked at.
    """
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(7):
            case 0 | 1:
                changed[at : at + 1] = bytes([rng.choice(INTERESTING)])
            case 2:
                changed[at : at + 1] = bytes([rng.randrange(256)])
            case 3:
                changed[at : at + 2] = rng.choice((0, 1, 3, 4, 8, len(changed), 0xFFFF)).to_bytes(2)
            case 4:
                del changed[at : at + rng.randrange(1, 20)]
            case 5:
                changed[at:at] = rng.randbytes(rng.randrange(1, 20))
            case 6:
                changed[at:at] = changed[at : at + rng.randrange(1, 60)]
    if rng.randrange(8) and len(changed) >= HEADER:
        changed[24:28] = len(changed).to_bytes(4)
    return bytes(changed)


def mutate_one(rng: random.Random, payloads: Sequence[Payload]) -> tuple[int, bytes]:
    """A chain of these payloads, of which the body of one is mutated and the lengths around it are right."""
    payloads = list(payloads)
    at = rng.randrange(len(payloads))
    body = bytearray(payloads[at].body())
    for _ in range(rng.choice((1, 1, 2, 4))):
        where = rng.randrange(len(body) + 1)
        body[where : where + 1] = bytes([rng.choice((*INTERESTING, rng.randrange(256)))])
    payloads[at] = Unknown(bytes(body), payload_type=payloads[at].payload_type)
    return pack_chain(payloads)


class Target:
    """A peer's counterpart with everything that reads a message, and samples to mutate."""

    def __init__(self, rng: random.Random):
        self._rng = rng
        self.outcomes: Counter = Counter()
        self.suite = proposals.choose(proposals.offer(proposals.IKE_DEFAULT), proposals.IKE_DEFAULT)
        keys = ike_keys(self.suite, bytes(48), bytes(32), bytes(32), SPI_I, SPI_R)
        self.peer = Protection(self.suite, keys, initiator=True)
        self.own = Protection(self.suite, keys, initiator=False)
        self.key = ec.generate_private_key(ec.SECP256R1())
        authority = Authority(self.key)
        end = authority.issue(self.key.public_key())
        self.authorities = certificates.Authorities([authority.certificate])
        auth_hashes = authentication.hashes_notify()
        ids = [
            kind(id_type, data)
            for kind in {type(each) for each in EVERY_PAYLOAD if isinstance(each, Identification)}
            for id_type, data in (
                (IdType.DER_ASN1_DN, end.subject.public_bytes()),
                (IdType.RFC822_ADDR, b"u@gw.example"),
                (IdType.IPV6_ADDR, bytes(16)),
            )
        ]
        self.inner = (
            *certificates.certs([end]),
            *ids,
            authentication.sign(self.key, b"", authentication.SUPPORTED_HASHES),
            TSI,
            TSR,
            SecurityAssociation(proposals.offer(proposals.ESP_DEFAULT, b"\1\2\3\4")),
        )
        start = key_exchange.start(Ke.ECP_256)
        hello = message(
            SecurityAssociation(proposals.offer(proposals.IKE_DEFAULT)),
            KeyExchange(start.group, start.public),
            auth_hashes,
        )
        sealed = self.peer.seal(message(*self.inner, exchange=ExchangeType.IKE_AUTH, message_id=1))
        fragments = self.peer.seal(message(*self.inner, exchange=ExchangeType.IKE_AUTH, message_id=2), 600)
        self.samples = (
            EVERYTHING.pack(),
            hello.pack(),
            *sealed,
            *fragments,
            message(*self.inner).pack(),
            message(Skf(1, 2, bytes(40))).pack(),
        )

    def take(self, data: bytes) -> None:
        """All that is done with a datagram before anybody knows that it is authentic."""
        self.look(Message.parse(data))

    def take_protected(self, data: bytes) -> None:
        opened = self.own.open(data)
        if opened is not None:
            int_auth_octets(opened)
            self.look(opened)

    def take_authentic(self, first: int, text: bytes) -> None:
        """A peer that has the keys and lets anything out."""
        sealed = self.peer._seal(message(exchange=ExchangeType.IKE_AUTH), PayloadType.SK, b"", first, text)
        self.take_protected(sealed)

    def look(self, parsed: Message) -> None:
        steps: list[Callable[[], object]] = []
        for payload in parsed.payloads:
            repr(payload)
            match payload:
                case SecurityAssociation():
                    for ours in (proposals.IKE_DEFAULT, proposals.ESP_DEFAULT):
                        steps += [
                            lambda payload=payload, ours=ours: str(proposals.choose(payload.proposals, ours)),
                            lambda payload=payload, ours=ours: proposals.check(
                                payload.proposals, proposals.offer(ours)
                            ),
                        ]
                case KeyExchange():
                    steps.append(lambda payload=payload: key_exchange.respond(payload.group, payload.data))
                case Identification():
                    steps.append(lambda payload=payload: self.identify(payload, parsed))
                case Auth():
                    steps += [
                        lambda payload=payload: authentication.verify_signature(
                            payload, self.key.public_key(), b""
                        ),
                        lambda payload=payload: authentication.verify_psk(payload, b"x", self.suite.prf, b""),
                    ]
                case Notify() if payload.notify_type == NotifyType.SIGNATURE_HASH_ALGORITHMS:
                    steps.append(lambda payload=payload: authentication.hashes_of(payload))
                case TrafficSelectors():
                    tsi, tsr = TsI(payload.selectors), TsR(TSR.selectors)
                    steps += [
                        lambda tsi=tsi, tsr=tsr: selectors.narrow(tsi, tsr, (ANY_IPV4, ANY_IPV6)),
                        lambda tsi=tsi, tsr=tsr: selectors.to_selectors(tsi, tsr),
                        lambda tsi=tsi, tsr=tsr: selectors.check(tsi, tsr, (TSI, TSR)),
                    ]
        for step in steps:
            try:
                step()
            except PeerError as error:
                self.outcomes[type(error).__name__] += 1
            except UnsupportedError:
                pass  # a key exchange that was never offered
            else:
                self.outcomes["good part"] += 1

    def identify(self, payload: Identification, parsed: Message) -> None:
        identity = identities.Identity.of(payload)
        assert str(identity).isprintable()
        for pattern in ("%any", "*.example", "10.0.0.0/8", "C=CH, O=*, CN=gw", "keyid:x"):
            identity.matches(pattern)
        if not self._rng.randrange(len(self.inner)):  # about once a message: nothing else costs as much
            self.authorities.verify(parsed.all(Cert), identity, NOW)


def fuzz(count: int, seed: int, progress: Callable[[int], None]) -> Counter:
    """What became of ``count`` messages and of what they said: names of errors, ``good`` and ``good part``.
    Whatever else is raised comes out.
    """
    rng = random.Random(seed)
    target = Target(rng)
    first, text = pack_chain(target.inner)
    for at in range(count):
        if at % 1000 == 0:
            progress(at)
        try:
            if rng.randrange(3):
                data = mutate(rng, rng.choice(target.samples))
                (target.take if rng.randrange(2) else target.take_protected)(data)
            elif rng.randrange(4):
                target.take_authentic(*mutate_one(rng, target.inner))
            else:
                target.take_authentic(rng.choice((first, rng.randrange(256))), mutate(rng, text))
            target.outcomes["good"] += 1
        except PeerError as error:
            str(error)
            target.outcomes[type(error).__name__] += 1
    return target.outcomes


if __name__ == "__main__":
    fuzzing.main(fuzz, __doc__)

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Two peers without a state machine: the messages of IKE_SA_INIT, IKE_INTERMEDIATE and IKE_AUTH, in order.

What one packs the other parses, so that everything below the state machine is used as it will be.
"""

import os
from dataclasses import dataclass, field
from ipaddress import ip_network

from spigate.firmware_py.ike.crypto import authentication, key_exchange, keys, proposals, protect
from spigate.firmware_py.ike.wire import selectors
from spigate.firmware_py.ike.wire.message import NO_SPI, Message
from spigate.firmware_py.ike.wire.payloads import (
    Auth,
    IdI,
    IdR,
    KeyExchange,
    Nonce,
    SecurityAssociation,
    TsI,
    TsR,
)
from spigate.firmware_py.ike.wire.registry import AuthMethod, ExchangeType, IdType, ProtocolId
from spigate.firmware_py.ipsec.sa import Selectors
from tests.firmware_py.ike.messages import SPI_I, SPI_R

OURS = (Selectors(ip_network("10.1.0.0/16"), ip_network("10.2.0.0/16")),)


@dataclass
class Result:
    """What both sides have in common after it. ``datagrams`` are in the order of the wire."""

    suite: proposals.Suite
    child: proposals.Suite
    keys: keys.IkeKeys
    child_keys: keys.ChildKeys
    traffic: tuple[Selectors, ...]
    datagrams: list[bytes] = field(default_factory=list)


def _carry(
    sender: protect.Protection,
    receiver: protect.Protection,
    message: Message,
    wire: list[bytes],
    limit: int | None,
) -> Message:
    datagrams = sender.seal(message, limit)
    wire += datagrams
    opened = [receiver.open(each) for each in datagrams][-1]
    assert opened == message
    return opened


def handshake(
    words: str,
    child_words: str,
    *,
    secret: bytes = b"secret",
    peer_secret: bytes = b"secret",
    keys_of=(None, None),
    fragment_bytes: int | None = None,
) -> Result:
    """``keys_of``: private keys of initiator and responder; None: the pre-shared keys are used."""
    ours, offers = (
        [proposals.parse(words, ProtocolId.IKE)],
        proposals.offer([proposals.parse(words, ProtocolId.IKE)]),
    )
    child_ours = [proposals.parse(child_words, ProtocolId.ESP)]
    wire: list[bytes] = []

    start = key_exchange.start(ours[0].of(4)[0].transform_id)
    ni, nr = os.urandom(32), os.urandom(32)
    hello = Message(
        SPI_I,
        NO_SPI,
        ExchangeType.IKE_SA_INIT,
        True,
        False,
        0,
        (
            SecurityAssociation(offers),
            KeyExchange(start.group, start.public),
            Nonce(ni),
            authentication.hashes_notify(),
        ),
    )
    wire.append(hello.pack())

    seen = Message.parse(wire[-1])
    ke = seen.one(KeyExchange)
    suite = proposals.choose(seen.one(SecurityAssociation).proposals, ours, group=ke.group)
    responded = key_exchange.respond(suite.group, ke.data)
    wire.append(
        Message(
            SPI_I,
            SPI_R,
            ExchangeType.IKE_SA_INIT,
            False,
            True,
            0,
            (
                suite.answer(),
                KeyExchange(responded.group, responded.public),
                Nonce(nr),
                authentication.hashes_notify(),
            ),
        ).pack()
    )

    seen = Message.parse(wire[-1])
    assert proposals.check(seen.one(SecurityAssociation).proposals, offers) == suite
    seed = keys.skeyseed(suite.prf, start.finish(seen.one(KeyExchange).data), ni, seen.one(Nonce).data)
    assert seed == keys.skeyseed(suite.prf, responded.secret, ni, nr)
    sa_keys = keys.ike_keys(suite, seed, ni, nr, SPI_I, SPI_R)

    int_auth, message_id = [b"", b""], 0
    for message_id, (_, method) in enumerate(suite.additional, 1):
        sides = [protect.Protection(suite, sa_keys, initiator=initiator) for initiator in (True, False)]
        start = key_exchange.start(method)
        request = _carry(
            *sides,
            Message(
                SPI_I,
                SPI_R,
                ExchangeType.IKE_INTERMEDIATE,
                True,
                False,
                message_id,
                (KeyExchange(start.group, start.public),),
            ),
            wire,
            fragment_bytes,
        )
        responded = key_exchange.respond(method, request.one(KeyExchange).data)
        response = _carry(
            *sides[::-1],
            Message(
                SPI_I,
                SPI_R,
                ExchangeType.IKE_INTERMEDIATE,
                False,
                True,
                message_id,
                (KeyExchange(responded.group, responded.public),),
            ),
            wire,
            fragment_bytes,
        )
        for side, (sk_p, each) in enumerate(((sa_keys.pi, request), (sa_keys.pr, response))):
            int_auth[side] = authentication.int_auth_step(
                suite.prf, sk_p, int_auth[side], protect.int_auth_octets(each)
            )
        shared = start.finish(response.one(KeyExchange).data)
        assert shared == responded.secret
        seed = keys.skeyseed_update(suite.prf, sa_keys.d, shared, ni, nr)
        sa_keys = keys.ike_keys(suite, seed, ni, nr, SPI_I, SPI_R)
    mixed = authentication.int_auth(*int_auth, message_id + 1) if suite.additional else b""

    sides = [protect.Protection(suite, sa_keys, initiator=initiator) for initiator in (True, False)]
    child_offers = proposals.offer(child_ours, b"\0\0\1\1", key_exchange=False)
    identity = IdI(IdType.FQDN, b"initiator.example"), IdR(IdType.FQDN, b"responder.example")
    octets = [
        authentication.signed_octets(wire[0], nr, suite.prf, sa_keys.pi, identity[0], mixed),
        authentication.signed_octets(wire[1], ni, suite.prf, sa_keys.pr, identity[1], mixed),
    ]

    def auth(side: int, own_secret: bytes) -> Auth:
        if keys_of[side] is None:
            return authentication.psk_auth(own_secret, suite.prf, octets[side])
        return authentication.sign(keys_of[side], octets[side], authentication.SUPPORTED_HASHES)

    def verify(side: int, found: Auth, expected: bytes) -> None:
        if keys_of[side] is None:
            assert found.method == AuthMethod.PSK
            authentication.verify_psk(found, expected, suite.prf, octets[side])
        else:
            authentication.verify_signature(found, keys_of[side].public_key(), octets[side])

    request = _carry(
        *sides,
        Message(
            SPI_I,
            SPI_R,
            ExchangeType.IKE_AUTH,
            True,
            False,
            message_id + 1,
            (identity[0], auth(0, secret), SecurityAssociation(child_offers), *selectors.payloads(OURS)),
        ),
        wire,
        fragment_bytes,
    )
    verify(0, request.one(Auth), peer_secret)
    child = proposals.choose(request.one(SecurityAssociation).proposals, child_ours, key_exchange=False)
    answer = selectors.narrow(request.one(TsI), request.one(TsR), OURS)
    response = _carry(
        *sides[::-1],
        Message(
            SPI_I,
            SPI_R,
            ExchangeType.IKE_AUTH,
            False,
            True,
            message_id + 1,
            (identity[1], auth(1, peer_secret), child.answer(b"\0\0\2\2"), *answer),
        ),
        wire,
        fragment_bytes,
    )
    verify(1, response.one(Auth), secret)
    assert proposals.check(response.one(SecurityAssociation).proposals, child_offers) == child
    selectors.check(response.one(TsI), response.one(TsR), selectors.payloads(OURS))
    return Result(
        suite,
        child,
        sa_keys,
        keys.child_keys(suite.prf, sa_keys.d, child, ni, nr),
        selectors.to_selectors(response.one(TsI), response.one(TsR)),
        wire,
    )

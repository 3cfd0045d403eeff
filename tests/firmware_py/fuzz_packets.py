# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Mutated ESP, AH and IP packets, by the software path: nothing but packets sent, counted drops and counted
ends, in bounded memory.

    python -m tests.firmware_py.fuzz_packets --count 1000000 --seed 1
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

from spigate.firmware_py.control.element import ControlElement
from spigate.firmware_py.control.loop import Loop, SoftPort
from spigate.firmware_py.control.slow_path import MAX_EVENTS
from spigate.firmware_py.control.topology import Interface, Neighbour, NetworkRoute, Topology
from spigate.firmware_py.ipsec.fragments import MAX_BYTES, fragments
from spigate.firmware_py.ipsec.packet import (
    ETHERTYPES,
    UDP,
    Ethernet,
    Ip,
    Refused,
    checksum,
    ipv4_header,
    ipv6_header,
)
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction, PolicyDirection, Template
from spigate.firmware_py.ipsec.sa import AH, AUTHS, CIPHERS, ESP, Auth, Cipher, Encapsulation, Sa, Selectors
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.firmware_py.tables.interface import SOFTWARE
from spigate.firmware_py.tables.model import SoftGateway
from spigate.hdl.contract.enums import Direction, Mode, Port
from tests.firmware_py import fuzzing
from tests.firmware_py.control.network import LINUX

PEER = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::1")}
SELF = {4: ip_address("192.0.2.2"), 6: ip_address("2001:db8::2")}
THERE = {4: "10.1.{}.0/24", 6: "2001:db8:1:{}::/64"}
HERE = {4: ip_network("10.2.0.0/24"), 6: ip_network("2001:db8:2::/64")}
PEER_MAC, SELF_MAC, INSIDE_MAC, SERVER_MAC = (bytes.fromhex(f"0200000000{n:02x}") for n in range(1, 5))
# Outside, inside, protocol or cipher, what else
KINDS = [
    (4, 4, Cipher.AES_GCM, {}),
    (4, 6, Cipher.AES_CBC, {}),
    (6, 4, Cipher.CHACHA20_POLY1305, {}),
    (6, 6, Cipher.AES_CTR, {"esn": True}),
    (4, 4, Cipher.NULL, {}),
    (4, 4, AH, {}),
    (6, 6, AH, {"esn": True}),
    (4, 6, AH, {}),
    (4, 4, Cipher.AES_CCM, {"encapsulation": Encapsulation(4500, 4500)}),
    (6, 4, Cipher.AES_GMAC, {"encapsulation": Encapsulation(4500, 4500)}),
]


def make_sa(number, kind, direction):
    outside, _, what, changes = kind
    ends = (PEER[outside], SELF[outside])
    source = random.Random(number)
    material = {"protocol": AH, "auth": Auth.HMAC_SHA256_128, "auth_key": bytes(32)}
    if what != AH:
        form = CIPHERS[what]
        auth = Auth.NONE if form.icvs else Auth.HMAC_SHA1_96
        material = {
            "cipher": what,
            "key": source.randbytes(form.keys[0]),
            "salt": source.randbytes(form.salt),
            "icv_bytes": form.icvs[-1] if form.icvs else 0,
            "auth": auth,
            "auth_key": bytes(AUTHS[auth].key) if auth != Auth.NONE else b"",
        }
    return Sa(
        direction=direction,
        spi=0x1000 + number,
        source=ends[direction],
        destination=ends[1 - direction],
        mode=Mode.TUNNEL,
        reqid=number + 1,
        replay_window=4096,
        **material,
        **changes,
    )


def make_policy(number, kind, direction):
    outside, inside, what, _ = kind
    there = ip_network(THERE[inside].format(number))
    ends, what_for = (PEER[outside], SELF[outside]), (there, HERE[inside])
    if direction == PolicyDirection.OUT:
        ends, what_for = ends[::-1], what_for[::-1]
    template = Template(
        source=ends[0],
        destination=ends[1],
        mode=Mode.TUNNEL,
        protocol=AH if what == AH else ESP,
        reqid=number + 1,
    )
    return Policy(
        selectors=Selectors(*what_for),
        direction=direction,
        action=PolicyAction.PROTECT,
        templates=(template,),
    )


class Target:
    """A gateway without decryptors that has an SA of every kind, and a peer for it."""

    def __init__(self):
        topology = Topology(
            [
                Interface(
                    "outside",
                    Port.NETWORK,
                    SELF_MAC,
                    (ip_interface("192.0.2.2/24"), ip_interface("2001:db8::2/64")),
                ),
                Interface(
                    "inside",
                    Port.SERVER,
                    INSIDE_MAC,
                    (ip_interface("10.2.0.1/24"), ip_interface("2001:db8:2::1/64")),
                ),
            ],
            [Neighbour(PEER[version], Port.NETWORK, PEER_MAC) for version in (4, 6)]
            + [
                Neighbour(ip_address(server), Port.SERVER, SERVER_MAC)
                for server in ("10.2.0.10", "2001:db8:2::10")
            ],
            [
                NetworkRoute(ip_network("10.1.0.0/16"), Port.NETWORK, PEER[4]),
                NetworkRoute(ip_network("2001:db8:1::/48"), Port.NETWORK, PEER[6]),
            ],
        )
        sas = [
            make_sa(number, kind, direction) for number, kind in enumerate(KINDS) for direction in Direction
        ]
        policies = [
            make_policy(number, kind, direction)
            for number, kind in enumerate(KINDS)
            for direction in PolicyDirection
        ]
        self.gateway = SoftGateway(capabilities=SOFTWARE)
        port = SoftPort(self.gateway)
        self.now = 0.0
        self.control = ControlElement(
            tables=self.gateway,
            port=port,
            topology=topology,
            sas=sas,
            policies=policies,
            clock=lambda: self.now,
            settings=LINUX,
        )
        self.loop = Loop(self.gateway, self.control, port)
        self.peers = [SoftSa(replace(sa, direction=Direction.OUTBOUND)) for sa in sas[::2]]


def packet(source, number, *, marker):
    """A UDP packet that a peer's network sends here, of any length that happens."""
    inside = KINDS[number][1]
    there = ip_network(THERE[inside].format(number))
    size = source.choice((0, 1, 8, 40, 300, 1200, 1600))
    data = bytes(source.getrandbits(8) for _ in range(min(size, 8))) + bytes(size) + marker
    udp = (1000).to_bytes(2) + (2000).to_bytes(2) + (8 + len(data)).to_bytes(2) + bytes(2) + data
    ends = there[source.randrange(1, 99)], HERE[inside][{4: 10, 6: 16}[inside]]
    make = ipv4_header if inside == 4 else ipv6_header
    return make(*ends, UDP, len(udp), ttl=source.choice((1, 2, 64, 255)), tos=source.randrange(256)) + udp


def mutate(source, data):
    """Some of it changed, cut off, doubled or put in between."""
    data = bytearray(data)
    for _ in range(source.choice((0, 1, 1, 2, 5))):
        at = source.randrange(min(len(data), source.choice((24, 64, len(data)))) or 1)
        match source.randrange(6):
            case 0 | 1 if data:
                data[at] ^= 1 << source.randrange(8)
            case 2 if data:
                data[at] = source.choice((0, 1, 43, 44, 50, 51, 60, 0xFF))
            case 3:
                del data[source.randrange(len(data) + 1) :]
            case 4:
                data += source.randbytes(source.randrange(1, 20))
            case 5:
                data[at:at] = source.randbytes(source.choice((1, 4, 8)))
    return bytes(data)


def repaired(source, data):
    """Where chance wills, lengths and header checksum made right again, so that what is behind them is
    looked at.
    """
    if len(data) < 20 or source.randrange(2):
        return data
    if data[0] >> 4 == 6 and len(data) >= 40:
        return data[:4] + (len(data) - 40).to_bytes(2) + data[6:]
    header_bytes = 4 * (data[0] & 15)
    if not 20 <= header_bytes <= len(data):
        return data
    header = data[:2] + len(data).to_bytes(2) + data[4:10] + bytes(2) + data[12:header_bytes]
    return header[:10] + checksum(header).to_bytes(2) + header[12:] + data[header_bytes:]


def anything(source, peer, sealed):
    """Any payload and next header in the next packet of ``peer``, sealed rightly."""
    outside = peer.sa.source.version
    number = peer._window.sequence = peer._window.sequence + 1
    return peer._protocol.wrap(
        sealed[: {4: 20, 6: 40}[outside]],
        {4: 9, 6: 6}[outside],
        number,
        peer._high(number),
        source.randbytes(source.randrange(80)),
        source.choice((4, 41, 59, source.randrange(256))),
    )


def one(source, target):
    """Port, frames, and what may leave of the plain text: all of it, or nothing (None: it was not
    encrypted).
    """
    number = source.randrange(len(KINDS))
    marker = source.randbytes(16)
    plain = packet(source, number, marker=marker)
    kind = source.randrange(8)
    if kind == 0:  # clear, at either port
        port = source.choice((Port.NETWORK, Port.SERVER))
        return port, [repaired(source, mutate(source, plain))], None
    if kind == 1:  # wrong inside, sealed rightly
        plain = repaired(source, mutate(source, plain))
    try:
        sealed = target.peers[number].encapsulate(plain)
        if kind == 1 and source.randrange(2):
            sealed = anything(source, target.peers[number], sealed)
    except Refused:
        return Port.NETWORK, [plain], None
    pieces = (
        fragments(sealed, source.choice((300, 1280)), source.randrange(1, 1 << 16)) if kind == 2 else [sealed]
    )
    if kind >= 2:
        pieces = [
            repaired(source, mutate(source, piece)) if source.randrange(3) else piece for piece in pieces
        ]
    if kind == 7:
        pieces *= 2
    # What is only signed is readable anyway, also where damage makes it somebody else's.
    readable = KINDS[number][2] in (AH, Cipher.NULL, Cipher.AES_GMAC)
    return Port.NETWORK, pieces, (marker, plain) if kind > 2 and not readable else None


def fuzz(count: int, seed: int, progress: Callable[[int], None]) -> Counter:
    """Feeds ``count`` packets and returns what became of them.

    Raises
    ------
    AssertionError
        A packet is not accounted for, some of a damaged packet's plain text left, or memory is not bounded.
    """
    source, target = random.Random(seed), Target()
    loop, control = target.loop, target.control
    fed = sent = 0

    async def feed():
        nonlocal fed, sent
        await control.start()
        for at in range(count):
            target.now += source.choice((0.0001, 0.001, 0.1))
            port, pieces, secret = one(source, target)
            for piece in pieces:
                macs = (SELF_MAC, PEER_MAC) if port == Port.NETWORK else (INSIDE_MAC, SERVER_MAC)
                await loop.feed(
                    port,
                    Ethernet(*macs, ETHERTYPES[6 if piece[:1] and piece[0] >> 4 == 6 else 4]).pack() + piece,
                )
                fed += 1
            for frames in loop.sent.values():
                sent += len(frames)
                if secret:
                    _whole_or_nothing(frames, *secret)
                frames.clear()
            loop.punted.clear()
            if at % 1000 == 0:
                _check_bounds(target)
                progress(at)

    asyncio.run(feed())
    _check_bounds(target)
    assert fed + control.made.total() == sent + loop.drops.total() + control.consumed.total(), (
        "a frame is not accounted for"
    )
    found = Counter({f"dropped {reason.name.lower()}": number for reason, number in loop.drops.items()})
    found.update({f"ended as {what}": number for what, number in control.consumed.items()})
    found.update({"fed": fed, "sent": sent})
    return found


def _whole_or_nothing(frames, marker, plain):
    """What leaves of an encrypted packet has all of its payload."""
    payload = plain[Ip.parse(plain).header_bytes :]
    assert all(payload in frame or len(plain) > 1500 for frame in frames if marker in frame), (
        "part of a damaged packet left"
    )


def _check_bounds(target):
    slow = target.control._slow
    assert (
        all(each.held <= MAX_BYTES for each in slow._reassembly.values()) and len(slow._events) <= MAX_EVENTS
    )
    assert len(target.control._returns) <= 4096
    slow.take_events()
    target.gateway._events.clear()


if __name__ == "__main__":
    fuzzing.main(fuzz, __doc__)

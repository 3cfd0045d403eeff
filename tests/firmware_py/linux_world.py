# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Random worlds (:mod:`tests.firmware_py.differential`) that Linux can have, and frames that meet them."""

import random
from collections import Counter
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from spigate.firmware_py.ipsec.packet import ipv4_header, rewrite
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction, PolicyDirection, Template
from spigate.firmware_py.ipsec.sa import ESP, Auth, Cipher, Sa, Selectors
from spigate.hdl.contract.enums import Direction, Mode, Port
from tests.firmware_py.differential import LOCAL, PEERS, ROUTER, SELF, World, frame, side
from tests.firmware_py.ipsec import rfc4301
from tests.firmware_py.ipsec.foreign_esp import sealed

TRANSPORT = {10: 1, 11: 2}
"""Reqids of SAs in transport mode, and the tunnel's whose peer they have."""
PORTLESS = (47, 132)
IN_IP, DUMMY = 4, 59
"""ESP's next header in tunnel mode, and of a dummy packet (RFC 4303 2.6)."""
SHAPES = {"pieces": 10, "padded": 3, "options": 3, "source route": 2, "wrong checksum": 2, "cut off": 2}
"""What a packet may be besides, and how often; none of it in transport mode."""
STRANGE = [
    *map(
        ip_address,
        (
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.1.1",
            "224.0.0.5",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
        ),
    )
]
DIRECTED = ip_address("10.2.0.255")
"""A broadcast of the servers' network."""
FOREIGN = ip_address("198.51.100.77")
"""Who has no SA."""


@dataclass
class Case:
    """Frames that belong together, and what they are. ``through``: the SAs that they come out of, innermost
    first; ``action``: what the text (:mod:`rfc4301`) makes of their packet; ``later``: whether it lets its
    later fragments in.
    """

    kind: str
    port: Port
    frames: list[bytes]
    flow: tuple
    through: tuple[Sa, ...] = ()
    action: str = ""
    later: bool = False

    def __str__(self):
        return f"{self.kind} at {self.port.name}, {self.flow} through {[hex(sa.spi) for sa in self.through]}"


@dataclass
class Change:
    """``add_sa``, ``remove_sa``, ``add_policy`` or ``remove_policy``, and what."""

    kind: str
    what: Sa | Policy


class LinuxWorld(World):
    """One that Linux can have: no two policies of a direction have their selectors in common, and ports are
    single ones.
    """

    def __post_init__(self):
        self._taken: set[tuple] = set()
        self._numbers: Counter[int] = Counter()
        self._identification = iter(range(1, 1 << 20))
        super().__post_init__()
        draw = self.random
        for reqid in TRANSPORT:
            self.sas += self.child(reqid) if draw.random() < 0.8 else []
        self.ever = {sa.spi: sa for sa in self.sas}

    def policy(self) -> Policy:
        while True:
            made = super().policy()
            made = self._transport(made) if self.random.random() < 0.08 else self._fit(made)
            key = (made.direction == PolicyDirection.OUT, made.selectors)
            if key not in self._taken:
                self._taken.add(key)
                return made

    def _fit(self, policy: Policy) -> Policy:
        what = policy.selectors
        ports = [
            {(0, 1023): (1023, 1023), (1024, 65535): (1024, 1024)}.get(each, each)
            for each in (what.source_ports, what.destination_ports)
        ]
        outward = policy.direction == PolicyDirection.OUT
        # Linux refuses tunnels that may be left out, outbound.
        templates = [
            replace(self._template(template.reqid, outward), optional=template.optional and not outward)
            for template in policy.templates
        ]
        if templates and self.random.random() < 0.1:
            other = self.random.choice([reqid for reqid in PEERS if reqid != templates[0].reqid])
            templates = [
                replace(template, optional=False) for template in (*templates, self._template(other, outward))
            ]
        return replace(
            policy,
            selectors=Selectors(what.source, what.destination, what.protocol, *ports),
            templates=tuple(templates),
        )

    def _template(self, reqid: int, outward: bool) -> Template:
        source, destination = (SELF, PEERS[reqid])[:: 1 if outward else -1]
        return Template(source=source, destination=destination, mode=Mode.TUNNEL, reqid=reqid)

    def _transport(self, policy: Policy) -> Policy:
        """One about what a peer sends to this host."""
        reqid = self.random.choice(list(TRANSPORT))
        peer = PEERS[TRANSPORT[reqid]]
        selectors = Selectors(ip_network(peer), ip_network(SELF), self.random.choice((None, 6, 17)))
        template = Template(source=peer, destination=SELF, mode=Mode.TRANSPORT, reqid=reqid)
        return Policy(
            selectors=selectors,
            direction=PolicyDirection.IN,
            action=PolicyAction.PROTECT,
            templates=(template,),
            priority=policy.priority,
        )

    def child(self, reqid: int) -> list[Sa]:
        if reqid in TRANSPORT:
            return [
                replace(sa, mode=Mode.TRANSPORT, reqid=reqid)
                for sa in self.child(TRANSPORT[reqid])
                if sa.direction == Direction.INBOUND
            ]
        made = super().child(reqid)
        if self.random.random() < 0.5:
            made = [
                replace(
                    sa,
                    cipher=Cipher.AES_CBC,
                    salt=b"",
                    icv_bytes=0,
                    auth=Auth.HMAC_SHA256_128,
                    auth_key=sa.spi.to_bytes(32),
                )
                for sa in made
            ]
        return made

    def change(self) -> tuple[str, object]:
        kind, what = super().change()
        if kind == "remove_policy":
            self._taken.discard((what.direction == PolicyDirection.OUT, what.selectors))
        elif kind == "add_sa":
            self.ever[what.spi] = what
        return kind, what

    def new_flow(self) -> tuple:
        while True:
            ingress, (source, destination, protocol, ports), sa = super().new_flow()
            draw = self.random
            if sa is not None and sa.mode == Mode.TRANSPORT:
                source, destination = sa.source, sa.destination
            if draw.random() < 0.08:
                protocol, ports = draw.choice(PORTLESS), None
            elif ports and destination not in LOCAL and draw.random() < 0.05:
                ports = (500, draw.choice((500, 4500)))
            if (sa is None or sa.mode == Mode.TUNNEL) and draw.random() < 0.03:
                source, destination = draw.choice(
                    ((draw.choice(STRANGE), destination), (source, draw.choice((*STRANGE, DIRECTED))))
                )
            if source != destination and source not in LOCAL:
                return ingress, (source, destination, protocol, ports), sa

    # Frames

    def steps(self, count: int) -> list:
        """``count`` cases, and changes between them."""
        made: list = []
        for _ in range(count):
            if self.random.random() < 0.03:
                kind, what = self.change()
                made.append(Change(kind, what))
            made.append(self.case())
        return made

    def case(self) -> Case:
        draw = self.random
        ingress, packet, sa = self.arrival()
        source, destination, protocol = ip_address(packet[12:16]), ip_address(packet[16:20]), packet[9]
        ports = (
            None
            if protocol in (1, *PORTLESS)
            else (int.from_bytes(packet[20:22]), int.from_bytes(packet[22:24]))
        )
        flow = (source, destination, protocol, ports)
        text = rfc4301.Gateway(self.policies, self.default, self.local, side)
        whole = sa is not None and sa.mode == Mode.TRANSPORT  # which has no fragments (RFC 4303 3.3.4)
        what = draw.choices(
            ("whole", "ttl", *SHAPES), (70, 8, *([0] * len(SHAPES) if whole else SHAPES.values()))
        )[0]
        if what == "source route" and destination in LOCAL:
            what = "options"  # whose turn it would be, which is a host's to say
        payload = packet[20:] + draw.randbytes(draw.choice((0, 1, 60, 100)))
        packet = rewrite(
            ipv4_header(source, destination, protocol, len(payload)) + payload,
            20,
            identification=next(self._identification) & 0xFFFF,
            ttl=draw.choice((0, 1, 2)) if what == "ttl" else 64,
            tos=draw.randrange(256) if draw.random() < 0.2 else 0,
        )
        packets = cut(packet, draw) if what == "pieces" else [shaped(what, packet)]
        if sa is None:
            port = Port.SERVER if ingress == "server" else Port.NETWORK
            later = port == Port.SERVER or text.inbound((*flow[:3], None), [])
            return Case(
                what,
                port,
                [frame(port, each) for each in packets],
                flow,
                (),
                text.decide(flow, ingress)[0],
                later,
            )
        kind, through = self._way(flow, sa, text)
        if kind == "foreign" and whole:
            flow = (FOREIGN, *flow[1:])  # it is the packet's own header
        frames = [frame(Port.NETWORK, each) for each in self._protected(kind, packets, through)]
        return Case(
            f"{kind} {what}".strip(),
            Port.NETWORK,
            frames,
            flow,
            through,
            text.decide(flow, ingress, through)[0],
            text.inbound((*flow[:3], None), list(through)),
        )

    def _way(self, flow: tuple, sa: Sa, text: rfc4301.Gateway) -> tuple[str, tuple[Sa, ...]]:
        """The SAs that a packet comes out of: ``sa`` for the most part, or those that policy asks for where
        it asks for several; and what is done to it besides."""
        draw = self.random
        inbound = [
            each for each in self.sas if each.direction == Direction.INBOUND and each.mode == Mode.TUNNEL
        ]
        entry = text.first(False, flow)
        asked = (
            [[each for each in inbound if template.accepts(each)] for template in entry[0].templates]
            if entry
            else []
        )
        if len(asked) > 1 and all(asked) and draw.random() < 0.7:
            return "bundle", tuple(map(draw.choice, asked))
        kind = draw.choices(
            ("", "replayed", "damaged", "unknown", "dummy", "foreign", "outer pieces", "nested", "other"),
            (60, 6, 6, 3, 2, 3, 5, 8, 8),
        )[0]
        if kind == "nested" and inbound:
            return kind, (sa, draw.choice(inbound))
        if kind == "other" and inbound and sa.mode == Mode.TUNNEL:
            return kind, (draw.choice(inbound),)  # mostly not the one that policy asks for
        return kind, (sa,)

    def _protected(self, kind: str, packets: list[bytes], through: tuple[Sa, ...]) -> list[bytes]:
        draw = self.random
        for at, sa in enumerate(through):
            packets = [self.seal(sa, each, DUMMY if kind == "dummy" and not at else None) for each in packets]
        if kind == "replayed":
            return [*packets, *packets]
        if kind == "damaged":
            return [
                each[:at] + bytes([each[at] ^ 1 << draw.randrange(8)]) + each[at + 1 :]
                for each in packets
                for at in [draw.randrange(24, len(each))]
            ]
        if kind == "unknown":
            return [
                each[:20] + (0x7000000 + draw.randrange(1000)).to_bytes(4) + each[24:] for each in packets
            ]
        if kind == "foreign":
            return [rewrite(each[:12] + FOREIGN.packed + each[16:], 20) for each in packets]
        return [piece for each in packets for piece in cut(each, draw)] if kind == "outer pieces" else packets

    def seal(self, sa: Sa, packet: bytes, next_header: int | None = None) -> bytes:
        """As the peer of an inbound SA sends it."""
        self._numbers[sa.spi] += 1
        if sa.mode == Mode.TRANSPORT:
            body = sealed(sa, self._numbers[sa.spi], packet[20:], next_header or packet[9])
            return rewrite(packet[:20] + body, 20, protocol=ESP, total_length=20 + len(body))
        body = sealed(sa, self._numbers[sa.spi], packet, next_header or IN_IP)
        return rewrite(
            ipv4_header(sa.source, sa.destination, ESP, len(body)) + body,
            20,
            identification=next(self._identification) & 0xFFFF,
        )


def shaped(what: str, packet: bytes) -> bytes:
    """``packet``, which has no options, as one of :data:`SHAPES`."""
    if what == "padded":
        return packet + bytes(6)
    if what == "cut off":
        return packet[:-1]
    if what == "wrong checksum":
        return packet[:10] + bytes([packet[10] ^ 0x40]) + packet[11:]
    if what not in ("options", "source route"):
        return packet
    options = b"\x01\x01\x01\0" if what == "options" else b"\x83\x07\x04" + ROUTER.packed + b"\0"
    header = bytes([0x45 + len(options) // 4]) + packet[1:20] + options
    return rewrite(header + packet[20:], len(header), total_length=len(packet) + len(options))


def cut(packet: bytes, draw: random.Random) -> list[bytes]:
    """In pieces, in any order."""
    data, size, made = packet[20:], 8 * draw.randrange(1, 6), []
    for at in range(0, len(data), size):
        more = at + size < len(data)
        head = packet[:6] + (more << 13 | at // 8).to_bytes(2) + packet[8:20]
        piece = head + data[at : at + size]
        made.append(rewrite(piece, 20, total_length=len(piece)))
    draw.shuffle(made)
    return made

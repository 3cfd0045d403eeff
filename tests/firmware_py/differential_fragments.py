# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Random worlds (:mod:`tests.firmware_py.differential`) with packets in fragments, in any order: what
leaves is what RFC 4301's text says of the whole packet (7: no fragment goes around what policy says of
ports)."""

import random
from collections import Counter
from ipaddress import ip_address

from spigate.firmware_py.control.element import ControlElement
from spigate.firmware_py.control.loop import Loop, SoftPort
from spigate.firmware_py.control.settings import Settings
from spigate.firmware_py.ipsec.fragments import Reassembly, fragments
from spigate.firmware_py.ipsec.packet import Ip, ipv4_header
from spigate.firmware_py.ipsec.policy import PolicyAction
from spigate.firmware_py.ipsec.sa import ANY_PORTS
from spigate.firmware_py.tables.interface import GATEWARE
from spigate.firmware_py.tables.model import SoftGateway
from spigate.hdl.contract.enums import Port
from tests.firmware_py.differential import TOPOLOGY, World, Wrong, frame

PACKETS = 60
"""In a world."""


async def pieces(seed: int, capabilities=GATEWARE) -> Counter:
    """A world through a control element and the model of the gateware. Counts what was expected, and
    ``lost``: what should have passed and did not, which nothing but an SA for some ports does (RFC 4301
    7.2)."""
    draw = random.Random(seed)
    world = World(seed, draw.choice(("bypass", "discard")))
    model = SoftGateway(capabilities=capabilities)
    port, got = SoftPort(model), []
    control = ControlElement(
        tables=model,
        port=port,
        topology=TOPOLOGY,
        sas=list(world.sas),
        policies=list(world.policies),
        clock=lambda: 0.0,
        settings=Settings(default=PolicyAction(world.default), own_host=True),
    )
    control.on_host = lambda header, one: got.append(one)
    loop = Loop(model, control, port)
    await control.start()
    counts: Counter[str] = Counter()
    for number in range(PACKETS):
        if world.random.random() < 0.05:
            kind, what = world.change()
            await getattr(control, kind)(what)
        ingress, packet, sa = world.arrival()
        payload = packet[20:] + draw.randbytes(96)
        packet = (
            ipv4_header(ip_address(packet[12:16]), ip_address(packet[16:20]), packet[9], len(payload))
            + payload
        )
        parts = fragments(packet, draw.choice((60, 84, 100)), 1000 + number)
        draw.shuffle(parts)
        at = Port.SERVER if ingress == "server" else Port.NETWORK
        for part in parts:
            await loop.feed(at, frame(at, world.sealed(sa, part) if sa else part))
        expected = world.expected(ingress, packet, sa)
        frames = [(side, one) for side, sent in loop.sent.items() for one in sent]
        protected = {one[23] == 50 for _, one in frames}
        right = {
            "discard": not frames and not got,
            "host": not frames,
            "protect": protected <= {True} and not got,
            "bypass": protected <= {False} and not got and {side for side, _ in frames} <= {expected.port},
        }[expected.action]
        if not right:
            raise Wrong(
                f"seed {seed}, {ingress} {sa}: expected {expected}, sent {frames}, host {got}, {loop.drops} {control.consumed}"
            )
        counts[expected.action] += 1
        passes = expected.action in ("bypass", "protect")
        if passes and packet[20:] not in together(
            world.opened(one[14:]) if one[23] == 50 else one[14:] for _, one in frames
        ):
            if sa is None or all(
                policy.selectors.source_ports == policy.selectors.destination_ports == ANY_PORTS
                for policy in world.policies
            ):
                raise Wrong(f"seed {seed}, {ingress} {sa}: lost {expected}, {loop.drops} {control.consumed}")
            counts["lost"] += 1
        for sent in (*loop.sent.values(), got):
            sent.clear()
    return counts


def together(packets) -> list[bytes]:
    """What whole ``packets``, and those put together of the others, carry."""
    reassembly = Reassembly()
    found = [
        reassembly.add(packet, Ip.parse(packet), 0.0) if Ip.parse(packet).fragment else packet
        for packet in packets
    ]
    return [packet[20:] for packet in found if packet]

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A small network for tests: a gateway with a peer at its network port and three servers at its server
port.
"""

import asyncio
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from spigate.firmware_py.control.element import ControlElement
from spigate.firmware_py.control.loop import Loop, SoftPort
from spigate.firmware_py.control.settings import Settings
from spigate.firmware_py.control.topology import Interface, Neighbour, NetworkRoute, Topology
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction, PolicyDirection, Template
from spigate.firmware_py.ipsec.sa import Cipher, Sa, Selectors
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.firmware_py.tables.model import SoftGateway
from spigate.hdl.contract.enums import Direction, Mode, Port

SELF, PEER = "192.0.2.2", "192.0.2.1"
SELF_MAC, INSIDE_MAC, PEER_MAC = "02:00:00:00:00:02", "02:00:00:00:02:01", "02:00:00:00:00:01"
SERVERS = {f"10.2.0.{n}": f"02:00:00:00:02:{n:02d}" for n in (10, 11, 12)}

LINUX = Settings(default=PolicyAction.BYPASS)
"""What no policy names passes, as in Linux."""


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


TOPOLOGY = Topology(
    [
        Interface("outside", Port.NETWORK, mac(SELF_MAC), (ip_interface(f"{SELF}/24"),)),
        Interface("inside", Port.SERVER, mac(INSIDE_MAC), (ip_interface("10.2.0.1/24"),)),
    ],
    [
        Neighbour(ip_address(PEER), Port.NETWORK, mac(PEER_MAC)),
        *(Neighbour(ip_address(address), Port.SERVER, mac(where)) for address, where in SERVERS.items()),
    ],
    [NetworkRoute(ip_network("10.1.0.0/16"), Port.NETWORK, ip_address(PEER))],
)


def selectors(source, destination, **more):
    return Selectors(ip_network(source), ip_network(destination), **more)


def sa(spi, direction=Direction.INBOUND, reqid=1, **changes):
    """A GCM tunnel between peer and gateway."""
    ends = (PEER, SELF) if direction == Direction.INBOUND else (SELF, PEER)
    return Sa(
        **{
            "direction": direction,
            "spi": spi,
            "source": ip_address(ends[0]),
            "destination": ip_address(ends[1]),
            "mode": Mode.TUNNEL,
            "cipher": Cipher.AES_GCM,
            "key": spi.to_bytes(16),
            "salt": b"salt",
            "icv_bytes": 16,
            "reqid": reqid,
            **changes,
        }
    )


def policy(
    direction, what, action=PolicyAction.PROTECT, reqid=1, priority=0, mode=Mode.TUNNEL, optional=False
):
    """A policy with a template for the SAs of :func:`sa`."""
    ends = (SELF, PEER) if direction == PolicyDirection.OUT else (PEER, SELF)
    template = Template(
        source=ip_address(ends[0]), destination=ip_address(ends[1]), mode=mode, reqid=reqid, optional=optional
    )
    return Policy(
        selectors=what,
        direction=direction,
        action=action,
        priority=priority,
        templates=(template,) if action == PolicyAction.PROTECT else (),
    )


class Bench:
    """A gateway in software and its control element."""

    def __init__(self, sas=(), policies=(), capabilities=None, topology=TOPOLOGY, settings=LINUX):
        self.gateway = SoftGateway(**({"capabilities": capabilities} if capabilities else {}))
        port = SoftPort(self.gateway)
        self.now = 0.0
        self.control = ControlElement(
            tables=self.gateway,
            port=port,
            topology=topology,
            sas=sas,
            policies=policies,
            clock=lambda: self.now,
            settings=settings,
        )
        self.loop = Loop(self.gateway, self.control, port)
        self._peers = {}
        asyncio.run(self.control.start())

    def feed(self, port, *frames):
        """What left at (NETWORK, SERVER) because of ``frames``."""
        before = [len(self.loop.sent[side]) for side in (Port.NETWORK, Port.SERVER)]

        async def run():
            for frame in frames:
                await self.loop.feed(port, frame)

        asyncio.run(run())
        return tuple(
            self.loop.sent[side][at:] for side, at in zip((Port.NETWORK, Port.SERVER), before, strict=True)
        )

    def do(self, coroutine):
        return asyncio.run(coroutine)

    def sealed(self, one, packet):
        """``packet`` as the peer of the inbound SA ``one`` sends it."""
        peer = self._peers.setdefault(one, SoftSa(replace(one, direction=Direction.OUTBOUND)))
        return frame(peer.encapsulate(packet))


def udp(source, destination, sport=1000, dport=2000, ttl=64, payload=b"payload"):
    return bytes(IP(src=source, dst=destination, ttl=ttl) / UDP(sport=sport, dport=dport) / payload)


def frame(packet, source=PEER_MAC, destination=SELF_MAC):
    return bytes(Ether(src=source, dst=destination, type=0x0800)) + packet


def from_server(packet, server="10.2.0.10"):
    return frame(packet, SERVERS[server], INSIDE_MAC)

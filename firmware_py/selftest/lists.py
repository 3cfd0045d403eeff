# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The checks of the routes and of the clear sources: every index of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from spigate.firmware_py.ipsec.packet import Ethernet, rewrite
from spigate.firmware_py.ipsec.sa import ANY_IPV4
from spigate.firmware_py.selftest import patterns
from spigate.firmware_py.selftest.frames import ETHERNET, HOST, framed, udp_packet
from spigate.firmware_py.selftest.paths import BACK, COMING_IN
from spigate.firmware_py.selftest.probes import Gone, Probe, Up
from spigate.firmware_py.selftest.rules import ALL, RawRule
from spigate.firmware_py.selftest.session import Session, Write
from spigate.firmware_py.tables import rows
from spigate.firmware_py.tables.interface import Rule, Source
from spigate.hdl.contract import rdl
from spigate.hdl.contract.constants import MAX_DEPTH
from spigate.hdl.contract.enums import Action, Port, Reason, Table
from spigate.hdl.contract.protocols import ETHERTYPE_IPV4

FAR = 0x5532_0000
"""Destinations, one for each rule that leads to a route."""
FEW = 64
"""Clear sources that get all near misses; of more of them each gets one."""


@dataclass(frozen=True)
class Pattern:
    """A way to fill routes, and what it shows. ``tried``: by a packet that must not be taken for one to be
    recirculated, and whose time to live is over."""

    name: str
    turned: bool = False
    rewrite: bool = True
    tagged: bool = True
    decrement: bool = False
    egress: int = Port.RECIRCULATE
    valid: bool = True

    def hop(self, index: int) -> tuple[int, int, int]:
        """MAC addresses and tag of the route ``index``."""
        numbers = (
            patterns.number(48, "to", index),
            patterns.number(48, "from", index),
            patterns.number(16, "tag", index),
        )
        widths = (48, 48, 16)
        if not self.turned:
            return numbers
        to, of, tag = (patterns.complement(n, width) for n, width in zip(numbers, widths, strict=True))
        return to, of, tag

    def words(self, index: int) -> list[int]:
        """The entry."""
        to, of, tag = self.hop(index)
        return rdl.entry("route")["hop"].pack(
            {
                "destination_mac": to,
                "source_mac": of,
                "vlan_tci": tag,
                "tagged": self.tagged,
                "rewrite": self.rewrite,
                "decrement_ttl": self.decrement,
                "egress": self.egress,
                "valid": self.valid,
            }
        )


PATTERNS = (
    Pattern("new header with tag, TTL counted down", decrement=True),
    Pattern("the same, all bits the other way round", turned=True),
    Pattern("new header without tag", tagged=False),
    Pattern("own header", rewrite=False, tagged=False),
    Pattern("egress server", egress=Port.SERVER, decrement=True),
    Pattern("egress control element", egress=Port.CE, decrement=True),
    Pattern("not valid", valid=False, decrement=True),
)


async def routes(session: Session) -> str:
    """Every route, by clear packets that come back into the classifier with what the route makes of them.

    That a route does not lead back into the classifier shows without a frame that leaves: as a packet that
    has come back as often as it may is dropped there, but comes up where its time to live is over.
    """
    has = session.has
    await session.configure(enable=session.working)
    everybody = Source(ip_network("0.0.0.0/0"), COMING_IN)
    await session.write(Write(Table.SOURCE, 0, rows.source(everybody), dfe) for dfe in session.working)
    for pattern in PATTERNS:
        await session.write(Write(Table.ROUTE, index, pattern.words(index)) for index in range(has.routes))
        for first in range(0, has.routes, has.rules):
            indices = range(first, min(first + has.rules, has.routes))
            await session.write(
                Write(
                    Table.RULE,
                    index - first,
                    RawRule(int(HOST), FAR + index, action=Action.BYPASS, route=index).words(),
                )
                for index in indices
            )
            await session.ask(_routed(pattern, index) for index in indices)
    await session.clear([Table.RULE, Table.ROUTE])
    await session.erase((Table.SOURCE, 0, dfe) for dfe in session.working)
    return f"{has.routes} routes"


def _routed(pattern: Pattern, index: int) -> Probe:
    what = f"route {index}, {pattern.name}"
    if not pattern.valid:
        frame = framed(udp_packet(index, HOST, FAR + index))
        return Probe(what, frame, Up(Reason.NO_RULE, frame))
    if pattern.egress != Port.RECIRCULATE:
        frame = framed(udp_packet(index, HOST, FAR + index, ttl=1))
        return Probe(what, frame, Up(Reason.TTL_EXPIRED, frame), depth=MAX_DEPTH)
    packet = udp_packet(index, HOST, FAR + index)
    ethernet = ETHERNET
    if pattern.rewrite:
        to, of, tag = pattern.hop(index)
        ethernet = Ethernet(to.to_bytes(6), of.to_bytes(6), ETHERTYPE_IPV4, tag if pattern.tagged else None)
    after = rewrite(packet, 20, ttl=63) if pattern.decrement else packet
    return Probe(what, framed(packet), Up(Reason.NO_RULE, framed(after, ethernet)))


async def sources(session: Session) -> str:
    """Every clear source of every DFE, by packets that may speak, and that may not by one bit."""
    await session.write(
        [
            Write(Table.ROUTE, 0, rows.route(BACK)),
            Write(Table.RULE, 0, rows.rule(Rule(ANY_IPV4, COMING_IN, Action.BYPASS))),
        ]
    )
    for dfe in session.working:
        await session.configure(enable=[dfe])
        for name, turned, port, valid in (
            ("pattern 1", False, Port.NETWORK, True),
            ("pattern 2", True, Port.SERVER, True),
            ("not valid", True, Port.SERVER, False),
        ):
            await session.write(
                Write(Table.SOURCE, index, _source(_address(dfe, index, turned), port, valid), dfe)
                for index in range(session.has.sources)
            )
            await session.ask(_spoken(session, dfe, name, turned, port, valid=valid))
    await session.clear([Table.RULE, Table.ROUTE, Table.SOURCE])
    return f"{session.has.sources} sources in each DFE"


def _address(dfe: int, index: int, turned: bool) -> int:
    address = patterns.address("source", dfe, index)
    return patterns.complement(address) if turned else address


def _source(address: int, port: Port, valid: bool) -> list[int]:
    return rdl.entry("source")["source"].pack(
        {"address": address, "mask": ALL, "ingress": 1 << port, "valid": valid}
    )


def _spoken(
    session: Session, dfe: int, name: str, turned: bool, port: Port, *, valid: bool
) -> Iterator[Probe]:
    size, other = session.has.sources, Port.SERVER if port == Port.NETWORK else Port.NETWORK
    for index in range(size):
        what, address = f"DFE {dfe}, source {index}, {name}", _address(dfe, index, turned)
        frame = framed(udp_packet(index, address, FAR))
        if not valid:
            yield Probe(what, frame, Gone(Reason.POLICY), port, dfe=dfe)
            continue
        yield Probe(f"{what}, a packet from it", frame, Up(Reason.NO_RULE, frame), port, dfe=dfe)
        wrong = framed(udp_packet(index + size, address, FAR))
        yield Probe(
            f"{what}, a packet from port {other.name.lower()}", wrong, Gone(Reason.POLICY), other, dfe=dfe
        )
        bits = patterns.in_turn(index, 32, thorough=session.thorough or size <= FEW)
        for at, (bit, near) in enumerate(patterns.neighbours(address, bits=bits)):
            near_frame = framed(udp_packet(index, near, FAR))
            yield Probe(f"{what}, not from it by bit {bit}", near_frame, Gone(Reason.POLICY), port, dfe=dfe)
            if at % 8 == 7:
                yield Probe(f"{what}, a packet from it", frame, Up(Reason.NO_RULE, frame), port, dfe=dfe)

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The check of the rules: every index, what is compared and what it leads to.

Where the DFEs are switched off, a rule that protects lets its packet come up with its index, DFE and SA. A
packet that just does not match is dropped. A generation shows with an SA that lets nothing pass but what
is shorter than any packet: with the right one packets are too big, with another one they find no SA.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from spigate.firmware_py.selftest import patterns
from spigate.firmware_py.selftest.cam import choices, control
from spigate.firmware_py.selftest.frames import framed, ip_packet, udp_packet
from spigate.firmware_py.selftest.paths import BACK
from spigate.firmware_py.selftest.probes import Gone, Probe, Up
from spigate.firmware_py.selftest.session import Session, Write
from spigate.firmware_py.tables import rows
from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import Action, Direction, Port, Reason, Table
from spigate.hdl.contract.protocols import TCP, UDP

ALL = 0xFFFF_FFFF
GENERATION = 0x5A
SPI = 0x1234_5678
QUICK_BITS = 4
INGRESS = (Port.NETWORK, Port.SERVER, Port.RECIRCULATE)


@dataclass(frozen=True)
class RawRule:
    """A rule with masks that need not be prefixes. ``ports``: source and destination, low and high."""

    source: int
    destination: int
    source_ports: tuple[int, int] = (0, 0xFFFF)
    destination_ports: tuple[int, int] = (0, 0xFFFF)
    protocol: int | None = None
    ingress: tuple[Port, ...] = (Port.NETWORK,)
    action: Action = Action.PROTECT
    dfe: int = 0
    sa: int = 0
    route: int = 0
    generation: int = 0
    valid: bool = True
    mask: int = ALL

    def words(self) -> list[int]:
        """The entry."""
        fields = rdl.entry("rule")
        return [
            *fields["addresses"].pack(
                {
                    "source": self.source,
                    "source_mask": self.mask,
                    "destination": self.destination,
                    "destination_mask": self.mask,
                }
            ),
            *fields["value"].pack(
                {
                    "source_port_low": self.source_ports[0],
                    "source_port_high": self.source_ports[1],
                    "destination_port_low": self.destination_ports[0],
                    "destination_port_high": self.destination_ports[1],
                    "protocol": self.protocol or 0,
                    "any_protocol": self.protocol is None,
                    "ingress": sum(1 << port for port in self.ingress),
                    "valid": self.valid,
                    "action": self.action,
                    "dfe": self.dfe,
                    "sa": self.sa,
                    "route": self.route,
                    "generation": self.generation,
                }
            ),
        ]


async def rules(session: Session) -> str:
    """See above."""
    has, routes = session.has, choices(session.has.routes)
    for at, route in enumerate(routes[:2]):
        await session.configure(miss=Action.DISCARD)
        await session.write(
            Write(Table.ROUTE, index, rows.route(BACK) if index == route else [0] * rdl.ROW_WORDS)
            for index in routes
        )
        given = [_ported(index, route, turned=bool(at)) for index in range(has.rules)]
        await _write(session, given)
        await session.ask(_near(f"pattern {at + 1}", given, QUICK_BITS if session.quick else 1))
    await session.write(Write(Table.ROUTE, index, rows.route(BACK)) for index in routes)
    for at, port in enumerate(INGRESS):
        given = [_bare(index, port, turned=bool(at % 2)) for index in range(has.rules)]
        await _write(session, given)
        await session.ask(_from_ports(f"pattern {at + 3}", given, port))
    await _write(session, [replace(rule, valid=False) for rule in given])
    await session.ask(_unfound("not valid", given))
    await _actions(session)
    if session.working:
        await _generations(session)
    await session.clear([Table.RULE, Table.ROUTE])
    await session.erase((Table.SA, 0, dfe) for dfe in session.working[:1])
    return f"{has.rules} rules"


async def _write(session: Session, given: list[RawRule]) -> None:
    await session.write(Write(Table.RULE, index, rule.words()) for index, rule in enumerate(given))


def _ported(index: int, route: int, *, turned: bool) -> RawRule:
    """A rule for one pair of addresses and ports of UDP or, ``turned``, TCP."""
    source, destination = patterns.address("source", index), patterns.address("destination", index)
    # No port at an end of its range: there is a lower and a higher one.
    ports = [patterns.number(16, name, index) & 0xFFFE | 1 << 15 | 2 for name in ("from", "to")]
    dfe, sa = patterns.number(4, "dfe", index), patterns.number(16, "sa", index)
    if turned:
        source, destination = patterns.complement(source), patterns.complement(destination)
        ports, dfe, sa = [port ^ 0xFFFF for port in ports], dfe ^ 0xF, sa ^ 0xFFFF
    return RawRule(
        source,
        destination,
        (ports[0], ports[0]),
        (ports[1], ports[1]),
        TCP if turned else UDP,
        dfe=dfe,
        sa=sa,
        route=route,
    )


def _packet(rule: RawRule, **changes: int) -> bytes:
    """A frame that the rule means, or one that differs from it in what ``changes`` say."""
    given = {
        "source": rule.source,
        "destination": rule.destination,
        "source_port": rule.source_ports[0],
        "destination_port": rule.destination_ports[0],
        "protocol": rule.protocol or UDP,
        **changes,
    }
    packet = udp_packet(
        rule.source & 0xFFFF_FFFF,
        given["source"],
        given["destination"],
        (given["source_port"], given["destination_port"]),
    )
    if given["protocol"] == UDP:
        return framed(packet)
    return framed(ip_packet(given["protocol"], packet[20:], given["source"], given["destination"]))


def _found(name: str, index: int, rule: RawRule, port: Port = Port.NETWORK, frame: bytes = b"") -> Probe:
    frame = frame or _packet(rule)
    becomes = Up(Reason.DFE_DOWN, frame, dfe=rule.dfe, sa=rule.sa, rule=index)
    return Probe(f"rule {index}, {name}, a packet that it means", frame, becomes, port)


def _near(name: str, given: list[RawRule], step: int) -> Iterator[Probe]:
    """Packets that match, and those that just do not: in one bit of an address, by one port, by protocol. Of
    the bits each rule gets every ``step``-th, others than the rules around it.
    """
    for index, rule in enumerate(given):
        bits = range(-index % step, 32, step)
        yield _found(name, index, rule)
        other = UDP if rule.protocol == TCP else TCP
        misses = [
            *(
                (f"source, bit {bit}", {"source": near})
                for bit, near in patterns.neighbours(rule.source, bits=bits)
            ),
            *(
                (f"destination, bit {bit}", {"destination": near})
                for bit, near in patterns.neighbours(rule.destination, bits=bits)
            ),
            *(
                (f"{field} {word} {limit}", {field: port})
                for field, (port, _) in (
                    ("source_port", rule.source_ports),
                    ("destination_port", rule.destination_ports),
                )
                for word, limit, port in (("below", port, port - 1), ("above", port, port + 1))
            ),
            ("protocol", {"protocol": other}),
        ]
        for at, (field, change) in enumerate(misses):
            what = f"rule {index}, {name}, a packet that it does not mean by its {field}"
            yield Probe(what, _packet(rule, **change), Gone(Reason.POLICY))
            if at % 8 == 7:
                yield _found(name, index, rule)


def _bare(index: int, port: Port, *, turned: bool) -> RawRule:
    """A rule for a protocol without ports, and what comes in at one port."""
    protocol = 0x95 if turned else 0x6A
    base = patterns.address("bare", index, port)
    source, destination = (base, patterns.address("far", index, port))
    return RawRule(source, destination, protocol=protocol, ingress=(port,), dfe=index % 16, sa=index)


def _bare_packet(rule: RawRule, protocol: int | None = None, tag: int = 0) -> bytes:
    return framed(
        ip_packet(
            rule.protocol or 0 if protocol is None else protocol,
            tag.to_bytes(8),
            rule.source,
            rule.destination,
        )
    )


def _from_ports(name: str, given: list[RawRule], port: Port) -> Iterator[Probe]:
    """Packets of a protocol without ports, from each port."""
    for index, rule in enumerate(given):
        frame = _bare_packet(rule)
        for other in INGRESS:
            wrong = _bare_packet(rule, tag=1 + other)
            what = f"rule {index}, {name}, a packet from port {other.name.lower()}"
            if other != port:
                yield Probe(what, wrong, Gone(Reason.POLICY), other)
        what = f"rule {index}, {name}, a packet of another protocol"
        yield Probe(what, _bare_packet(rule, 0xFC), Gone(Reason.POLICY), port)
        yield _found(name, index, rule, port, frame)


def _unfound(name: str, given: list[RawRule]) -> Iterator[Probe]:
    for index, rule in enumerate(given):
        yield Probe(f"rule {index}, {name}", _bare_packet(rule), Gone(Reason.POLICY), rule.ingress[0])


async def _actions(session: Session) -> None:
    """Each of the other actions; any protocol; every mask bit 0."""
    for action, reason in (
        (Action.PUNT, Reason.RULE),
        (Action.DISCARD, Reason.POLICY),
        (Action.BYPASS, Reason.NO_DFE),
    ):
        given = [RawRule(0, 0, action=action, mask=0, valid=False) for _ in range(session.has.rules)]
        await _write(session, given)
        for index in range(session.has.rules):
            # One at a time, for each means everything. What no rule means is dropped otherwise.
            rule = RawRule(ALL, ALL, action=action, mask=0)
            await session.write([Write(Table.RULE, index, rule.words())])
            frame = framed(udp_packet(index, patterns.address(index), patterns.address(action)))
            becomes = Up(reason, frame, rule=index) if action == Action.PUNT else Gone(reason)
            await session.ask([Probe(f"rule {index}, action {action.name.lower()}", frame, becomes)])
            await session.write([Write(Table.RULE, index, given[index].words())])


async def _generations(session: Session) -> None:
    """Rules lead to an SA only with its generation."""
    dfe = session.working[0]
    await session.configure(enable=session.working, miss=Action.DISCARD)
    for generation in (GENERATION, patterns.complement(GENERATION, 8)):
        words = control(session, SPI, generation)
        fields = rdl.entry("sa")["control"].fields
        for name, value in (("direction", Direction.OUTBOUND), ("mtu", 1)):
            low = fields[name].low
            words[low // 32] |= value << low % 32
        await session.write([Write(Table.SA, 0, words, dfe)])
        given = [
            replace(_ported(index, 0, turned=False), dfe=dfe, sa=0, generation=generation)
            for index in range(session.has.rules)
        ]
        await _write(session, given)
        await session.ask(
            Probe(
                f"rule {index}, generation {generation:#04x}",
                frame := _packet(rule),
                Up(Reason.TOO_BIG, frame, dfe=dfe, sa=0, rule=index),
                dfe=dfe,
            )
            for index, rule in enumerate(given)
        )

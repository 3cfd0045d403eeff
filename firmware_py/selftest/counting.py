# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The check of counters and events: a few packets of each kind through each DFE, after which every counter
must have moved by what they are, and each audited drop have told its event.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network

from spigate.firmware_py.selftest.esp import RawKeys
from spigate.firmware_py.selftest.frames import GATE, HOST, PEER, esp_packet, framed, ip_packet, udp_packet
from spigate.firmware_py.selftest.keys import SPI_BITS, Slots
from spigate.firmware_py.selftest.paths import BACK, COMING_IN
from spigate.firmware_py.selftest.probes import Gone, Probe, Up
from spigate.firmware_py.selftest.rules import RawRule
from spigate.firmware_py.selftest.session import REGISTERS, Session, Write
from spigate.firmware_py.selftest.uses import FAR, Placed, Use, chosen
from spigate.firmware_py.tables import rows
from spigate.firmware_py.tables.interface import CamEntry, CamKey, Event, Source
from spigate.hdl.contract.constants import FROM_CFE, MAX_DEPTH
from spigate.hdl.contract.enums import Action, Port, Reason, Table
from spigate.hdl.contract.protocols import ESP, IPV4_IN_IP, NO_NEXT_HEADER
from spigate.hdl.contract.reasons import AUDITABLE

OUTBOUND, BYPASSED, ABSENT, SILENT, DISCARDED = range(5)
"""The rules, by what they are for."""
IN_SA, OUT_SA, NO_SA = 0, 1, 2
REPEATED = 3
"""So many packets of each kind that comes up."""
_EVENTS = ("event_mask_low", "event_mask_high")


@dataclass(frozen=True)
class Step:
    """A probe, and what it moves.

    Members
    -------
    probe : Probe
    moves : dict of str to int
        Counters by name, such as ``cfe.hits`` or ``dfe.bytes_in``.
    event : Event or None
        What is told of it; without its time.
    """

    probe: Probe
    moves: dict[str, int]
    event: Event | None = None


async def counters(session: Session) -> str:
    """See above."""
    before = await session.in_flight(session.bus.read(REGISTERS[name].address) for name in _EVENTS)
    resets = [REGISTERS[name].fields["value"].reset for name in _EVENTS]
    uses = [Use(number, suite) for number, suite in enumerate(chosen(session.has), 1)]
    seen: set[str] = set()
    try:
        await _mask(session, resets)
        for dfe in session.working:
            inbound, outbound = Placed(uses[2], dfe, IN_SA), Placed(uses[4], dfe, OUT_SA)
            entry = await _prepare(session, inbound, outbound)
            await session.driver.events()
            steps = [*_up(inbound, outbound, entry), *_dropped(inbound, outbound, entry)]
            await _compare(session, dfe, steps)
            seen |= {name for step in steps for name in step.moves}
    finally:
        await _mask(session, [word for (word,) in before])
    await session.clear([Table.RULE, Table.ROUTE, Table.SOURCE])
    await session.erase([(Table.CAM, session.slot(0), 0)])
    await session.erase((Table.SA, at, dfe) for dfe in session.working for at in (IN_SA, OUT_SA))
    return f"{len(seen)} counters, in each DFE"


async def _mask(session: Session, words: Iterable[int]) -> None:
    await session.in_flight(
        session.bus.write(REGISTERS[name].address, [word]) for name, word in zip(_EVENTS, words, strict=True)
    )


async def _prepare(session: Session, inbound: Placed, outbound: Placed) -> CamEntry:
    """Tables and settings for one DFE; the CAM entry of its inbound SA."""
    dfe = inbound.dfe
    await session.configure(enable=[dfe])
    key = Slots(session.has.cam_rows, range(SPI_BITS, 2 * SPI_BITS - 8)).key(
        session.way, 0, 0x5577_0000 << SPI_BITS | inbound.spi
    )
    entry = CamEntry(CamKey(IPv4Address(key >> SPI_BITS), inbound.spi), dfe, IN_SA, 0, inbound.generation)
    generation = outbound.generation
    leads = {
        OUTBOUND: RawRule(int(HOST), FAR + OUTBOUND, dfe=dfe, sa=OUT_SA, generation=generation),
        BYPASSED: RawRule(int(HOST), FAR + BYPASSED, action=Action.BYPASS),
        ABSENT: RawRule(int(HOST), FAR + ABSENT, dfe=dfe, sa=NO_SA, generation=generation),
        SILENT: RawRule(int(PEER), FAR + SILENT, action=Action.BYPASS),
        DISCARDED: RawRule(int(HOST), FAR + DISCARDED, action=Action.DISCARD),
    }
    await session.write(
        [
            Write(Table.ROUTE, 0, rows.route(BACK)),
            Write(Table.CAM, session.slot(0), rows.cam(entry)),
            Write(Table.SOURCE, 0, rows.source(Source(ip_network(f"{HOST}/32"), COMING_IN)), dfe),
            Write(Table.SA, IN_SA, inbound.words(), dfe),
            Write(Table.SA, OUT_SA, outbound.words(), dfe),
            *(Write(Table.RULE, index, rule.words()) for index, rule in leads.items()),
        ]
    )
    return entry


def _through(frame: bytes, out: bytes, kind: str, classified: str) -> dict[str, int]:
    """What a packet moves that a DFE sends back into the classifier, which does not know it then."""
    return {
        "cfe.inject_in": 1,
        f"cfe.{classified}": 1,
        "dfe.packets_in": 1,
        "dfe.bytes_in": len(frame),
        f"dfe.{kind}": 1,
        "dfe.packets_out": 1,
        "dfe.bytes_out": len(out),
        "forward.recirculated": 1,
        "cfe.recirculate_in": 1,
        "cfe.misses": 1,
        "cfe.punts": 1,
        "forward.punt_out": 1,
    }


def _up(inbound: Placed, outbound: Placed, entry: CamEntry) -> Iterator[Step]:
    """Packets that come up: decrypted, encrypted, in the clear, and without an SA."""
    dfe, to = inbound.dfe, int(entry.key.destination)
    for at in range(REPEATED):
        frame, out = inbound.sealed(to, -1 - at), inbound.plain()
        probe = Probe(f"DFE {dfe}, a packet to decrypt", frame, Up(Reason.NO_RULE, out), dfe=dfe)
        yield Step(probe, _through(frame, out, "decrypted", "hits"))
    frame, out = outbound.clear(OUTBOUND), outbound.protected(OUTBOUND)
    probe = Probe(f"DFE {dfe}, a packet to encrypt", frame, Up(Reason.UNKNOWN_SPI, out), dfe=dfe)
    yield Step(probe, _through(frame, out, "encrypted", "clear"))
    for at in range(REPEATED):
        frame = framed(udp_packet(at, HOST, FAR + BYPASSED))
        probe = Probe(f"DFE {dfe}, a packet to bypass", frame, Up(Reason.NO_RULE, frame), dfe=dfe)
        yield Step(probe, _through(frame, frame, "bypassed", "clear"))
    for at in range(REPEATED):
        frame = framed(udp_packet(at, HOST, FAR + ABSENT))
        becomes = Up(Reason.SA_ABSENT, frame, dfe=dfe, sa=NO_SA)
        moves = {"cfe.inject_in": 1, "cfe.clear": 1, "dfe.packets_in": 1, "dfe.bytes_in": len(frame)}
        moves |= {"dfe.punts": 1, "forward.punt_out": 1}
        yield Step(Probe(f"DFE {dfe}, a packet without its SA", frame, becomes, dfe=dfe), moves)


def _dropped(inbound: Placed, outbound: Placed, entry: CamEntry) -> Iterator[Step]:
    """A packet for each reason of a drop that injected packets can have."""
    dfe, to, keys = inbound.dfe, int(entry.key.destination), inbound.keys
    number = inbound.sequence + 64 & 0xFFFF_FFFF

    def esp(count: int, payload: bytes, next_header: int, keys: RawKeys = keys) -> bytes:
        body = keys.seal(inbound.spi, number + count, payload, next_header)
        return framed(ip_packet(ESP, body, PEER, to))

    plain = inbound.plain()[14:]
    changed = bytearray(esp(0, plain, IPV4_IN_IP))
    changed[-1] ^= 1
    in_dfe = [
        (Reason.ICV, bytes(changed), number),
        (Reason.REPLAY, inbound.sealed(to, -1), inbound.sequence + 1 & 0xFFFF_FFFF),
        (Reason.PADDING, esp(1, plain, ESP), number + 1),
        (Reason.DUMMY, esp(2, plain, NO_NEXT_HEADER), number + 2),
        (Reason.MALFORMED, esp(3, bytes([0x55]) + plain[1:], IPV4_IN_IP), number + 3),
        (Reason.POLICY, inbound.sealed(to, -70, protocol=1), inbound.sequence + 70 & 0xFFFF_FFFF),
    ]
    for reason, frame, sequence in in_dfe:
        moves = {"cfe.inject_in": 1, "cfe.hits": 1, "dfe.packets_in": 1, "dfe.bytes_in": len(frame)}
        yield _drop(dfe, reason, frame, moves, (dfe, IN_SA, inbound.spi, sequence, int(PEER), to))
    frame = outbound.clear(OUTBOUND)
    moves = {"cfe.inject_in": 1, "cfe.clear": 1, "dfe.packets_in": 1, "dfe.bytes_in": len(frame)}
    last = outbound.sequence + 2 & 0xFFFF_FFFF
    yield _drop(
        dfe, Reason.LIFETIME, frame, moves, (dfe, OUT_SA, outbound.spi, last, int(HOST), FAR + OUTBOUND)
    )
    silent = framed(udp_packet(0, PEER, FAR + SILENT))
    moves = {"cfe.inject_in": 1, "cfe.clear": 1, "dfe.packets_in": 1, "dfe.bytes_in": len(silent)}
    yield _drop(dfe, Reason.POLICY, silent, moves, (dfe, 0, 0, 0, int(PEER), FAR + SILENT))
    discarded = framed(udp_packet(0, HOST, FAR + DISCARDED))
    classified = {"cfe.inject_in": 1, "cfe.clear": 1}
    yield _drop(dfe, Reason.POLICY, discarded, classified, (FROM_CFE, 0, 0, 0, int(HOST), FAR + DISCARDED))
    alone = {"cfe.inject_in": 1}
    reserved = framed(esp_packet(255, 7))
    yield _drop(dfe, Reason.RESERVED_SPI, reserved, alone, (FROM_CFE, 0, 255, 7, int(PEER), int(GATE)))
    martian = framed(udp_packet(0, HOST, 0x7F00_0001))
    yield _drop(dfe, Reason.MARTIAN, martian, alone, None)
    nested = framed(udp_packet(0, HOST, FAR + BYPASSED))
    yield _drop(dfe, Reason.NESTED, nested, classified, None, MAX_DEPTH)


def _drop(
    dfe: int,
    reason: Reason,
    frame: bytes,
    moves: dict[str, int],
    told: tuple[int, int, int, int, int, int] | None,
    depth: int = 0,
) -> Step:
    """A packet that is dropped. ``told``: reporter, SA, SPI, sequence number, source and destination."""
    what = f"DFE {dfe}, a packet to drop as {reason.name.lower()}"
    probe = Probe(what, frame, Gone(reason), depth=depth, dfe=dfe)
    event = None
    if told is not None and reason in AUDITABLE:
        reporter, sa, spi, sequence, source, destination = told
        event = Event(
            reason,
            True,
            Port.NETWORK,
            reporter,
            sa,
            spi,
            sequence,
            IPv4Address(source),
            IPv4Address(destination),
            0,
        )
    return Step(probe, moves | {f"drops.{reason.name.lower()}": 1}, event)


async def _compare(session: Session, dfe: int, steps: list[Step]) -> None:
    """Sends them, and compares what has moved and what was told."""
    before, failed = await _read(session, dfe), len(session.failures)
    for step in steps:  # one at a time: how they overtake each other is no matter here
        await session.ask([step.probe])
    after = await _read(session, dfe)
    if len(session.failures) > failed:
        return  # they did not become what the counters are compared with
    wanted: Counter[str] = Counter()
    for step in steps:
        wanted.update(step.moves)
    for name in sorted(wanted):
        moved = (after[name] - before[name]) % (1 << 32)
        if moved != wanted[name]:
            session.fail(f"DFE {dfe}, counter {name}", f"it moved by {moved}, not by {wanted[name]}")
    if after["dfe.busy_cycles"] == before["dfe.busy_cycles"]:
        session.fail(f"DFE {dfe}, counter dfe.busy_cycles", "it stands")
    told = Counter(_shown(event) for event in await session.driver.events())
    expected = Counter(_shown(step.event) for step in steps if step.event is not None)
    for event in expected - told:
        session.fail(f"DFE {dfe}, events", f"not told: {event}")
    for event in told - expected:
        session.fail(f"DFE {dfe}, events", f"told, and not expected: {event}")


async def _read(session: Session, dfe: int) -> Counter[str]:
    read = await session.driver.counters()
    found = Counter({f"cfe.{name}": count for name, count in read.cfe.items()})
    found.update({f"forward.{name}": count for name, count in read.forward.items()})
    found.update({f"dfe.{name}": count for name, count in read.dfes[dfe].items()})
    found.update({f"drops.{reason.name.lower()}": count for reason, count in read.drops.items()})
    return found


def _shown(event: Event) -> str:
    """An event without its time."""
    name = Reason(event.reason).name.lower() if event.reason in Reason._value2member_map_ else event.reason
    return (
        f"{name}, dropped {int(event.dropped)}, from port {event.ingress.name.lower()}, DFE {event.dfe}, "
        f"SA {event.sa}, SPI {event.spi:#010x}, number {event.sequence}, "
        f"{event.source} to {event.destination}"
    )

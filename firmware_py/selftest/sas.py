# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The check of the SADs: every place of every DFE, and all that is kept of an SA.

A march: for each use all places are written first, then each is shown by its packets, so that a place that
another one's address reaches is found as well. The packets of outbound SAs come back into the classifier
and come up as ESP with an unknown SPI; what inbound SAs decrypt comes up as a clear packet that no rule
knows.
"""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address

from spigate.firmware_py.selftest import patterns
from spigate.firmware_py.selftest.frames import HOST
from spigate.firmware_py.selftest.keys import SPI_BITS, Slots
from spigate.firmware_py.selftest.paths import BACK
from spigate.firmware_py.selftest.probes import Gone, Probe, Up
from spigate.firmware_py.selftest.rules import RawRule
from spigate.firmware_py.selftest.session import Session, State, Write
from spigate.firmware_py.selftest.uses import FAR, INNER_BYTES, Placed, Use, chosen
from spigate.firmware_py.tables import rows
from spigate.firmware_py.tables.interface import CamEntry, CamKey
from spigate.firmware_py.tables.punt import Place
from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import Reason, Table

NEAR_MISSES = 69
"""Of selectors: 32 bits of each address, four of ports, the protocol."""
_PIVOTS = tuple(range(SPI_BITS, 2 * SPI_BITS - 8))


async def sas(session: Session) -> str:
    """See above."""
    has = session.has
    await session.configure(enable=session.working)
    await session.write([Write(Table.ROUTE, 0, rows.route(BACK))])
    uses = [Use(number, suite) for number, suite in enumerate(chosen(has), 1)]
    for dfe in session.working:
        for use in uses:
            await _show(session, [Placed(use, dfe, index) for index in session.places(has.sa_entries)])
        await _erased(session, [Placed(uses[0], dfe, index) for index in session.places(has.sa_entries)])
    await session.clear([Table.ROUTE])
    await session.erase(
        (Table.SA, index, dfe) for dfe in session.working for index in session.places(has.sa_entries)
    )
    return f"{len(session.places(has.sa_entries))} SAs in each DFE, five times each"


async def _show(session: Session, places: Sequence[Placed]) -> None:
    """Writes all places, then shows each."""
    await session.write(Write(Table.SA, place.index, place.words(), place.dfe) for place in places)
    size = session.has.rules
    slots = Slots(session.has.cam_rows, _PIVOTS)
    table = Table.CAM if places[0].use.inbound else Table.RULE
    for first in range(0, len(places), size):
        some = places[first : first + size]
        if table == Table.CAM:
            entries = [_cam(slots, session.way, at, place) for at, place in enumerate(some)]
            await session.write(
                Write(table, session.slot(at), rows.cam(entry)) for at, entry in enumerate(entries)
            )
            await session.ask(_inbound(entries, some))
        else:
            await _lead(session, some)
            await session.ask(_outbound(some))
        states = await session.states(some[0].dfe, [place.index for place in some])
        for place, found in zip(some, states, strict=True):
            _compare(session, place, found)
        if table == Table.CAM:
            await session.ask(_near(session, entries, some))
    used = (session.slot(at) if table == Table.CAM else at for at in range(session.has.rules))
    await session.erase((table, index, 0) for index in used)


async def _lead(session: Session, some: Sequence[Placed]) -> None:
    """Rules that lead to them."""
    await session.write(
        Write(
            Table.RULE,
            at,
            RawRule(int(HOST), FAR + at, dfe=place.dfe, sa=place.index, generation=place.generation).words(),
        )
        for at, place in enumerate(some)
    )


async def _erased(session: Session, places: Sequence[Placed]) -> None:
    """With a first row that is not valid, and right for all else, no SA is found."""
    await session.write(
        Write(
            Table.SA,
            place.index,
            rdl.entry("sa")["control"].pack(place.control(valid=False)),
            place.dfe,
        )
        for place in places
    )
    size = session.has.rules
    for first in range(0, len(places), size):
        some = places[first : first + size]
        await _lead(session, some)
        await session.ask(
            Probe(
                f"{_name(place)}, not valid",
                frame := place.clear(at),
                Up(Reason.SA_ABSENT, frame, dfe=place.dfe, sa=place.index),
                dfe=place.dfe,
                otherwise=place.protected(at),
            )
            for at, place in enumerate(some)
        )
    await session.clear([Table.RULE])


def _name(place: Placed) -> str:
    return f"DFE {place.dfe}, SA {place.index}"


def _outbound(some: Sequence[Placed]) -> Iterator[Probe]:
    """Packets for SAs to which rules lead."""
    for at, place in enumerate(some):
        what = f"{_name(place)}, {place.use.name}"
        becomes = Up(Reason.UNKNOWN_SPI, place.protected(at))
        yield Probe(what, place.clear(at), becomes, dfe=place.dfe)
        if place.use.number == 1:
            long = place.clear(at, size=INNER_BYTES + 1)
            up = Up(Reason.TOO_BIG, long, dfe=place.dfe, sa=place.index)
            yield Probe(f"{what}, a packet longer than its MTU", long, up, dfe=place.dfe)
        elif place.ends:
            yield Probe(
                f"{what}, a packet beyond its lifetime",
                place.clear(at),
                Gone(Reason.LIFETIME),
                dfe=place.dfe,
                otherwise=place.protected(at, 2),
            )


def _cam(slots: Slots, way: int, at: int, place: Placed) -> CamEntry:
    """The entry of row ``at`` that leads to it."""
    key = slots.key(way, at, patterns.address("sad", at) << SPI_BITS | place.spi)
    return CamEntry(
        CamKey(IPv4Address(key >> SPI_BITS), place.spi), place.dfe, place.index, 0, place.generation
    )


def _inbound(entries: Sequence[CamEntry], some: Sequence[Placed]) -> Iterator[Probe]:
    """Packets for SAs to which CAM entries lead."""
    for entry, place in zip(entries, some, strict=True):
        what, destination = f"{_name(place)}, {place.use.name}", int(entry.key.destination)
        frame, plain = place.sealed(destination, place.offset), place.plain()
        of = Place(place.dfe, place.index, place.generation)
        if place.use.number == 4:
            yield Probe(
                f"{what}, a number left of its window",
                place.sealed(destination, place.offset + 1),
                Gone(Reason.REPLAY),
                dfe=place.dfe,
            )
        yield Probe(what, frame, Up(Reason.NO_RULE, plain, of=of), dfe=place.dfe)


def _near(session: Session, entries: Sequence[CamEntry], some: Sequence[Placed]) -> Iterator[Probe]:
    """Packets that the selectors do not let out."""
    for entry, place in zip(entries, some, strict=True):
        turns = patterns.in_turn(place.index, NEAR_MISSES, thorough=session.thorough)
        for count, (name, change) in enumerate(place.near_misses(turns), 1):
            yield Probe(
                f"{_name(place)}, {place.use.name}, a packet that its selectors do not mean by {name}",
                place.sealed(int(entry.key.destination), -count, **change),
                Gone(Reason.POLICY),
                dfe=place.dfe,
                otherwise=place.plain(**change),
            )


def _compare(session: Session, place: Placed, found: State) -> None:
    """How far it is must be what its packets have made of what was written."""
    wanted = place.state()
    differs = [
        f"{name} {_shown(has)}, not {_shown(wants)}"
        for name, has, wants in (
            ("sequence", found.state.sequence, wanted.state.sequence),
            ("window", found.state.window, wanted.state.window),
            ("bytes", found.state.bytes, wanted.state.bytes),
            ("packets", found.state.packets, wanted.state.packets),
            ("soft mark", found.soft, wanted.soft),
            ("hard mark", found.hard, wanted.hard),
        )
        if has != wants
    ]
    if differs:
        session.fail(f"{_name(place)}, {place.use.name}", f"its state reads {', '.join(differs)}")


def _shown(value: int | bool) -> str:
    return str(int(value)) if value < 1 << 16 else f"{value:#x}"

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The check of the CAM: every slot of every way, with keys that hash to it.

All slots are full at a time, so that a slot that another one's address reaches is found. Five passes:

1. Keys, DFE, SA and route differ from slot to slot. The DFEs are switched off, so what hits comes up with
   what its entry says.
2. The same with all bits of destination, DFE, SA and route the other way round.
3. One SPI for all, whose SA every DFE has, so that a packet that hits with the right generation gets as far
   as to be seen as malformed, and one with another generation comes up.
4. The same with all bits of SPI and generation the other way round.
5. The entries of pass 4, not valid: nothing hits.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address

from spigate.firmware_py.selftest import patterns
from spigate.firmware_py.selftest.frames import esp_packet, framed
from spigate.firmware_py.selftest.keys import SPI_BITS, Slots
from spigate.firmware_py.selftest.paths import BACK
from spigate.firmware_py.selftest.probes import Gone, Probe, Up
from spigate.firmware_py.selftest.session import Session, Write
from spigate.firmware_py.tables import rows
from spigate.firmware_py.tables.interface import CamEntry, CamKey
from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import Action, Auth, Cipher, KeySize, Reason, Table

GENERATION = 0x5A
SPI = 0x9A5C_33C9
_WHOLE = (1 << 64) - 1
_SPI_PIVOTS = tuple(range(SPI_BITS - 2))
_DESTINATION_PIVOTS = tuple(range(SPI_BITS, 2 * SPI_BITS - 8))


async def cam(session: Session) -> str:
    """See above."""
    try:
        await _passes(session)
    finally:
        bad = {
            way
            for way in range(session.has.cam_ways)
            if any(_of(way, where) for where, _ in session.failures)
        }
        session.way = min(set(range(session.has.cam_ways)) - bad, default=0)
        if len(bad) == 1 and len(session.failures) > 2:
            told = "several of its slots fail, and none was found that fails in another way"
            session.failures.insert(0, (f"way {min(bad)} as a whole", told))
    await session.erase((Table.CAM, index, 0) for index, _, _ in _slots(session))
    await session.clear([Table.ROUTE])
    await session.erase((Table.SA, 0, dfe) for dfe in session.working)
    return f"{len(session.places(session.has.cam_ways * session.has.cam_rows))} slots"


def _of(way: int, where: str) -> bool:
    return where.startswith(f"way {way},")


async def _passes(session: Session) -> None:
    has = session.has
    by_spi, by_destination = Slots(has.cam_rows, _SPI_PIVOTS), Slots(has.cam_rows, _DESTINATION_PIVOTS)
    routes = choices(has.routes)
    for at, route in enumerate(routes[:2]):
        await session.configure()
        await session.write(
            Write(Table.ROUTE, index, rows.route(BACK) if index == route else [0] * rdl.ROW_WORDS)
            for index in routes
        )
        await _pass(session, f"pass {at + 1}", _entries(session, by_spi, route, turned=bool(at)))
    await session.write(Write(Table.ROUTE, index, rows.route(BACK)) for index in routes)
    if session.working:
        await session.configure(enable=session.working, miss=Action.DISCARD)
        for at, (spi, generation) in enumerate(
            ((SPI, GENERATION), (patterns.complement(SPI), patterns.complement(GENERATION, 8)))
        ):
            await session.write(
                Write(Table.SA, 0, control(session, spi, generation), dfe) for dfe in session.working
            )
            entries = list(_sharing(session, by_destination, spi, generation))
            await _pass(session, f"pass {at + 3}", iter(entries), Reason.MALFORMED)
        await session.configure(miss=Action.DISCARD)  # what hits comes up, and says which slot it was
        await _pass(session, "pass 5, not valid", iter(entries), Reason.NO_SA, valid=False)


def choices(size: int) -> list[int]:
    """Indices of a table of which each bit is 1 in one and 0 in another, with the complement of the first
    one second where the table has it.
    """
    bits = (size - 1).bit_length()
    first = sum(1 << bit for bit in range(0, bits, 2)) % size
    found = [first, first ^ (1 << bits) - 1, *(1 << bit for bit in range(bits)), 0]
    return list(dict.fromkeys(index for index in found if index < size))


def control(session: Session, spi: int, generation: int) -> list[int]:
    """The first row of an inbound SA with algorithms that the gateway has, and no keys."""
    has = session.has
    gcm = any(cipher.value == "aes-gcm" for cipher in has.ciphers)
    cbc = any(cipher.value == "aes-cbc" for cipher in has.ciphers)
    auth = max((Auth[each.name] for each in has.auths), default=Auth.NONE)
    return rdl.entry("sa")["control"].pack(
        {
            "valid": 1,
            "spi": spi,
            "generation": generation,
            "cipher": Cipher.AES_GCM if gcm else Cipher.AES_CBC if cbc else Cipher.NULL,
            "auth": Auth.NONE if gcm else auth,
            "key_size": max((KeySize[f"AES{8 * size}"] for size in has.aes_keys), default=KeySize.AES128),
        }
    )


def _entries(session: Session, slots: Slots, route: int, *, turned: bool) -> Iterator[tuple[int, CamEntry]]:
    """Entries that differ in all that they say; ``turned``: with its bits the other way round."""
    for index, way, row in _slots(session):
        wish = patterns.address("cam", index) << SPI_BITS | 0b10 << 30 | patterns.number(30, "cam spi", index)
        dfe, sa = patterns.number(4, "dfe", index), patterns.number(16, "sa", index)
        if turned:
            wish, dfe, sa = wish ^ _WHOLE, dfe ^ 0xF, sa ^ 0xFFFF
        yield (
            index,
            _entry(slots.key(way, row, wish), dfe, sa, route, patterns.number(8, "generation", index)),
        )


def _sharing(session: Session, slots: Slots, spi: int, generation: int) -> Iterator[tuple[int, CamEntry]]:
    """Entries of one SPI and generation."""
    for index, way, row in _slots(session):
        wish = patterns.address("shared", index, spi) << SPI_BITS | spi
        dfe = session.working[index % len(session.working)]
        yield index, _entry(slots.key(way, row, wish), dfe, 0, choices(session.has.routes)[0], generation)


def _slots(session: Session) -> Iterator[tuple[int, int, int]]:
    for index in session.places(session.has.cam_ways * session.has.cam_rows):
        yield index, *divmod(index, session.has.cam_rows)


def _entry(key: int, dfe: int, sa: int, route: int, generation: int) -> CamEntry:
    return CamEntry(CamKey(IPv4Address(key >> SPI_BITS), key & 0xFFFF_FFFF), dfe, sa, route, generation)


async def _pass(
    session: Session,
    name: str,
    entries: Iterator[tuple[int, CamEntry]],
    dropped: Reason | None = None,
    *,
    valid: bool = True,
) -> None:
    """Writes all entries, then looks each up."""
    given = list(entries)
    await session.write(
        Write(Table.CAM, index, rows.cam(entry) if valid else _void(entry)) for index, entry in given
    )
    await session.ask(_probes(session, name, given, dropped))


def _void(entry: CamEntry) -> list[int]:
    words = rows.cam(entry)
    bit = rdl.entry("cam")["value"].fields["valid"].low
    words[rdl.ROW_WORDS + bit // 32] ^= 1 << bit % 32
    return words


def _probes(
    session: Session, name: str, given: list[tuple[int, CamEntry]], dropped: Reason | None
) -> Iterator[Probe]:
    for at, (index, entry) in enumerate(given):
        way, row = divmod(index, session.has.cam_rows)
        what = f"way {way}, row {row} (slot {index}), {name}"
        frame = framed(esp_packet(entry.key.spi, at + 1, destination=int(entry.key.destination)))
        if dropped is None:
            yield Probe(what, frame, Up(Reason.DFE_DOWN, frame, dfe=entry.dfe, sa=entry.sa))
        else:
            yield Probe(what, frame, Gone(dropped), dfe=entry.dfe)

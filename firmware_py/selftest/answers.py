# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The check of the algorithms: known answers for every suite that the capability registers name, in both
directions and modes, by every DFE and each of its lanes.

What is right, the software path says (:mod:`spigate.firmware_py.ipsec`), which is on ``cryptography``. What
has another ICV or another text must be dropped, and so must what was there before.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_network

from spigate.firmware_py.ipsec.sa import AUTHS as FORMS
from spigate.firmware_py.ipsec.sa import Auth, Cipher, Sa, Selectors
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.firmware_py.selftest import patterns
from spigate.firmware_py.selftest.esp import KEY_BYTES
from spigate.firmware_py.selftest.frames import GATE, HOST, INSIDE, PEER, framed, udp_packet
from spigate.firmware_py.selftest.keys import SPI_BITS, Slots
from spigate.firmware_py.selftest.paths import BACK
from spigate.firmware_py.selftest.probes import Gone, Probe, Up
from spigate.firmware_py.selftest.rules import RawRule
from spigate.firmware_py.selftest.session import MAX_FAILURES, REGISTERS, GivenUp, Session, Write
from spigate.firmware_py.selftest.uses import suites
from spigate.firmware_py.tables import rows
from spigate.firmware_py.tables.interface import AUTHS, CIPHERS, CamEntry, CamKey
from spigate.firmware_py.tables.punt import Place
from spigate.firmware_py.words import counted
from spigate.hdl.contract import enums
from spigate.hdl.contract.enums import Direction, Mode, Reason, Table

SIZES = (8, 29, 230, 700)
"""Bytes of UDP payloads: less than a block, no whole number of words, several blocks, many."""
EVERYTHING = 10_000
"""Failures that are noted before those of a case become one."""
_PIVOTS = tuple(range(SPI_BITS, 2 * SPI_BITS - 8))


@dataclass(frozen=True)
class Case:
    """A suite in one direction and mode, by one DFE: its ``index`` is that of its SA there, below the
    number of rules."""

    dfe: int
    index: int
    sa: Sa

    @property
    def name(self) -> str:
        sa = self.sa
        return f"DFE {self.dfe}, {sa.suite}, {sa.mode.name.lower()} mode, {sa.direction.name.lower()}"

    def packets(self, count: int) -> Iterator[bytes]:
        """Clear packets that it protects, or that come out of it."""
        for at in range(count):
            yield udp_packet(self.index << 16 | at, self.inner[0], self.inner[1], size=SIZES[at % len(SIZES)])

    @property
    def inner(self) -> tuple[IPv4Address, IPv4Address]:
        """Addresses of the clear packets: in transport mode those outside."""
        if self.sa.direction == Direction.OUTBOUND:
            return HOST, IPv4Address(int(GATE) + 0x100 + self.index)
        transport = self.sa.mode == Mode.TRANSPORT
        return PEER, IPv4Address(int(self.sa.destination)) if transport else INSIDE


def cases(session: Session, dfe: int, direction: Direction) -> list[Case]:
    """All suites in the modes that the gateway has."""
    ciphers = {code: cipher for cipher, code in CIPHERS.items()}
    auths = {enums.Auth(code): auth for auth, code in AUTHS.items()}
    slots = Slots(session.has.cam_rows, _PIVOTS)
    found: list[Case] = []
    for suite in suites(session.has):
        for mode in sorted(session.has.modes):
            index, place = len(found) % session.has.rules, (suite, mode, direction)
            cipher = ciphers[suite.cipher]
            gcm = cipher == Cipher.AES_GCM
            spi = patterns.number(30, "spi", *place) | 1 << 30
            key = slots.key(session.way, index, patterns.address("answers", index) << SPI_BITS | spi)
            inbound = direction == Direction.INBOUND
            auth = auths.get(suite.auth, Auth.NONE)
            sa = Sa(
                direction=direction,
                spi=spi,
                source=PEER if inbound else GATE,
                destination=IPv4Address(key >> SPI_BITS) if inbound else PEER,
                mode=mode,
                cipher=cipher,
                key=patterns.data(KEY_BYTES[suite.key_size], "key", *place) if cipher != Cipher.NULL else b"",
                salt=patterns.data(4, "salt", *place) if gcm else b"",
                icv_bytes=16 if gcm else 0,
                auth=auth,
                auth_key=patterns.data(FORMS[auth].key, "auth", *place) if auth in FORMS else b"",
                replay_window=session.has.replay_window if inbound else 0,
            )
            found.append(Case(dfe, index, sa))
    return found


async def answers(session: Session) -> str:
    """See above."""
    await session.configure(enable=session.working)
    await session.write([Write(Table.ROUTE, 0, rows.route(BACK))])
    contexts = REGISTERS["geometry"].unpack(await session.register("geometry"))["contexts"]
    count, copies, done = len(SIZES) * session.has.lanes, contexts * session.has.lanes, 0
    for dfe in session.working:
        for direction in (Direction.OUTBOUND, Direction.INBOUND):
            given = cases(session, dfe, direction)
            for first in range(0, len(given), session.has.rules):
                await _ask(session, given[first : first + session.has.rules], count, copies)
            done += len(given)
    await session.clear([Table.RULE, Table.ROUTE])
    await session.erase((Table.CAM, session.slot(at), 0) for at in range(session.has.rules))
    await session.erase((Table.SA, at, dfe) for dfe in session.working for at in range(session.has.rules))
    return f"{len(suites(session.has))} suites, {counted(done, 'case')} of {counted(count, 'packet')}"


async def _ask(session: Session, some: list[Case], count: int, copies: int) -> None:
    """Writes their SAs and what leads to them, and asks. Of what fails, each case is told once."""
    everything = Selectors(ip_network("0.0.0.0/0"), ip_network("0.0.0.0/0"))
    await session.write(Write(Table.SA, case.index, rows.sa(case.sa, everything), case.dfe) for case in some)
    inbound = some[0].sa.direction == Direction.INBOUND
    await session.write(
        Write(Table.CAM, session.slot(case.index), rows.cam(_entry(case)))
        if inbound
        else Write(
            Table.RULE,
            case.index,
            RawRule(int(HOST), int(case.inner[1]), dfe=case.dfe, sa=case.index).words(),
        )
        for case in some
    )
    before, session.failures, session.limit = session.failures, [], EVERYTHING
    try:
        probes = (
            probe
            for case in some
            for probe in (_decrypted(case, count, copies) if inbound else _encrypted(case, count))
        )
        await session.ask(probes)
    finally:
        session.limit = MAX_FAILURES
        found, session.failures = session.failures, before
    for where, what in _by_case(found):
        session.failures.append((where, what))
    if len(session.failures) >= MAX_FAILURES:
        raise GivenUp


def _by_case(found: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The first failure of each case, and how many more there were."""
    cases: dict[str, list[str]] = {}
    for where, what in found:
        name, _, packet = where.partition(": ")
        cases.setdefault(name, []).append(f"{packet}: {what}")
    for name, several in cases.items():
        yield name, several[0] + (f"; and {len(several) - 1} more" if len(several) > 1 else "")


def _entry(case: Case) -> CamEntry:
    return CamEntry(CamKey(case.sa.destination, case.sa.spi), case.dfe, case.index, 0)


def _encrypted(case: Case, count: int) -> Iterator[Probe]:
    """Clear packets, which must come up as the software path encrypts them."""
    soft = SoftSa(case.sa)
    for packet in case.packets(count):
        frame = framed(packet)
        becomes = Up(Reason.UNKNOWN_SPI, framed(soft.encapsulate(packet)))
        yield Probe(f"{case.name}: {counted(len(packet), 'byte')}", frame, becomes, dfe=case.dfe)


def _decrypted(case: Case, count: int, copies: int) -> Iterator[Probe]:
    """Packets that the software path has encrypted, the first one twice, and some that were changed on their
    way: ``copies`` of each kind, for each context of each lane compares ICVs itself.
    """
    peer = SoftSa(replace(case.sa, direction=Direction.OUTBOUND, replay_window=0))
    of = Place(case.dfe, case.index, 0)
    for at, packet in enumerate(case.packets(count)):
        plain, sealed = framed(packet), framed(peer.encapsulate(packet))
        what = f"{case.name}: {counted(len(packet), 'byte')}"
        yield Probe(what, sealed, Up(Reason.NO_RULE, plain, of=of), dfe=case.dfe)
        if at == 0:
            yield Probe(f"{what} a second time", sealed, Gone(Reason.REPLAY), dfe=case.dfe, otherwise=plain)
    # The byte of the text is the last one of the payload: four bytes of trailer are behind it.
    changes = (("ICV", -1), ("text", -case.sa.icv - 5), ("sequence number", 40))
    for at, (word, byte) in enumerate(change for change in changes for _ in range(copies)):
        packet = udp_packet(case.index << 16 | 0x8000 + at, *case.inner)
        changed = bytearray(framed(peer.encapsulate(packet)))
        changed[byte] ^= 0x10
        what = f"{case.name}: a changed {word}"
        yield Probe(what, bytes(changed), Gone(Reason.ICV), dfe=case.dfe, otherwise=framed(packet))

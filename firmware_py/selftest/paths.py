# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The ways on which all other checks depend: down and up again, and through each DFE."""

from ipaddress import ip_network

from spigate.firmware_py.ipsec.sa import ANY_IPV4
from spigate.firmware_py.selftest.frames import framed, ip_packet, udp_packet
from spigate.firmware_py.selftest.probes import Probe, Up
from spigate.firmware_py.selftest.session import Session, Write
from spigate.firmware_py.tables import rows
from spigate.firmware_py.tables.interface import Route, Rule, Source
from spigate.firmware_py.words import counted
from spigate.hdl.contract.constants import ALIGN, MAX_FRAME
from spigate.hdl.contract.enums import Action, Port, Reason, Table
from spigate.hdl.contract.protocols import ICMP

BACK = Route(Port.RECIRCULATE)
"""Through the classifier once more, which punts what it does not know: so it comes up."""
EVERYWHERE = frozenset({Port.NETWORK, Port.SERVER, Port.RECIRCULATE})
COMING_IN = frozenset({Port.NETWORK, Port.SERVER})
PAYLOADS = (64, 65, 511, 1400)
"""Bytes of the packets that go through a DFE."""


async def loop(session: Session) -> str:
    """What is injected comes up: frames of all residues, and the longest one."""
    await session.configure(enable=range(session.has.dfes))
    longest = MAX_FRAME - ALIGN - 14 - 20
    sizes = [*range(26, 26 + 17), 1000, longest]
    await session.ask(
        Probe(
            f"a frame of {34 + size} bytes as if from port {port.name.lower()}",
            frame := framed(ip_packet(ICMP, bytes(size))),
            Up(Reason.NO_RULE, frame),
            port,
        )
        for size in sizes
        for port in (Port.NETWORK, Port.SERVER)
    )
    return f"{2 * len(sizes)} frames of 60 to {34 + longest} bytes"


async def dfes(session: Session) -> str:
    """Each DFE takes packets and sends them on. One that does not is left out of all further checks."""
    source = Source(ip_network("0.0.0.0/0"), COMING_IN)
    await session.write(
        [
            Write(Table.ROUTE, 0, rows.route(BACK)),
            Write(Table.RULE, 0, rows.rule(Rule(ANY_IPV4, COMING_IN, Action.BYPASS))),
            *(Write(Table.SOURCE, 0, rows.source(source), dfe) for dfe in range(session.has.dfes)),
        ]
    )
    for dfe in range(session.has.dfes):
        await session.configure(enable=[dfe])
        found = len(session.failures)
        for size in PAYLOADS:
            frame = framed(udp_packet(size, size=size))
            what = f"DFE {dfe}, a frame of {counted(len(frame), 'byte')} that it should pass on"
            await session.ask([Probe(what, frame, Up(Reason.NO_RULE, frame), dfe=dfe)])
            if len(session.failures) > found:
                session.working.remove(dfe)
                break
    await session.clear([Table.RULE, Table.ROUTE, Table.SOURCE])
    healthy = await session.driver.healthy()
    for dfe in session.working:
        if not healthy >> dfe & 1:
            session.fail(f"DFE {dfe}", "the register healthy says that it takes no packets")
    return counted(len(session.working), "DFE")

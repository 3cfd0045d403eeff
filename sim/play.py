# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Inside the simulator: a capture through the gateway, from a cold start to the report."""

import json
from pathlib import Path
from typing import Any

from spigate.firmware_py.captures import pcap
from spigate.firmware_py.captures.capture import Capture
from spigate.firmware_py.captures.frames import Captured
from spigate.firmware_py.control.element import ControlElement
from spigate.firmware_py.control.settings import Settings
from spigate.firmware_py.errors import SpigateError
from spigate.firmware_py.tables.driver import Driver
from spigate.hdl.contract.enums import Port
from spigate.sim.board import MAX_BYTES, PERIOD_NS, Board
from spigate.sim.build import progress
from spigate.sim.session import Session
from spigate.sim.software import FILES, PUNTS, REPORT


async def play(dut: Any, given: Capture, settings: Settings, out: Path) -> None:
    """Plays the frames of ``given`` and writes to ``out``: :data:`FILES` and :data:`PUNTS` with what left the
    gateway (times in the pcap files are those of the simulation), and :data:`REPORT`. Where the run was not
    sound, the report is ``{"error": why}``.
    """
    session = None
    try:
        board = Board(dut)
        await board.start()
        driver = await Driver.open(board.bus)
        control = ControlElement(
            tables=driver,
            port=board.port,
            topology=given.topology,
            sas=given.sas,
            policies=given.policies,
            settings=settings,
        )
        await control.start()
        session = Session(board, driver, control)
        flows: dict[Port, bytes] = {}
        for at, arrival in enumerate(given.frames):
            # DFEs do not wait for one another, so packets of two SAs may change places inside. Where a
            # capture is to come out in its own order, the next flow of a port begins when the one before
            # has left.
            if flows.get(arrival.port, flow := _flow(arrival.frame)) != flow:
                await session.settle()
            flows[arrival.port] = flow
            # The bus model plays no more than this, which the gateway drops as too long (`oversize`) all
            # the same.
            await session.feed(arrival.port, arrival.frame[:MAX_BYTES])
            progress(at + 1, len(given.frames))
        await session.settle()
        report = await session.report()
    except SpigateError as error:
        report = {"error": str(error)}
    if session:
        for port, name in FILES.items():
            pcap.write(
                out / name,
                [Captured(arrival.last * PERIOD_NS, arrival.frame) for arrival in session.sent[port]],
            )
        pcap.write(
            out / PUNTS, [Captured(header.time * PERIOD_NS, frame) for header, frame in session.punted]
        )
    (out / REPORT).write_text(json.dumps(report, indent=2) + "\n")


def _flow(frame: bytes) -> bytes:
    """EtherType, protocol, addresses, and ports or SPI. Behind a tag or IP options it may be some other
    bytes, which tell apart too much, never too little.
    """
    return frame[12:14] + frame[23:24] + frame[26:38]

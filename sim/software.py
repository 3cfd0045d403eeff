# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A capture through a gateway without hardware, from a cold start to the report: what ``spigate replay
--dataplane soft`` does.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

from spigate.firmware_py.captures import pcap
from spigate.firmware_py.captures.capture import Capture
from spigate.firmware_py.captures.frames import Captured
from spigate.firmware_py.control.element import ControlElement
from spigate.firmware_py.control.loop import Loop, SoftPort
from spigate.firmware_py.control.settings import Settings
from spigate.firmware_py.tables.interface import SOFTWARE, Capabilities, Counters
from spigate.firmware_py.tables.model import SoftGateway
from spigate.hdl.contract.enums import Port
from spigate.sim.report import report

FILES = {Port.SERVER: "server-out.pcap", Port.NETWORK: "network-out.pcap"}
PUNTS, REPORT = "punt.pcap", "report.json"


def play(
    given: Capture, settings: Settings, out: Path, *, capabilities: Capabilities = SOFTWARE
) -> dict[str, Any]:
    """Plays the frames of ``given``, one after the other, and writes to ``out`` what
    :func:`spigate.sim.play.play` does; times are those of the capture. Returns the report.

    Raises
    ------
    Unsound
        A frame is not accounted for.
    """
    now = [given.frames[0].time if given.frames else 0]
    gateway = SoftGateway(capabilities=capabilities)
    port = SoftPort(gateway)
    control = ControlElement(
        tables=gateway,
        port=port,
        topology=given.topology,
        sas=given.sas,
        policies=given.policies,
        settings=settings,
        clock=lambda: now[0] / 1e9,
    )
    loop = Loop(gateway, control, port)
    left: dict[Port, list[Captured]] = {side: [] for side in FILES}
    into = {"network": 0, "server": 0}
    punted: list[Captured] = []

    async def run() -> Counters:
        await control.start()
        for arrival in given.frames:
            now[0] = arrival.time
            into[arrival.port.name.lower()] += 1
            before = {side: len(loop.sent[side]) for side in FILES}
            punts = len(loop.punted)
            await loop.feed(arrival.port, arrival.frame)
            for side in FILES:
                left[side] += [Captured(arrival.time, frame) for frame in loop.sent[side][before[side] :]]
            punted.extend(Captured(arrival.time, punt.frame) for punt in loop.punted[punts:])
        return await gateway.counters()

    counters = asyncio.run(run())
    for side, name in FILES.items():
        pcap.write(out / name, left[side])
    pcap.write(out / PUNTS, punted)
    found = report(
        control,
        counters,
        into=into,
        out={side.name.lower(): len(left[side]) for side in (Port.NETWORK, Port.SERVER)},
        punted=len(punted),
        injected=counters.cfe.get("inject_in", 0),
        dropped=gateway.drops,
        cycles=0,
    )
    (out / REPORT).write_text(json.dumps(found, indent=2) + "\n")
    return found

"""Inside the simulator: what :func:`spigate.sim.replay.replay` starts."""
import json
from pathlib import Path

import cocotb

from spigate.firmware_py import pcap
from spigate.firmware_py.ce import ControlElement, Miss, Settings
from spigate.firmware_py.driver import Driver
from spigate.firmware_py.punt import Port
from spigate.firmware_py.tables import Balance, CfeSettings
from spigate.sim import capture
from spigate.sim.board import PERIOD_NS, Board
from spigate.sim.build import parameters
from spigate.sim.session import Session


@cocotb.test()
async def replay(dut):
    given = parameters()
    read, out = capture.read(Path(given["folder"])), Path(given["out"])
    balance = Balance[given["balance"].upper().replace("-", "_")]
    board = Board(dut)
    await board.start()
    driver = await Driver.open(board.bus)
    control = ControlElement(
        tables=driver, port=board.port, topology=read.topology, sas=read.sas, policies=read.policies,
        settings=Settings(miss=Miss(given["miss"]), cfe=CfeSettings(balance=balance)))
    await control.start()
    session = Session(board, driver, control)
    for port, frame in read.frames:
        await session.feed(port, frame)
    await session.settle()
    report = await session.report()
    for port, name in ((Port.SERVER, "server-out.pcap"), (Port.NETWORK, "network-out.pcap")):
        pcap.write(out / name, [pcap.Captured(arrival.last * PERIOD_NS, arrival.frame) for arrival in session.sent[port]])
    pcap.write(out / "punt.pcap", [pcap.Captured(header.time * PERIOD_NS, frame) for header, frame in session.punted])
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")

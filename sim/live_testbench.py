# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Inside the simulator: what :mod:`spigate.sim.live` and :mod:`spigate.sim.scripted` start."""

import json
import os
import socket
from typing import Any

import cocotb

from spigate.firmware_py.daemon.links import Tap
from spigate.firmware_py.errors import SpigateError
from spigate.sim.board import Board
from spigate.sim.build import parameters, progress
from spigate.sim.live_control import Control, SerialControl, SocketControl
from spigate.sim.live_ports import Live
from spigate.sim.tally import Tally
from spigate.sim.uart_line import UartLine

FILES = 3
"""File descriptors that come through the command socket: two TAP devices, or sockets in their place, and the
socket for control elements, or the file that leads to the board's serial line.
"""


class Opened(Tap):
    """A TAP device that another process made."""

    def __init__(self, fd: int, name: str):
        self.fd, self._name = fd, name
        os.set_blocking(fd, False)


@cocotb.test()
async def live(dut: Any) -> None:
    given = parameters()
    if "command" in given:
        command = socket.socket(socket.AF_UNIX)
        command.connect(given["command"])
    else:
        command = socket.socket(fileno=os.dup(0))
    _, (network, server, third), _, _ = socket.recv_fds(command, 1, FILES)
    serial = bool(given.get("serial"))
    board = Board(dut, serial=serial)
    await board.start()
    if given.get("guard_may_stop"):
        board.expect_guard()
    devices = {
        name: Opened(fd, f"the TAP device at port {name}")
        for name, fd in (("network", network), ("server", server))
    }
    tally = Tally()
    control: Control = (
        SerialControl(UartLine(dut.line, third), tally)
        if serial
        else SocketControl(board, socket.socket(fileno=third), tally)
    )
    ports = Live(board, devices["network"], devices["server"], control, tally, command)
    progress(1, 1)
    report = {}
    try:
        await ports.run()
    except SpigateError as error:
        report["error"] = str(error)
    command.sendall(json.dumps({"counts": tally.counts, "dropped": tally.dropped, **report}).encode())

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Inside the simulator: the board of link_board.py, until its command socket is closed."""

import select
import socket

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import Timer

from spigate.sim.board import PERIOD_NS
from spigate.sim.build import parameters
from spigate.sim.uart_line import UartLine

POLL_CLOCKS = 1000
LINGER = 40
"""Polls without a byte after which nothing is under way: the pause that ends a command is over."""


@cocotb.test()
async def run(dut) -> None:
    command = socket.socket(socket.AF_UNIX)
    command.connect(parameters()["command"])
    _, (master,), _, _ = socket.recv_fds(command, 1, 1)
    dut.rst.value = 1
    await Timer(PERIOD_NS, "ns")
    Clock(dut.clk, PERIOD_NS, "ns", impl="gpi").start()
    await Timer(4 * PERIOD_NS, "ns")
    dut.rst.value = 0
    line = UartLine(dut.line, master)
    quiet = 0
    while True:
        reads = [command, *([line.fd] if line.listening else [])]
        readable, _, _ = select.select(reads, [], [], 0 if quiet < LINGER else 0.2)
        if command in readable:
            return
        moved = line.fd in readable and line.read()
        moved = line.write() or moved or line.busy
        quiet = 0 if moved else quiet + 1
        await Timer(POLL_CLOCKS * PERIOD_NS, "ns")

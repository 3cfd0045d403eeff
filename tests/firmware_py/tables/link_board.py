# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A board for the host's half of the link: the gateware of the link at bit level behind a pseudo-terminal,
the gateway's registers, and frames that come back as they were injected.
"""

import os
import socket
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.board.uart_link import UartLink
from spigate.hdl.csr.control import ControlPlane
from spigate.sim import build

CLOCKS_A_BIT = 4
TESTBENCH = "tests.firmware_py.tables.link_testbench"


class LinkBoard(wiring.Component):
    """A UART link before a control plane; what is injected is punted."""

    def __init__(self):
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.link = link = UartLink(
            beat_bytes=8, clock_hz=CLOCKS_A_BIT, baud=1, pause_clocks=4000, punt_bits=10, inject_bits=10
        )
        m.submodules.control = control = ControlPlane(
            dfes=2,
            reporters=1,
            beat_bytes=8,
            lanes=1,
            sa_entries=256,
            sources=4,
            cam_entries=256,
            rules=16,
            routes=16,
        )
        wiring.connect(m, link.axil, control.axil)
        wiring.connect(m, link.inject, link.punt)
        m.d.comb += [link.rx.eq(self.rx), self.tx.eq(link.tx), control.tables.ready.eq(1)]
        return m


@cache
def model() -> build.Model:
    """Built once."""
    folder = Path(build.__file__).parent
    return build.build(
        [
            build.verilog(LinkBoard(), "link_board"),
            folder / "uart.v",
            Path(__file__).with_name("link_board.v"),
        ],
        top="board",
        public=["uart_host"],
        settings={"CLOCKS": CLOCKS_A_BIT},
    )


class Terminal:
    """A pseudo-terminal onto a board that runs.

    Members
    -------
    path : str
        What a host opens.
    """

    def __init__(self, command: socket.socket):
        self._command = command
        master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        socket.send_fds(command, [b"\0"], [master])
        os.close(master)

    def pull_out(self) -> None:
        """The board and its end of the line go away."""
        self._command.close()
        os.close(self._slave)


@contextmanager
def running(folder: Path) -> Iterator[Terminal]:
    """A board that runs until the end, or until it is pulled out."""
    made = model()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "command"))
        listening.listen()
        thread = threading.Thread(
            target=made.run, args=(TESTBENCH,), kwargs={"parameters": {"command": str(folder / "command")}}
        )
        thread.start()
        command, _ = listening.accept()
    terminal = Terminal(command)
    try:
        yield terminal
    finally:
        command.close()
        thread.join()

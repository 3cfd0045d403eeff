# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Runs in the simulator, for tests/sim/test_made.py: what gateware and control element make themselves."""

from dataclasses import replace

import cocotb
from scapy.layers.inet import ICMP, IP

from spigate.firmware_py.control.element import ControlElement
from spigate.firmware_py.control.settings import Settings
from spigate.firmware_py.ipsec.identification import SOFTWARE_NUMBERS
from spigate.firmware_py.ipsec.policy import PolicyAction
from spigate.firmware_py.ipsec.sa import Cipher
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.firmware_py.tables.driver import Driver
from spigate.hdl.contract.enums import Df, Direction, Port
from spigate.sim.board import Board
from spigate.sim.session import Session
from tests.firmware_py.control.network import frame, from_server, sa, selectors, udp
from tests.firmware_py.control.test_leaks import FORWARD, HERE, INBOUND, OUT, OUTBOUND, THERE, WHOLE, by_reqid


class Gateway:
    """The board with a control element."""

    async def start(self, dut, sas, policies):
        self.board = Board(dut)
        await self.board.start()
        self.driver = await Driver.open(self.board.bus)
        await self.driver.clear()
        self.control = ControlElement(
            tables=self.driver,
            port=self.board.port,
            topology=WHOLE,
            sas=sas,
            policies=policies,
            clock=lambda: 0.0,
            settings=Settings(default=PolicyAction.DISCARD),
        )
        await self.control.start()
        self.session = Session(self.board, self.driver, self.control)
        return self

    async def feed(self, port, *frames):
        """IP packets that left at (NETWORK, SERVER) because of ``frames``."""
        for each in frames:
            await self.session.feed(port, each)
        await self.session.settle()
        left = tuple(
            [arrival.frame[14:] for arrival in self.session.sent[side]]
            for side in (Port.NETWORK, Port.SERVER)
        )
        for side in self.session.sent.values():
            side.clear()
        self.board.check()
        return left


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def late(dut):
    """Audit row 17: who sent what has lived too long hears so, also where a DFE sends an SA's packets
    straight on (RFC 1812 5.3.1).
    """
    policies = [
        by_reqid(FORWARD, selectors(THERE, "10.2.0.10/32")),
        by_reqid(OUT, selectors("10.2.0.0/24", THERE)),
    ]
    made = await Gateway().start(dut, [INBOUND, OUTBOUND], policies)
    peer, answers = (
        SoftSa(replace(one, direction=direction))
        for one, direction in ((INBOUND, Direction.OUTBOUND), (OUTBOUND, Direction.INBOUND))
    )
    out, inside = await made.feed(Port.NETWORK, frame(peer.encapsulate(udp("10.1.0.10", "10.2.0.10", ttl=2))))
    assert (
        not out
        and [IP(each).ttl for each in inside] == [1]
        and made.control.placed(INBOUND).route.egress == Port.SERVER
    ), "straight"
    for _ in range(2):
        packet = udp("10.1.0.10", "10.2.0.10", ttl=1)
        (sealed,), inside = await made.feed(Port.NETWORK, frame(peer.encapsulate(packet)))
        error = IP(answers.decapsulate(sealed))
        assert (error.src, error.dst, error[ICMP].type, error[ICMP].code) == ("10.2.0.1", "10.1.0.10", 11, 0)
        assert bytes(error)[28:][: len(packet)] == packet and not inside
    assert made.control.consumed == {"ttl_expired": 2} and not (await made.driver.counters()).drops


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def identifications(dut):
    """Audit row 17: two SAs between the same two addresses with DF clear, and a third that software does,
    whose cipher no DFE has.
    """
    sas = [sa(0x3001 + at, Direction.OUTBOUND, df=Df.CLEAR, reqid=at + 1) for at in range(3)]
    sas[2] = replace(sas[2], cipher=Cipher.CHACHA20_POLY1305, key=bytes(32))
    policies = [by_reqid(OUT, selectors(HERE, f"10.1.0.{64 * at}/26"), at + 1) for at in range(3)]
    made = await Gateway().start(dut, sas, policies)
    numbers = {one.spi: [] for one in sas}
    for _ in range(6):
        out, _ = await made.feed(
            Port.SERVER, *(from_server(udp("10.2.0.10", f"10.1.0.{64 * at + 1}")) for at in range(3))
        )
        for packet in out:
            assert (IP(packet).src, IP(packet).dst, IP(packet).flags.DF) == ("192.0.2.2", "192.0.2.1", 0)
            numbers[int.from_bytes(packet[20:24])].append(IP(packet).id)
    assert [len(each) for each in numbers.values()] == [6] * 3 and len(set().union(*numbers.values())) == 18
    assert [max(each) <= SOFTWARE_NUMBERS for each in numbers.values()] == [False, False, True]

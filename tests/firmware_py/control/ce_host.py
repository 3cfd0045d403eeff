# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A control element and its host: what it hands out is remembered, and can be handled once more."""

from dataclasses import replace

from spigate.firmware_py.control.topology import Topology
from spigate.firmware_py.tables.interface import GATEWARE
from spigate.firmware_py.tables.punt import InjectMode
from spigate.hdl.contract.enums import Direction, Port
from tests.firmware_py.control import test_slow_path as both
from tests.firmware_py.control.network import Bench, sa
from tests.firmware_py.control.test_slow_path import POLICIES

INBOUND, OUTBOUND = sa(0x1000), sa(0x1001, Direction.OUTBOUND)
NEIGHBOURS = tuple(both.TOPOLOGY.neighbours.values())


def topology(*neighbours):
    """The bench's network, with these neighbours alone; others may turn up."""
    known = both.TOPOLOGY
    return Topology(known.interfaces.values(), neighbours, known.routes, complete=False)


def without(address):
    return topology(*(each for each in NEIGHBOURS if str(each.address) != str(address)))


def elsewhere(number):
    """The same neighbours with other Ethernet addresses."""
    return topology(*(replace(each, mac=b"\x02\0\1" + number.to_bytes(3)) for each in NEIGHBOURS))


class Host(Bench):
    """A bench that remembers what the control element hands out."""

    def __init__(
        self,
        sas=(INBOUND, OUTBOUND),
        policies=POLICIES,
        capabilities=GATEWARE,
        network=both.TOPOLOGY,
        **settings,
    ):
        super().__init__(sas, policies, capabilities, network, **settings)
        self.unresolved, self.got, self.moved = [], [], []
        self.control.on_unresolved = lambda *what: self.unresolved.append(what)
        self.control.on_host = lambda *what: self.got.append(what)
        self.control.on_moved = lambda *what: self.moved.append(what)

    def resolve(self, network=both.TOPOLOGY):
        """What leaves at (NETWORK, SERVER) of all that waited when everybody has turned up."""
        self.do(self.control.change_topology(network))
        waited, self.unresolved[:] = list(self.unresolved), []
        before = [len(self.loop.sent[side]) for side in (Port.NETWORK, Port.SERVER)]
        for *_, header, one in waited:
            self.do(self.again(header, one))
        return tuple(
            self.loop.sent[side][at:] for side, at in zip((Port.NETWORK, Port.SERVER), before, strict=True)
        )

    def send(self, one):
        """What leaves at NETWORK of a frame of the control element's own host."""
        before = len(self.loop.sent[Port.NETWORK])

        async def run():
            await self.control.inject(InjectMode.CLASSIFY, Port.SERVER, 0, one)
            await self.outcomes()

        self.do(run())
        return self.loop.sent[Port.NETWORK][before:]

    async def again(self, header, one):
        """One more turn for a punted frame, and for what comes of it."""
        await self.control.handle(header, one)
        await self.outcomes()

    async def outcomes(self):
        while self.loop.port.outcomes:
            outcome = self.loop.port.outcomes.popleft()
            if hasattr(outcome, "header"):
                await self.control.handle(outcome.header, outcome.frame)
            elif hasattr(outcome, "port"):
                self.loop.sent[outcome.port].append(outcome.frame)

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The small network as a hub: a second spoke beside the peer, and a router to everywhere else, all at the network
port. What no policy names is discarded.
"""

from ipaddress import ip_address, ip_network

import pytest

from spigate.firmware_py.control.settings import Settings
from spigate.firmware_py.control.topology import Neighbour, NetworkRoute, Topology
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction, Template
from spigate.firmware_py.tables.interface import GATEWARE, SOFTWARE
from spigate.hdl.contract.enums import Direction, Mode, Port
from tests.firmware_py.control.network import INTERFACES, NEIGHBOURS, Bench, mac, sa

SPOKE, SPOKE_MAC = "192.0.2.3", "02:00:00:00:00:03"
THERE, HERE, FAR = "10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"
ANY = ip_address("0.0.0.0")
WHOLE = Topology(
    INTERFACES,
    [
        *NEIGHBOURS,
        Neighbour(ip_address("192.0.2.254"), Port.NETWORK, mac("02:00:00:00:00:fe")),
        Neighbour(ip_address(SPOKE), Port.NETWORK, mac(SPOKE_MAC)),
    ],
    [NetworkRoute(ip_network("0.0.0.0/0"), Port.NETWORK, ip_address("192.0.2.254"))],
)
INBOUND, OUTBOUND = sa(0x1001), sa(0x1002, Direction.OUTBOUND)
TO_SPOKE = sa(0x2001, Direction.OUTBOUND, reqid=2, destination=ip_address(SPOKE))
BOTH = pytest.mark.parametrize("capabilities", [GATEWARE, SOFTWARE], ids=["gateware", "software"])


def by_reqid(direction, what, reqid=1, **more):
    template = Template(source=ANY, destination=ANY, mode=Mode.TUNNEL, reqid=reqid)
    return Policy(
        selectors=what, direction=direction, action=PolicyAction.PROTECT, templates=(template,), **more
    )


def bench(sas, policies, capabilities, default=PolicyAction.DISCARD, topology=WHOLE, kind=Bench, **settings):
    return kind(sas, policies, capabilities, topology, settings=Settings(default=default, **settings))

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What may differ between a gateway's frames and the reference model's, and what may not."""

from collections import Counter
from ipaddress import IPv4Address

import pytest

from spigate.firmware_py.errors import Unsound
from spigate.firmware_py.ipsec.packet import ipv4_header
from spigate.firmware_py.ipsec.sa import ESP
from spigate.hdl.contract.enums import Port
from spigate.sim import reference

HERE, THERE = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")


def esp(identification, number=1, *, protocol=ESP, dont_fragment=False):
    payload = b"\0\0\x10\0" + number.to_bytes(4) + bytes(16)
    return (
        b"\x02" * 12
        + b"\x08\0"
        + ipv4_header(
            HERE, THERE, protocol, len(payload), identification=identification, dont_fragment=dont_fragment
        )
        + payload
    )


def compare(sent, expected):
    model = reference.Outcome({Port.NETWORK: expected}, Counter(), Counter())
    reference.compare({Port.NETWORK: sent}, {"drops": {}, "consumed": {}}, model)


def test_which_dfe_has_an_sa_is_no_difference():
    """``make demo`` failed when DFEs had begun to number for themselves: the model balances otherwise than
    the gateway.
    """
    compare([esp(0x2000, 1), esp(0x2001, 2)], [esp(0x2002, 1), esp(0x2006, 2)])


@pytest.mark.parametrize(
    "sent, expected",
    [
        (esp(0x1FFF), esp(0x2000)),
        (esp(1), esp(2)),
        (esp(0x2000, protocol=17), esp(0x2001, protocol=17)),
        (esp(0x2000, dont_fragment=True), esp(0x2001, dont_fragment=True)),
        (esp(0x2000, 1), esp(0x2000, 2)),
        (esp(0x2000)[:24] + bytes(2) + esp(0x2000)[26:], esp(0x2000)),
    ],
    ids=["software's", "both software's", "UDP", "DF", "sequence number", "checksum"],
)
def test_all_else_is(sent, expected):
    with pytest.raises(Unsound):
        compare([sent], [expected])


def test_an_identification_comes_once():
    with pytest.raises(Unsound, match="twice"):
        compare([esp(0x2000, 1), esp(0x2000, 2)], [esp(0x2002, 1), esp(0x2006, 2)])

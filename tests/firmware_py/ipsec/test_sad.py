# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

from dataclasses import replace
from ipaddress import ip_address

import pytest

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.sa import Encapsulation, Lifetime
from spigate.firmware_py.ipsec.sad import SaDatabase
from spigate.hdl.contract.enums import Direction
from tests.firmware_py.control.network import sa

LIMITED = sa(0x1000, hard=Lifetime(seconds=10))
MOVED = replace(LIMITED, destination=ip_address("192.0.2.77"))


def database(*sas):
    made = SaDatabase()
    for at, one in enumerate(sas):
        made.add(one, float(at))
    return made


def test_one_that_replaces_another_has_its_place_and_age():
    first, last = sa(0x2000, Direction.OUTBOUND), sa(0x2001, Direction.OUTBOUND)
    made = database(first, LIMITED, last)
    made.replace(LIMITED, MOVED)
    assert list(made) == [first, MOVED, last]
    assert made.inbound(LIMITED.identity) is None and made.inbound(MOVED.identity) == MOVED
    assert made.over(10.9) == [] and made.over(11.0) == [MOVED], "it is as old as the other one"


def test_with_the_same_name():
    in_udp = replace(LIMITED, encapsulation=Encapsulation(4500, 4500))
    made = database(LIMITED)
    made.replace(LIMITED, in_udp)
    assert list(made) == [in_udp] and made.over(10.0) == [in_udp]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (MOVED, LIMITED, "There is no inbound ESP SA 0x00001000"),
        (replace(LIMITED, reqid=9), MOVED, "There is no inbound ESP SA 0x00001000"),
        (LIMITED, sa(0x3000), "already an SA with the name of inbound ESP SA 0x00003000"),
    ],
)
def test_a_replacement_that_is_refused_changes_nothing(old, new, message):
    made = database(LIMITED, sa(0x3000))
    with pytest.raises(InputError, match=message):
        made.replace(old, new)
    assert list(made) == [LIMITED, sa(0x3000)] and made.over(10.0) == [LIMITED]


def test_only_the_sa_itself_is_removed():
    """A second one with its name was refused; when that one is deleted, the first stays."""
    made = database(LIMITED)
    made.remove(replace(LIMITED, reqid=9))
    made.remove(sa(0x3000))
    assert list(made) == [LIMITED]
    made.remove(LIMITED)
    assert list(made) == [] and made.over(99.0) == []

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random
from ipaddress import ip_address

import pytest

from spigate.firmware_py.errors import InputError, TableFull
from spigate.firmware_py.tables.cuckoo import Placement
from spigate.firmware_py.tables.interface import CamEntry, CamKey
from spigate.hdl.contract import hashing


def entry(number, sa=0):
    return CamEntry(CamKey(ip_address("192.0.2.2"), 0x1000 + number), 0, sa, 0)


class Cam:
    """The CAM of the gateware: slots by index, looked up by all ways' hashes and the whole key."""

    def __init__(self, placement):
        self.placement, self.slots = placement, {}

    def apply(self, writes, live):
        """Carries writes out; every entry of ``live`` must be found after each."""
        for write in writes:
            self.slots[write.index] = write.entry
            assert all(self.find(one.key) == one for one in live)

    def find(self, key):
        number = hashing.cam_key(destination=int(key.destination), protocol=key.protocol, spi=key.spi)
        rows = self.placement.rows
        found = [
            self.slots.get(way * rows + hashing.cam_row(way, number, rows)) for way in range(hashing.WAYS)
        ]
        return next((one for one in found if one and one.key == key), None)


def test_holds_what_it_is_built_for_and_refuses_one_more():
    placement = Placement(1024)
    for number in random.Random(1).sample(range(1 << 28), 1024):
        placement.add(entry(number))
    assert len(placement) == 1024
    with pytest.raises(TableFull, match="The CAM is full: 1024 entries"):
        placement.add(entry(1 << 28))
    assert len(placement) == 1024


@pytest.mark.parametrize("seed", range(3))
def test_lookups_never_miss_a_live_entry(seed):
    source = random.Random(seed)
    placement = Placement(64)
    cam, live = Cam(placement), {}
    moves = 0
    for _ in range(1500):
        number = source.randrange(200)
        if number in live and source.random() < 0.3:
            del cam.slots[placement.remove(live.pop(number).key)]
            assert all(cam.find(one.key) == one for one in live.values())
        elif number in live or len(live) < 60:
            new = entry(number, source.randrange(256))
            before = [one for other, one in live.items() if other != number]
            writes = placement.add(new)
            moves += len(writes) - 1
            cam.apply(writes, before)
            live[number] = new
            assert cam.find(new.key) == new == placement.find(new.key)
    assert set(filter(None, map(cam.find, {entry(n).key for n in range(200)}))) == set(live.values())
    assert moves > 0, "the test must have moved something"


def test_removing_what_is_not_there_does_nothing():
    assert Placement(64).remove(entry(1).key) is None


def test_refuses_other_hashes():
    with pytest.raises(InputError, match="ways must be 3, not 2"):
        Placement(64, 2)

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What a self-test writes: in which slots keys lie, and which bits of an entry are 0 once and 1 once."""

from ipaddress import IPv4Address

import pytest

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.selftest import patterns
from spigate.firmware_py.selftest.cam import choices
from spigate.firmware_py.selftest.keys import SPI_BITS, Slots
from spigate.firmware_py.selftest.lists import PATTERNS
from spigate.firmware_py.selftest.uses import Placed, Use, chosen, suites
from spigate.firmware_py.tables.cuckoo import Placement
from spigate.firmware_py.tables.interface import GATEWARE, CamKey
from spigate.hdl.contract import rdl

ENTRIES = 1024


@pytest.mark.parametrize("pivots", [range(30), range(SPI_BITS, SPI_BITS + 24)], ids=["spi", "destination"])
@pytest.mark.parametrize("entries", [64, ENTRIES, 8192])
def test_a_key_lies_in_the_slot_that_was_wished_for(entries, pivots):
    placement = Placement(entries)
    slots = Slots(placement.rows, pivots)
    others = ~sum(1 << bit for bit in pivots)
    for index in range(0, 3 * placement.rows, 7):
        way, row = divmod(index, placement.rows)
        wish = patterns.address(index) << SPI_BITS | patterns.number(31, index) | 1 << 31
        key = slots.key(way, row, wish)
        assert key & others == wish & others
        name = CamKey(IPv4Address(key >> SPI_BITS), key & 0xFFFF_FFFF)
        assert placement.slots(name)[way] == index


def test_too_few_pivots_are_said():
    with pytest.raises(InputError, match=r"^bits \[0, 1, 2\] do not reach every row of way 0$"):
        Slots(512, range(3))


@pytest.mark.parametrize("size", range(2, 257))
def test_choices_of_routes_have_each_bit_in_both_ways(size):
    bits = (size - 1).bit_length()
    found = choices(size)
    assert len(set(found)) == len(found) and max(found) < size and 0 in found
    for bit in range(bits):
        assert {index >> bit & 1 for index in found} == {0, 1}
    if size == 1 << bits:
        assert found[0] ^ found[1] == size - 1


def both_ways(entries, row):
    """The bits of a row that are 0 in some entry and 1 in another."""
    numbers = [
        sum(word << 32 * at for at, word in enumerate(words[4 * row : 4 * row + 4])) for words in entries
    ]
    ones = 0
    zeros = 0
    for number in numbers:
        ones |= number
        zeros |= ~number
    return ones & zeros


def lacking(table, entries):
    """Fields with bits that are the same in all entries, and which bits."""
    found = {}
    for row in rdl.entry(table).values():
        shown = both_ways(entries, row.index)
        for field in row.fields.values():
            missing = [bit for bit in range(field.width) if not shown >> field.low + bit & 1]
            if missing:
                found[f"{row.name}.{field.name}"] = missing
    return found


ALWAYS = {
    "control.valid": [0],
    "control.esn": [0],
    "control.cipher": [2],
    "control.auth": [2],
    "selector_addresses.source_mask": [*range(32)],
    "selector_addresses.destination_mask": [*range(32)],
    "selector_ports.protocol": [3, 5, 6, 7],
    "selector_ports.any_protocol": [0],
}
"""What is alike in all five uses: 0 and not used by any SA, or shown by near misses, or by a sixth write."""
LIMITS = {
    "control.mtu",
    "byte_lifetime.soft",
    "byte_lifetime.hard",
    "packet_lifetime.soft",
    "packet_lifetime.hard",
}
"""What is compared by size: bits in turn, from place to place."""


@pytest.mark.parametrize("index", [0, 1, 77, 255])
def test_the_five_uses_of_a_place_have_nearly_every_bit_in_both_ways(index):
    """docs/selftest.md says what is left."""
    uses = [Use(number, suite) for number, suite in enumerate(chosen(GATEWARE), 1)]
    entries = [Placed(use, 1, index).words() for use in uses]
    left = lacking("sa", entries)
    assert {name: bits for name, bits in left.items() if name not in LIMITS} == ALWAYS
    void = rdl.entry("sa")["control"].pack(Placed(uses[0], 1, index).control(valid=False))
    assert "control.valid" not in lacking("sa", [*entries, [*void, *[0] * 48]])


@pytest.mark.parametrize(
    ("place", "bits"), [("control.mtu", range(6, 16)), ("packet_lifetime.hard", range(64))]
)
def test_limits_have_each_bit_somewhere(place, bits):
    use = Use(1, chosen(GATEWARE)[0]), Use(2, chosen(GATEWARE)[1])
    row, _, field = place.partition(".")
    where = rdl.entry("sa")[row]
    seen = 0
    for index in range(256):
        for each in use:
            number = sum(
                word << 32 * at
                for at, word in enumerate(Placed(each, 0, index).words()[4 * where.index :][:4])
            )
            value = number >> where.fields[field].low & (1 << where.fields[field].width) - 1
            seen |= value if value != (1 << 64) - 1 else 0
    assert all(seen >> bit & 1 for bit in bits)


def test_places_next_to_each_other_differ_in_every_row():
    uses = [Use(number, suite) for number, suite in enumerate(chosen(GATEWARE), 1)]
    for use in uses[:4]:
        one, other = (Placed(use, 0, index).words() for index in (4, 5))
        same = [at for at in range(0, 40, 4) if one[at : at + 4] == other[at : at + 4]]
        assert same == [], use.name


def test_routes_have_every_bit_in_both_ways():
    entries = [pattern.words(3) for pattern in PATTERNS]
    assert lacking("route", entries) == {}


def test_suites_are_those_of_the_registers():
    assert len(suites(GATEWARE)) == 2 + 6 + 3
    assert [suite.cipher.name for suite in chosen(GATEWARE)] == [
        "AES_CBC",
        "AES_CBC",
        "AES_GCM",
        "AES_GCM",
        "NULL",
    ]


def test_neighbours_are_forwarded():
    for value in (0x5512_3456, patterns.complement(0x5512_3456)):
        near = dict(patterns.neighbours(value))
        assert all(other ^ value == 1 << bit for bit, other in near.items())
        assert all(0 < other >> 24 < 224 and other >> 24 != 127 for other in near.values())
        assert len(near) >= 30

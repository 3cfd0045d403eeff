# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.anti_replay import ReplayWindow


@given(st.lists(st.integers(0, 300), max_size=200), st.sampled_from([1, 32, 64, 128]))
def test_decides_as_a_set_of_numbers_does(numbers, size):
    """RFC 4303 3.4.3, written without bits: fresh is what is inside or right of the window and was not
    received.
    """
    window, received = ReplayWindow(size), set()
    for number in numbers:
        highest = max(received, default=0)
        fresh = number > 0 and number > highest - size and number not in received
        assert window.fresh(number) == fresh
        if fresh:
            window.accept(number)
            received.add(number)
    assert window.sequence == max(received, default=0)
    inside = [number for number in received if window.sequence - number < size]
    assert window.received == sum(1 << window.sequence - number for number in inside)


@pytest.mark.parametrize("size", [32, 64, 1024])
def test_finds_the_upper_half_around_every_wrap(size):
    generator = random.Random(size)
    window = ReplayWindow(size, esn=True)
    number = (3 << 32) - 200
    window.accept(number)
    for _ in range(2000):
        number += generator.randint(1, 40)
        late = max(number - generator.randrange(size), 1)
        assert window.extend(number & 0xFFFF_FFFF) == number
        window.accept(number)
        assert window.extend(late & 0xFFFF_FFFF) == late


def test_upper_half_by_where_the_window_lies():
    window = ReplayWindow(64, esn=True, sequence=5 << 32 | 100, received=1)
    assert window.extend(37) == 5 << 32 | 37
    assert window.extend(36) == 6 << 32 | 36, "left of the window: only the next subspace can hold it"
    window = ReplayWindow(64, esn=True, sequence=5 << 32 | 10, received=1)
    assert window.extend(0xFFFF_FFFF) == 4 << 32 | 0xFFFF_FFFF, (
        "inside the window, which reaches below the wrap"
    )
    assert window.extend(0x7FFF_FFFF) == 5 << 32 | 0x7FFF_FFFF


def test_a_window_of_zero_takes_everything():
    window = ReplayWindow(0)
    for number in (5, 5, 1):
        assert window.fresh(number)
        window.accept(number)
    assert window.received == 0


def test_a_window_of_zero_finds_the_upper_half_over_half_of_all_numbers():
    """RFC 4303 A2: late or early packets by anything below 2^31; a wrap is one only where it is nearer."""
    window = ReplayWindow(0, esn=True, sequence=5 << 32 | 100)
    for number in (
        5 << 32 | 99,
        5 << 32 | 1,
        (6 << 32) - 1 - (1 << 31),
        4 << 32 | 0xFFFF_FFFF,
        (5 << 32) - 0x7FFF_FF00,
    ):
        assert window.extend(number & 0xFFFF_FFFF) == number
        window.accept(number)
        window.sequence = 5 << 32 | 100
    window.accept(4 << 32 | 7)
    assert (window.sequence, window.received) == (5 << 32 | 100, 0), "an old one does not move it"
    window.accept(6 << 32 | 5)
    assert window.sequence == 6 << 32 | 5 and window.extend(0xFFFF_FFF0) == 5 << 32 | 0xFFFF_FFF0


def test_refuses_a_negative_size():
    with pytest.raises(InputError, match="size must be 0 to 2\\^32 - 1, not -1"):
        ReplayWindow(-1)

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Who has which place in a table, and who goes first."""

import pytest

from spigate.firmware_py.control.places import Places
from spigate.firmware_py.errors import TableFull


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def full(size=3, stay=0.0, names="abc"):
    clock = Clock()
    places = Places("rules", size, clock, stay=stay)
    for name in names:
        places.take(name)
    return places, clock


def test_all_places_are_given_before_one_is_taken_away():
    places = Places("rules", 3, Clock())
    assert [places.take(name) for name in "abc"] == [(0, None), (1, None), (2, None)]
    assert list(places) == ["a", "b", "c"] and len(places) == 3 and "a" in places and "d" not in places
    assert places.take("d") == (0, "a") and "a" not in places


def test_who_was_used_goes_last():
    places, _ = full()
    assert places.find("a") == 0 and places.find("d") is None
    assert places.take("d") == (1, "b")
    assert [places.take(name)[1] for name in "efg"] == ["c", "a", "d"]


def test_who_has_not_stayed_long_enough_does_not_go():
    places, clock = full(stay=10)
    clock.now = 9.9
    with pytest.raises(TableFull, match="The rules are full: 3 entries"):
        places.take("d")
    assert list(places) == ["a", "b", "c"]
    clock.now = 10
    assert places.take("d") == (0, "a")
    clock.now = 19.9
    assert [places.take(name)[1] for name in "ef"] == ["b", "c"]
    with pytest.raises(TableFull):
        places.take("g")


def test_who_may_not_go_stays():
    places, _ = full()
    assert places.take("d", lambda name: name == "c") == (2, "c")
    with pytest.raises(TableFull):
        places.take("e", lambda name: False)


def test_places_that_are_given_back_are_free():
    places, _ = full()
    assert places.release("b") == 1 and places.release("b") is None
    assert places.take("d", lambda name: False) == (1, None)


def test_a_new_name_keeps_the_place_and_its_age():
    places, _ = full()
    places.rename("a", "z")
    assert places.index("z") == 0 and "a" not in places and list(places) == ["z", "b", "c"]


def test_many_that_go_round_do_not_push_each_other_out():
    """With more than there are places for, in turns: the first stay, and the others find none."""
    places, clock = full(size=32, stay=10, names=())
    found = refused = 0
    for round_ in range(6):
        for pair in range(40):
            clock.now += 0.001
            if places.find(pair) is not None:
                found += 1
            elif round_ or pair >= 32:
                with pytest.raises(TableFull):
                    places.take(pair)
                refused += 1
            else:
                places.take(pair)
    assert (found, refused) == (5 * 32, 6 * 8)

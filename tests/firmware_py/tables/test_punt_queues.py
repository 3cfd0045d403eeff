# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

from collections import Counter

import pytest

from spigate.firmware_py.tables.punt_queues import ROOM, SHARES, Classes
from spigate.hdl.contract.enums import PuntClass


def filled(*kinds):
    made = Classes()
    for kind in kinds or PuntClass:
        for number in range(2 * ROOM[kind]):
            assert made.push(kind, (kind, number)) == (number < ROOM[kind])
    return made


def test_each_class_has_its_room_and_loses_only_its_own():
    made = filled()
    assert made.lost == Counter(ROOM) and len(made) == sum(ROOM.values())
    assert made.take_lost() == Counter(ROOM) and not made.take_lost()
    popped = [made.pop() for _ in range(len(made))]
    for kind in PuntClass:
        assert [item for its, item in popped if its == kind] == [
            (kind, number) for number in range(ROOM[kind])
        ]
    with pytest.raises(IndexError):
        made.pop()


def test_all_have_their_turns():
    made = filled()
    turns = Counter(made.pop()[0] for _ in range(10 * sum(SHARES.values())))
    assert all(abs(turns[kind] - 10 * share) <= 1 for kind, share in SHARES.items())


@pytest.mark.parametrize("flood", [kind for kind in PuntClass if kind != PuntClass.IKE])
def test_ike_comes_next_whatever_waits(flood):
    made = filled(flood)
    for number in range(100):
        made.pop()
        made.push(PuntClass.IKE, number)
        assert made.pop() == (PuntClass.IKE, number)


def test_who_was_idle_saves_up_no_turns():
    made = filled(PuntClass.REST)
    for _ in range(200):
        made.pop()
    for number in range(50):
        made.push(PuntClass.IKE, number)
    assert PuntClass.REST in {made.pop()[0] for _ in range(6)}

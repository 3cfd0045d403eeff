# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Which probe a frame that comes up belongs to, and what is said of one that is wrong."""

from dataclasses import replace

import pytest

from spigate.firmware_py.selftest.frames import framed, normal, udp_packet
from spigate.firmware_py.selftest.probes import Batch, Gone, Probe, Up, drops
from spigate.firmware_py.tables.punt import Place, PuntHeader
from spigate.hdl.contract.enums import Port, Reason


def frame(tag):
    return framed(udp_packet(tag))


def probe(tag, becomes=None, **more):
    return Probe(f"place {tag}", frame(tag), becomes or Up(Reason.NO_RULE, frame(tag)), **more)


def header(reason=Reason.NO_RULE, **more):
    return PuntHeader(reason, Port.NETWORK, **more)


def batch(*probes):
    made = Batch()
    for each in probes:
        made.sent(each)
    return made


def said(made):
    return [(each.what, what) for each, what in made.wrong]


def test_frames_of_several_dfes_may_overtake_each_other():
    made = batch(probe(1, dfe=0), probe(2, dfe=1))
    made.came(header(), frame(2))
    made.came(header(), frame(1))
    assert said(made) == [] and not made.waiting


def test_what_is_dropped_is_done_with_when_a_later_one_of_its_dfe_comes_up():
    made = batch(probe(1, Gone(Reason.ICV), dfe=0), probe(2, Gone(Reason.ICV), dfe=1), probe(3, dfe=0))
    made.came(header(), frame(3))
    assert [each.what for each in made.waiting.values()] == ["place 2"]


@pytest.mark.parametrize(
    ("wants", "has", "text"),
    [
        ({}, {"reason": Reason.SA_ABSENT}, "reason sa_absent, not no_rule"),
        ({"dfe": 1}, {"dfe": 3}, "DFE 3, not 1"),
        ({"sa": 9}, {"sa": 8}, "SA 8, not 9"),
        ({"rule": 4}, {}, "rule none, not 4"),
        (
            {"of": Place(1, 2, 3)},
            {"out_of": Place(1, 2, 4)},
            "SA that it came out of 2 of DFE 1, generation 4, not 2 of DFE 1, generation 3",
        ),
    ],
)
def test_a_wrong_header_is_said(wants, has, text):
    made = batch(probe(1, Up(Reason.NO_RULE, frame(1), **wants)))
    made.came(replace(header(), **has), frame(1))
    assert said(made) == [("place 1", f"it came up with {text}")]


def test_what_should_be_dropped_and_comes_up_is_said():
    made = batch(probe(1, Gone(Reason.ICV), otherwise=frame(7)), probe(2, Gone(Reason.POLICY)))
    made.came(header(), frame(7))
    made.came(header(Reason.SA_ABSENT), frame(2))
    assert said(made) == [
        ("place 1", "it came up as no_rule, not dropped as icv"),
        ("place 2", "it came up as sa_absent, not dropped as policy"),
    ]
    assert not made.waiting


def test_what_is_lost_is_said_with_what_came_in_its_place():
    made = batch(probe(1), probe(2))
    changed = bytearray(frame(2))
    changed[45] ^= 1
    made.came(header(), bytes(changed))
    made.settled()
    assert said(made) == [
        (
            "place 1",
            "it did not come up as it should; a frame came up that differs from byte 45 on (50 bytes)",
        ),
        ("place 2", "it did not come up as it should"),
    ]


def test_an_identification_that_nobody_can_know_does_not_matter():
    plain = framed(udp_packet(1, dont_fragment=False))
    other = bytearray(plain)
    other[18:20], other[24:26] = b"\x12\x34", b"\0\0"
    assert normal(bytes(other)) == bytes(other)  # its checksum is wrong
    total = sum(int.from_bytes(other[at : at + 2]) for at in range(14, 34, 2))
    total = (total & 0xFFFF) + (total >> 16)
    other[24:26] = (~((total & 0xFFFF) + (total >> 16)) & 0xFFFF).to_bytes(2)
    assert normal(bytes(other)) == normal(plain) == plain
    assert normal(frame(1)) == frame(1)


def test_drops_are_counted_by_reason():
    probes = [probe(1, Gone(Reason.ICV)), probe(2), probe(3, Gone(Reason.ICV)), probe(4, Gone(Reason.POLICY))]
    assert drops(probes) == {Reason.ICV: 2, Reason.POLICY: 1}

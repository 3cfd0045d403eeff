# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.tables import punt
from spigate.firmware_py.tables.punt import InjectHeader, InjectMode, Place, PuntHeader
from spigate.hdl.contract.enums import Port, Reason

FRAME = bytes(range(60))


def test_a_punt_says_in_its_bytes_what_it_means():
    header = PuntHeader(
        Reason.NO_RULE, Port.SERVER, 3, 0x1234, 2, True, 0x89ABCDEF, Place(7, 0x5678, 0x9A), 45
    )
    packed = bytes.fromhex("01 21 01 03 3412 02 db efcdab89 7856 87 9a") + bytes(2) + FRAME
    assert punt.pack_punt(header, FRAME) == packed
    assert punt.unpack_punt(packed) == (header, FRAME)


def test_an_injected_frame_says_in_its_bytes_what_it_means():
    header = InjectHeader(InjectMode.DIRECT, Port.SERVER, 2, Place(7, 0x5678, 0x9A))
    packed = bytes.fromhex("01 01 01 02 7856 87 9a") + bytes(8 + 2) + FRAME
    assert punt.pack_inject(header, FRAME) == packed
    assert punt.unpack_inject(packed) == (header, FRAME)


@pytest.mark.parametrize("place", [None, Place(0, 0, 0), Place(7, 0xFFFF, 0xFF)])
@pytest.mark.parametrize("rule", [None, 0, 63])
def test_what_there_is_not_is_told_from_the_first_one(place, rule):
    header = PuntHeader(Reason.RULE, Port.RECIRCULATE, out_of=place, rule=rule)
    assert punt.unpack_punt(punt.pack_punt(header, FRAME))[0] == header
    header = InjectHeader(InjectMode.CLASSIFY, Port.RECIRCULATE, 1, place)
    assert punt.unpack_inject(punt.pack_inject(header, FRAME))[0] == header


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({0: 2}, "version must be 1, not 2"),
        ({1: 63}, "reason must be one of 0 .NONE., .*, not 63"),
        ({2: 4}, "ingress must be one of 0 .NETWORK., .*, not 4"),
    ],
)
def test_refuses_what_no_gateway_sends(changes, message):
    packed = bytearray(punt.pack_punt(PuntHeader(Reason.IKE, Port.NETWORK), FRAME))
    for at, value in changes.items():
        packed[at] = value
    with pytest.raises(InputError, match=message):
        punt.unpack_punt(bytes(packed))


def test_refuses_what_is_too_short():
    with pytest.raises(InputError, match="must be longer than 18 bytes, not 18"):
        punt.unpack_punt(bytes(18))


@given(st.binary(max_size=40), st.sampled_from([punt.unpack_punt, punt.unpack_inject]), st.booleans())
def test_only_named_errors_escape(data, unpack, versioned):
    try:
        unpack(b"\1" + data if versioned else data)
    except InputError:
        pass

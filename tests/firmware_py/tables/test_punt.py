# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import pytest
from amaranth.lib import data as layouts
from hypothesis import given
from hypothesis import strategies as st

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.tables import punt
from spigate.firmware_py.tables.punt import InjectHeader, InjectMode, Place, PuntHeader
from spigate.hdl.contract.enums import Port, Reason
from spigate.hdl.net import descriptor
from spigate.hdl.net.packet import ALIGN

FRAME = bytes(range(60))


def as_hardware_sees(layout, packed):
    number = int.from_bytes(packed[: punt.HEADER_BYTES], "little")
    return {name: getattr(layouts.Const(layout, number), name) for name in layout.members}


def test_sizes_are_those_of_the_gateware():
    assert (punt.VERSION, punt.HEADER_BYTES, punt.ALIGN) == (
        descriptor.CE_VERSION,
        descriptor.CE_HEADER_BYTES,
        ALIGN,
    )


def test_punt_header_is_that_of_the_gateware():
    header = PuntHeader(
        Reason.NO_RULE, Port.SERVER, 3, 0x1234, 2, True, 0x89ABCDEF, Place(7, 0x5678, 0x9A), 45
    )
    packed = punt.pack_punt(header, FRAME)
    assert as_hardware_sees(descriptor.PuntHeader(), packed) == {
        "version": 1,
        "reason": Reason.NO_RULE,
        "ingress": Port.SERVER,
        "dfe": 3,
        "sa": 0x1234,
        "depth": 2,
        "tagged": 1,
        "rule": 45,
        "ruled": 1,
        "time": 0x89ABCDEF,
        "from_sa": 0x5678,
        "from_dfe": 7,
        "from_valid": 1,
        "from_generation": 0x9A,
        "reserved": 0,
    }
    assert packed[16:] == bytes(2) + FRAME
    assert punt.unpack_punt(packed) == (header, FRAME)


def test_inject_header_is_that_of_the_gateware():
    header = InjectHeader(InjectMode.DIRECT, Port.SERVER, 2, Place(7, 0x5678, 0x9A))
    packed = punt.pack_inject(header, FRAME)
    assert as_hardware_sees(descriptor.InjectHeader(), packed) == {
        "version": 1,
        "mode": 1,
        "port": Port.SERVER,
        "depth": 2,
        "from_sa": 0x5678,
        "from_dfe": 7,
        "from_valid": 1,
        "from_generation": 0x9A,
        "reserved": 0,
        "unused": 0,
    }
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

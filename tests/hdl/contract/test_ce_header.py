# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The header at the control element's port: one description, which the bytes of docs/integration.md are."""

import pytest
from amaranth.lib import data as layouts

from spigate.hdl.contract.ce_header import CE_HEADER_BYTES, INJECT, PUNT, Fields
from spigate.hdl.net import descriptor

PUNTED = {
    "version": 1,
    "reason": 33,
    "ingress": 1,
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
INJECTED = {"version": 1, "mode": 1, "port": 1, "depth": 2, "reserved": 0, "unused": 0} | {
    name: value for name, value in PUNTED.items() if name.startswith("from_")
}


@pytest.mark.parametrize(
    ("fields", "values", "written", "layout"),
    [
        (PUNT, PUNTED, "01 21 01 03 3412 02 db efcdab89 7856 87 9a", descriptor.PuntHeader()),
        (INJECT, INJECTED, "01 01 01 02 7856 87 9a 00000000 00000000", descriptor.InjectHeader()),
    ],
)
def test_host_and_gateware_see_the_same_fields_in_the_same_bytes(fields, values, written, layout):
    packed = bytes.fromhex(written)
    assert fields.pack(values) == packed and fields.unpack(packed) == values
    seen = layouts.Const(layout, int.from_bytes(packed, "little"))
    assert {name: getattr(seen, name) for name in layout.members} == values
    assert layout.size == 8 * fields.length == 8 * CE_HEADER_BYTES


def test_what_is_not_named_is_zero():
    assert PUNT.pack({}) == bytes(CE_HEADER_BYTES)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rule": 64}, "rule must be 0 to 63, not 64"),
        ({"from_dfe": -1}, "from_dfe must be 0 to 15, not -1"),
        ({"rules": 1}, "The header has no field 'rules'; it has version, reason, .*"),
    ],
)
def test_refuses_what_has_no_place(values, message):
    with pytest.raises(ValueError, match=message):
        PUNT.pack(values)


@pytest.mark.parametrize("widths", [{"a": 4}, {"a": 8, "b": 12, "c": 1}])
def test_refuses_fields_that_do_not_fill_words(widths):
    with pytest.raises(ValueError, match=f"The fields {', '.join(widths)} do not fill whole words"):
        Fields(widths)

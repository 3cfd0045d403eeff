# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What the contract says in numbers fits what it says in fields, and what the gateware has."""

import pytest

from spigate.firmware_py.ipsec import sa
from spigate.firmware_py.tables import interface
from spigate.hdl.contract import rdl
from spigate.hdl.contract.constants import (
    ALIGN,
    ALL_DFES,
    FROM_CFE,
    FROM_FORWARDING,
    GENERATIONS,
    MARKS,
    MAX_DEPTH,
    MAX_DFES,
    MAX_FRAME,
    REPLAY_WINDOW,
)
from spigate.hdl.dfe import rewrite
from spigate.hdl.net.descriptor import Egress, PacketInfo, Report, TableWrite

REGISTERS = rdl.registers()


@pytest.mark.parametrize(
    ("number", "width"),
    [
        (GENERATIONS - 1, rdl.entry("sa")["control"].fields["generation"].width),
        (GENERATIONS - 1, rdl.entry("cam")["value"].fields["generation"].width),
        (GENERATIONS - 1, rdl.entry("rule")["value"].fields["generation"].width),
        (MAX_DEPTH, Egress().members["depth"]),
        (MAX_DEPTH, PacketInfo().members["depth"]),
        (ALL_DFES, TableWrite().members["dfe"]),
        (FROM_CFE, PacketInfo().members["dfe"]),
        (FROM_CFE, Report().members["dfe"]),
        ((1 << MAX_DFES) - 1, REGISTERS["cfe.enable"].fields["value"].width),
        ((1 << MAX_DFES) - 1, REGISTERS["healthy"].fields["value"].width),
        ((1 << MARKS) - 1, REGISTERS["state.soft"].fields["value"].width),
        ((1 << MARKS) - 1, REGISTERS["state.hard"].fields["value"].width),
        ((1 << REPLAY_WINDOW) - 1, rdl.entry("sa")["replay"].fields["window"].width),
    ],
)
def test_the_greatest_number_fills_its_field(number, width):
    assert number == (1 << width) - 1


def test_no_dfe_has_the_number_of_all_or_of_none():
    assert MAX_DFES <= min(ALL_DFES, FROM_CFE, FROM_FORWARDING) and FROM_CFE != FROM_FORWARDING


def test_frames_fit_what_counts_their_bytes():
    assert MAX_FRAME < 1 << PacketInfo().members["length"]
    assert interface.GATEWARE.frame_bytes == MAX_FRAME - ALIGN


def test_algorithms_have_the_sizes_in_gateware_that_their_rfcs_say():
    for cipher, code in interface.CIPHERS.items():
        assert rewrite.IV_BYTES.get(code, 0) == sa.CIPHERS[cipher].iv
    for auth, code in interface.AUTHS.items():
        assert rewrite.ICV_BYTES[code] == sa.AUTHS[auth].icv
    assert rewrite.GCM_ICV_BYTES in sa.CIPHERS[sa.Cipher.AES_GCM].icvs


def test_each_algorithm_of_the_tables_has_its_bit_in_the_capabilities():
    codes = {
        f"{kind}_{code.name.lower()}"
        for kind, known in (
            ("cipher", interface.CIPHERS),
            ("key", interface.AES_KEYS),
            ("auth", interface.AUTHS),
        )
        for code in known.values()
    }
    assert codes | {"gcm_icv16"} == set(REGISTERS["algorithms"].fields)

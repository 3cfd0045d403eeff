# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The generated enumerations beside the RDL that they come from."""

from pathlib import Path

from spigate.hdl.contract import enums, generate, rdl


def test_enumerations_are_those_of_the_rdl():
    assert Path(enums.__file__).read_text() == generate.source(), "run make registers"
    for name, members in rdl.encodings().items():
        assert [(each.name, each.value) for each in rdl.enum(name)] == [
            (member.name, member.value) for member in members
        ], name


def test_a_field_has_the_class_of_its_enumeration():
    assert rdl.entry("sa")["control"].fields["direction"].encoding is enums.Direction

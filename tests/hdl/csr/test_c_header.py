# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The C header against the register map and the frames' headers, by a compiler."""

import subprocess

import pytest

from spigate.firmware_py.tables.punt import (
    InjectHeader,
    InjectMode,
    Place,
    PuntHeader,
    pack_inject,
    pack_punt,
)
from spigate.hdl.contract import enums, rdl
from spigate.hdl.contract.enums import Port, Reason
from spigate.hdl.csr import c_header
from spigate.sim.build import need


@pytest.fixture(scope="module")
def header(tmp_path_factory):
    return c_header.write(tmp_path_factory.mktemp("c") / "spigate.h")


def run(header, statements: list[str]) -> list[str]:
    """What a program of C11 prints that includes the header."""
    compiler = need("cc", "gcc", "The test of the C header")
    source = header.with_name("main.c")
    source.write_text(
        "\n".join(
            [
                "#include <stddef.h>",
                "#include <stdio.h>",
                "#include <string.h>",
                '#include "spigate.h"',
                "int main(void) {",
                *statements,
                "    return 0;",
                "}",
                "",
            ]
        )
    )
    program = str(header.with_name("main"))
    flags = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    subprocess.run([compiler, *flags, "-o", program, str(source)], check=True)
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize(("map_name", "least"), [("gateway", 60), ("board", 15)])
def test_every_register_lies_where_the_map_has_it(header, map_name, least):
    expected, statements = [], []
    for name, register in rdl.registers(map_name).items():
        for index in {0, register.elements - 1}:
            path = name
            if register.count is not None:
                # The index is of the register, or of the file that it is in.
                head, dot, tail = name.rpartition(".")
                path = f"{head}[{index}].{tail}" if register.stride > 4 and dot else f"{name}[{index}]"
            expected.append(str(register.address + index * register.stride))
            statements.append(f'    printf("%zu\\n", offsetof({map_name}_t, {path}));')
    assert len(expected) > least and run(header, statements) == expected


@pytest.mark.parametrize(("map_name", "least"), [("gateway", 100), ("board", 30)])
def test_every_field_has_the_maps_bits(header, map_name, least):
    expected, statements = [], []
    for name, register in rdl.registers(map_name).items():
        for field in register.fields.values():
            prefix = map_name.upper()
            macro = f"{name}.{field.name}".replace(".", "__").upper()
            if f"{prefix}__{macro}_bm " not in header.read_text():
                continue  # of an array, under its file's name
            expected += [str(((1 << field.width) - 1) << field.low), str(field.low)]
            statements.append(
                f'    printf("%u %u\\n", (unsigned){prefix}__{macro}_bm, (unsigned){prefix}__{macro}_bp);'
            )
    assert len(expected) > least and run(header, statements) == expected


def test_enumerations_have_the_gatewares_values(header):
    members = [(f"SPIGATE_REASON_{reason.name}", reason.value) for reason in enums.Reason]
    statements = [f'    printf("%d\\n", (int){name});' for name, _ in members]
    assert run(header, statements) == [str(value) for _, value in members]


def test_what_the_host_packs_is_found_in_the_structs(header):
    place = Place(dfe=3, sa=0x1234, generation=0x56)
    punt = pack_punt(
        PuntHeader(Reason.NO_SA, Port.SERVER, 5, 0x789A, 2, True, 0xDEADBEEF, place, rule=33), b"frame"
    )
    inject = pack_inject(InjectHeader(InjectMode.DIRECT, Port.NETWORK, 1, place), b"frame")

    def load(kind, packed):
        octets = ", ".join(map(str, packed))
        return [
            f"    const unsigned char {kind}_bytes[] = {{ {octets} }};",
            f"    spigate_{kind}_header_t {kind};",
            f"    memcpy(&{kind}, {kind}_bytes, sizeof {kind});",
        ]

    def show(*values):
        return [f'    printf("%lu\\n", (unsigned long)({value}));' for value in values]

    def bits(kind, member, field):
        macro = f"SPIGATE_{kind.upper()}__{field}"
        return f"({kind}.{member} & {macro}_bm) >> {macro}_bp"

    printed = run(
        header,
        [
            *load("punt", punt),
            *load("inject", inject),
            *show(
                "punt.reason",
                "punt.ingress",
                "punt.dfe",
                "punt.sa",
                "punt.depth",
                "punt.time",
                "punt.from_sa",
            ),
            *show(bits("punt", "tagged_rule_ruled", "RULE"), bits("punt", "tagged_rule_ruled", "TAGGED")),
            *show("punt.from_generation", "punt_bytes[SPIGATE_CE_FRAME_offset]"),
            *show("inject.mode", "inject.port", "inject.depth", "inject.from_sa", "inject.from_generation"),
            *show(bits("inject", "from_dfe_reserved_from_valid", "FROM_DFE")),
        ],
    )
    expected = [Reason.NO_SA, Port.SERVER, 5, 0x789A, 2, 0xDEADBEEF, 0x1234, 33, 1, 0x56, ord("f")]
    expected += [InjectMode.DIRECT, Port.NETWORK, 1, 0x1234, 0x56, 3]
    assert printed == [str(int(value)) for value in expected]

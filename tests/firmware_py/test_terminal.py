# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import subprocess
import sys

from rich.cells import cell_len

from spigate.firmware_py import terminal

SA = {
    "peer": "right",
    "child": "net",
    "direction": "outbound",
    "protocol": "esp-in-udp",
    "mode": "tunnel",
    "spi": "6d3c28c9",
    "source": "192.0.2.1",
    "destination": "192.0.2.2",
    "suite": "aes-gcm-256, 16-byte ICV",
    "esn": False,
    "sequence": 3,
    "packets": 3,
    "bytes": 252,
    "seconds": 15,
    "where": "software",
}
SAS = [
    SA,
    {
        **SA,
        "peer": "a peer 東京",
        "source": "2001:db8::1111:2222:3333:4444",
        "packets": 1 << 40,
        "where": "DFE 0",
        "esn": None,
    },
]
IKE = {
    "peer": "right",
    "state": "established",
    "role": "initiator",
    "identity": "C=CH, O=Example, CN=" + "gateway." * 12,
    "children": ["a", "b"],
    "spis": "49e4b7c58ad4c760-b1cec64fc145f935",
    "seconds": 14,
}


def test_a_row_is_one_line_where_there_is_no_terminal():
    """Whoever looked for a word with grep did not find it, because the table had cut it in two."""
    head, *lines = terminal.table(SAS, None)
    assert head.split() == list(SA) and len(lines) == 2
    assert "aes-gcm-256, 16-byte ICV" in lines[0] and f"{1 << 40}" in lines[1]


def test_on_a_terminal_no_line_is_longer_and_no_value_is_cut():
    for width in (40, 80, 132, 400):
        lines = terminal.table(SAS, width)
        assert max(map(cell_len, lines)) <= width
        for row in SAS:
            for value in row.values():
                assert value in (None, False) or any(str(value) in line for line in lines), (width, value)
    assert terminal.table(SAS, 400) == terminal.table(SAS, None)


def test_columns_stand_below_their_names():
    first, second, *rows = terminal.table(SAS, 100)
    for part, names in ((0, ["direction", "protocol", "spi"]), (1, ["suite", "esn"])):
        for name in names:
            at = (first, second)[part].index(name)
            assert rows[part][at:].startswith(terminal._shown(SA[name]))


def test_a_value_that_is_longer_than_the_terminal_has_a_line_of_its_own():
    lines = terminal.table([IKE], 80)
    assert "  " + IKE["identity"] in lines and any(line.strip().startswith("a, b") for line in lines)


def test_what_is_no_terminal_has_no_width(tmp_path):
    program = (
        "from spigate.firmware_py import terminal; print(terminal.width(), terminal.console().width > 1000)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"COLUMNS": "80"}
    )
    assert shown.stdout == "None True\n"

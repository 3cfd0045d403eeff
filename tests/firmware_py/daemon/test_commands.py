# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Tables of ``spigate sas`` and the others, on a terminal of 80 columns and where there is none."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

import pytest

from spigate.firmware_py import terminal
from spigate.firmware_py.daemon import commands, status
from spigate.firmware_py.ipsec.policy import PolicyAction, exceptions
from spigate.firmware_py.ipsec.sa import Auth, Cipher, Encapsulation, Sa, SaState, Selectors
from spigate.hdl.contract.enums import Direction, Mode


@dataclass
class Active:
    """An SA whose row has long values."""

    sa: Sa
    peer: str = "left.example"
    child: str = "network"
    since: float = 0
    state: SaState = SaState(4_000_000_000, 0, 1 << 40, 4_000_000_000)
    where: str = "software: packets that no DFE can do"


def _sas() -> Iterator[Active]:
    for direction in Direction:
        yield Active(
            Sa(
                direction=direction,
                spi=0xFFFF_FFFF,
                source=ip_address("203.0.113.201"),
                destination=ip_address("203.0.113.202"),
                mode=Mode.TUNNEL,
                cipher=Cipher.AES_CBC,
                key=bytes(32),
                auth=Auth.HMAC_SHA512_256,
                auth_key=bytes(64),
                encapsulation=Encapsulation(4500, 4500) if direction == Direction.INBOUND else None,
            )
        )


class Plane:
    sas = list(_sas())
    policies = exceptions(
        PolicyAction.BYPASS,
        Selectors(ip_network("203.0.113.0/24"), ip_network("198.51.100.0/24"), 17, (1024, 65535), (53, 53)),
    )


ROWS = {
    "sas": status.sas(Plane, 100_000),
    "policies": status.policies(Plane),
    "ike": [
        {
            "peer": "left.example",
            "state": "established",
            "role": "initiator",
            "local": "203.0.113.201:4500",
            "remote": "203.0.113.202:4500",
            "identity": "C=CH, O=Example, CN=left.example",
            "suite": "AES-GCM-256, PRF-HMAC-SHA2-384, ECP-384",
            "children": ["network", "voice"],
            "spis": "49e4b7c58ad4c760-b1cec64fc145f935",
            "seconds": 100_000,
        }
    ],
}


def shown(monkeypatch, capsys, name: str, width: int | None, *words: str) -> list[str]:
    """The lines of a command."""
    command = getattr(commands, name)
    monkeypatch.setattr(commands, "ask", lambda socket, **request: iter(ROWS[name]))
    monkeypatch.setattr(terminal, "width", lambda: width)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert command.run(parser.parse_args(words)) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_a_line_of_80_characters(monkeypatch, capsys, name):
    lines = shown(monkeypatch, capsys, name, 80)
    assert len(lines) == 1 + len(ROWS[name]) and max(map(len, lines)) <= 80, lines
    assert lines == shown(monkeypatch, capsys, name, None)


@pytest.mark.parametrize("name", ROWS)
def test_all_columns_are_there_for_who_asks(monkeypatch, capsys, name):
    head, *lines = shown(monkeypatch, capsys, name, None, "--wide")
    assert head.split() == list(ROWS[name][0]) and len(lines) == len(ROWS[name])
    assert any("software: packets that no DFE can do" in line for line in lines) == (name == "sas")
    narrow = shown(monkeypatch, capsys, name, 80, "--wide")
    assert max(map(len, narrow)) <= 80 and len(narrow) > 1 + len(lines)
    assert [json.loads(line) for line in shown(monkeypatch, capsys, name, 80, "--json")] == ROWS[name]

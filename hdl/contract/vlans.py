# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The two VLANs of a board with one Ethernet port: their registers, and what identifiers may be. Nothing here
needs Amaranth.
"""

from spigate.hdl.contract import rdl
from spigate.hdl.contract.protocols import VLAN_IDENTIFIER

NAME = "vlans"
IDENTIFIERS = "identifiers"
SIDE_NAMES = ("network", "server")


def registers() -> dict[str, rdl.Register]:
    """The registers of the part by name, without the part's own."""
    found = {each.name: each for each in rdl.registers("board").values() if each.port == NAME}
    return {name.removeprefix(f"{NAME}."): each for name, each in found.items()}


DEFAULT_VLANS = tuple(registers()[IDENTIFIERS].fields[name].reset for name in SIDE_NAMES)
"""Identifiers of the network's and of the server's VLAN, where nobody says otherwise. Not 1, which switches
give to whatever was not set up.
"""


def check(identifiers: tuple[int, ...]) -> None:
    """Raises ValueError where these are not identifiers of two VLANs (IEEE 802.1Q 9.6: 0 means none, 4095 is
    reserved).
    """
    for identifier in identifiers:
        if not 1 <= identifier < VLAN_IDENTIFIER:
            raise ValueError(f"a VLAN identifier must be 1 to {VLAN_IDENTIFIER - 1}, not {identifier!r}")
    if len(set(identifiers)) != len(SIDE_NAMES):
        raise ValueError(f"there must be {len(SIDE_NAMES)} different VLAN identifiers, not {identifiers!r}")

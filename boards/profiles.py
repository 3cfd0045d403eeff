# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What each board gets: all of it stands in :data:`PROFILES`."""

from dataclasses import dataclass, field
from typing import Any

from spigate.hdl.contract.parameters import DEFAULT_ENGINE, PARAMETERS
from spigate.hdl.contract.vlans import DEFAULT_VLANS

BOARDS = {name: f"spigate.boards.{name}" for name in ("versa_ecp5_5g", "colorlight_i9", "ecpix5_85f")}
"""The module of each board, by its name."""
BRIDGE = "bridge-without-ipsec"


@dataclass(frozen=True)
class Profile:
    """What is built for a board.

    Members
    -------
    mhz : float
        The core's clock.
    baud : int
        Of the host link.
    core : dict of str to int, or None
        Parameters of the gateway, where they are not the default; None: no gateway. Then frames pass from
        side to side as they are.
    engine : str
        The gateway's engine.
    vlans : tuple of int
        Of boards with one Ethernet port: the identifiers that the network's and the server's VLAN have after
        a reset.
    """

    mhz: float
    baud: int = 3_000_000
    core: dict[str, int] | None = field(default_factory=dict)
    engine: str = DEFAULT_ENGINE
    vlans: tuple[int, ...] = DEFAULT_VLANS

    @property
    def beat_bytes(self) -> int:
        """Width of a beat; a bridge needs no wide ones."""
        return 8 if self.core is None else self.core.get("beat_bytes", PARAMETERS["beat_bytes"].default)

    def parameters(self) -> dict[str, int]:
        """The gateway's parameters, those that are the default left out."""
        return {**(self.core or {}), "clock_khz": round(self.mhz * 1000)}


_MIDDLE: dict[str, Any] = {"beat_bytes": 8, "dfes": 1, "lanes": 1, "sa_entries": 256, "cam_entries": 1024}

PROFILES = {
    "versa_ecp5_5g": {
        "gateway": Profile(mhz=100, core=_MIDDLE),
        BRIDGE: Profile(mhz=100, core=None),
    },
    "colorlight_i9": {
        "gateway": Profile(mhz=62.5, core=_MIDDLE),
        BRIDGE: Profile(mhz=62.5, core=None),
    },
    "ecpix5_85f": {
        "gateway": Profile(mhz=100, core=_MIDDLE),
        BRIDGE: Profile(mhz=100, core=None),
    },
}
"""The profiles of each board by name; the first one is built where none is asked for. None of the profiles
``gateway`` has been routed yet.
"""

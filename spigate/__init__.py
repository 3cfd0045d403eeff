# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""An IPsec gateway for FPGAs. ``hdl``: the gateware; ``firmware_py``: its control element; ``sim``, ``boards``:
around them.

For scripts, ``spigate.open(url)`` gives a gateway whose tables they write, and whose packets they send and
receive (docs/api.md). What it needs is imported when it is first used.
"""

import importlib

__version__ = "0.1.0"

TYPE_CHECKING = False  # type checkers take it for true; importing it from typing takes longer than all the rest

if TYPE_CHECKING:
    from spigate.firmware_py.api.gateway import Gateway as Gateway
    from spigate.firmware_py.api.gateway import open as open
    from spigate.firmware_py.api.inbox import Packet as Packet
    from spigate.firmware_py.api.inbox import ReceiveTimeout as ReceiveTimeout
    from spigate.firmware_py.errors import InputError as InputError
    from spigate.firmware_py.errors import SpigateError as SpigateError
    from spigate.firmware_py.errors import TableFull as TableFull
    from spigate.firmware_py.errors import ToolMissing as ToolMissing
    from spigate.firmware_py.errors import UnsupportedError as UnsupportedError
    from spigate.firmware_py.ipsec.sa import Auth as Auth
    from spigate.firmware_py.ipsec.sa import Cipher as Cipher
    from spigate.firmware_py.ipsec.sa import Lifetime as Lifetime
    from spigate.firmware_py.ipsec.sa import Sa as Sa
    from spigate.firmware_py.ipsec.sa import SaState as SaState
    from spigate.firmware_py.ipsec.sa import Selectors as Selectors
    from spigate.firmware_py.ipsec.soft_sa import SoftSa as SoftSa
    from spigate.firmware_py.tables.bus import Bus as Bus
    from spigate.firmware_py.tables.bus import BusError as BusError
    from spigate.firmware_py.tables.driver import Driver as Driver
    from spigate.firmware_py.tables.interface import Attention as Attention
    from spigate.firmware_py.tables.interface import CamEntry as CamEntry
    from spigate.firmware_py.tables.interface import CamKey as CamKey
    from spigate.firmware_py.tables.interface import Capabilities as Capabilities
    from spigate.firmware_py.tables.interface import CfeSettings as CfeSettings
    from spigate.firmware_py.tables.interface import Counters as Counters
    from spigate.firmware_py.tables.interface import Event as Event
    from spigate.firmware_py.tables.interface import Route as Route
    from spigate.firmware_py.tables.interface import Rule as Rule
    from spigate.firmware_py.tables.interface import Source as Source
    from spigate.firmware_py.tables.punt import InjectMode as InjectMode
    from spigate.firmware_py.tables.punt import Place as Place
    from spigate.firmware_py.tables.punt import PuntHeader as PuntHeader
    from spigate.hdl.contract.enums import Action as Action
    from spigate.hdl.contract.enums import Balance as Balance
    from spigate.hdl.contract.enums import Df as Df
    from spigate.hdl.contract.enums import Direction as Direction
    from spigate.hdl.contract.enums import Mode as Mode
    from spigate.hdl.contract.enums import Port as Port
    from spigate.hdl.contract.enums import Reason as Reason

_HOMES = {
    "firmware_py.api.gateway": ("Gateway", "open"),
    "firmware_py.api.inbox": ("Packet", "ReceiveTimeout"),
    "firmware_py.errors": ("InputError", "SpigateError", "TableFull", "ToolMissing", "UnsupportedError"),
    "firmware_py.ipsec.sa": ("Auth", "Cipher", "Lifetime", "Sa", "SaState", "Selectors"),
    "firmware_py.ipsec.soft_sa": ("SoftSa",),
    "firmware_py.tables.bus": ("Bus", "BusError"),
    "firmware_py.tables.driver": ("Driver",),
    "firmware_py.tables.interface": (
        *("Attention", "CamEntry", "CamKey", "Capabilities", "CfeSettings"),
        *("Counters", "Event", "Route", "Rule", "Source"),
    ),
    "firmware_py.tables.punt": ("InjectMode", "Place", "PuntHeader"),
    "hdl.contract.enums": ("Action", "Balance", "Df", "Direction", "Mode", "Port", "Reason"),
}
"""The same for those who run it; a test compares the two."""
_HOME = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_HOME]


if not TYPE_CHECKING:  # for whom it would be a reason to believe in every name

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

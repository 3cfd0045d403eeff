# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Parameters of a gateway: what each may be, what it is without being told, and what it is for.

The one place for it: :class:`~spigate.hdl.gateway.Gateway`, the command line's options and
docs/parameters.md take them from here. Nothing here needs Amaranth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Members
    -------
    default : int
    allowed : sequence of int
        All values that it may have, in order.
    text : str
        What it is, for the command line's help.
    """

    default: int
    allowed: Sequence[int]
    text: str

    @property
    def limits(self) -> str:
        """``1 to 8``, ``32 to 64, a multiple of 4``, or ``1024, 2048 or 4096``."""
        if isinstance(self.allowed, range):
            step = f", a multiple of {self.allowed.step}" if self.allowed.step > 1 else ""
            return f"{self.allowed[0]} to {self.allowed[-1]}{step}"
        *others, last = map(str, self.allowed)
        return f"{', '.join(others)} or {last}"


PARAMETERS = {
    "beat_bytes": Parameter(16, (8, 16), "bytes of a beat on the packet ports"),
    "dfes": Parameter(2, range(1, 9), "decryptors"),
    "lanes": Parameter(1, range(1, 5), "crypto engines in each decryptor"),
    "cam_entries": Parameter(
        1024, tuple(1024 << shift for shift in range(4)), "inbound SAs that the classifier can find"
    ),
    "rules": Parameter(32, range(32, 65, 4), "rules over clear packets"),
    "routes": Parameter(64, range(2, 257), "next hops"),
    "sa_entries": Parameter(256, tuple(256 << shift for shift in range(9)), "SAs of each decryptor"),
    "sources": Parameter(16, range(1, 1 << 12), "prefixes that may speak in the clear, in each decryptor"),
    "clock_khz": Parameter(
        100_000,
        range(1, 1 << 24),
        "the clock of your design in kHz: the host turns rates a second into clocks by it",
    ),
}
"""By name, as ``Gateway`` calls them."""

ENGINES = {
    "compact": "spigate.hdl.crypto.engine:CompactEngine",
    "gcm": "spigate.hdl.crypto.engine:GcmEngine",
    "gcm-small": "spigate.hdl.crypto.engine:SmallGcmEngine",
    "cbc-sha256": "spigate.hdl.crypto.engine:CbcSha256Engine",
}
"""The crypto engines by the names that commands have for them: module and class, which declares what the
engine is (:class:`spigate.hdl.crypto.interface.Engine`).
"""
DEFAULT_ENGINE = "compact"


LARGEST = {"ecp5": {"sa_entries": 2048}}
"""What is less than its range says where memories are a family's primitives, by technology: no device of it
has room for more.
"""


def check(values: Mapping[str, int], technology: str = "generic") -> None:
    """Looks at ``values`` before anything is made of them, for ``technology``.

    Raises
    ------
    ValueError
        One is out of its range; the message names it, the range and the value.
    """
    for name, value in values.items():
        if value not in PARAMETERS[name].allowed:
            raise ValueError(f"{name} must be {PARAMETERS[name].limits}, not {value!r}")
    for name, largest in LARGEST.get(technology, {}).items():
        if values.get(name, 0) > largest:
            raise ValueError(f"{name} must be at most {largest} on {technology}, not {values[name]!r}")


def check_engine(name: str) -> None:
    """Raises ValueError where there is no engine of that name; the message has those that there are."""
    if name not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, not {name!r}")

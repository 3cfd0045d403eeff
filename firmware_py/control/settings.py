# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""How the control element goes about it."""

from dataclasses import dataclass
from enum import StrEnum

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.policy import PolicyAction
from spigate.firmware_py.tables.interface import CfeSettings, Source


class Miss(StrEnum):
    """What becomes of the packet that made the control element program something."""

    INJECT = "inject"
    DROP = "drop"


@dataclass(frozen=True)
class Settings:
    """How the control element goes about it.

    Members
    -------
    default : PolicyAction
        DISCARD (RFC 4301 5.1), or BYPASS, as Linux has it: what becomes of a clear packet that no policy
        names.
    miss : Miss
    sources : tuple of Source or None
        Who may speak in the clear. None: whoever a policy, or ``default``, lets pass.
    cfe : CfeSettings
    own_host : bool
        SAs in transport mode are for the control element's own host. False: for one that stands behind the
        server port.
    """

    default: PolicyAction = PolicyAction.DISCARD
    miss: Miss = Miss.INJECT
    sources: tuple[Source, ...] | None = None
    cfe: CfeSettings = CfeSettings()
    own_host: bool = False

    def __post_init__(self) -> None:
        if self.default not in (PolicyAction.BYPASS, PolicyAction.DISCARD):
            raise InputError(f"default must be bypass or discard, not {self.default!r}")

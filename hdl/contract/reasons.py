# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What reasons are, for gateware and host: what becomes of a packet, what is audited, and who may not fill
whose place.

All of it stands in ``entries.rdl``, at ``reason_e``, and comes from there by way of
:data:`~spigate.hdl.contract.enums.TRAITS`.
"""

from spigate.hdl.contract.enums import TRAITS, PuntClass, Reason


def _with(*words: str) -> tuple[Reason, ...]:
    """The reasons that have all of ``words``, in the order of their numbers."""
    return tuple(reason for reason, traits in TRAITS.items() if set(words) <= set(traits))


DROPS, PUNTS, TOLD = _with("drop"), _with("punt"), _with("told")
"""Reasons for which a packet is dropped, those for which it goes to the control element, and those that are
only told.
"""
AUDITABLE = _with("audited")
"""Drops that are events (RFC 4301 to 4303), besides :data:`TOLD`."""
JUNK, ENDING = _with("junk"), _with("ending")
"""What anybody can cause as often as it likes, and what each packet of an SA causes that is at its end."""
CLASSES: dict[int, PuntClass] = {reason: PuntClass[TRAITS[reason][1].upper()] for reason in PUNTS}
"""The class of each reason of a punt."""
REFUSED = {PuntClass[TRAITS[reason][2].upper()]: reason for reason in _with("refused")}
"""Why a punt of each class is dropped where its rate or its room is used up."""


def class_of(reason: int) -> PuntClass:
    """The class of a punt with that reason; REST for one of newer gateware."""
    return CLASSES.get(reason, PuntClass.REST)

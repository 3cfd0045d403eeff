# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Reasons are classified once, in the RDL: what follows from it is whole, and everybody has an answer for
each.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from spigate.firmware_py.control.element import ENDS_HERE, ControlElement
from spigate.firmware_py.control.loop import SoftPort
from spigate.firmware_py.control.settings import Settings
from spigate.firmware_py.control.topology import Topology
from spigate.firmware_py.tables.model import SoftGateway
from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import TRAITS, PuntClass, Reason
from spigate.hdl.contract.reasons import (
    AUDITABLE,
    CLASSES,
    DROPS,
    ENDING,
    JUNK,
    PUNTS,
    REFUSED,
    TOLD,
    class_of,
)

ROOT = Path(__file__).resolve().parents[3]
FATES = (DROPS, PUNTS, TOLD)
CLASS = "|".join(each.name.lower() for each in PuntClass)
GRAMMAR = re.compile(rf"none|drop( audited( junk| ending)?| refused ({CLASS}))?|punt ({CLASS})|told")


def test_each_reason_says_what_becomes_of_a_packet():
    assert set(TRAITS) == set(Reason)
    assert [reason for reason, traits in TRAITS.items() if not GRAMMAR.fullmatch(" ".join(traits))] == []
    assert sorted(reason for fate in FATES for reason in fate) == sorted(set(Reason) - {Reason.NONE})


def test_numbers_are_in_the_order_of_fates():
    """Counters of drops are the lower half; gateware looks at one bit."""
    assert max(DROPS) < 32 <= min(PUNTS) and max(PUNTS) < min(TOLD)


def test_each_class_has_reasons_and_one_for_what_is_refused():
    assert set(CLASSES.values()) == set(REFUSED) == set(PuntClass)
    assert class_of(63) == PuntClass.REST  # of newer gateware


def test_the_events_that_a_reset_leaves_are_the_auditable_ones_and_what_is_told():
    low, high = (rdl.registers()[f"event_mask_{half}"].fields["value"].reset for half in ("low", "high"))
    assert low | high << 32 == sum(1 << reason for reason in (*AUDITABLE, *TOLD))
    assert set(JUNK) | set(ENDING) <= set(AUDITABLE) and not set(JUNK) & set(ENDING)


def test_the_control_element_has_an_answer_for_each_punt():
    control = ControlElement(
        tables=SoftGateway(), port=SoftPort(SoftGateway()), topology=Topology([]), settings=Settings()
    )
    assert set(control.handlers) | ENDS_HERE == set(PUNTS) and not set(control.handlers) & ENDS_HERE


def named(paths: Iterable[Path]) -> set[Reason]:
    """The reasons that sources name."""
    text = "".join(path.read_text() for path in paths)
    return {reason for reason in Reason if re.search(rf"\bReason\.{reason.name}\b", text)}


def test_the_gateware_gives_each_reason_but_one_of_softwares():
    gateware = [path for path in (ROOT / "hdl").rglob("*.py") if path.parent.name != "contract"]
    assert set(Reason) - named(gateware) - set(REFUSED.values()) == {Reason.TTL}


def test_the_model_gives_each_reason_of_a_punt():
    assert (
        set(PUNTS)
        - named(path for each in ("tables", "ipsec") for path in (ROOT / "firmware_py" / each).rglob("*.py"))
        == set()
    )

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The report of a run: every frame accounted for."""

from collections import Counter

from spigate.firmware_py.control.element import ControlElement
from spigate.firmware_py.errors import Unsound
from spigate.firmware_py.tables.interface import Counters
from spigate.firmware_py.tables.punt import InjectMode
from spigate.hdl.contract.enums import Reason
from spigate.hdl.contract.reasons import DROPS


def report(
    control: ControlElement,
    counters: Counters,
    *,
    into: dict[str, int],
    out: dict[str, int],
    punted: int,
    injected: int,
    dropped: Counter[Reason],
    cycles: int,
) -> dict[str, object]:
    """What happened at the ports, as it is written to ``report.json``.

    Parameters
    ----------
    into, out : dict of str to int
        Frames at the ports ``network`` and ``server``.
    punted, injected : int
        Frames at the control element's port.
    dropped : Counter of Reason
        By the gateway.

    Raises
    ------
    Unsound
        The sum is wrong, on the ports or by the gateway's own counters: in and made is out, consumed and
        dropped.
    """
    drops = dropped + control.dropped
    consumed, made = control.consumed.total(), control.made.total()
    _balance(
        "frames",
        sum(into.values()) + made,
        sum(out.values()) + consumed + drops.total(),
        "in + made",
        "out + consumed + dropped",
    )
    _balance(
        "punts",
        punted + made,
        control.injected.total() + consumed + control.dropped.total(),
        "up + made",
        "injected + consumed + dropped",
    )
    for name, seen, counted in (
        ("network in", into["network"], counters.cfe.get("network_in", 0)),
        ("server in", into["server"], counters.cfe.get("server_in", 0)),
        ("injected", injected, counters.cfe.get("inject_in", 0)),
        ("network out", out["network"], counters.forward.get("network_out", 0)),
        ("server out", out["server"], counters.forward.get("server_out", 0)),
        ("punted", punted, counters.forward.get("punt_out", 0)),
    ):
        _balance(name, seen, counted, "at the port", "in the gateway's counters")
    return {
        "cycles": cycles,
        "ports": {
            **{name: {"in": into[name], "out": out[name]} for name in into},
            "punt": punted,
            "inject": injected,
        },
        "drops": {reason.name.lower(): drops[reason] for reason in DROPS},
        "consumed": dict(control.consumed),
        "made": dict(control.made),
        "punts": _names(control.punted),
        "programmed": dict(control.programmed),
        "injected": _names(control.injected),
        "software": dict(control.software),
        "cfe": counters.cfe,
        "forward": counters.forward,
        "dfes": [
            {"packets": dfe.get("packets_in", 0), "bytes": dfe.get("bytes_in", 0), **dfe}
            for dfe in counters.dfes
        ],
    }


def _names(counter: Counter[Reason] | Counter[InjectMode]) -> dict[str, int]:
    return {member.name.lower(): count for member, count in counter.items()}


def _balance(what: str, left: int, right: int, left_name: str, right_name: str) -> None:
    if left != right:
        raise Unsound(f"{what}: {left} {left_name}, but {right} {right_name}")

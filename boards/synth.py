"""Size and speed of the gateway on an ECP5, block by block and in all; ``spigate synth``.

Every block goes through yosys and nextpnr alone and out of context: no I/O cells, so that wide ports need no
pins. Paths between registers are timed; those that begin or end at a port are not.
"""

import argparse
import json
import os
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from spigate.boards.tools import ToolFailed, call, versions
from spigate.firmware_py import outputs, terminal
from spigate.hdl import verilog
from spigate.hdl.cfe.cam import Cam
from spigate.hdl.cfe.cfe import Cfe
from spigate.hdl.crypto.engine import CompactEngine
from spigate.hdl.csr.control import ControlPlane
from spigate.hdl.dfe.dfe import Dfe
from spigate.hdl.export import Core, Technology, add_gateway_arguments, gateway_from
from spigate.hdl.forward import Forwarding
from spigate.hdl.net.memory import ECP5
from spigate.sim.build import cached, digest

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
# Without carry chains for comparisons with constants, which are mostly of a few bits. Without multiplexers
# behind LUTs: they save none here, and tie cells together that are better placed apart.
SYNTHESIS = "read_verilog top.v; synth_ecp5 -cmp2softlogic -nowidelut -top top -json top.json"
PLACE_AND_ROUTE = (
    "--out-of-context",
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
class Result:
    """One block on one seed. ``luts`` counts nextpnr's TRELLIS_COMB, LUTs that carry or store included.
    ``seconds`` is place and route on the wall's clock.
    """

    block: str
    seed: int
    luts: int
    ffs: int
    ebr: int
    dsp: int
    mhz: float
    seconds: float


def blocks(gateway) -> dict[str, Callable]:
    """What makes each block of ``gateway``, by name."""
    g = gateway
    return {
        "CFE": lambda: Cfe(
            beat_bytes=g.beat_bytes, dfes=g.dfes, cam_entries=g.cam_entries, rules=g.rules, routes=g.routes
        ),
        "CAM (in the CFE)": lambda: Cam(entries=g.cam_entries),
        "DFE": lambda: Dfe(
            beat_bytes=g.beat_bytes, lanes=g.lanes, sa_entries=g.sa_entries, sources=g.sources, dfes=g.dfes
        ),
        "engine (in the DFE)": CompactEngine,
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
        ),
    }


def source(component) -> str:
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
        f"--{target.device}",
        "--package",
        PACKAGES[target.device],
        "--speed",
        str(target.speed),
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
            # From the folder: to the WebAssembly that nextpnr is, /tmp is another place.
            call(
                "nextpnr-ecp5",
                *arguments,
                "--json",
                os.path.relpath(netlist, scratch),
                "--report",
                "report.json",
                folder=scratch,
                hear=hear,
            )
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
    used = {name: cells["used"] for name, cells in report["utilization"].items()}
    return Result(
        block,
        seed,
        used["TRELLIS_COMB"],
        used["TRELLIS_FF"],
        used["DP16KD"],
        used.get("MULT18X18D", 0),
        round(achieved, 1),
        round(seconds, 1),
    )


def measure(
    parts: dict[str, Callable],
    target: Target,
    seeds: dict[str, Iterable[int]],
    tell: Callable[[str, str], None] = lambda job, text: None,
) -> list[Result]:
    """Synthesises each of ``parts`` and routes it with each of its ``seeds``; results in this order. The
    parts that take longest should come first. ``tell`` hears of each job, and what is under way in it.
    """

    def work(name, waited_for, seed):
        job = f"{name}, seed {seed}"
        result = route(name, waited_for.result(), target, seed, lambda text: tell(job, text))
        tell(job, f"{result.mhz} MHz")
        return result

    def synthesise(name, text):
        tell(name, "synthesis")
        made = netlist(text)
        tell(name, "synthesised")
        return made

    texts = {name: source(make()) for name, make in parts.items()}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        # Taken from the queue in this order: so whoever waits for a netlist waits for one that is being made.
        netlists = {name: pool.submit(synthesise, name, text) for name, text in texts.items()}
        jobs = [pool.submit(work, name, netlists[name], seed) for name in parts for seed in seeds[name]]
        try:
            return [job.result() for job in jobs]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def worst(results: Iterable[Result]) -> list[Result]:
    """Of each block the slowest seed."""
    found = {}
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


def rows(results: Iterable[Result]) -> list[list[str]]:
    """The table's cells, a row a block."""
    return [[str(getattr(result, name)) for name in COLUMNS] for result in worst(results)]


def markdown(results: Iterable[Result]) -> str:
    """The table for documentation: without the last column, which is of the machine."""
    lines = [list(COLUMNS.values()), ["---", *["---:"] * (len(COLUMNS) - 1)], *rows(results)]
    return "".join(f"| {' | '.join(line[:-1])} |\n" for line in lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Takes the core through yosys and nextpnr-ecp5 and prints LUTs, block RAM and MHz, "
        "per block and in all."
    )
    add_gateway_arguments(parser)
    # Two DFEs with compact engines pass 25 bits a clock, so 8 bytes are plenty. At 16 the core takes 85 %
    # of the block RAMs, which then lie far from what uses them.
    parser.set_defaults(beat_bytes=8)
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
    gateway = gateway_from(args)
    for path in (args.json, args.markdown):
        outputs.file(path)
    parts, seeds = {}, {}
    if not args.blocks:
        parts[WHOLE], seeds[WHOLE] = lambda: Core(gateway), args.seeds
    if not args.whole:
        parts |= blocks(gateway)
        seeds |= dict.fromkeys(blocks(gateway), args.seeds[:1])
    under_way = {}
    with console.status("conversion to Verilog") as status:

        def tell(job, text):
            under_way.pop(job, None)
            if text.endswith("MHz") or text == "synthesised":
                console.print(f"{job}: {text}")
            else:
                under_way[job] = text
            status.update("; ".join(f"{job}: {text}" for job, text in under_way.items()))

        results = measure(parts, target, seeds, tell)
    # The whole comes first because it takes longest, but it is the last row of the table.
    results.sort(key=lambda result: result.block == WHOLE)
    table = Table(
        title=f"{args.dfes} DFEs of {args.lanes} lanes, {args.beat_bytes} bytes a beat, on "
        f"{target.device} speed {target.speed}"
    )
    for name, title in COLUMNS.items():
        table.add_column(title, justify="left" if name == "block" else "right")
    for row in rows(results):
        table.add_row(*row)
    console.print(table)
    if args.json:
        args.json.write_text(
            json.dumps(
                {
                    "core": {name: getattr(gateway, name) for name in ("beat_bytes", "dfes", "lanes")},
                    "target": asdict(target),
                    "runs": [asdict(result) for result in results],
                },
                indent=1,
            )
            + "\n"
        )
    if args.markdown:
        args.markdown.write_text(markdown(results))
    slow = [result for result in worst(results) if result.mhz < target.mhz]
    for result in slow:
        console.print(f"{result.block}: {result.mhz} MHz is less than {target.mhz:g}")
    return int(bool(slow))


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"seeds must be numbers with commas between, not {text!r}") from None

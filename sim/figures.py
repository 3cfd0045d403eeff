# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``make figures``: docs/figures.md and a part of the README, from what ``make bench``, ``make synth`` and
``make prove`` wrote.

The results themselves are kept in ``docs/figures/``, with the commit and the day of each in
``measured.json``, so the page can be made again by whoever has the repository. Results of different cores are
never mixed: bits a clock become Gbit/s only by the clock that a core of the same parameters has reached.
"""

import argparse
import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spigate.boards import synth
from spigate.firmware_py.words import counted
from spigate.sim import bench, bench_soft

SOURCES = {
    "bench.json": "make bench",
    "bench-synthesised.json": "spigate bench --synthesised --json build/bench-synthesised.json",
    "bench-soft.json": "make bench",
    "bench-ike.json": "make bench",
    "synth.json": "make synth",
    "synth-blocks.json": "spigate synth --blocks --json build/synth-blocks.json",
    "prove.json": "make prove",
}
"""Files of results, and the command that writes each into ``build/``."""
MEASURED = "measured.json"
SIZES = {"luts": "LUTs", "ffs": "FFs", "ebr": "EBR", "dsp": "DSP", "mhz": "MHz"}
"""What a run of ``spigate synth`` found, and its heading."""
WIDTH = 108
SUITES = {"gcm128": "AES-GCM-128", "cbc128-sha256": "AES-CBC-128 with HMAC-SHA-256-128"}
"""Suites of the summary, and their names for readers."""
BEGIN, END = "<!-- figures -->\n\n", "\n<!-- end -->"
"""Where the summary stands in the README."""
HEAD = """\
# Figures

Made by `make figures` from the results in `docs/figures/`; change nothing here by hand.
[Simulation, synthesis and proofs](simulation.md) says how each is measured.
"""


class Results:
    """The results in a folder.

    Parameters
    ----------
    folder : Path
        Holds :data:`SOURCES`, as far as there are any, and :data:`MEASURED`.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._measured = self.read(MEASURED) or {}

    def read(self, name: str) -> Any:
        """What a file has; None where there is none."""
        path = self._folder / name
        return json.loads(path.read_text()) if path.is_file() else None

    def origin(self, name: str) -> str:
        """Sentences: what a file's figures are of, and what a reader must know of them."""
        found = self._measured[name]
        note = f" {found['note']}" if "note" in found else ""
        return f"Measured on {found['day']}, at commit {found['commit']}, by `{SOURCES[name]}`.{note}"

    @staticmethod
    def missing(name: str) -> str:
        """A sentence in the place of figures that are not there."""
        return f"Not measured: `{SOURCES[name]}` and `make figures` put them here."


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table in Markdown, its first ``left`` columns set to the left and the others to the right."""
    rule = [("---" if at < left else "---:") for at in range(len(columns))]
    return "".join(f"| {' | '.join(line)} |\n" for line in (columns, rule, *rows))


def described(core: dict[str, int]) -> str:
    """A core in words."""
    dfes, lanes = core["dfes"], core["lanes"]
    return (
        f"{dfes} DFE{'s' * (dfes > 1)} of {lanes} lane{'s' * (lanes > 1)}, {core['beat_bytes']} bytes a beat"
    )


def whole(synthesis: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs of the whole core, by seed."""
    runs = [run for run in synthesis["runs"] if run["block"] == synth.WHOLE]
    return sorted(runs, key=lambda run: run["seed"])


@dataclass(frozen=True)
class Converted:
    """Figures and a clock of one core."""

    core: dict[str, int]
    mhz: float
    seeds: int
    source: str
    """The file of the figures; "" where there are none of that core."""
    figures: list[dict[str, Any]]

    def gbits(self, figure: dict[str, Any]) -> str:
        """Gbit/s of a figure in bits a clock."""
        return f"{figure['value'] * self.mhz / 1000:.2f}"

    def packets(self, figure: dict[str, Any]) -> str:
        """Million packets a second of a figure in bits a clock."""
        return f"{figure['value'] * self.mhz / (8 * figure['size']):.2f}"

    def clock(self) -> str:
        """Sentences: which core, and how fast."""
        return (
            f"The core: {described(self.core)}. Its clock: {self.mhz:g} MHz, the worst of "
            f"{counted(self.seeds, 'seed')}."
        )


def converted(results: Results) -> Converted | None:
    """The figures of the core that was synthesised; None where it is not said which core that was."""
    synthesis = results.read("synth.json") or {"runs": []}
    core, runs = synthesis.get("core"), whole(synthesis)
    if core is None or not runs:
        return None
    for name in ("bench.json", "bench-synthesised.json", ""):
        found = [
            figure
            for figure in (results.read(name) if name else None) or ()
            if figure.get("core") == core and figure["unit"] == "bits a clock"
        ]
        if found or not name:
            return Converted(core, min(run["mhz"] for run in runs), len(runs), name, found)
    raise AssertionError


def throughput(results: Results) -> str:
    """Gbit/s and packets a second, of figures and a clock of the same core."""
    if results.read("synth.json") is None:
        return results.missing("synth.json")
    found = converted(results)
    if found is None:
        return "`synth.json` does not say which core its clock is of, so bits a clock cannot be converted."
    if not found.source:
        return (
            f"{found.clock()}\n\nThere are no bits a clock of this core yet, only of cores with 16 bytes a "
            "beat. Those are not converted by another core's clock. `make bench` measures this core too, and "
            "`make figures` then puts Gbit/s and packets a second here."
        )
    rows = [
        (figure["name"], bench.shown(figure["value"]), found.gbits(figure), found.packets(figure))
        for figure in found.figures
    ]
    columns = ("figure", "bits a clock", "Gbit/s", "million packets a second")
    return (
        f"{found.clock()} Bits are those of the inner packets, tunnel mode. "
        f"{results.origin(found.source)}\n\n"
        f"{table(columns, rows)}"
    )


def summary(folder: Path) -> str:
    """What the README says of speed: of the core that was synthesised, inbound. Empty where that is not
    known.
    """
    found = converted(Results(folder))
    if found is None or not found.source:
        return ""
    shown = [figure for figure in found.figures if figure["name"].endswith("inbound")]
    sizes = sorted({figure["size"] for figure in shown})
    rows = []
    for suite, words in SUITES.items():
        of = {figure["size"]: figure for figure in shown if f" {suite}," in figure["name"]}
        rows.append((words, *(f"{found.gbits(of[size])} ({found.packets(of[size])})" for size in sizes)))
    columns = ("Gbit/s (million packets a second)", *(f"{size} bytes" for size in sizes))
    return f"{wrapped(found.clock())}\n\n{table(columns, rows)}"


def size(results: Results) -> str:
    """LUTs, block RAM and clock: the whole core by seed, and blocks."""
    synthesis = results.read("synth.json")
    if synthesis is None:
        return results.missing("synth.json")
    target = synthesis["target"]
    core = f" The core: {described(synthesis['core'])}." if "core" in synthesis else ""
    text = (
        f"The whole core on {target['device']}, speed {target['speed']}, the constraint being "
        f"{target['mhz']:g} MHz.{core} LUTs include those that carry and those that are memory. "
        f"{results.origin('synth.json')}\n\n"
        + table(["seed", *SIZES.values()], cells(whole(synthesis), ["seed", *SIZES]))
    )
    origin, blocks = "synth.json", blocks_of(synthesis)
    if not blocks and (alone := results.read("synth-blocks.json")) is not None:
        origin, blocks = "synth-blocks.json", blocks_of(alone)
    if blocks:
        text += f"\nBlocks, each alone. {results.origin(origin)}\n\n" + table(
            ["block", *SIZES.values()], cells(blocks, ["block", *SIZES])
        )
    return text


def blocks_of(synthesis: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs of single blocks."""
    return [run for run in synthesis["runs"] if run["block"] != synth.WHOLE]


def cells(runs: Iterable[dict[str, Any]], names: Sequence[str]) -> list[list[str]]:
    """What rows of runs show."""
    return [[str(run[name]) for name in names] for run in runs]


def clocks(results: Results) -> str:
    """The gateway in clocks."""
    found = results.read("bench.json")
    if found is None:
        return results.missing("bench.json")
    figures = [bench.Figure(**figure) for figure in found]
    return (
        f"{results.origin('bench.json')}\n\n"
        "Beats are of 16 bytes, but where a figure names its core. Bits are those of the inner packets, "
        'tunnel mode. "Beyond its crypto" is what a packet costs a DFE from one to the next around an '
        "engine that takes a word of 16 bytes a clock: for the smallest packets all of it, for longer ones "
        "without the "
        "clocks of their words. On one SA and on 64, one packet in five or seven comes twice; the bits are "
        f"those of what passes.\n\n{bench.markdown(figures)}"
    )


def software(results: Results) -> str:
    """The software path."""
    found = results.read("bench-soft.json")
    if found is None:
        return results.missing("bench-soft.json")
    return (
        f"{results.origin('bench-soft.json')}\n\n"
        "An SA of the software path (`soft_sa.py`), tunnel mode, IPv4: packets a second of one core, as a "
        "part of what it does with AES-GCM-128 and 64 bytes outbound. It is Python's speed, hardly the "
        "cipher's, so the length of a packet matters little.\n\n"
        + bench_soft.markdown([bench_soft.Rate(**rate) for rate in found])
    )


def handshakes(results: Results) -> str:
    """IKEv2 beside strongSwan's."""
    found = results.read("bench-ike.json")
    if found is None:
        return results.missing("bench-ike.json")
    rows = [
        (
            each["suite"],
            f"{each['strongswan']['answers'] / each['ours']['answers']:.2f}",
            f"{each['strongswan']['cpu'] / each['ours']['cpu']:.2f}",
        )
        for each in found
    ]
    return (
        f"{results.origin('bench-ike.json')}\n\n"
        "Answered by `spigate ce` and by strongSwan's charon, each to the same initiator, one after the "
        "other, with PSK and one child: ours for each of strongSwan's. The first column is by the time from "
        "request to answer, of IKE_SA_INIT and IKE_AUTH together. The second is by the processor time of the "
        "process, with the deletion. Between two runs on a busy machine they differ by up to a half. Where "
        "the key exchange costs most, OpenSSL decides; where it costs little, Python.\n\n"
        + table(("suite", "handshakes a second, of strongSwan's", "by processor time"), rows)
    )


def proofs(results: Results) -> str:
    """What was proved, and whether each proof finds the faults that are put in."""
    found = results.read("prove.json")
    if found is None:
        return results.missing("prove.json")
    rows = [
        (
            f"`{proof['proof']}`",
            "holds" if proof["passed"] else "FAILS",
            proof["method"],
            f"{sum(each['caught'] for each in proof['mutations'])} of {len(proof['mutations'])}",
        )
        for proof in found
    ]
    columns = ("proof", "", "how", "faults put in that were found")
    return (
        f"{results.origin('prove.json')} [security.md](security.md#proofs) has the claims.\n\n"
        f"{table(columns, rows, left=3)}"
    )


PARTS = {
    "Gbit/s and packets a second": throughput,
    "Size and clock": size,
    "In clocks": clocks,
    "Software path": software,
    "IKEv2 handshakes": handshakes,
    "Proofs": proofs,
}


def page(folder: Path) -> str:
    """The page, of the results in ``folder``."""
    results = Results(folder)
    parts = (f"## {title}\n\n{wrapped(part(results))}\n" for title, part in PARTS.items())
    return "\n".join([HEAD, *parts])


def wrapped(text: str) -> str:
    """Paragraphs in lines of :data:`WIDTH` columns; tables as they are."""
    paragraphs = text.strip().split("\n\n")
    return "\n\n".join(
        each if each.startswith("|") else "\n".join(textwrap.wrap(each, WIDTH, break_on_hyphens=False))
        for each in paragraphs
    )


def collect(build: Path, folder: Path, commit: str, day: str) -> list[str]:
    """Takes over the results in ``build`` that ``folder`` does not have yet; their names."""
    taken = []
    known = json.loads((folder / MEASURED).read_text()) if (folder / MEASURED).is_file() else {}
    for name in SOURCES:
        new, kept = build / name, folder / name
        if new.is_file() and not (kept.is_file() and kept.read_bytes() == new.read_bytes()):
            shutil.copy(new, kept)
            known[name] = {"commit": commit, "day": day}
            taken.append(name)
    (folder / MEASURED).write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    return taken


def main(argv: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m spigate.sim.figures", description=__doc__.split("\n")[0])
    parser.add_argument("docs", type=Path, metavar="DOCS", help="the folder of figures.md and figures/")
    parser.add_argument(
        "--collect", type=Path, metavar="BUILD", help="first take over results that are new there"
    )
    args = parser.parse_args(argv)
    folder = args.docs / "figures"
    if args.collect:
        command = ["git", "-C", str(args.docs), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        for name in collect(args.collect, folder, commit, datetime.now(UTC).date().isoformat()):
            print(f"new: {name}")
    (args.docs / "figures.md").write_text(page(folder))
    readme = args.docs.parent / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    readme.write_text(f"{before}{BEGIN}{summary(folder)}{END}{rest.partition(END)[2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

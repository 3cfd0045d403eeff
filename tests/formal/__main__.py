# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Runs the proofs and their mutations: a table, ``--json`` too; ends with 1 where a proof fails or a
mutation survives.
"""

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.formal.claims import PROOFS
from tests.formal.proof import ROOT
from tests.formal.solve import missing, prepare, search


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.formal", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these proofs")
    parser.add_argument("--list", action="store_true", help="what is claimed, and nothing else")
    parser.add_argument(
        "--markdown", action="store_true", help="the rows of docs/security.md, and nothing else"
    )
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="searches at a time (2)")
    parser.add_argument("--no-mutations", action="store_true", help="the proofs alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "prove", metavar="FOLDER", help="where the tools work"
    )
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in PROOFS:
            parser.error(f"there is no proof {name!r}; there are {', '.join(PROOFS)}")
    chosen = [PROOFS[name] for name in arguments.names] or list(PROOFS.values())
    console = Console()
    if arguments.list:
        for proof in chosen:
            console.print(
                f"[bold]{proof.name}[/] ({proof.method})\n  {proof.claim}"
                + f"\n  {proof.limits}" * bool(proof.limits)
            )
        return 0
    if arguments.markdown:
        for proof in chosen:
            print(f"| `{proof.name}` | {proof.claim} | {proof.method} | {proof.limits} |")
        return 0
    if sentence := missing():
        print(sentence, file=sys.stderr)
        return 1

    pool = ThreadPoolExecutor(arguments.jobs)
    try:
        rows = _results(
            [
                (proof, mutation, pool.submit(search, folder))
                for proof, mutation, folder in _prepared(chosen, arguments)
            ],
            console,
        )
    finally:
        pool.shutdown(cancel_futures=True)
    _show(rows, console)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0 if all(row["passed"] for row in rows) else 1


def _prepared(chosen, arguments):
    """What is to be searched, each ready when it is its turn."""
    for proof in chosen:
        for at, mutation in enumerate([None, *(() if arguments.no_mutations else proof.mutations)]):
            folder = arguments.out / proof.name / (f"mutation_{at}" if mutation else "proof")
            prepare(proof, folder, mutation)
            yield proof, mutation, folder


def _results(work, console) -> list[dict]:
    """One row a proof, told of as they come."""
    rows: dict[str, dict] = {}
    for proof, mutation, search_of in work:
        verdict = search_of.result()
        row = rows.setdefault(
            proof.name,
            {
                "proof": proof.name,
                "claim": proof.claim,
                "limits": proof.limits,
                "method": proof.method,
                "unbounded": proof.unbounded,
                "depth": proof.depth,
                "passed": True,
                "seconds": 0.0,
                "text": "",
                "mutations": [],
            },
        )
        if mutation is None:
            row.update(seconds=round(verdict.seconds, 1), text=verdict.text, passed=verdict.holds is True)
        else:
            caught = verdict.holds is False
            row["mutations"].append(
                {
                    "what": mutation.what,
                    "caught": caught,
                    "by": verdict.text,
                    "seconds": round(verdict.seconds, 1),
                }
            )
            row["passed"] = row["passed"] and caught
        good = verdict.holds is (mutation is None)
        console.print(
            f"{'ok  ' if good else 'FAIL'} {proof.name}{f' with: {mutation.what}' if mutation else ''} "
            f"({verdict.seconds:.0f} s){'' if good else f' {verdict.text}'}",
            markup=False,
            highlight=False,
        )
    return list(rows.values())


def _show(rows, console) -> None:
    table = Table("proof", "claim", "method", "seconds", "mutations caught")
    for row in rows:
        mutations = row["mutations"]
        table.add_row(
            row["proof"] if row["passed"] else f"[red]{row['proof']}: FAIL",
            row["claim"],
            row["method"],
            f"{row['seconds']:.0f}",
            f"{sum(each['caught'] for each in mutations)} of {len(mutations)}",
        )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())

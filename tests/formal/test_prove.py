# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import subprocess
import sys
from dataclasses import replace

import pytest

from spigate.hdl.net import slice as slices
from tests.formal import solve
from tests.formal.claims import PROOFS
from tests.formal.proof import ROOT, Mutation

pytestmark = pytest.mark.slow


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tests.formal", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_claim_that_holds_and_a_mutation_that_breaks_it(tmp_path):
    proof = PROOFS["slice"]
    solve.prepare(proof, tmp_path / "proof")
    assert solve.search(tmp_path / "proof").holds is True
    solve.prepare(proof, tmp_path / "mutation", proof.mutations[0])
    verdict = solve.search(tmp_path / "mutation")
    assert verdict.holds is False
    assert verdict.text == "another item leaves than is due"


@pytest.mark.parametrize("name", ["dropped-stays"])
def test_a_deep_mutation_that_changes_nothing_is_not_caught(tmp_path, name):
    """The induction needs its invariants, with a mutation as without."""
    proof = PROOFS[name]
    nothing = replace(proof.mutations[0], new=proof.mutations[0].old, deep=True)
    solve.prepare(proof, tmp_path, nothing)
    assert solve.search(tmp_path).holds is True


def test_a_mutation_ends_and_the_block_is_itself_again():
    before = vars(slices.Slice)["elaborate"]
    proof = PROOFS["slice"]
    whole = proof.rtlil()
    assert proof.rtlil(proof.mutations[0]) != whole
    assert vars(slices.Slice)["elaborate"] is before
    assert proof.rtlil() == whole


def test_a_mutation_follows_the_code():
    with (
        pytest.raises(ValueError, match="spigate.hdl.net.slice has 'no such line' 0 times, not once"),
        Mutation("", "spigate.hdl.net.slice", "no such line", "").applied(),
    ):
        pass


def test_what_is_missing_is_a_sentence(monkeypatch):
    assert solve.missing() is None
    monkeypatch.setattr(solve, "tool", lambda name: None)
    assert solve.missing() == "Proofs need z3-solver: pip install 'spigate[prove]'"


def test_what_there_is_not():
    done = run("no-such-proof")
    assert done.returncode == 2
    assert "there is no proof 'no-such-proof'" in done.stderr


def test_lists_what_is_claimed():
    done = run("--list")
    assert not done.returncode
    assert all(name in done.stdout for name in PROOFS)

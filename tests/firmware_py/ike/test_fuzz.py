# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Robustness: mutated messages. Messages made to cost much are in test_bounds.py."""

import pytest

from tests.firmware_py import fuzzing
from tests.firmware_py.ike.fuzz import fuzz


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Parsed a")  # of certificates that are wrong in ways that were once common
def test_only_named_errors_come_out():
    outcomes = fuzzing.run(fuzz, 50_000)
    # that the mutations reach what they should
    assert outcomes["good"] > 50
    assert {
        "InvalidSyntax",
        "NotAuthentic",
        "InvalidMajorVersion",
        "NoProposalChosen",
        "TsUnacceptable",
        "AuthenticationFailed",
    } <= set(outcomes)

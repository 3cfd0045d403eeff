"""Robustness: mutated messages, and messages made to cost much."""
import time
import tracemalloc

import pytest

from spigate.firmware_py.ike.message import HEADER, Message
from spigate.firmware_py.ike.registry import ExchangeType, PayloadType
from tests.firmware_py import fuzzing
from tests.firmware_py.ike.fuzz import fuzz
from tests.firmware_py.ike.messages import message


@pytest.mark.filterwarnings("ignore:Parsed a")  # of certificates that are wrong in ways that were once common
def test_only_named_errors_come_out():
    outcomes = fuzzing.run(fuzz, 50_000)
    # that the mutations reach what they should
    assert outcomes["good"] > 50
    assert {"InvalidSyntax", "NotAuthentic", "InvalidMajorVersion", "NoProposalChosen",
            "TsUnacceptable", "AuthenticationFailed"} <= set(outcomes)


def test_the_largest_message_costs_little():
    room = 65535 - HEADER
    chains = {
        PayloadType.VENDOR: bytes([PayloadType.VENDOR, 0, 0, 4]) * (room // 4 - 1) + bytes([0, 0, 0, 4]),
        PayloadType.SA: bytes([0, 0]) + (4 + 8 * 8180).to_bytes(2) + bytes.fromhex("0200000801010000") * 8179
        + bytes.fromhex("0000000801010000"),
    }
    for kind, chain in chains.items():
        header = message(exchange=ExchangeType.IKE_SA_INIT).header(kind).pack(HEADER + len(chain))
        tracemalloc.start()
        begun = time.process_time()
        parsed = Message.parse(header + chain)
        assert time.process_time() - begun < 2
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
        tracemalloc.stop()
        assert parsed.payloads

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Broken and whole frames of all kinds through the whole CFE, each with the fate that plain Python tells."""

import random
from collections import Counter

import pytest

from spigate.hdl.contract.enums import Action, Port, Reason
from spigate.hdl.net.descriptor import Verdict
from spigate.hdl.net.packet import BEAT_BYTES
from tests.hdl.cfe.bench import CONTROL, Run
from tests.hdl.cfe.frames import classify, first_match
from tests.hdl.cfe.traffic import frames, mutated

pytestmark = pytest.mark.slow

HERE = 0xC6336407
KNOWN = {0x12345678: (0, 5), 256: (1, 6), 0xFFFFFFFF: (2, 7)}
"""DFE and SA by SPI; DFE 2 is disabled."""


def rule(action, **fields):
    return {
        "source_port_high": 65535,
        "destination_port_high": 65535,
        "any_protocol": 1,
        "ingress": 0b1011,
        "valid": 1,
        "route": 1,
        "action": action,
        **fields,
    }


RULES = [
    rule(Action.PUNT, any_protocol=0, protocol=59),
    rule(Action.PROTECT, any_protocol=0, protocol=17, ingress=2, dfe=1, sa=44),
    rule(Action.DISCARD, any_protocol=0, protocol=6, destination_port_low=400, destination_port_high=500),
    rule(Action.PROTECT, any_protocol=0, protocol=1, dfe=2, sa=45),
    rule(Action.BYPASS, destination=HERE, destination_mask=0xFFFFFF00, ingress=1),
]


def fate(frame, port, depth):
    """(verdict, reason, DFE, SA); None for a DFE that the balancer chooses, and for what does not matter."""
    verdict, reason, facts = classify(frame, link=port != Port.RECIRCULATE)
    if verdict != Verdict.DROP and facts.get("own") and facts.get("destination") == HERE:
        return Verdict.PUNT, (Reason.IKE, Reason.NATT)[facts["own"] - 1], None, None
    if verdict is not None:
        return verdict, reason, None, None
    if facts["protocol"] == 50:
        if facts["destination"] != HERE or facts["spi"] not in KNOWN:
            return Verdict.PUNT, Reason.UNKNOWN_SPI, None, None
        dfe, sa = KNOWN[facts["spi"]]
        if depth > CONTROL["depth_limit"]:
            return Verdict.DROP, Reason.NESTED, None, None
        return (
            (Verdict.PUNT, Reason.DFE_DOWN, dfe, sa) if dfe == 2 else (Verdict.DECRYPT, Reason.NONE, dfe, sa)
        )
    ports = facts.get("ports", (0, 0))
    found = first_match(
        dict(enumerate(RULES)),
        {
            **{name: facts[name] for name in ("source", "destination", "protocol")},
            "ingress": port,
            "ports": "ports" in facts,
            "source_port": ports[0],
            "destination_port": ports[1],
        },
    )
    if found is None:
        return Verdict.PUNT, Reason.NO_RULE, None, None
    _, action, dfe, sa, *_ = found
    if action == Action.PROTECT:
        return (
            (Verdict.PUNT, Reason.DFE_DOWN, dfe, sa) if dfe == 2 else (Verdict.ENCRYPT, Reason.NONE, dfe, sa)
        )
    return {
        Action.BYPASS: (Verdict.BYPASS, Reason.NONE),
        Action.DISCARD: (Verdict.DROP, Reason.POLICY),
        Action.PUNT: (Verdict.PUNT, Reason.RULE),
    }[action] + (None, None)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", ["none", "both"])
@pytest.mark.parametrize("seed", [1])
def test_every_frame_has_the_fate_it_should(beat_bytes, pauses, seed):
    print(f"seed {seed}")
    rng = random.Random(f"{seed} {beat_bytes} {pauses}")
    cases = [frame for _, frame, _ in frames()]
    cam = [
        {"destination": HERE, "spi": spi, "dfe": dfe, "sa": sa, "route": 1}
        for spi, (dfe, sa) in KNOWN.items()
    ]
    run = Run(
        beat_bytes=beat_bytes,
        dfes=3,
        pauses=pauses,
        control={"enable": 0b011},
        rules=RULES,
        cam=cam,
        own=[HERE],
    )
    expected = []
    for _ in range(500 if pauses == "none" else 200):
        frame = mutated(rng, cases) if rng.random() < 0.7 else rng.choice(cases)
        port, depth = rng.choice([Port.NETWORK, Port.SERVER, Port.RECIRCULATE, Port.CE]), 0
        if port == Port.NETWORK:
            run.network(frame)
        elif port == Port.SERVER:
            run.server(frame)
        elif port == Port.RECIRCULATE:
            depth = rng.randrange(1, 4)
            run.recirculate(frame, depth=depth)
        elif len(frame) >= 14:
            port, depth = rng.choice([Port.NETWORK, Port.SERVER]), rng.randrange(4)
            run.inject(frame, port=port, depth=depth)
        else:
            run.inject(frame)
        expected.append((frame, *fate(frame, port, depth)))
    run.run(clocks=100_000)

    dropped = Counter(reason for _, verdict, reason, _, _ in expected if verdict == Verdict.DROP)
    assert run.dropped == dropped
    through = Counter(
        (frame, verdict, reason) for frame, verdict, reason, _, _ in expected if verdict != Verdict.DROP
    )
    assert (
        Counter((out.frame, Verdict(out.info.verdict), Reason(out.info.reason)) for out in run.to_dfe)
        + Counter((out.frame, Verdict.PUNT, Reason(out.info["reason"])) for out in run.direct)
        == through
    )
    bound = Counter((frame, dfe, sa) for frame, verdict, _, dfe, sa in expected if dfe is not None)
    assert (
        Counter(
            (out.frame, out.info.dfe, out.info.sa)
            for out in run.to_dfe
            if out.info.verdict in (Verdict.DECRYPT, Verdict.ENCRYPT)
        )
        + Counter(
            (out.frame, out.info["dfe"], out.info["sa"])
            for out in run.direct
            if out.info["reason"] == Reason.DFE_DOWN
        )
        == bound
    )
    assert all(out.dfe == out.info.dfe != 2 for out in run.to_dfe)
    counters = run.counters
    assert (
        sum(counters[name] for name in counters if name.endswith("_in")) == len(expected) == run.accounted()
    )
    assert counters["punts"] == len(run.direct)
    assert len(set(dropped)) >= 4 and len(run.punted) >= 7

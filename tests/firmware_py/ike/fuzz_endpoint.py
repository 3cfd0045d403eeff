# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Two endpoints, of which both have the keys, and each now and then says something that is wrong, while
somebody on the way sends damaged copies of all that is said: what :mod:`tests.firmware_py.ike.watch` says
holds.

``python -m tests.firmware_py.ike.fuzz_endpoint --count 1000000`` prints its seed and what became of the
messages.
"""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager

from spigate.firmware_py.ike.engine import dialogue
from spigate.firmware_py.ike.engine.actions import NAT_PORT, Datagram
from spigate.firmware_py.ike.engine.nat import MARKER
from spigate.firmware_py.ike.peers.retransmission import Retransmission
from spigate.firmware_py.ike.wire.payloads import pack_chain
from spigate.firmware_py.ike.wire.registry import ExchangeType, PayloadType
from spigate.hdl.contract.enums import Mode
from tests.firmware_py import fuzzing
from tests.firmware_py.ike.fuzz import mutate, mutate_one
from tests.firmware_py.ike.network import Host, child, esp, ike, pair
from tests.firmware_py.ike.watch import Watched

QUICK = {"retransmission": Retransmission(timeout=0.5, factor=1.5, tries=2), "dpd_seconds": 5}
COPIES = 4
"""Fewer damaged ones than that of each message."""
KINDS = (
    ({}, (child(),)),
    (
        {"proposals": ike("aes128gcm16-prfsha256-ecp256-x25519-ke1_mlkem768")},
        (child(proposals=esp("aes128gcm16-x25519-ke1_mlkem768")),),
    ),
    (
        {"fragment_bytes": 576},
        (
            child(traffic="", mode=Mode.TRANSPORT),
            child("other", "10.3.0.0/24=10.4.0.0/24", proposals=esp("aes128-sha256-ecp256")),
        ),
    ),
)


@contextmanager
def lying(rng: random.Random, counts: Counter, rate: int):
    """Messages are wrong inside, one in ``rate``: sealed with the right keys, by one who has them. In front
    of each go copies that were damaged on the way.
    """
    honest = dialogue.Dialogue._seal

    def seal(self, message):
        counts["messages"] += 1
        datagrams = honest(self, message)
        marker = MARKER if self.path.local.port == NAT_PORT else b""
        for _ in range(rng.randrange(COPIES)):
            counts["mutated"] += 1
            self.context.emit(
                Datagram(self.path.local, self.path.remote, marker + mutate(rng, rng.choice(datagrams)))
            )
        if rng.randrange(rate):
            return datagrams
        counts["mutated"] += 1
        counts["wrong"] += 1
        if self.protection is None:
            return (mutate(rng, message.pack()),)
        if message.payloads and rng.randrange(2):
            first, text = mutate_one(rng, message.payloads)
        else:
            first, text = pack_chain(message.payloads)
            text = mutate(rng, text)
        if not rng.randrange(10):
            message = dialogue.Message(
                message.spi_i,
                message.spi_r,
                rng.choice([*ExchangeType, 99]),
                message.initiator,
                message.response,
                message.message_id,
            )
        return (self.protection._seal(message, PayloadType.SK, b"", first, text),)

    dialogue.Dialogue._seal = seal
    try:
        yield
    finally:
        dialogue.Dialogue._seal = honest


def command(rng: random.Random, host: Host, peer: str) -> None:
    match rng.randrange(7):
        case 0 | 1:
            host.rekey(peer, rng.choice([None, host.peers[0].children[-1].name]))
        case 2:
            host.initiate(peer, rng.choice([None, host.peers[0].children[-1].name]))
        case 3:
            host.terminate(peer, rng.choice([None, *[each.name for each in host.peers[0].children]]))
        case _:
            host.initiate(peer)


def fuzz(count: int, seed: int, progress: Callable[[int], None]) -> Counter:
    """Goes on until ``count`` messages were mutated; how many messages there were, how many of them wrong
    inside, and what the endpoints told of."""
    rng, counts = random.Random(seed), Counter()
    while counts["mutated"] < count:
        progress(counts["mutated"])
        settings, children = rng.choice(KINDS)
        network, a, b = pair(
            *children, seed=rng.getrandbits(32), a={**QUICK, **settings}, b={**QUICK, **settings}
        )
        watched = Watched(a), Watched(b)
        with lying(rng, counts, rng.choice((3, 6, 20))):
            for _ in range(20):
                command(rng, *rng.choice(((a, "b"), (b, "a"))))
                network.run(rng.choice((0, 0.005, 1, 10)))
                for each in watched:
                    each.look()
        for host in (a, b):
            host.stop()
        network.run(1000)
        for each in watched:
            counts.update(each.ended())
            counts["most calls for one"] = max(counts["most calls for one"], each.calls)
    return counts


if __name__ == "__main__":
    fuzzing.main(fuzz, __doc__)

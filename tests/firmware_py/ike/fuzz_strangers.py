# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Two endpoints with a tunnel that is renewed again and again, and strangers who have no credentials: they
begin handshakes, answer others', exchange keys and say anything under them, damage copies of what is said,
and make up the rest. What
:mod:`tests.firmware_py.ike.watch` says holds, the log stays within the limit on strangers, and the tunnel
stands.

``python -m tests.firmware_py.ike.fuzz_strangers --count 1000000`` prints its seed and what became of the
datagrams.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

from spigate.firmware_py.ike.crypto.proposals import offer
from spigate.firmware_py.ike.engine.actions import NAT_PORT, Datagram, Socket
from spigate.firmware_py.ike.engine.endpoint import MAX_INIT
from spigate.firmware_py.ike.engine.nat import MARKER
from spigate.firmware_py.ike.wire.message import HEADER, Message
from spigate.firmware_py.ike.wire.payloads import (
    Auth,
    Delete,
    IdI,
    IdR,
    Notify,
    Payload,
    SecurityAssociation,
    Unknown,
    Vendor,
    pack_chain,
)
from spigate.firmware_py.ike.wire.registry import ExchangeType, IdType, NotifyType, PayloadType, ProtocolId
from spigate.firmware_py.ike.wire.selectors import payloads
from tests.firmware_py import fuzzing
from tests.firmware_py.ike.fuzz import mutate, mutate_one
from tests.firmware_py.ike.network import FAST_ESP, Host, Network, joined, net, pair
from tests.firmware_py.ike.raw import GATEWAY, Impostor, RawInitiator
from tests.firmware_py.ike.watch import KINDS_OF_STRANGERS, Watched, most_of_strangers

ROUND_SECONDS = 60.0
PER_ROUND = 2500
A = Socket(ip_address("192.0.2.1"), 500)
CHEAP, KEYED = 20, 2
"""How often what costs a stranger nothing, for each key exchange with B."""


def inner(rng: random.Random) -> tuple[Payload, ...]:
    """What may stand in IKE_AUTH and the like, without any secret."""
    names = [b"a.example", b"b.example", bytes(rng.randrange(300)), rng.randbytes(8)]
    kinds = [*IdType, 99]
    choices: list[Payload] = [
        IdI(rng.choice(kinds), rng.choice(names)),
        IdR(rng.choice(kinds), rng.choice(names)),
        Auth(rng.choice((1, 2, 9, 14)), rng.randbytes(rng.choice((0, 1, 32, 256)))),
        SecurityAssociation(offer(FAST_ESP, rng.randbytes(4), key_exchange=False)),
        *payloads((net("10.1.0.0/24=10.2.0.0/24"),)),
        Notify(rng.choice([*NotifyType, 40000]), rng.randbytes(rng.randrange(8))),
        Unknown(b"x", payload_type=rng.randrange(1, 256), critical=bool(rng.randrange(2))),
        Delete(ProtocolId.IKE),
        Vendor(bytes(rng.randrange(3000))),
    ]
    if rng.randrange(4):
        return (
            IdI(IdType.FQDN, b"a.example"),
            Auth(2, rng.randbytes(32)),
            *rng.sample(choices, rng.randrange(3)),
        )
    return tuple(rng.sample(choices, rng.randrange(len(choices))))


class Strangers:
    """They know all that is on the wire."""

    def __init__(self, rng: random.Random, network: Network, a: Host, b: Host):
        self._rng, self._network, self._a, self._b = rng, network, a, b
        self.sent, self.hijacking = 0, False
        self._impostor = Impostor(lambda message: inner(rng))
        self._beginning = RawInitiator(b.endpoint)
        network.filters.append(self._between)

    def _between(self, datagram: Datagram) -> Datagram:
        """While A begins, somebody answers before B does."""
        if self.hijacking and datagram.source.address == self._a.address:
            answer = self._impostor.answer(datagram)
            if answer is not None:
                for _ in range(self._rng.choice((1, 1, 3))):
                    data = answer.data if self._rng.randrange(4) else mutate(self._rng, answer.data)
                    self._say(self._a, replace(answer, data=data))
        return datagram

    def _say(self, host: Host, datagram: Datagram) -> None:
        self.sent += 1
        host.endpoint.receive(self._network.now, datagram.data, datagram.destination, datagram.source)
        for output in host.endpoint.take():  # as :meth:`Host.settle`, but answers to strangers go nowhere
            if isinstance(output, Datagram) and output.destination.address not in (
                self._a.address,
                self._b.address,
            ):
                continue
            if isinstance(output, Datagram):
                self._network.send(output)
            elif type(output).__name__ == "Event":
                host.events.append(output)
            else:
                host.plane.apply(output)

    def act(self) -> None:
        kind = self._rng.randrange(CHEAP + KEYED)
        (self._cheap if kind < CHEAP else self._keyed)()

    def _from(self) -> Socket:
        address = self._rng.choice((A.address, ip_address("203.0.113.0") + self._rng.randrange(200)))
        return Socket(address, self._rng.choice((500, 4500, self._rng.randrange(1, 65536))))

    def _cheap(self) -> None:
        rng, seen = self._rng, self._network.seen
        host = rng.choice((self._a, self._b))
        local = Socket(host.address, rng.choice((500, 500, NAT_PORT)))
        match rng.randrange(6):
            case 0 | 1 if seen:  # a damaged copy, or the same again, from anywhere
                original = rng.choice(seen[-50:])
                host = self._a if original.destination.address == self._a.address else self._b
                data = original.data if rng.randrange(4) == 0 else mutate(rng, original.data)
                self._say(
                    host, Datagram(rng.choice((original.source, self._from())), original.destination, data)
                )
            case 2 | 3:  # a beginning
                data = getattr(self._beginning, "request", b"") or self._new_beginning()
                data = rng.randbytes(8) + data[8:]
                self._say(
                    host,
                    Datagram(
                        self._from(),
                        local,
                        self._marked(local, mutate(rng, data) if rng.randrange(3) else data),
                    ),
                )
            case 4:  # a header with SPIs that stand, and whatever
                ikes = list(host.endpoint.ikes)
                spis = (rng.choice(ikes).spi_i + rng.choice(ikes).spi_r) if ikes else rng.randbytes(16)
                body = rng.randbytes(rng.choice((0, 4, 40, 400)))
                data = (
                    spis
                    + bytes(
                        [
                            rng.choice((33, 41, 46, 53, 0)),
                            0x20,
                            rng.randrange(33, 45),
                            rng.choice((0, 8, 0x20, 0x28)),
                        ]
                    )
                    + rng.choice((0, 1, 2, 0xFFFFFFFF)).to_bytes(4)
                    + (HEADER + len(body)).to_bytes(4)
                    + body
                )
                self._say(
                    host, Datagram(rng.choice((A, GATEWAY, self._from())), local, self._marked(local, data))
                )
            case _:
                self._say(host, Datagram(self._from(), local, rng.randbytes(rng.randrange(60))))

    def _marked(self, local: Socket, data: bytes) -> bytes:
        return MARKER + data if local.port == NAT_PORT and self._rng.randrange(8) else data

    def _new_beginning(self) -> bytes:
        self._beginning.init(self._network.now)
        self._b.events += [each for each in self._beginning.outputs if type(each).__name__ == "Event"]
        return self._beginning.request

    def _keyed(self) -> None:
        """Keys that are good, and no secret."""
        rng, now = self._rng, self._network.now
        source = self._from()
        raw = RawInitiator(self._b.endpoint, str(source.address), source.port)
        raw.init(now, padding=rng.choice((0, 0, 0, 500, MAX_INIT)))
        self.sent += 2
        self._b.events += [each for each in raw.outputs if type(each).__name__ == "Event"]
        if not hasattr(raw, "protection"):
            return
        for _ in range(rng.choice((1, 1, 2))):
            kind = rng.choice((ExchangeType.IKE_AUTH, ExchangeType.IKE_AUTH, *ExchangeType))
            said = inner(rng) or (Delete(ProtocolId.IKE),)
            message = Message(
                raw.spi_i, raw.spi_r, kind, True, False, rng.choice((1, 1, raw.message_id)), said
            )
            if rng.randrange(2):
                data = raw.protection.seal(message, rng.choice((None, 600)))[0]
            else:
                first, text = mutate_one(rng, said) if rng.randrange(2) else pack_chain(said)
                data = raw.protection._seal(
                    message, PayloadType.SK, b"", first, mutate(rng, text) if rng.randrange(2) else text
                )
            raw.message_id += 1
            self._say(self._b, Datagram(source, GATEWAY, data))


def logged(host: Host) -> int:
    """Bytes of what strangers had logged."""
    return sum(len(event.text) + len(event.peer) for event in host.events if event.kind in KINDS_OF_STRANGERS)


def fuzz(count: int, seed: int, progress: Callable[[int], None]) -> Counter:
    """Goes on until strangers sent ``count`` datagrams; what they brought about."""
    rng, counts = random.Random(seed), Counter()
    while counts["datagrams"] < count:
        progress(counts["datagrams"])
        wide = {
            "address": None,
            "local_address": None,
            "networks": (),
            "remote_identity": rng.choice(("a.example", "%any", "*.example")),
        }
        network, a, b = pair(seed=rng.getrandbits(32), a={"initiate": True, "retry_seconds": 2}, b=wide)
        strangers, watched = Strangers(rng, network, a, b), (Watched(a), Watched(b))
        strangers.hijacking = bool(rng.randrange(2))
        a.start()
        while strangers.sent < PER_ROUND:
            strangers.act()
            if rng.randrange(40) == 0:
                network.run(rng.choice((0.01, 1, 5)))
                for each in watched:
                    each.look()
            if rng.randrange(400) == 0:
                strangers.hijacking = bool(rng.randrange(2))
                a.rekey("b", rng.choice((None, "net")))
        strangers.hijacking = False
        network.run(ROUND_SECONDS)
        assert joined(a, b), "the tunnel does not stand"
        for each in watched:
            assert logged(each.host) <= most_of_strangers(network.now), (
                f"{logged(each.host)} bytes in {network.now:.0f} s"
            )
        for host in (a, b):
            host.stop()
        network.run(1000)
        for each in watched:
            counts.update(each.ended())
            counts["most calls for one"] = max(counts["most calls for one"], each.calls)
        counts["datagrams"] += strangers.sent
    return counts


if __name__ == "__main__":
    fuzzing.main(fuzz, __doc__)

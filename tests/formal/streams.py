# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The rules of streams, once: asserted of what a block sends, assumed of what it is sent, and asserted in
simulation.
"""

from amaranth.hdl import Assert, Assume, Cat, Elaboratable, Module, Mux, Signal, Value

from spigate.hdl.net.packet import Beat


def keeps_rules(
    m: Module, stream, claim=Assert, *, name: str = "stream", domain: str = "comb", whole: bool = True
) -> None:
    """States of ``stream``:

    - an item that is offered stays, unchanged, until it is taken (``amaranth.lib.stream``);
    - a beat of a packet says ``abort`` only with ``last``; it has all its bytes but in the last one, which
      has one or more (:class:`~spigate.hdl.net.packet.Beat`). So a packet ends where ``last`` says, and has
      no holes.

    Parameters
    ----------
    claim
        :class:`Assert` of what a block sends, or :class:`Assume` of what its surroundings send.
    domain : str
        ``comb`` for proofs; ``sync`` for simulators, in which values settle within a clock.
    whole : bool
        False: the second rule is not stated.
    """
    payload = _meant(stream.payload)
    waits, kept = Signal(name=f"{name}_waits"), Signal(len(payload), name=f"{name}_kept")
    m.d.sync += [waits.eq(stream.valid & ~stream.ready), kept.eq(payload)]
    m.d[domain] += [
        claim(~waits | stream.valid, f"{name}: an item was taken back"),
        claim(~waits | (payload == kept), f"{name}: an item changed while it waited"),
    ]
    if whole and isinstance(stream.payload.shape(), Beat):
        beat = stream.payload
        whole = len(beat.data) // 8
        sound = (beat.last | ~beat.abort & (beat.count == whole)) & (
            ~beat.last | beat.abort | (beat.count != 0) & (beat.count <= whole)
        )
        m.d[domain] += claim(~stream.valid | sound, f"{name}: a beat has a hole")


def _meant(payload) -> Value:
    """What a payload says: of a packet's last beat not the bytes beyond its end, which are undefined."""
    if not isinstance(payload.shape(), Beat):
        return Value.cast(payload)
    size = len(payload.data) // 8
    there = [~payload.last | ~payload.abort & (at < payload.count) for at in range(size)]
    return Cat(
        payload.last,
        payload.abort,
        Mux(payload.abort, 0, payload.count),
        (Mux(valid, payload.data.word_select(at, 8), 0) for at, valid in enumerate(there)),
    )


def streams_of(component) -> list[tuple[str, bool, object]]:
    """The streams among a component's members: (name, whether the component sends it, the stream)."""
    found = {}
    for path, member, value in component.signature.flatten(component):
        *parent, last = path
        if last in ("valid", "ready", "payload"):
            found.setdefault(tuple(parent), {})[last] = (member.flow, value)
    result = []
    for path, members in found.items():
        if set(members) == {"valid", "ready", "payload"}:
            owner = component
            for step in path:
                owner = owner[step] if isinstance(step, int) else getattr(owner, step)
            result.append(("_".join(map(str, path)), members["valid"][0].name == "Out", owner))
    return result


def all_keep_rules(m: Module, component) -> None:
    """States the rules of all streams of ``component``: asserts them of what it sends, and assumes them of
    what it is sent.
    """
    for name, sends, stream in streams_of(component):
        keeps_rules(m, stream, Assert if sends else Assume, name=name)


class Watched(Elaboratable):
    """``component`` in a simulator that fails where it breaks the rules of a stream that it sends. What it
    is sent is the test's.
    """

    def __init__(self, component):
        self._component = component

    def elaborate(self, platform):
        m = Module()
        m.submodules.watched = self._component
        for name, sends, stream in streams_of(self._component):
            if sends:
                keeps_rules(m, stream, name=name, domain="sync")
        return m

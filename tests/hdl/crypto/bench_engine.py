# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Runs in the simulator: plays the streams of an engine's contexts from a file and notes what comes out."""

import json
import random
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, ReadOnly

from spigate.sim.build import parameters

IDLE_CLOCKS = 20_000


class Source:
    """Offers the items of a stream. Each is (value, what to do when it is taken)."""

    def __init__(self, dut, name, items, pause):
        self.payload, self.valid, self.ready = (
            getattr(dut, f"{name}__{part}") for part in ("payload", "valid", "ready")
        )
        self.items, self.pause, self.offered = iter(items), pause, None
        self.valid.value = self.payload.value = 0

    def drive(self):
        if self.offered is None and not self.pause():
            self.offered = next(self.items, None)
            if self.offered is not None:
                self.payload.value = self.offered[0]
                self.valid.value = 1

    def sample(self, clock):
        if self.offered is not None and self.ready.value:
            self.offered[1](clock)
            self.offered = None
            return True
        return False

    def settle(self):
        if self.offered is None:
            self.valid.value = 0


class Sink:
    """Takes items of a stream."""

    def __init__(self, dut, name, take, pause):
        self.payload, self.valid, self.ready = (
            getattr(dut, f"{name}__{part}") for part in ("payload", "valid", "ready")
        )
        self.take, self.pause, self.is_ready = take, pause, False
        self.ready.value = 0

    def drive(self):
        ready = not self.pause()
        if ready != self.is_ready:
            self.ready.value = self.is_ready = ready

    def sample(self, clock):
        if self.is_ready and self.valid.value:
            self.take(clock, int(self.payload.value))
            return True
        return False


class Player:
    """One context: its packets, and what came of them."""

    def __init__(self, dut, context, packets, pause):
        self.packets, self.made = packets, []
        self.words, self.clocks = [], [{} for _ in packets]
        name = f"context__{context}"
        words = [
            (word, self.note(at, "first" if not n else "last"))
            for at, packet in enumerate(packets)
            for n, word in enumerate(packet["i"])
        ]
        self.sources = [
            Source(
                dut,
                f"{name}__job",
                [(packet["job"], self.note(at, "job")) for at, packet in enumerate(packets)],
                pause,
            ),
            Source(
                dut,
                f"{name}__material",
                [(row, lambda clock: None) for packet in packets for row in packet["material"]],
                pause,
            ),
            Source(dut, f"{name}__i", words, pause),
        ]
        self.streams = [
            *self.sources,
            Sink(dut, f"{name}__o", self.take_word, pause),
            Sink(dut, f"{name}__result", self.take_result, pause),
        ]

    def note(self, at, what):
        def taken(clock):
            self.clocks[at][what] = clock

        return taken

    def take_word(self, clock, word):
        self.words.append(word)

    def take_result(self, clock, result):
        at = len(self.made)
        self.clocks[at]["result"] = clock
        self.made.append({"words": self.words, "ok": result, "clocks": self.clocks[at]})
        self.words = []

    @property
    def done(self):
        return len(self.made) == len(self.packets) and not self.words


@cocotb.test()
async def play(dut):
    settings = parameters()
    plan = json.loads(Path(settings["plan"]).read_text())
    source = random.Random(plan["seed"])
    share = plan["pause"]
    pause = (lambda: source.random() < share) if share else (lambda: False)
    players = [Player(dut, context, packets, pause) for context, packets in enumerate(plan["contexts"])]
    streams = [stream for player in players for stream in player.streams]
    sources = [stream for player in players for stream in player.sources]
    Clock(dut.clk, 10, "ns", impl="gpi").start()
    dut.rst.value = 1
    await ClockCycles(dut.clk, 2)
    dut.rst.value = 0
    clock = moved = 0
    while not all(player.done for player in players):
        await FallingEdge(dut.clk)
        for stream in sources:
            stream.settle()
        for stream in streams:
            stream.drive()
        await ReadOnly()
        for stream in streams:
            if stream.sample(clock):
                moved = clock
        clock += 1
        assert clock - moved < IDLE_CLOCKS, (
            f"The engine hangs after {[len(player.made) for player in players]} packets"
        )
    Path(settings["outcome"]).write_text(json.dumps([player.made for player in players]))

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Runs in the simulator, for tests/sim/test_differential.py: random worlds through the gateware and its
control element.
"""

import random
from collections import Counter

import cocotb

from spigate.firmware_py.control.element import ControlElement
from spigate.firmware_py.control.settings import Settings
from spigate.firmware_py.ipsec.policy import PolicyAction
from spigate.firmware_py.tables.driver import Driver
from spigate.firmware_py.tables.interface import UNLIMITED, CfeSettings
from spigate.hdl.contract.enums import Port
from spigate.sim.board import Board
from spigate.sim.build import parameters
from spigate.sim.session import Session
from tests.firmware_py.differential import TOPOLOGY, World, canonical, frame, wanted
from tests.firmware_py.differential_linux import Trial, gateway
from tests.firmware_py.linux_words import DEVICES
from tests.firmware_py.linux_world import Case, Change

BATCH = 8
"""Packets inside together; between two batches policies, children and SAs may change."""


@cocotb.test()
async def differential(dut):
    given = parameters()
    board = Board(dut)
    await board.start()
    for seed in range(given["seed"], given["seed"] + given["worlds"]):
        driver = await Driver.open(board.bus)
        await driver.clear()
        await (linux if given.get("linux") else world)(board, driver, seed, given["packets"])


def control_element(board: Board, driver: Driver, made: World | Trial, host: list[bytes]) -> ControlElement:
    control = ControlElement(
        tables=driver,
        port=board.port,
        topology=TOPOLOGY,
        sas=list(made.sas),
        policies=list(made.policies),
        clock=lambda: 0.0,
        settings=Settings(
            default=PolicyAction(made.default),
            own_host=True,
            cfe=CfeSettings(miss_interval=0, rates=UNLIMITED),
        ),
    )  # what limits drop no text foresees
    control.on_host = lambda header, one: host.append(one[14:])
    return control


async def world(board: Board, driver: Driver, seed: int, packets: int) -> None:
    made = World(seed, random.Random(seed).choice(("bypass", "discard")))
    host: list[bytes] = []
    control = control_element(board, driver, made, host)
    await control.start()
    session = Session(board, driver, control)
    for _ in range(packets // BATCH):
        if made.random.random() < 0.2:
            kind, what = made.change()
            await getattr(control, kind)(what)
        expected = []
        for _ in range(BATCH):
            ingress, packet, sa = made.arrival()
            expected.append(made.expected(ingress, packet, sa))
            port = Port.SERVER if ingress == "server" else Port.NETWORK
            await session.feed(port, frame(port, made.sealed(sa, packet) if sa else packet))
        await session.settle()
        left = Counter(
            canonical(made, port, arrival.frame)
            for port in (Port.NETWORK, Port.SERVER)
            for arrival in session.sent[port]
        )
        assert (left, Counter(host)) == wanted(expected), f"seed {seed}"
        for each in (*session.sent.values(), host):
            each.clear()
    board.check()
    await driver.check()
    assert not control.consumed["loop"], f"seed {seed}"


async def linux(board: Board, driver: Driver, seed: int, cases: int) -> None:
    """Frames of all kinds that go to Linux too: what the model makes of them, with which Linux agrees."""
    trial = Trial(seed, cases)
    expected = iter(await gateway(trial))
    host: list[bytes] = []
    control = control_element(board, driver, trial, host)
    await control.start()
    session = Session(board, driver, control)
    fed: list[Counter] = []
    for step in [*trial.steps, None]:
        if isinstance(step, Case):
            for each in step.frames:
                await session.feed(step.port, each)
            fed.append(next(expected))
        if len(fed) == BATCH or (fed and not isinstance(step, Case)):
            await session.settle()
            left = trial.seen(
                [
                    *((DEVICES[port], arrival.frame) for port in DEVICES for arrival in session.sent[port]),
                    *(("host", one) for one in host),
                ]
            )
            assert left == sum(fed, Counter()), (
                f"seed {seed}: {left - sum(fed, Counter())} and not {sum(fed, Counter()) - left}"
            )
            for each in (*session.sent.values(), host, fed):
                each.clear()
        if isinstance(step, Change):
            await getattr(control, step.kind)(step.what)
    board.check()
    await driver.check()
    assert not control.consumed["loop"], f"seed {seed}"

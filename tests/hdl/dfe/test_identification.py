# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Numbers of what a DFE encrypts: RFC 6864 4.3 wants none twice between two addresses, whichever of the
gateway's parts makes them.
"""

import pytest

from spigate.firmware_py.ipsec.identification import SOFTWARE_NUMBERS, DfeIdentifications
from spigate.hdl.dfe.identification import Identification
from tests.hdl.streams import simulate

AGAIN = {1: 57344, 2: 28672, 3: 14336, 4: 14336, 5: 7168, 8: 7168}
"""After how many packets of a DFE a number comes again, by how many DFEs there are."""


def numbers_of(dfes: int, index: int, count: int) -> list[int]:
    made, numbers = Identification(dfes=dfes), []

    async def testbench(ctx):
        ctx.set(made.index, index)
        ctx.set(made.take, 1)
        for _ in range(count):
            numbers.append(ctx.get(made.number))
            await ctx.tick()

    simulate(made, testbench, clocks=count + 10)
    return numbers


@pytest.mark.parametrize("dfes", AGAIN)
def test_comes_again_when_it_should_and_from_nowhere_else(dfes):
    taken = set(range(SOFTWARE_NUMBERS + 1))
    for index in range(dfes):
        numbers = numbers_of(dfes, index, AGAIN[dfes] + 3)
        cycle, again = numbers[: AGAIN[dfes]], numbers[AGAIN[dfes] :]
        assert len(set(cycle)) == AGAIN[dfes] and again == cycle[:3]
        assert not taken & set(cycle), "another DFE's, or the software path's"
        taken |= set(cycle)
        model = DfeIdentifications(index, dfes)
        assert numbers == [model.next() for _ in numbers]


def test_stays_until_it_is_taken():
    made = Identification(dfes=2)

    async def testbench(ctx):
        first = ctx.get(made.number)
        await ctx.tick().repeat(5)
        assert ctx.get(made.number) == first
        ctx.set(made.take, 1)
        await ctx.tick()
        assert ctx.get(made.number) != first

    simulate(made, testbench)


@pytest.mark.filterwarnings("ignore::amaranth.UnusedElaboratable")
@pytest.mark.parametrize("dfes", [0, 9])
def test_refuses_numbers_it_cannot_tell_apart(dfes):
    with pytest.raises(ValueError, match=f"dfes must be 1 to 8, not {dfes}"):
        Identification(dfes=dfes)

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""An AXI4-Lite manager for tests in Amaranth's simulator, and registers by name."""

from spigate.hdl.contract import rdl
from tests.hdl.streams import Pause, never

REGISTERS = rdl.registers()


async def put_channel(ctx, axil, channel: str, pause: Pause = never, **payload) -> None:
    """One transfer on channel ``aw``, ``w`` or ``ar``."""
    while pause():
        await ctx.tick()
    for name, value in payload.items():
        ctx.set(getattr(axil, channel + name), value)
    ctx.set(getattr(axil, f"{channel}valid"), 1)
    ready = False
    while not ready:
        _, _, ready = await ctx.tick().sample(getattr(axil, f"{channel}ready"))
    ctx.set(getattr(axil, f"{channel}valid"), 0)


async def take_channel(ctx, axil, channel: str, *names: str, pause: Pause = never) -> tuple:
    """One transfer on channel ``b`` or ``r``; its signals ``names``."""
    while pause():
        await ctx.tick()
    ctx.set(getattr(axil, f"{channel}ready"), 1)
    valid = False
    while not valid:
        _, _, valid, *values = await ctx.tick().sample(
            getattr(axil, f"{channel}valid"), *(getattr(axil, channel + name) for name in names)
        )
    ctx.set(getattr(axil, f"{channel}ready"), 0)
    return tuple(values)


async def write(ctx, axil, address: int, data: int, strobe: int = 15) -> int:
    """Writes a word; the response."""
    await put_channel(ctx, axil, "aw", addr=address)
    await put_channel(ctx, axil, "w", data=data, strb=strobe)
    (response,) = await take_channel(ctx, axil, "b", "resp")
    return response


async def read(ctx, axil, address: int) -> tuple[int, int]:
    """Reads a word; data and response."""
    await put_channel(ctx, axil, "ar", addr=address)
    return await take_channel(ctx, axil, "r", "data", "resp")


def address(name: str, index: int | None = None) -> int:
    """The address of register ``name``, or of its element ``index``."""
    return REGISTERS[name].address if index is None else REGISTERS[name].at(index)


async def get(ctx, axil, name: str, index: int | None = None) -> int:
    """Reads a register that must answer."""
    data, response = await read(ctx, axil, address(name, index))
    assert response == 0, f"{name} answered {response}"
    return data


async def fields(ctx, axil, name: str, index: int | None = None) -> dict[str, int]:
    """Reads a register that must answer; its fields."""
    return REGISTERS[name].unpack(await get(ctx, axil, name, index))


async def put(
    ctx, axil, name: str, value: int | None = None, index: int | None = None, **values: int
) -> None:
    """Writes a register that must answer: a ``value``, or its fields."""
    word = REGISTERS[name].pack(values) if value is None else value
    assert await write(ctx, axil, address(name, index), word) == 0, f"{name} refused {word:#x}"


async def errors(ctx, axil) -> set[str]:
    """Names of the bits set in ``errors``; clears them."""
    word = await get(ctx, axil, "errors")
    await put(ctx, axil, "errors", word)
    return {name for name, value in REGISTERS["errors"].unpack(word).items() if value}

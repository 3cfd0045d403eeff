# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Checks of registers: what the gateway says that it is, what can be written and read back, the clock."""

import asyncio
from collections.abc import Iterator

from spigate.firmware_py.selftest.session import REGISTERS, Session
from spigate.firmware_py.words import counted
from spigate.hdl.contract import hashing
from spigate.hdl.contract.constants import REPLAY_WINDOW
from spigate.hdl.contract.enums import Table
from spigate.hdl.contract.parameters import PARAMETERS

CLOCK_SECONDS = 0.5
_SETTINGS = ("cfe.", "event_mask_")


async def capabilities(session: Session) -> str:
    """What the capability registers say is what a gateway can be. ``id`` and ``version`` were read before."""
    errors = await session.register("errors")
    await session.bus.write(REGISTERS["errors"].address, [errors])  # of somebody before
    for where, what in _impossible(await _words(session)):
        session.fail(where, what)
    has = session.has
    return (
        f"{counted(has.dfes, 'DFE')} of {counted(has.lanes, 'lane')}, {has.beat_bytes} bytes a beat, "
        f"{has.sa_entries} SAs each, {has.cam_entries} CAM entries"
    )


async def _words(session: Session) -> dict[str, dict[str, int]]:
    first, last = REGISTERS["geometry"].address, REGISTERS["clock"].address
    words = await session.bus.read(first, (last - first) // 4 + 1)
    return {
        name: register.unpack(words[(register.address - first) // 4])
        for name, register in REGISTERS.items()
        if first <= register.address <= last
    }


def _impossible(said: dict[str, dict[str, int]]) -> Iterator[tuple[str, str]]:
    """What no gateway says, by register."""
    parameters = {
        "geometry": ("beat_bytes", "dfes", "lanes"),
        "dfe_tables": ("sa_entries", "sources"),
        "cam": ("cam_entries",),
        "cfe_tables": ("rules", "routes"),
    }
    for register, names in parameters.items():
        for name in names:
            value = said[register][name]
            if value not in PARAMETERS[name].allowed:
                yield f"{register}.{name}", f"it reads {value}, and must be {PARAMETERS[name].limits}"
    if said["clock"]["khz"] not in PARAMETERS["clock_khz"].allowed:
        yield "clock.khz", f"it reads {said['clock']['khz']}, and must be {PARAMETERS['clock_khz'].limits}"
    cam, algorithms, features = said["cam"], said["algorithms"], said["features"]
    rows = hashing.cam_rows(min(max(cam["cam_entries"], 64), 8192))
    if (cam["cam_ways"], 1 << cam["row_bits"]) != (hashing.WAYS, rows):
        yield (
            "cam",
            (
                f"it reads {cam['cam_ways']} ways of {1 << cam['row_bits']} rows, "
                f"and must be {hashing.WAYS} of {rows}"
            ),
        )
    if not said["geometry"]["contexts"]:
        yield "geometry.contexts", "it reads 0, and an engine has one context or more"
    aes = algorithms["cipher_aes_cbc"] or algorithms["cipher_aes_gcm"]
    separate = algorithms["cipher_aes_cbc"] or algorithms["cipher_null"]
    for wrong, what in (
        (not aes and not algorithms["cipher_null"], "no cipher"),
        (bool(aes) != any(algorithms[f"key_aes{bits}"] for bits in (128, 192, 256)), "AES without key sizes"),
        (algorithms["cipher_aes_gcm"] != algorithms["gcm_icv16"], "AES-GCM without length of its ICV"),
        (bool(separate) != any(on for name, on in algorithms.items() if name[:4] == "auth"), "no HMAC"),
    ):
        if wrong:
            yield "algorithms", f"what it names does not go together: {what}"
    if features["replay_window"] != REPLAY_WINDOW:
        yield "features.replay_window", f"it reads {features['replay_window']}, and must be {REPLAY_WINDOW}"
    if not features["tunnel"] and not features["transport"]:
        yield "features", "it names neither tunnel nor transport mode"
    events = said["event_geometry"]
    if events["view"] != REGISTERS["event.what"].elements or events["depth"] < events["view"]:
        yield "event_geometry", f"it reads a depth of {events['depth']} and a view of {events['view']}"


async def erase(session: Session) -> str:
    """All tables are erased: whatever stood there, nobody can read it."""
    await session.configure()
    await session.clear(Table)
    return "whatever stood in them"


async def settings(session: Session) -> str:
    """Every bit of the registers that can be written and read, as 0 and as 1; then they are as they were."""
    registers = [each for name, each in REGISTERS.items() if name.startswith(_SETTINGS)]
    masks = [sum((1 << f.width) - 1 << f.low for f in each.fields.values()) for each in registers]
    before = await session.in_flight(session.bus.read(each.address) for each in registers)
    try:
        for pattern in (0xA5A5_5A5A, 0x5A5A_A5A5):
            values = [pattern ^ 0x0101_0101 * at & 0xFFFF_FFFF for at in range(len(registers))]
            await session.in_flight(
                session.bus.write(each.address, [value & mask])
                for each, value, mask in zip(registers, values, masks, strict=True)
            )
            found = await session.in_flight(session.bus.read(each.address) for each in registers)
            for each, value, mask, (word,) in zip(registers, values, masks, found, strict=True):
                if word != value & mask:
                    wrong = word ^ value & mask
                    bits = ", ".join(str(bit) for bit in range(32) if wrong >> bit & 1)
                    session.fail(each.name, f"{value & mask:#010x} was written, bits {bits} read otherwise")
    finally:
        await session.in_flight(
            session.bus.write(each.address, word) for each, word in zip(registers, before, strict=True)
        )
    return f"{len(registers)} registers"


async def clock(session: Session) -> str:
    """The clock counts on."""
    loop = asyncio.get_running_loop()
    first, begun = await session.driver.time(), loop.time()
    await asyncio.sleep(CLOCK_SECONDS)
    last, seconds = await session.driver.time(), loop.time() - begun
    counted_clocks = (last - first) % (1 << 32)
    if not counted_clocks:
        session.fail("register time", f"it read {first} twice, {seconds:.1f} s apart")
    return (
        f"{counted_clocks / seconds / 1e6:.3g} MHz; the core was made for {session.has.clock_khz / 1e3:g} MHz"
    )

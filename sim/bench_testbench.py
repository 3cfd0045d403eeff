"""Inside the simulator: the measurements of :mod:`spigate.sim.bench`. Tables are written by the driver alone, before
the clock of a measurement runs."""
import json
import random
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import cocotb

from spigate.firmware_py.driver import Driver
from spigate.firmware_py.packet import Ethernet
from spigate.firmware_py.punt import Port
from spigate.firmware_py.sa import Auth, Cipher, Direction, Mode, Sa
from spigate.firmware_py.soft.sa import SoftSa
from spigate.firmware_py.tables import CamEntry, CamKey, CfeSettings, Route
from spigate.sim.board import Board
from spigate.sim.build import parameters

PEER, OURS = ip_address("192.0.2.1"), ip_address("192.0.2.2")
ETHERNET = Ethernet(bytes.fromhex("020000000002"), bytes.fromhex("020000000001"), 0x0800).pack()
SUITES = {
    "gcm128": {"cipher": Cipher.AES_GCM, "key": bytes(range(16)), "salt": b"salt", "icv_bytes": 16},
    "gcm256": {"cipher": Cipher.AES_GCM, "key": bytes(range(32)), "salt": b"salt", "icv_bytes": 16},
    "cbc128-sha256": {"cipher": Cipher.AES_CBC, "key": bytes(range(16)), "auth": Auth.HMAC_SHA256_128, "auth_key": bytes(range(32))},
    "cbc256-sha256": {"cipher": Cipher.AES_CBC, "key": bytes(range(32)), "auth": Auth.HMAC_SHA256_128, "auth_key": bytes(range(32))},
    "cbc128-sha1": {"cipher": Cipher.AES_CBC, "key": bytes(range(16)), "auth": Auth.HMAC_SHA1_96, "auth_key": bytes(range(20))},
    "null-sha256": {"cipher": Cipher.NULL, "auth": Auth.HMAC_SHA256_128, "auth_key": bytes(range(32))},
}


class Tunnels:
    """Inbound SAs, spread over the DFEs, written to the gateway, and what the peer sends on them."""

    def __init__(self, suite: str, count: int, dfes: int, first_spi: int):
        self.spis = range(first_spi, first_spi + count)
        self._dfes = dfes
        self._sas = [Sa(direction=Direction.INBOUND, spi=spi, source=PEER, destination=OURS, mode=Mode.TUNNEL, replay_window=64,
                        **SUITES[suite]) for spi in self.spis]
        self._peers = [SoftSa(replace(sa, direction=Direction.OUTBOUND)) for sa in self._sas]

    async def write(self, driver: Driver) -> None:
        await driver.write_route(0, Route(Port.SERVER))
        for at, sa in enumerate(self._sas):
            index = (sa.spi - 256) // self._dfes
            await driver.write_sa(at % self._dfes, index, sa, None)
            await driver.add_cam(CamEntry(CamKey(OURS, sa.spi), at % self._dfes, index, 0))

    def frame(self, number: int, inner: bytes) -> bytes:
        return ETHERNET + self._peers[number % len(self._peers)].encapsulate(inner)


def inner(size: int, number: int) -> bytes:
    """An IPv4 packet of ``size`` bytes."""
    header = bytearray(bytes.fromhex("450000000000000040110000") + bytes([10, 1, 0, 10, 10, 2, 0, 10]))
    header[2:4], header[4:6] = size.to_bytes(2), number.to_bytes(2)
    total = sum(int.from_bytes(header[at:at + 2]) for at in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    header[10:12] = ((total + (total >> 16)) & 0xFFFF ^ 0xFFFF).to_bytes(2)
    return bytes(header) + random.Random(number).randbytes(size - 20)


def unencrypted(spi: int, sequence: int, packet: bytes) -> bytes:
    """What the stand-in engine takes for an ESP packet of GCM."""
    padding = -(len(packet) + 2) % 4
    text = packet + bytes(range(1, padding + 1)) + bytes([padding, 4])
    esp = spi.to_bytes(4) + sequence.to_bytes(4) + bytes(8) + text + bytes(16)
    outer = inner(20 + len(esp), 0)[:20]
    outer = outer[:9] + b"\x32" + outer[10:12] + PEER.packed + OURS.packed
    total = sum(int.from_bytes(outer[at:at + 2]) for at in range(0, 20, 2) if at != 10)
    total = (total & 0xFFFF) + (total >> 16)
    return ETHERNET + outer[:10] + ((total + (total >> 16)) & 0xFFFF ^ 0xFFFF).to_bytes(2) + outer[12:] + esp


async def rate(board: Board, frames: list[bytes], plain: list[bytes]) -> float:
    """Clocks from one packet to the next, in steady state; all must come out, in order within an SA, as they went
    in."""
    async def feed():
        for frame in frames:
            await board.network.send(frame)

    task = cocotb.start_soon(feed())
    arrived = [await board.server_out.receive() for _ in frames]
    await task
    if sorted(arrival.frame[14:] for arrival in arrived) != sorted(plain):
        raise AssertionError("What came out is not what went in")
    skip = len(arrived) // 4
    return (arrived[-1].last - arrived[skip].last) / (len(arrived) - 1 - skip)


@cocotb.test()
async def measure(dut):
    given = parameters()
    board = Board(dut)
    await board.start()
    driver = await Driver.open(board.bus)
    dfes = driver.capabilities.dfes
    await driver.configure(CfeSettings(enable=(1 << dfes) - 1, patience=0xFFFF))
    found, spi = {}, 256
    for name, job in given["jobs"].items():
        kind = job["kind"]
        if kind == "classify":
            await driver.configure(CfeSettings(enable=(1 << dfes) - 1, miss_drop=True))
            frame = unencrypted(0xFFFF_0000, 1, b"").ljust(64, b"\0")
            for _ in range(20):
                await board.network.send(frame)
            start = board.network.started
            for _ in range(200):
                await board.network.send(frame)
            found[name] = (board.network.started - start) / 200
            await board.clocks(2000)
            await driver.configure(CfeSettings(enable=(1 << dfes) - 1, patience=0xFFFF))
            continue
        tunnels = Tunnels(job["suite"], job["sas"], dfes, spi)
        await tunnels.write(driver)
        if kind == "registers":
            before = board.bus.bursts, board.bus.words
            await driver.write_sa(0, 0, tunnels._sas[0], None)
            found[name] = [board.bus.bursts - before[0], board.bus.words - before[1]]
        elif kind == "latency":
            frame = tunnels.frame(0, inner(job["size"], 0))
            await board.network.send(frame)
            arrival = await board.server_out.receive()
            found[name] = arrival.last - board.network.started
        else:
            plain = [inner(job["size"], number) for number in range(job["packets"])]
            if given["stand_in"]:
                frames = [unencrypted(tunnels.spis[0], number + 1, packet) for number, packet in enumerate(plain)]
            else:
                frames = [tunnels.frame(number, packet) for number, packet in enumerate(plain)]
            found[name] = await rate(board, frames, plain)
        spi += job["sas"] + -job["sas"] % dfes
    board.check()
    Path(given["out"]).write_text(json.dumps(found))

# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Runs in the simulator, for tests/sim/floods.py: junk of every kind at line rate, at each port, with a
host that is slow.
"""

import json
import random
from pathlib import Path
from statistics import median

import cocotb

from spigate.firmware_py.ipsec.packet import UDP
from spigate.firmware_py.ipsec.sa import AH, ANY_IPV4, ESP, Lifetime
from spigate.firmware_py.tables.driver import Driver
from spigate.firmware_py.tables.interface import CamEntry, CamKey, CfeSettings, Source
from spigate.firmware_py.tables.punt import unpack_punt
from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import Direction, Port, Reason
from spigate.sim.bench_traffic import ETHERNET, OURS, PEER, Tunnels, behind, ipv4
from spigate.sim.board import Board
from spigate.sim.build import parameters

PACE = 250
"""Of 256 clocks, in how many the host takes nothing: a small punt takes it 250 clocks or more."""
PERIODS = {"ike": 600, "link": 2000, "exception": 2000, "spi": 2000, "rest": 2000}
"""Clocks for each punt that its class may have: together no more than the host takes."""
BETWEEN = 1500
"""Clocks from one probe to the next: IKE, and a packet for each DFE that is not flooded."""
GAP = 24
"""Bytes of preamble, frame check sequence and gap that each frame takes on a line."""
MARK = b"this is IKE"


def udp(source, destination, sport, dport, data=bytes(20), **fields):
    text = sport.to_bytes(2) + dport.to_bytes(2) + (8 + len(data)).to_bytes(2) + b"\0\0" + data
    return ipv4(source, destination, UDP, text, **fields)


def esp(spi, number=1, size=40):
    return ETHERNET + ipv4(PEER, OURS, ESP, spi.to_bytes(4) + number.to_bytes(4) + bytes(size))


def changed(packet, at, value):
    """With a byte changed, and the checksum of its header mended."""
    packet = bytearray(packet)
    old = packet[at & ~1 : (at & ~1) + 2]
    packet[at] = value
    total = (
        (~int.from_bytes(packet[10:12]) & 0xFFFF)
        + (~int.from_bytes(old) & 0xFFFF)
        + int.from_bytes(packet[at & ~1 : (at & ~1) + 2])
    )
    total = (total & 0xFFFF) + (total >> 16)
    packet[10:12] = (~((total & 0xFFFF) + (total >> 16)) & 0xFFFF).to_bytes(2)
    return bytes(packet)


def kinds(flooded):
    """Junk by name: frame number n. ``flooded``: an inbound SA of DFE 0."""
    stranger, far = PEER + 77, behind(200)
    random_bytes = random.Random(1).randbytes
    return {
        "unknown SPI": lambda n: esp(0x10000 + n),
        "one unknown SPI": lambda n: esp(0x10000),
        "no rule": lambda n: ETHERNET + udp(stranger + n % 4000, far, n % 60000 + 1, 7),
        "from port 500": lambda n: ETHERNET + udp(stranger, far, 500, n % 60000 + 501),
        "IKE in transit": lambda n: ETHERNET + udp(stranger, far, 500, 500),
        "IPv6": lambda n: ETHERNET[:12] + b"\x86\xdd\x60" + bytes(59),
        "not IP": lambda n: b"\xff" * 6 + ETHERNET[6:12] + b"\x88\xcc" + bytes(46),
        "AH": lambda n: ETHERNET + ipv4(stranger, OURS, AH, bytes(40)),
        "fragments": lambda n: (
            ETHERNET + changed(udp(stranger, OURS, 500, 500, identification=n & 0xFFFF), 6, 0x20)
        ),
        "NAT-T": lambda n: ETHERNET + udp(stranger, OURS, 4500, 4500, b"\1" * 30),
        "SA absent": lambda n: esp(0xFFFF, n),
        "forged, of an SA": lambda n: esp(flooded.spi, n & 0xFFFF | 1, 16 + 64 + 12),
        "forged and long": lambda n: esp(flooded.spi, n & 0xFFFF | 1, 16 + 1408 + 12),
        "reserved SPI": lambda n: esp(n % 256),
        "bad checksum": lambda n: ETHERNET + b"\x45\0\0\x40" + bytes(60),
        "random": lambda n: random_bytes(60),
    }


@cocotb.test(timeout_time=1000, timeout_unit="ms")
async def floods(dut):
    given = parameters()
    board = Board(dut)
    await board.start()
    driver = await Driver.open(board.bus)
    dfes = driver.capabilities.dfes
    clock = 1000 * driver.capabilities.clock_khz
    await driver.configure(
        CfeSettings(
            enable=(1 << dfes) - 1,
            miss_interval=1 << 20,
            rates=tuple(clock / period for period in PERIODS.values()),
            own=frozenset({OURS}),
        )
    )
    flooded = Tunnels("cbc128-sha1", Direction.INBOUND)
    await flooded.write(driver)
    # SAs of each other DFE, by the port at which their packets come in; of the only one, where there is no
    # other.
    probes = {
        name: [
            Tunnels("gcm128", direction, first=turn * dfes + at, dfes=dfes) for at in range(1, max(dfes, 2))
        ]
        for turn, (name, direction) in enumerate(
            (("server", Direction.OUTBOUND), ("network", Direction.INBOUND))
        )
    }
    for tunnels in (*probes["server"], *probes["network"]):
        await tunnels.write(driver)
    await driver.add_cam(CamEntry(CamKey(OURS, 0xFFFF), 0, 200, 1))
    await driver.write_source(0, 0, Source(ANY_IPV4.source, frozenset({Port.SERVER})))
    arrived, ike_came = {"network": [], "server": []}, []
    board.network_out.on_arrival, board.server_out.on_arrival = (
        arrived["server"].append,
        arrived["network"].append,
    )

    def up(arrival):
        header, frame = unpack_punt(arrival.frame)
        if MARK in frame:
            assert header.reason == Reason.IKE
            ike_came.append(arrival.first)

    board.punt.on_arrival = up
    sources = {"network": board.network, "server": board.server}
    serial = 0

    async def measure(junk, port, probing):
        """While ``junk`` comes in at one port: IKE at both, and packets of the other DFEs at the other one,
        in turn. What a port has in front of it is its own, so these are timed only where no port is flooded
        beyond its line."""
        nonlocal serial
        other = "server" if port == "network" else "network"
        stop, sent, waits, ike_sent, ike_before = [], [0], [], 0, len(ike_came)

        async def flood():
            number = 0
            while not stop:
                frame, begun = junk(number), board.cycle
                await sources[port].send(frame)
                number += 1
                if given["line"]:
                    rest = (len(frame) + GAP) * 8 // given["line"] - (board.cycle - begun)
                    if rest > 0:
                        await board.clocks(rest)
            sent[0] = number

        flooding = cocotb.start_soon(flood()) if junk else None
        await board.clocks(given["lead"])
        board.punt.pause(PACE)
        for number in range(probing):
            if number % 3 == 2 and given["line"]:
                tunnels, came = probes[other][number // 3 % len(probes[other])], arrived[other]
                before, started = len(came), board.cycle
                await sources[other].send(tunnels.frame(serial, tunnels.clear(64, serial)))
                serial += 1
                for _ in range(given["patience"] // 50):
                    if len(came) > before:
                        break
                    await board.clocks(50)
                assert len(came) == before + 1, "a packet of another DFE is lost"
                waits.append(came[-1].last - started)
            else:
                await sources[port if number % 3 else other].send(
                    ETHERNET + udp(PEER, OURS, 500, 500, MARK + serial.to_bytes(4))
                )
                ike_sent, serial = ike_sent + 1, serial + 1
            await board.clocks(BETWEEN)
        stop.append(True)
        if flooding:
            await flooding
        board.punt.pause(0)
        await board.clocks(given["settle"])
        board.check()
        return {
            "ike": [ike_sent, len(ike_came) - ike_before],
            "latency": median(waits) if waits else None,
            "junk": sent[0],
            "healthy": await driver.healthy(),
        }

    found = {"idle": {port: await measure(None, port, given["probes"]) for port in given["ports"]}}
    for name, junk in kinds(flooded.sas[0]).items():
        if name in given.get("kinds", [name]):
            found[name] = {port: await measure(junk, port, given["probes"]) for port in given["ports"]}
    # After all that there is still room for what is told once: an SA at its soft lifetime.
    ending = Tunnels("gcm128", Direction.INBOUND, first=2 * dfes)
    ending.sas[0] = type(ending.sas[0])(**{**ending.sas[0].__dict__, "soft": Lifetime(packets=1)})
    await ending.write(driver)
    await board.network.send(ending.frame(0, ending.clear(64, serial)))
    await board.clocks(5000)
    lost = (await board.bus.read(rdl.registers()["event_lost"].address))[0]
    told = [event.reason for event in await driver.events()]
    found["events"] = {
        "lost": lost,
        "soft lifetimes": told.count(Reason.SOFT_LIFETIME),
        "stalls": told.count(Reason.DFE_STALLED),
    }
    found["drops"] = {reason.name.lower(): count for reason, count in (await driver.counters()).drops.items()}
    Path(given["out"]).write_text(json.dumps(found))

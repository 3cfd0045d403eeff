# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import asyncio
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from spigate.firmware_py.errors import InputError, TableFull, UnsupportedError
from spigate.firmware_py.ipsec.sa import ANY_IPV4, Auth, Cipher, Lifetime, Sa, SaState, Selectors
from spigate.firmware_py.tables import driver as driver_module
from spigate.firmware_py.tables.bus import BusError
from spigate.firmware_py.tables.driver import DRAIN_CLOCKS, WRITE_CLOCKS, Driver
from spigate.firmware_py.tables.interface import (
    AES_KEYS,
    ANY_VLAN,
    AUTHS,
    CIPHERS,
    Action,
    Attention,
    CamEntry,
    CamKey,
    CfeSettings,
    Route,
    Rule,
    Source,
)
from spigate.firmware_py.tables.midstate import hmac_midstates
from spigate.hdl.contract import rdl
from spigate.hdl.contract.constants import MAGIC, MAJOR, MAP
from spigate.hdl.contract.constants import MAGIC as HARDWARE_MAGIC
from spigate.hdl.contract.enums import Direction, Mode, Port, Reason, Table
from spigate.hdl.contract.parameters import ENGINES
from spigate.hdl.crypto.interface import engine_named
from spigate.hdl.csr.control import VERSION, ControlPlane
from tests.firmware_py.tables.registers import MemoryBus
from tests.hdl.csr import manager
from tests.hdl.streams import put, simulate, take

REGISTERS = rdl.registers()
HERE = ip_address("192.0.2.2")
SIZES = {"sa_entries": 256, "sources": 16, "cam_entries": 1024, "rules": 32, "routes": 64}
GCM = Sa(
    direction=Direction.INBOUND,
    spi=0x12345678,
    source=ip_address("192.0.2.1"),
    destination=ip_address("192.0.2.2"),
    mode=Mode.TUNNEL,
    cipher=Cipher.AES_GCM,
    key=bytes(range(16)),
    salt=b"salt",
    icv_bytes=16,
    replay_window=32,
)
CBC = Sa(
    direction=Direction.OUTBOUND,
    spi=0x1000,
    source=ip_address("192.0.2.2"),
    destination=ip_address("192.0.2.1"),
    mode=Mode.TUNNEL,
    cipher=Cipher.AES_CBC,
    key=bytes(range(32)),
    auth=Auth.HMAC_SHA1_96,
    auth_key=b"k" * 20,
    sequence=7,
    soft=Lifetime(bytes=5, packets=6),
    hard=Lifetime(packets=9),
)
HOSTS = Selectors(ip_network("10.1.0.0/24"), ip_network("10.2.0.10/32"), 17, (1, 2), (3, 4))


def registers(**changes):
    values = {
        "id": {"value": MAGIC},
        "version": {"map": MAP, "major": MAJOR},
        "geometry": {"beat_bytes": 16, "dfes": 2, "lanes": 1, "contexts": 2},
        "dfe_tables": {"sa_entries": 256, "sources": 16},
        "cam": {"cam_entries": 1024, "cam_ways": 3, "row_bits": 9},
        "cfe_tables": {"rules": 32, "routes": 64},
        "algorithms": dict.fromkeys(REGISTERS["algorithms"].fields, 1),
        "features": {"tunnel": 1, "transport": 1, "replay_window": 64},
    }
    return {
        REGISTERS[name].address: REGISTERS[name].pack({**fields, **changes.get(name, {})})
        for name, fields in values.items()
    }


def with_driver(test, **changes):
    """Runs ``test(driver, bus)`` on a bus of memory."""
    bus = MemoryBus(registers(**changes))

    async def run():
        await test(await Driver.open(bus), bus)

    asyncio.run(run())


def field(words, table, row, name):
    """A field of an entry's words, by its place in entries.rdl."""
    place = rdl.entry(table)[row]
    number = sum(word << 32 * at for at, word in enumerate(words[4 * place.index : 4 * place.index + 4]))
    return number >> place.fields[name].low & (1 << place.fields[name].width) - 1


class Entries:
    """Replays the bursts of a table window: what is in the tables after each command."""

    def __init__(self, bus):
        self._bus, self._done, self._staged = bus, 0, [0] * 52
        self.entries = {}
        self.history = []

    def update(self):
        data, index = REGISTERS["table.data"], REGISTERS["table.index"]
        for address, words in self._bus.bursts[self._done :]:
            if data.address <= address <= index.address:
                at = (address - data.address) // 4
                staged = [*words]
                for number, word in enumerate(staged):
                    if at + number < 52:
                        self._staged[at + number] = word
                if at + len(words) == 54:
                    command = REGISTERS["table.command"].unpack(words[-1])
                    key = (command["table"], command["dfe"], words[-2])
                    if command["erase"]:
                        self.entries.pop(key, None)
                    else:
                        self.entries[key] = self._staged[: 4 * command["count"]]
                    self._staged = [0] * 52
                    self.history.append(dict(self.entries))
        self._done = len(self._bus.bursts)
        return self.entries


def test_numbers_are_those_of_the_gateware():
    assert (MAGIC, MAP, MAJOR) == (HARDWARE_MAGIC, VERSION["map"], VERSION["major"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": {"value": 0x1234}}, "No spigate: id reads 0x00001234, not 0x53504947"),
        ({"version": {"map": 9}}, "register map 9; this driver is for version 0 with register map 3"),
        ({"version": {"major": 3}}, "version 3.0.0"),
    ],
)
def test_refuses_what_it_does_not_know(changes, message):
    with pytest.raises(UnsupportedError, match=message):
        asyncio.run(Driver.open(MemoryBus(registers(**changes))))


@pytest.mark.parametrize(
    ("sa", "changes", "lacking"),
    [
        (GCM, {"algorithms": {"cipher_aes_gcm": 0}}, "aes-gcm"),
        (GCM, {"algorithms": {"key_aes128": 0}}, "keys of 128 bits"),
        (CBC, {"algorithms": {"auth_hmac_sha1_96": 0}}, "hmac-sha1-96"),
        (GCM, {"features": {"tunnel": 0}}, "tunnel mode"),
        (GCM, {"features": {"replay_window": 16}}, "replay windows of 32"),
        (replace(GCM, esn=True), {}, "extended sequence numbers"),
        (replace(GCM, icv_bytes=8), {}, "ICVs of 8 bytes"),
        (replace(CBC, auth=Auth.HMAC_SHA512_256, auth_key=bytes(64)), {}, "hmac-sha512-256"),
        (replace(GCM, cipher=Cipher.AES_GMAC), {}, "aes-gmac"),
    ],
)
def test_refuses_by_name_what_the_gateware_lacks(sa, changes, lacking):
    async def check(driver, bus):
        with pytest.raises(UnsupportedError, match=f"The gateway lacks {lacking}, which .*0x{sa.spi:08x}"):
            await driver.write_sa(0, 0, sa, None)
        assert not bus.bursts

    with_driver(check, **changes)


@pytest.mark.parametrize("name", ENGINES)
def test_believes_what_an_engine_declares(name):
    """Of every suite, key size and ICV that SAs may have, those and no others are written."""
    declared = engine_named(name).algorithms

    def known(sa):
        cipher, auth = CIPHERS.get(sa.cipher), AUTHS.get(sa.auth)
        return (
            cipher in declared.ciphers
            and (not sa.key or AES_KEYS[len(sa.key)] in declared.key_sizes)
            and (sa.auth == Auth.NONE or auth in declared.auths)
            and (sa.cipher != Cipher.AES_GCM or sa.icv_bytes in declared.gcm_icvs)
        )

    async def check(driver, bus):
        tried = {True: 0, False: 0}
        for sa in [
            *(replace(GCM, key=bytes(size), icv_bytes=icv) for size in (16, 24, 32) for icv in (8, 12, 16)),
            *(
                replace(CBC, cipher=cipher, key=key, auth=auth, auth_key=bytes(size))
                for cipher, key in (
                    *((Cipher.AES_CBC, bytes(size)) for size in (16, 24, 32)),
                    (Cipher.NULL, b""),
                )
                for auth, size in ((Auth.HMAC_SHA1_96, 20), (Auth.HMAC_SHA256_128, 32))
            ),
        ]:
            tried[known(sa)] += 1
            bus.bursts.clear()
            if known(sa):
                await driver.write_sa(0, 0, sa, None)
                continue
            with pytest.raises(UnsupportedError, match=f"The gateway lacks .*, which .*0x{sa.spi:08x}"):
                await driver.write_sa(0, 0, sa, None)
            assert not bus.bursts
        assert tried[True] and tried[False] >= 6

    told = dict.fromkeys(REGISTERS["algorithms"].fields, 0) | dict.fromkeys(declared.names, 1)
    with_driver(check, algorithms=told)


@pytest.mark.filterwarnings("ignore::amaranth.UnusedElaboratable")
@pytest.mark.parametrize("entries", [1024, 1500, 2048, 8192])
def test_slots_of_the_cam_are_those_of_the_register(entries):
    """Also where a way has more rows than half as many: driver and gateware once reckoned them apart."""
    control = ControlPlane(dfes=1, reporters=1, beat_bytes=8, lanes=1, **{**SIZES, "cam_entries": entries})
    told = control._capabilities["cam"]

    async def check(driver, bus):
        has = driver.capabilities
        assert has.cam_ways * has.cam_rows == control._sizes[Table.CAM]
        slots = {slot for at in range(9) for slot in driver._placement.slots(CamKey(HERE, 256 + at))}
        assert max(slots) < control._sizes[Table.CAM]
        placed = 0
        for at in range(entries):
            await driver.add_cam(CamEntry(CamKey(HERE, 256 + at), 0, 0, 0))
            placed += 1
        assert placed == has.cam_entries == entries

    with_driver(check, cam=told)


def test_writes_an_sa_in_one_burst():
    async def check(driver, bus):
        await driver.write_sa(1, 5, GCM, HOSTS)
        ((address, words),) = bus.bursts
        assert address == REGISTERS["table.data"].address and len(words) == 54
        assert words[52] == 5
        assert REGISTERS["table.command"].unpack(words[53]) == {
            "table": Table.SA,
            "erase": 0,
            "dfe": 1,
            "first": 0,
            "count": 13,
        }

        def get(row, name):
            return field(words, "sa", row, name)

        assert {
            name: get("control", name)
            for name in (
                "valid",
                "direction",
                "mode",
                "anti_replay",
                "window_size",
                "check_selectors",
                "spi",
                "cipher",
                "auth",
                "key_size",
            )
        } == {
            "valid": 1,
            "direction": 0,
            "mode": 1,
            "anti_replay": 1,
            "window_size": 32,
            "check_selectors": 1,
            "spi": 0x12345678,
            "cipher": 2,
            "auth": 0,
            "key_size": 0,
        }
        assert get("control", "salt").to_bytes(4, "little") == b"salt"
        assert get("key_low", "value").to_bytes(16, "little") == bytes(range(16))
        # H = AES(key, 0): the value of FIPS 197's example key is known from `openssl enc`.
        assert get("auth_0", "value").to_bytes(16, "little").hex() == "c6a13b37878f5b826f4f8162a1c8d879"
        assert get("selector_addresses", "source") == 0x0A010000
        assert get("selector_addresses", "source_mask") == 0xFFFFFF00
        assert (
            get("selector_ports", "destination_port_high") == 4 and get("selector_ports", "any_protocol") == 0
        )
        assert get("byte_lifetime", "hard") == get("packet_lifetime", "soft") == (1 << 64) - 1

    with_driver(check)


def test_writes_midstates_lifetimes_and_state():
    async def check(driver, bus):
        await driver.write_sa(0, 0, CBC, None)
        words = bus.bursts[0][1]

        def get(row, name):
            return field(words, "sa", row, name)

        states = b"".join(get(f"auth_{at}", "value").to_bytes(16, "little") for at in range(4))
        inner, outer = hmac_midstates("sha1", b"k" * 20)
        assert states == inner + bytes(12) + outer + bytes(12)
        assert (
            b"".join(get(f"key_{half}", "value").to_bytes(16, "little") for half in ("low", "high"))
            == CBC.key
        )
        limits = [get(f"{unit}_lifetime", name) for unit in ("byte", "packet") for name in ("soft", "hard")]
        assert limits == [5, (1 << 64) - 1, 6, 9]
        assert get("replay", "sequence") == 7 and get("control", "direction") == 1
        assert get("tunnel", "source") == 0xC0000202 and get("tunnel", "destination") == 0xC0000201

    with_driver(check)


def test_rules_keep_their_places_and_none_is_ever_missed():
    def rule(number):
        return Rule(replace(HOSTS, source_ports=(number, number)), frozenset({Port.SERVER}), Action.PROTECT)

    async def check(driver, bus):
        tables = Entries(bus)
        present = []
        for number in (5, 1, 9, 3, 7, 2):
            await driver.add_rule(rule(number))
            _all_seen(tables, present, {number})
            present.append(number)
        for number in (1, 9, 5):
            await driver.remove_rule(rule(number))
            _all_seen(tables, present, {number})
            present.remove(number)
        assert _numbers(tables.entries) == [3, 7, 2]
        await driver.add_rule(rule(4))
        await driver.replace_rule(rule(3), replace(rule(3), sa=77))
        assert _numbers(tables.update()) == [4, 3, 7, 2]
        assert field(tables.entries[(Table.RULE, 0, 3)], "rule", "value", "sa") == 77
        with pytest.raises(InputError, match="must be there"):
            await driver.replace_rule(rule(3), rule(8))

    with_driver(check)


def _numbers(entries):
    keys = sorted(key for key in entries if key[0] == Table.RULE)
    return [field(entries[key], "rule", "value", "source_port_low") for key in keys]


def _all_seen(tables, present, moving):
    """After every single write, all rules that were there and stay are there."""
    seen = len(tables.history)
    tables.update()
    for entries in tables.history[seen:]:
        numbers = _numbers(entries)
        assert set(present) - moving <= set(numbers) <= set(present) | moving


def test_stations():
    async def check(driver, bus):
        async def registers(settings):
            await driver.configure(settings)
            names = (
                "station_filter",
                "network_mac_low",
                "network_mac_high",
                "server_mac_low",
                "server_mac_high",
            )
            return [(await bus.read(REGISTERS[f"cfe.{name}"].address, 1))[0] for name in names]

        network, server = bytes.fromhex("021122334455"), bytes.fromhex("0266778899aa")
        assert (await registers(CfeSettings()))[0] == 0
        assert await registers(CfeSettings(network_mac=network, server_mac=server)) == [
            3,
            0x22334455,
            0x0211,
            0x778899AA,
            0x0266,
        ]
        assert (await registers(CfeSettings(network_mac=network)))[:3] == [1, 0x22334455, 0x0211]
        got = await registers(CfeSettings(server_mac=server))
        assert (got[0], got[3:]) == (2, [0x778899AA, 0x0266])

    with_driver(check)


def test_vlans():
    async def check(driver, bus):
        for vlan, word in ((None, 0), (1, 1), (4094, 4094), (ANY_VLAN, 1 << 12)):
            for name in ("network_vlan", "server_vlan"):
                await driver.configure(CfeSettings(**{name: vlan}))
                assert {
                    each: (await bus.read(REGISTERS[f"cfe.{each}"].address, 1))[0]
                    for each in ("network_vlan", "server_vlan")
                } == {"network_vlan": 0, "server_vlan": 0, name: word}

    with_driver(check)


def test_generations_and_the_clear_bit():
    async def check(driver, bus):
        tables = Entries(bus)
        await driver.write_sa(1, 9, GCM, None, generation=0xA5)
        await driver.add_cam(CamEntry(CamKey(ip_address("192.0.2.2"), 0x12345678), 1, 9, 3, 0xA6))
        await driver.add_rule(
            Rule(ANY_IPV4, frozenset({Port.SERVER}), Action.PROTECT, dfe=1, sa=9, generation=0xA7)
        )
        await driver.add_rule(Rule(ANY_IPV4, frozenset({Port.SERVER}), Action.BYPASS, clear=True))
        entries = tables.update()
        assert field(entries[(Table.SA, 1, 9)], "sa", "control", "generation") == 0xA5
        (slot,) = [key for key in entries if key[0] == Table.CAM]
        assert field(entries[slot], "cam", "value", "generation") == 0xA6
        for name, values in (("generation", [0xA7, 0]), ("clear", [0, 1])):
            assert [field(entries[(Table.RULE, 0, at)], "rule", "value", name) for at in (0, 1)] == values

    with_driver(check)


def test_tables_have_ends():
    async def check(driver, bus):
        for number in range(32):
            await driver.add_rule(Rule(ANY_IPV4, frozenset({Port.NETWORK}), Action.BYPASS, sa=number))
        with pytest.raises(TableFull, match="The rules are full: 32 entries"):
            await driver.add_rule(Rule(ANY_IPV4, frozenset({Port.NETWORK}), Action.BYPASS))
        with pytest.raises(InputError, match="sa index must be 0 to 255, not 256"):
            await driver.write_sa(0, 256, GCM, None)
        with pytest.raises(InputError, match="dfe must be 0 to 1, not 2"):
            await driver.erase_sa(2, 0)
        with pytest.raises(InputError, match="route index must be 0 to 63, not -1"):
            await driver.write_route(-1, Route(Port.SERVER))
        with pytest.raises(InputError, match="weights must be"):
            await driver.configure(CfeSettings(weights=(16,)))

    with_driver(check)


def test_cam_routes_and_sources():
    async def check(driver, bus):
        tables = Entries(bus)
        key = CamKey(ip_address("192.0.2.2"), 0x12345678)
        await driver.add_cam(CamEntry(key, 1, 5, 3))
        await driver.write_route(3, Route(Port.SERVER, b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\2", 5, True))
        source = Source(ip_network("10.0.0.0/8"), frozenset({Port.NETWORK, Port.RECIRCULATE}))
        await driver.write_source(1, 2, source)
        entries = tables.update()
        (slot,) = [key for key in entries if key[0] == Table.CAM]
        words = entries[slot]
        assert field(words, "cam", "key", "destination") == 0xC0000202
        names = ("spi", "protocol", "ipv6", "valid", "dfe", "sa", "route")
        assert [field(words, "cam", "value", name) for name in names] == [0x12345678, 50, 0, 1, 1, 5, 3]
        words = entries[(Table.ROUTE, 0, 3)]
        assert [
            field(words, "route", "hop", name)
            for name in (
                "destination_mac",
                "source_mac",
                "vlan_tci",
                "tagged",
                "rewrite",
                "decrement_ttl",
                "egress",
                "valid",
            )
        ] == [0x020000000001, 0x020000000002, 5, 1, 1, 1, Port.SERVER, 1]
        words = entries[(Table.SOURCE, 1, 2)]
        assert [
            field(words, "source", "source", name) for name in ("address", "mask", "ingress", "valid")
        ] == [0x0A000000, 0xFF000000, 0b1001, 1]
        await driver.remove_cam(key)
        await driver.remove_cam(key)
        await driver.write_route(3, None)
        await driver.write_source(1, 2, None)
        assert not tables.update()

    with_driver(check)


def test_clears_every_entry_of_every_table():
    async def check(driver, bus):
        await driver.add_rule(Rule(ANY_IPV4, frozenset({Port.NETWORK}), Action.BYPASS))
        await driver.add_cam(CamEntry(CamKey(ip_address("192.0.2.2"), 0x12345678), 1, 5, 3))
        await driver.write_sa(1, 200, GCM, None)
        tables = Entries(bus)
        assert len(tables.update()) == 3
        await driver.clear()
        assert not tables.update()
        erased = len(bus.bursts) - 5
        assert erased == 32 + 3 * 512 + 64 + 2 * (256 + 16)
        await driver.add_rule(Rule(ANY_IPV4, frozenset({Port.NETWORK}), Action.BYPASS))
        assert list(tables.update()) == [(Table.RULE, 0, 0)]

    with_driver(check)


def test_takes_back_what_it_has_written_and_what_leads_to_an_sa_first():
    async def check(driver, bus):
        await driver.configure(CfeSettings(own=frozenset({ip_address("192.0.2.1")})))
        rule = Rule(ANY_IPV4, frozenset({Port.NETWORK}), Action.BYPASS)
        await driver.add_rule(rule)
        await driver.remove_rule(rule)
        await driver.write_sa(1, 200, GCM, None)
        await driver.write_sa(0, 3, GCM, None)
        await driver.stop_sa(0, 3)
        await driver.add_cam(CamEntry(CamKey(ip_address("192.0.2.2"), 0x12345678), 1, 200, 3))
        await driver.write_route(3, Route(Port.SERVER))
        await driver.write_source(1, 2, Source(ip_network("10.0.0.0/8"), frozenset({Port.NETWORK})))
        tables = Entries(bus)
        count = len(tables.update())
        at = len(bus.bursts)
        await driver.take_back()
        assert not tables.update()
        assert len(bus.bursts) - at == count == 6
        assert [REGISTERS["table.command"].unpack(words[-1])["table"] for _, words in bus.bursts[-2:]] == [
            Table.SA
        ] * 2
        await driver.take_back()
        assert len(bus.bursts) - at == count

    with_driver(check)


class Refusing(MemoryBus):
    """A bus on which the gateway gives up what waits too long: commands to erase, so many of them. It
    clears ``errors`` by being told.
    """

    refuses = 0

    async def write(self, address, words):
        errors = REGISTERS["errors"].address
        if address == errors:
            self.words[errors] = 0
            return
        command = REGISTERS["table.index"].address
        if self.refuses and address == command and REGISTERS["table.command"].unpack(words[-1])["erase"]:
            self.refuses -= 1
            self.words[errors] = REGISTERS["errors"].pack({"busy": 1})
            return
        await super().write(address, words)


@pytest.mark.parametrize("when", ["before", "then"])
def test_what_the_gateway_did_not_erase_is_taken_back_all_the_same(when):
    """An erasure may be refused like any access, and the daemon ends for it: no rule, and no key, stays
    behind.
    """

    async def run():
        bus = Refusing(registers())
        driver, tables = await Driver.open(bus), Entries(bus)
        rule = Rule(ANY_IPV4, frozenset({Port.NETWORK}), Action.BYPASS)
        await driver.add_rule(rule)
        await driver.write_sa(1, 200, GCM, None)
        if when == "before":
            bus.refuses = 2
            await driver.remove_rule(rule)
            await driver.erase_sa(1, 200)
            with pytest.raises(BusError, match="waited too long"):
                await driver.check()
        else:
            bus.refuses = 1
        await driver.take_back()
        assert not tables.update()
        bus.refuses = 1 << 20
        await driver.write_sa(1, 200, GCM, None)
        with pytest.raises(BusError, match="while its tables were erased"):
            await driver.take_back()

    asyncio.run(run())


def test_what_clearing_did_not_come_to_is_taken_back():
    """It was ended while it cleared what a control element that was killed had left behind."""

    class Ends(MemoryBus):
        left = 100

        async def write(self, address, words):
            await super().write(address, words)
            self.left -= 1
            if not self.left:
                raise asyncio.CancelledError

    async def run():
        bus = Ends(registers())
        tables = Entries(bus)
        tables.entries[(Table.SA, 1, 200)] = [1]
        driver = await Driver.open(bus)
        with pytest.raises(asyncio.CancelledError):
            await driver.clear()
        assert tables.update()
        await driver.take_back()
        assert not tables.update()

    asyncio.run(run())


class Clock(MemoryBus):
    """A bus whose time goes on with every access, and with it the count of clocks in which DFE 1 is busy.

    Parameters
    ----------
    idle : callable
        Of clocks since the beginning: whether nothing is in the DFE then.
    begin : int
        Time and count at first; both wrap.
    step : int
        Clocks of an access.
    """

    def __init__(self, idle, begin=0, step=10, healthy=0b11):
        super().__init__(registers() | {REGISTERS["healthy"].address: healthy})
        self._idle, self._begin, self._step = idle, begin, step
        self.clocks = self.count = 0

    async def read(self, address, count=1):
        for _ in range(self._step):
            self.count += not self._idle(self.clocks)
            self.clocks += 1
        busy = REGISTERS["dfe_count.busy_cycles"]
        counts = {REGISTERS["time"].address: self.clocks, busy.at(1): self.count}
        if address in counts:
            return [(self._begin + counts[address]) % (1 << 32)]
        return await super().read(address, count)


def stopped(idle, **more):
    """Clocks that it took, and whether it is certain."""
    bus = Clock(idle, **more)

    async def run():
        driver = await Driver.open(bus)
        bus.clocks = bus.count = 0
        return bus.clocks, await driver.stop_sa(1, 5)

    before, certain = asyncio.run(run())
    return bus.clocks - before, certain


WRAPS = [0, (1 << 32) - 7, (1 << 32) - WRITE_CLOCKS - 3, (1 << 32) - 3 * WRITE_CLOCKS]


@pytest.mark.parametrize("begin", WRAPS)
def test_an_idle_dfe_is_waited_for_as_long_as_the_entry_may_be_on_its_way(begin):
    clocks, certain = stopped(lambda at: True, begin=begin)
    assert WRITE_CLOCKS <= clocks < WRITE_CLOCKS + 100 and certain


@pytest.mark.parametrize("begin", WRAPS)
@pytest.mark.parametrize("free", [2 * WRITE_CLOCKS, 5 * WRITE_CLOCKS, DRAIN_CLOCKS // 2])
@pytest.mark.parametrize("step", [3, 10, 300])
def test_a_busy_dfe_is_waited_for_until_it_was_empty_for_a_moment(begin, free, step):
    """For longer than two accesses take. That it was empty before counts for nothing: what the SA took may
    have come since.
    """
    clocks, certain = stopped(
        lambda at: at < WRITE_CLOCKS // 2 or free <= at < free + 3 * step, begin=begin, step=step
    )
    assert free < clocks < free + 10 * step and certain


@pytest.mark.parametrize("begin", WRAPS)
def test_a_dfe_that_never_empties_is_given_up(begin):
    clocks, certain = stopped(lambda at: False, begin=begin, step=50)
    assert DRAIN_CLOCKS <= clocks < DRAIN_CLOCKS + 500 and not certain


def test_a_dfe_that_takes_nothing_is_not_waited_for():
    clocks, certain = stopped(lambda at: False, healthy=0b01)
    assert clocks <= 20 and not certain
    assert stopped(lambda at: False, healthy=0b10, step=50)[0] > WRITE_CLOCKS


def test_of_an_sa_that_stops_its_first_row_alone_is_written():
    async def check(driver, bus):
        tables = Entries(bus)
        await driver.write_sa(1, 5, GCM, HOSTS)
        assert field(tables.update()[Table.SA, 1, 5], "sa", "control", "valid")
        await driver.stop_sa(1, 5)
        assert tables.update() == {(Table.SA, 1, 5): [0] * 4}

    with_driver(check)


class SimulatedBus:
    """The registers of a ControlPlane in Amaranth's simulator."""

    def __init__(self, ctx, axil):
        self._ctx, self._axil = ctx, axil

    async def read(self, address, count=1):
        words = []
        for at in range(count):
            word, response = await manager.read(self._ctx, self._axil, address + 4 * at)
            if response:
                raise BusError(f"A read at {address + 4 * at:#x} was refused")
            words.append(word)
        return words

    async def write(self, address, words):
        for at, word in enumerate(words):
            if await manager.write(self._ctx, self._axil, address + 4 * at, word):
                raise BusError(f"A write at {address + 4 * at:#x} was refused")


def test_drives_the_registers_of_the_gateware():
    control = ControlPlane(dfes=2, reporters=2, beat_bytes=8, lanes=3, **SIZES)
    writes = []

    async def collect(ctx):
        while True:
            write = await take(ctx, control.tables)
            writes.append((write.table, write.dfe, write.index, write.row, write.data))

    async def answer(ctx):
        while True:
            request = await take(ctx, control.state_request)
            await put(
                ctx,
                control.state,
                [
                    {
                        "sequence": request.sa,
                        "window": 1 << 63 | request.dfe,
                        "bytes": 1 << 32,
                        "packets": 9,
                        "soft": 1 << 8 | 1 << 9 | 1 << 11,
                        "hard": 1 << 9,
                    }
                ],
            )

    async def check(ctx):
        bus = SimulatedBus(ctx, control.axil)
        driver = await Driver.open(bus)
        assert (driver.capabilities.dfes, driver.capabilities.lanes, driver.capabilities.beat_bytes) == (
            2,
            3,
            8,
        )
        assert driver.capabilities.rules == 32 and Cipher.AES_GCM in driver.capabilities.ciphers
        await driver.configure(
            CfeSettings(
                enable=3,
                patience=77,
                weights=(1, 2),
                rates=(1000, 0, 1, 50_000, 2.5e8),
                bursts=(1, 2, 3, 4, 5),
                own=frozenset({ip_address("192.0.2.2"), ip_address("2001:db8::7")}),
            )
        )
        # Clocks of 100 MHz; the longest period is 2^20 - 1.
        assert [(ctx.get(each.period), ctx.get(each.burst)) for each in control.cfe.punts] == [
            (100_000, 1),
            (0, 2),
            (0xFFFFF, 3),
            (2000, 4),
            (1, 5),
        ]
        assert ctx.get(control.cfe.miss_interval) == 1_000_000
        await ctx.tick().repeat(50)  # until the last row is there
        own = [
            (data & (1 << 128) - 1) for table, _, _, row, data in writes if table == Table.CAM and row == 0
        ]
        assert sorted(own) == [7, int(ip_address("192.0.2.2"))]
        values = [rdl.entry("cam")["value"].fields for _ in own]
        assert all(
            data >> fields["protocol"].low & 0xFF == 17 and data & 0xFFFFFFFF == 500
            for fields, data in zip(
                values,
                [data for table, _, _, row, data in writes if table == Table.CAM and row == 1],
                strict=True,
            )
        )
        writes.clear()
        assert ctx.get(control.cfe.enable) == 3 and ctx.get(control.cfe.patience) == 77
        assert ctx.get(control.cfe.weights[1]) == 2
        await driver.write_sa(1, 200, GCM, HOSTS)
        await driver.erase_sa(1, 200)
        assert await driver.attention() == []
        await driver.add_rule(Rule(HOSTS, frozenset({Port.SERVER}), Action.PUNT))
        assert await driver.read_state(1, 200) == SaState(200, 1 << 63 | 1, 1 << 32, 9)
        await driver.check()
        sa = writes[:13]
        assert [write[:4] for write in sa] == [(Table.SA, 1, 200, row) for row in range(13)]
        assert sa[4][4].to_bytes(16, "little") == GCM.key
        assert writes[13:26] == [(Table.SA, 1, 200, row, 0) for row in range(13)]
        assert [write[:4] for write in writes[26:]] == [(Table.RULE, 0, 0, 0), (Table.RULE, 0, 0, 1)]
        for number in range(11):
            await put(
                ctx,
                control.reports[0],
                [
                    {
                        "reason": Reason.ICV,
                        "dropped": 1,
                        "ingress": 0,
                        "dfe": 1,
                        "sa": 200,
                        "spi": 0x12345678,
                        "sequence": number,
                        "source": 1,
                        "destination": 2,
                    }
                ],
            )
        await ctx.tick().repeat(40)
        events = await driver.events()
        assert [event.sequence for event in events] == list(range(11))
        assert (events[0].reason, events[0].dropped, events[0].dfe, events[0].sa) == (
            Reason.ICV,
            True,
            1,
            200,
        )
        assert (await driver.counters()).drops == {Reason.ICV: 11}
        assert await driver.time() > 0
        erase = REGISTERS["table.command"].pack({"erase": 1, "table": Table.RULE})
        await bus.write(REGISTERS["table.index"].address, [999, erase])
        with pytest.raises(BusError, match="refused an index beyond its table"):
            await driver.check()
        await driver.check()
        for index in range(200, 203):  # 203 is no SA of this driver's.
            await driver.write_sa(0, index, GCM, HOSTS)
        assert await driver.attention() == [Attention(0, 200, False), Attention(0, 201, True)]

    simulate(control, check, background=[collect, answer], clocks=60_000)


def test_an_event_for_a_reason_of_newer_gateware_is_told_by_its_number():
    """A driver for an older minor version still works (register ``version``)."""
    words = [0] * (REGISTERS["event.what"].stride // 4)
    words[0] = REGISTERS["event.what"].pack(
        {"reason": 63, "dropped": 1, "ingress": Port.NETWORK, "dfe": 1, "sa": 9}
    )
    event = driver_module._event(words)
    assert (event.reason, event.dropped, event.dfe, event.sa) == (63, True, 1, 9)

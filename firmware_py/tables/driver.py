# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The driver of the gateway's registers (``hdl/contract/gateway.rdl``), over any
:class:`~spigate.firmware_py.tables.bus.Bus`.

Addresses and fields come from the register map by name. An SA is one burst that ends with the command that
makes it visible; nothing is read back: what the gateway refused, the register ``errors`` tells.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from enum import IntEnum
from ipaddress import IPv4Address

from spigate.firmware_py.errors import InputError, TableFull, UnsupportedError
from spigate.firmware_py.ipsec.sa import Address, Sa, SaState, Selectors
from spigate.firmware_py.tables import rows
from spigate.firmware_py.tables.bus import Bus, BusError
from spigate.firmware_py.tables.cuckoo import Placement
from spigate.firmware_py.tables.interface import (
    AES_KEYS,
    AUTHS,
    CIPHERS,
    MISS_SECONDS,
    Attention,
    CamEntry,
    CamKey,
    Capabilities,
    CfeSettings,
    Counters,
    Event,
    Route,
    Rule,
    Source,
)
from spigate.hdl.contract import rdl
from spigate.hdl.contract.constants import MAGIC, MAJOR, MAP, MARKS, MAX_DFES
from spigate.hdl.contract.enums import Mode, Port, PuntClass, Reason, Table
from spigate.hdl.contract.protocols import VLAN_BITS

STATE_READS = 1000
"""How often an unfinished state request is looked at before it counts as failed."""
STATE_WORDS = 11
"""Of an SA's state, from ``state.status`` to ``state.hard``."""
STATUS_READS = 1 << 16
"""How often the gateway is asked whether its tables are empty after a reset, before that counts as failed."""
WRITE_CLOCKS = 1 << 10
"""Longer than an entry is on its way to its DFE."""
DRAIN_CLOCKS = 1 << 17
"""Longer than a DFE is busy without a break, unless it is flooded or dead."""

_REGISTERS = rdl.registers()
_LONGEST_PERIOD = (1 << _REGISTERS["cfe.punt_rest"].fields["period"].width) - 1
_EVENT_WORDS = sum(name.startswith("event.") for name in _REGISTERS)
_ANY_VLAN = 1 << VLAN_BITS
_ICVS = {"gcm_icv16": 16}
_ERRORS = {
    "address": "an address that is not there",
    "strobe": "a write of less than a word",
    "busy": "an access that waited too long",
    "table": "a command for an unknown table",
    "index": "an index beyond its table",
    "dfe": "a DFE that is not there",
    "rows": "rows that do not fit the table",
    "sa": "a state request beyond the SAD",
    "request": "a state request while another one was under way",
    "pop": "more events taken than there were",
}


class Driver:
    """The gateway's tables behind its registers; see :class:`~spigate.firmware_py.tables.interface.Tables`
    for what its methods do.

    Make one with :meth:`open`, right after reset: it takes the tables as empty. Otherwise :meth:`clear`
    them first.

    Members
    -------
    capabilities : Capabilities
    """

    def __init__(self, bus: Bus, capabilities: Capabilities):
        self.capabilities = capabilities
        self._bus = bus
        self._placement = self._empty()
        self._rules: list[Rule | None] = [None] * capabilities.rules
        self._addresses: frozenset[Address] = frozenset()
        self._sas: set[tuple[int, int]] = set()
        self._written: set[tuple[Table, int, int]] = set()
        """Table, index and DFE of the entries in which something may stand."""
        self._sizes = {
            Table.CAM: capabilities.cam_ways * capabilities.cam_rows,
            Table.RULE: capabilities.rules,
            Table.ROUTE: capabilities.routes,
            Table.SA: capabilities.sa_entries,
            Table.SOURCE: capabilities.sources,
        }

    @classmethod
    async def open(cls, bus: Bus) -> "Driver":
        """The driver of the gateway on ``bus``.

        Raises
        ------
        UnsupportedError
            It is no gateway, or one that this driver does not know; the message says what was found.
        """
        first, last = _REGISTERS["id"].address, _REGISTERS["clock"].address
        words = await bus.read(first, (last - first) // 4 + 1)

        def fields(name: str) -> dict[str, int]:
            return _REGISTERS[name].unpack(words[(_REGISTERS[name].address - first) // 4])

        def knows(kind: str, code: IntEnum) -> bool:
            return bool(algorithms[f"{kind}_{code.name.lower()}"])

        if fields("id")["value"] != MAGIC:
            raise UnsupportedError(f"No spigate: id reads {fields('id')['value']:#010x}, not {MAGIC:#010x}")
        version = fields("version")
        if (version["map"], version["major"]) != (MAP, MAJOR):
            raise UnsupportedError(
                f"The gateware is version {version['major']}.{version['minor']}.{version['patch']} "
                f"with register map {version['map']}; this driver is for version {MAJOR} "
                f"with register map {MAP}"
            )
        geometry, features, algorithms = fields("geometry"), fields("features"), fields("algorithms")
        dfe_tables, cam, cfe_tables = fields("dfe_tables"), fields("cam"), fields("cfe_tables")
        await cls._ready(bus)
        return cls(
            bus,
            Capabilities(
                dfes=geometry["dfes"],
                lanes=geometry["lanes"],
                beat_bytes=geometry["beat_bytes"],
                sa_entries=dfe_tables["sa_entries"],
                sources=dfe_tables["sources"],
                cam_entries=cam["cam_entries"],
                cam_ways=cam["cam_ways"],
                cam_rows=1 << cam["row_bits"],
                rules=cfe_tables["rules"],
                routes=cfe_tables["routes"],
                ciphers=frozenset(cipher for cipher, code in CIPHERS.items() if knows("cipher", code)),
                aes_keys=frozenset(size for size, code in AES_KEYS.items() if knows("key", code)),
                auths=frozenset(auth for auth, code in AUTHS.items() if knows("auth", code)),
                icvs=frozenset(size for name, size in _ICVS.items() if algorithms[name]),
                modes=frozenset(mode for mode in Mode if features[mode.name.lower()]),
                esn=bool(features["esn"]),
                ipv6=bool(features["ipv6"]),
                ah=bool(features["ah"]),
                natt=bool(features["natt"]),
                replay_window=features["replay_window"],
                clock_khz=fields("clock")["khz"],
            ),
        )

    @staticmethod
    async def _ready(bus: Bus) -> None:
        """Waits while the gateway erases what was in its tables before a reset."""
        register = _REGISTERS["table_status"]
        for _ in range(STATUS_READS):
            if not register.unpack((await bus.read(register.address))[0])["busy"]:
                return
        raise BusError("The gateway does not end to erase its tables")

    async def check(self) -> None:
        """Asks whether the gateway refused anything since the last time.

        Raises
        ------
        BusError
            It did; the message says what.
        """
        found = await self._refused()
        if found:
            raise BusError(f"The gateway refused {found}")

    async def _refused(self) -> str:
        """What the gateway refused since the last time. If it did, it may have been an erasure: nobody
        knows what stands where.
        """
        register = _REGISTERS["errors"]
        word = (await self._bus.read(register.address))[0]
        found = [_ERRORS[name] for name, value in register.unpack(word).items() if value]
        if found:
            await self._bus.write(register.address, [word])
            self._doubt()
        return ", ".join(found)

    def _doubt(self) -> None:
        """From now on something may stand in every entry of every table."""
        self._written = {
            (table, index, dfe)
            for table, size in self._sizes.items()
            for index in range(size)
            for dfe in range(self.capabilities.dfes if table in (Table.SA, Table.SOURCE) else 1)
        }

    async def clear(self) -> None:
        """Erases every entry of every table: for a gateway that was not reset since somebody else wrote to
        it. Where it does not come to its end, :meth:`take_back` goes on with it."""
        self._doubt()
        await self.take_back()

    async def take_back(self) -> None:
        """Erases what this driver has written: first what leads to SAs, then they. Where the gateway has
        refused something, every entry.

        Raises
        ------
        BusError
            It refuses even that; the message says what.
        """
        for _ in range(2):
            await self._refused()
            for table, index, dfe in sorted(self._written, key=lambda entry: (entry[0] == Table.SA, *entry)):
                await self._erase(table, index, dfe)
            if not (refused := await self._refused()):
                self._forget()
                return
        raise BusError(f"The gateway refused {refused}, while its tables were erased")

    def _empty(self) -> Placement:
        """An empty CAM as the capability registers say it is."""
        has = self.capabilities
        return Placement(has.cam_entries, has.cam_ways, has.cam_rows)

    def _forget(self) -> None:
        self._placement = self._empty()
        self._rules = [None] * self.capabilities.rules
        self._addresses = frozenset()
        self._sas.clear()

    async def configure(self, settings: CfeSettings) -> None:
        if len(settings.weights) > MAX_DFES or not all(0 <= weight <= 15 for weight in settings.weights):
            raise InputError(f"weights must be at most {MAX_DFES} numbers, 0 to 15, not {settings.weights!r}")
        values = {
            "balance": settings.balance,
            "enable": settings.enable,
            "patience": settings.patience,
            "weights": sum(weight << 4 * at for at, weight in enumerate(settings.weights)),
            "miss_drop": settings.miss_drop,
            "rule_miss": settings.rule_miss,
            "depth_limit": settings.depth_limit,
            "miss_interval": self._clocks(MISS_SECONDS)
            if settings.miss_interval is None
            else settings.miss_interval,
            **{f"{port}_vlan": _vlan(getattr(settings, f"{port}_vlan")) for port in ("network", "server")},
        }
        for at, (port, mac) in enumerate(
            (("network", settings.network_mac), ("server", settings.server_mac))
        ):
            number = int.from_bytes(mac or b"")
            values["station_filter"] = values.get("station_filter", 0) | (mac is not None) << at
            values[f"{port}_mac_low"], values[f"{port}_mac_high"] = number & 0xFFFF_FFFF, number >> 32
        packed = {name: {"value": value} for name, value in values.items()} | {
            f"punt_{kind.name.lower()}": {"period": self._clocks(1 / rate) if rate else 0, "burst": burst}
            for kind, rate, burst in zip(PuntClass, settings.rates, settings.bursts, strict=True)
        }
        registers = sorted(
            (_REGISTERS[f"cfe.{name}"].address, _REGISTERS[f"cfe.{name}"].pack(fields))
            for name, fields in packed.items()
        )
        await self._bus.write(registers[0][0], [word for _, word in registers])
        await self._own(settings.own)

    def _clocks(self, seconds: float) -> int:
        """How many clocks that is; no register holds more than the longest period."""
        return min(max(round(seconds * 1000 * self.capabilities.clock_khz), 1), _LONGEST_PERIOD)

    async def _own(self, addresses: frozenset[Address]) -> None:
        """Makes the CAM name the gateway's own addresses. Where it is full, IKE to some comes up as any
        other traffic does.
        """
        for address in self._addresses - addresses:
            await self.remove_cam(CamKey.own(address))
        for address in sorted(addresses - self._addresses, key=str):
            with suppress(TableFull):
                await self.add_cam(CamEntry(CamKey.own(address), 0, 0, 0))
        self._addresses = addresses

    # Tables

    async def write_sa(
        self, dfe: int, index: int, sa: Sa, selectors: Selectors | None, *, generation: int = 0
    ) -> None:
        lacking = self.capabilities.lacks(sa, [selectors] if selectors else [])
        if lacking:
            raise UnsupportedError(f"The gateway lacks {lacking}, which {sa} needs")
        await self._write(Table.SA, index, rows.sa(sa, selectors, generation), dfe)
        self._sas.add((dfe, index))

    async def erase_sa(self, dfe: int, index: int) -> None:
        await self._erase(Table.SA, index, dfe)
        self._sas.discard((dfe, index))

    async def attention(self) -> list[Attention]:
        found = []
        for dfe, group in sorted({(dfe, index // MARKS) for dfe, index in self._sas}):
            _, soft, hard = await self._select(dfe, group * MARKS)
            found += [
                Attention(dfe, index, bool(hard >> index % MARKS & 1))
                for index in range(group * MARKS, (group + 1) * MARKS)
                if (dfe, index) in self._sas and (soft | hard) >> index % MARKS & 1
            ]
        return found

    async def read_state(self, dfe: int, index: int) -> SaState:
        return (await self._select(dfe, index))[0]

    async def _select(self, dfe: int, index: int) -> tuple[SaState, int, int]:
        """State of an SA, and the words that say which of those around it have reached soft and hard
        limits.
        """
        await self._bus.write(
            _REGISTERS["state.select"].address, [_REGISTERS["state.select"].pack({"sa": index, "dfe": dfe})]
        )
        status = _REGISTERS["state.status"]
        for _ in range(STATE_READS):
            word, *halves, soft, hard = await self._bus.read(status.address, STATE_WORDS)
            fields = status.unpack(word)
            if fields["refused"]:
                await self.check()
                raise BusError(f"The gateway refused to tell the state of SA {index} of DFE {dfe}")
            if not fields["busy"]:
                return (
                    SaState(*(low | high << 32 for low, high in zip(halves[::2], halves[1::2], strict=True))),
                    soft,
                    hard,
                )
        raise BusError(f"DFE {dfe} does not tell the state of its SA {index}")

    async def stop_sa(self, dfe: int, index: int) -> bool:
        # Its first row alone: a packet that is dispatched later finds no SA, and the rows of its state stay.
        await self._write(Table.SA, index, [0] * rdl.ROW_WORDS, dfe)
        begun = await self.time()
        if not await self.healthy() >> dfe & 1:
            return False
        now = begun
        while (now - begun) % (1 << 32) < WRITE_CLOCKS:
            now = await self.time()
        busy, since = await self._busy(dfe), await self.time()
        while (now - begun) % (1 << 32) < DRAIN_CLOCKS:
            now = await self.time()
            # It was empty once between if it was busy for less than all that time.
            if (await self._busy(dfe) - busy) % (1 << 32) < (now - since) % (1 << 32):
                return True
        return False

    async def _busy(self, dfe: int) -> int:
        register = _REGISTERS["dfe_count.busy_cycles"]
        return (await self._bus.read(register.address + dfe * register.stride))[0]

    async def add_cam(self, entry: CamEntry) -> None:
        for write in self._placement.add(entry):
            await self._write(Table.CAM, write.index, rows.cam(write.entry))

    async def remove_cam(self, key: CamKey) -> None:
        index = self._placement.remove(key)
        if index is not None:
            await self._erase(Table.CAM, index)

    async def add_rule(self, rule: Rule) -> None:
        if None not in self._rules:
            raise TableFull(f"The rules are full: {self.capabilities.rules} entries")
        at = self._rules.index(None)
        await self._write(Table.RULE, at, rows.rule(rule))
        self._rules[at] = rule

    async def replace_rule(self, old: Rule, new: Rule) -> None:
        if old not in self._rules:
            raise InputError(f"{old!r} must be there")
        at = self._rules.index(old)
        await self._write(Table.RULE, at, rows.rule(new))
        self._rules[at] = new

    async def remove_rule(self, rule: Rule) -> None:
        if rule in self._rules:
            at = self._rules.index(rule)
            await self._erase(Table.RULE, at)
            self._rules[at] = None

    async def write_route(self, index: int, route: Route | None) -> None:
        if route is None:
            await self._erase(Table.ROUTE, index)
        else:
            await self._write(Table.ROUTE, index, rows.route(route))

    async def write_source(self, dfe: int, index: int, source: Source | None) -> None:
        if source is None:
            await self._erase(Table.SOURCE, index, dfe)
        else:
            await self._write(Table.SOURCE, index, rows.source(source), dfe)

    async def _write(self, table: Table, index: int, words: Sequence[int], dfe: int = 0) -> None:
        """One entry: staged from row 0 on, then the command; in one burst where the staged rows reach up to
        it.
        """
        self._check_index(table, index, dfe)
        self._written.add((table, index, dfe))
        data, tail = (
            _REGISTERS["table.data"],
            self._command(table, index, dfe=dfe, count=len(words) // rdl.ROW_WORDS),
        )
        if len(words) == data.count:
            await self._bus.write(data.address, [*words, *tail])
        else:
            await self._bus.write(data.address, words)
            await self._bus.write(_REGISTERS["table.index"].address, tail)

    async def _erase(self, table: Table, index: int, dfe: int = 0) -> None:
        self._check_index(table, index, dfe)
        await self._bus.write(
            _REGISTERS["table.index"].address, self._command(table, index, dfe=dfe, erase=1)
        )
        self._written.discard((table, index, dfe))

    def _command(self, table: Table, index: int, **fields: int) -> list[int]:
        return [index, _REGISTERS["table.command"].pack({"table": table, **fields})]

    def _check_index(self, table: Table, index: int, dfe: int) -> None:
        if not 0 <= index < self._sizes[table]:
            raise InputError(
                f"{table.name.lower()} index must be 0 to {self._sizes[table] - 1}, not {index!r}"
            )
        if not 0 <= dfe < self.capabilities.dfes:
            raise InputError(f"dfe must be 0 to {self.capabilities.dfes - 1}, not {dfe!r}")

    # What the gateway tells

    async def counters(self) -> Counters:
        drops = _REGISTERS["drops"]
        counts = await self._bus.read(drops.address, drops.elements)
        return Counters(
            await self._group("cfe_count"),
            await self._group("forward_count"),
            [await self._group("dfe_count", dfe) for dfe in range(self.capabilities.dfes)],
            Counter({reason: counts[reason] for reason in Reason if counts[reason]}),
        )

    async def _group(self, prefix: str, element: int | None = None) -> Counter[str]:
        """The registers of a register file as one burst, by name."""
        registers = [register for name, register in _REGISTERS.items() if name.startswith(f"{prefix}.")]
        offset = 0 if element is None else element * registers[0].stride
        words = await self._bus.read(registers[0].address + offset, len(registers))
        return Counter(
            {
                register.name.removeprefix(f"{prefix}."): word
                for register, word in zip(registers, words, strict=True)
            }
        )

    async def healthy(self) -> int:
        """Bit n is set while DFE n takes packets."""
        return (await self._bus.read(_REGISTERS["healthy"].address))[0]

    async def time(self) -> int:
        """Clocks since reset; wraps."""
        return (await self._bus.read(_REGISTERS["time"].address))[0]

    async def events(self) -> list[Event]:
        what = _REGISTERS["event.what"]
        found: list[Event] = []
        while pending := (await self._bus.read(_REGISTERS["event_pending"].address))[0]:
            taken = min(pending, what.elements)
            for at in range(taken):
                found.append(_event(await self._bus.read(what.at(at), _EVENT_WORDS)))
            await self._bus.write(_REGISTERS["event_pop"].address, [taken])
        return found


def _vlan(vlan: int | str | None) -> int:
    return _ANY_VLAN if isinstance(vlan, str) else vlan or 0


def _event(words: list[int]) -> Event:
    fields = _REGISTERS["event.what"].unpack(words[0])
    values = {
        name: words[(_REGISTERS[f"event.{name}"].address - _REGISTERS["event.what"].address) // 4]
        for name in ("spi", "sequence", "source", "destination", "time")
    }
    return Event(
        fields["reason"],
        bool(fields["dropped"]),
        Port(fields["ingress"]),
        fields["dfe"],
        fields["sa"],
        values["spi"],
        values["sequence"],
        IPv4Address(values["source"]),
        IPv4Address(values["destination"]),
        values["time"],
    )

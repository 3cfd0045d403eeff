# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A gateway in software behind the registers of the gateware: it knows only what is written to the table
window.
"""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network

from spigate.firmware_py.ipsec.packet import UDP
from spigate.firmware_py.ipsec.sa import ANY_IPV4, AUTHS, Auth, Cipher, Lifetime, Sa, Selectors
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.firmware_py.tables.bus import MemoryBus
from spigate.firmware_py.tables.interface import Action, CamEntry, CamKey, CfeSettings, Route, Rule, Source
from spigate.firmware_py.tables.midstate import hmac_midstates
from spigate.firmware_py.tables.model import Held, SoftGateway
from spigate.hdl.contract import enums, hashing, rdl
from spigate.hdl.contract.enums import Direction, Mode, Port

REGISTERS = rdl.registers()
CIPHERS = {
    enums.Cipher.NULL: Cipher.NULL,
    enums.Cipher.AES_CBC: Cipher.AES_CBC,
    enums.Cipher.AES_GCM: Cipher.AES_GCM,
}
AUTHS_BY_CODE = {
    enums.Auth.NONE: Auth.NONE,
    enums.Auth.HMAC_SHA1_96: Auth.HMAC_SHA1_96,
    enums.Auth.HMAC_SHA256_128: Auth.HMAC_SHA256_128,
}
KEYS = {enums.KeySize.AES128: 16, enums.KeySize.AES192: 24, enums.KeySize.AES256: 32}
ROW_BYTES = 16


class RegisterGateway(SoftGateway, MemoryBus):
    """Registers that lead to a :class:`SoftGateway`.

    Parameters
    ----------
    auth_keys : iterable of bytes
        HMAC keys that may occur: midstates, which are all that is written, cannot be turned back into them.
    """

    def __init__(self, words, auth_keys):
        SoftGateway.__init__(self)
        MemoryBus.__init__(self, words)
        self._hmac_keys = {}
        for key in auth_keys:
            for auth in AUTHS_BY_CODE.values():
                if auth != Auth.NONE and len(key) == AUTHS[auth].key:
                    inner, outer = hmac_midstates(AUTHS[auth].hash, key)
                    self._hmac_keys[inner.ljust(32, b"\0") + outer.ljust(32, b"\0")] = key
        self._staged = [0] * 52
        self._slots = {}
        self._rule_rows = {}
        self._settings = CfeSettings(enable=3)

    async def write(self, address, words):
        await MemoryBus.write(self, address, words)
        data, command = REGISTERS["table.data"], REGISTERS["table.command"]
        for at, word in enumerate(words, (address - data.address) // 4):
            if 0 <= at < data.count:
                self._staged[at] = word
            elif data.address + 4 * at == command.address:
                self._execute(self.words[REGISTERS["table.index"].address], command.unpack(word))
                self._staged = [0] * 52

    def _fields(self, table, row):
        place = rdl.entry(table)[row]
        words = self._staged[4 * place.index : 4 * place.index + 4]
        number = sum(word << 32 * at for at, word in enumerate(words))
        return {name: number >> field.low & (1 << field.width) - 1 for name, field in place.fields.items()}

    def _execute(self, index, command):
        table, dfe = command["table"], command["dfe"]
        where = {
            enums.Table.CAM: self._slots,
            enums.Table.RULE: self._rule_rows,
            enums.Table.ROUTE: self._routes,
            enums.Table.SA: self._sas[dfe],
            enums.Table.SOURCE: self._sources[dfe],
        }[table]
        if command["erase"]:
            where.pop(index, None)
        else:
            decode = {
                enums.Table.CAM: self._cam_entry,
                enums.Table.RULE: self._rule,
                enums.Table.ROUTE: self._route,
                enums.Table.SA: self._soft_sa,
                enums.Table.SOURCE: self._source,
            }[table]
            where[index] = decode()
        self._rules = [self._rule_rows[row] for row in sorted(self._rule_rows)]
        own = frozenset(entry.key.destination for entry in self._slots.values() if entry.key.protocol == UDP)
        self._settings = replace(self._settings, own=own)

    def _look_up(self, arrival):
        """As the CAM does: one slot a way, found by its hash, the whole key compared."""
        key = CamKey(arrival.ip.destination, arrival.spi)
        number = hashing.cam_key(destination=int(key.destination), protocol=key.protocol, spi=key.spi)
        rows = hashing.cam_rows(self.capabilities.cam_entries)
        found = [
            self._slots.get(way * rows + hashing.cam_row(way, number, rows)) for way in range(hashing.WAYS)
        ]
        self._cam = {entry.key: entry for entry in found if entry}
        return super()._look_up(arrival)

    def _cam_entry(self):
        key, value = self._fields("cam", "key"), self._fields("cam", "value")
        assert value["valid"] and (not value["ipv6"] or value["protocol"] == UDP)
        address = (IPv6Address if value["ipv6"] else IPv4Address)(key["destination"])
        return CamEntry(
            CamKey(address, value["spi"], value["protocol"]),
            value["dfe"],
            value["sa"],
            value["route"],
            value["generation"],
        )

    def _rule(self):
        value = self._fields("rule", "value")
        assert value["valid"]
        return Rule(
            _selectors(self._fields("rule", "addresses"), value),
            _ports(value["ingress"]),
            Action(value["action"]),
            value["dfe"],
            value["sa"],
            value["route"],
            value["generation"],
            bool(value["clear"]),
        )

    def _route(self):
        hop = self._fields("route", "hop")
        assert hop["valid"]
        macs = [
            hop[name].to_bytes(6) if hop["rewrite"] else None for name in ("destination_mac", "source_mac")
        ]
        return Route(
            Port(hop["egress"]), *macs, hop["vlan_tci"] if hop["tagged"] else None, bool(hop["decrement_ttl"])
        )

    def _source(self):
        source = self._fields("source", "source")
        assert source["valid"]
        return Source(_network(source["address"], source["mask"]), _ports(source["ingress"]))

    def _soft_sa(self):
        control, tunnel = self._fields("sa", "control"), self._fields("sa", "tunnel")
        assert control["valid"]
        cipher, auth = CIPHERS[control["cipher"]], AUTHS_BY_CODE[control["auth"]]
        material = b"".join(
            self._fields("sa", name)["value"].to_bytes(ROW_BYTES, "little")
            for name in ("key_low", "key_high", "auth_0", "auth_1", "auth_2", "auth_3")
        )
        key = material[: KEYS[control["key_size"]]] if cipher != Cipher.NULL else b""
        limits = {unit: self._fields("sa", f"{unit}_lifetime") for unit in ("byte", "packet")}
        soft, hard = (
            Lifetime(
                *(
                    None if limits[unit][name] == (1 << 64) - 1 else limits[unit][name]
                    for unit in ("byte", "packet")
                )
            )
            for name in ("soft", "hard")
        )
        state = self._fields("sa", "replay")
        gcm = cipher == Cipher.AES_GCM
        sa = Sa(
            direction=Direction(control["direction"]),
            spi=control["spi"],
            source=IPv4Address(tunnel["source"]),
            destination=IPv4Address(tunnel["destination"]),
            mode=Mode(control["mode"]),
            cipher=cipher,
            key=key,
            salt=control["salt"].to_bytes(4, "little") if gcm else b"",
            icv_bytes=16 if gcm else 0,
            auth=auth,
            auth_key=self._hmac_keys[material[32:]] if auth != Auth.NONE else b"",
            replay_window=control["window_size"] if control["anti_replay"] else 0,
            sequence=state["sequence"],
            window=state["window"],
            soft=soft,
            hard=hard,
            mtu=control["mtu"],
            df=control["df"],
            copy_tos=bool(control["copy_tos"]),
            outer_tos=control["outer_tos"],
            outer_ttl=control["outer_ttl"],
        )
        permitted = [ANY_IPV4]
        if control["check_selectors"]:
            permitted = [
                _selectors(self._fields("sa", "selector_addresses"), self._fields("sa", "selector_ports"))
            ]
        return Held(SoftSa(sa, permitted), control["generation"])


def _network(address, mask):
    return ip_network((address, mask.bit_count()))


def _selectors(addresses, ports):
    return Selectors(
        _network(addresses["source"], addresses["source_mask"]),
        _network(addresses["destination"], addresses["destination_mask"]),
        None if ports["any_protocol"] else ports["protocol"],
        (ports["source_port_low"], ports["source_port_high"]),
        (ports["destination_port_low"], ports["destination_port_high"]),
    )


def _ports(mask):
    return frozenset(port for port in Port if mask >> port & 1)

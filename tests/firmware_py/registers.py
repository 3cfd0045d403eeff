"""A gateway in software behind the registers of the gateware: it knows only what is written to the table window."""
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network

from spigate.firmware_py.bus import MemoryBus
from spigate.firmware_py.midstate import hmac_midstates
from spigate.firmware_py.packet import UDP
from spigate.firmware_py.punt import Port
from spigate.firmware_py.sa import ANY_IPV4, AUTHS, Auth, Cipher, Direction, Lifetime, Mode, Sa, Selectors
from spigate.firmware_py.soft.gateway import Held, SoftGateway
from spigate.firmware_py.soft.sa import SoftSa
from spigate.firmware_py.tables import Action, CamEntry, CamKey, CfeSettings, Route, Rule, Source
from spigate.hdl.cfe import hashing
from spigate.hdl.csr import rdl

REGISTERS = rdl.registers()
CIPHER, AUTH, KEY_SIZE, TABLE = (rdl.enum(name) for name in ("cipher_e", "auth_e", "key_size_e", "table_e"))
CIPHERS = {CIPHER.NULL: Cipher.NULL, CIPHER.AES_CBC: Cipher.AES_CBC, CIPHER.AES_GCM: Cipher.AES_GCM}
AUTHS_BY_CODE = {AUTH.NONE: Auth.NONE, AUTH.HMAC_SHA1_96: Auth.HMAC_SHA1_96, AUTH.HMAC_SHA256_128: Auth.HMAC_SHA256_128}
KEYS = {KEY_SIZE.AES128: 16, KEY_SIZE.AES192: 24, KEY_SIZE.AES256: 32}
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
        words = self._staged[4 * place.index:4 * place.index + 4]
        number = sum(word << 32 * at for at, word in enumerate(words))
        return {name: number >> field.low & (1 << field.width) - 1 for name, field in place.fields.items()}

    def _execute(self, index, command):
        table, dfe = command["table"], command["dfe"]
        where = {TABLE.CAM: self._slots, TABLE.RULE: self._rule_rows, TABLE.ROUTE: self._routes,
                 TABLE.SA: self._sas[dfe], TABLE.SOURCE: self._sources[dfe]}[table]
        if command["erase"]:
            where.pop(index, None)
        else:
            decode = {TABLE.CAM: self._cam_entry, TABLE.RULE: self._rule, TABLE.ROUTE: self._route,
                      TABLE.SA: self._soft_sa, TABLE.SOURCE: self._source}[table]
            where[index] = decode()
        self._rules = [self._rule_rows[row] for row in sorted(self._rule_rows)]
        own = frozenset(entry.key.destination for entry in self._slots.values() if entry.key.protocol == UDP)
        self._settings = replace(self._settings, own=own)

    def _look_up(self, arrival):
        """As the CAM does: one slot a way, found by its hash, the whole key compared."""
        key = CamKey(arrival.ip.destination, arrival.spi)
        number = hashing.cam_key(destination=int(key.destination), protocol=key.protocol, spi=key.spi)
        rows = hashing.cam_rows(self.capabilities.cam_entries)
        found = [self._slots.get(way * rows + hashing.cam_row(way, number, rows)) for way in range(hashing.WAYS)]
        self._cam = {entry.key: entry for entry in found if entry}
        return super()._look_up(arrival)

    def _cam_entry(self):
        key, value = self._fields("cam", "key"), self._fields("cam", "value")
        assert value["valid"] and (not value["ipv6"] or value["protocol"] == UDP)
        address = (IPv6Address if value["ipv6"] else IPv4Address)(key["destination"])
        return CamEntry(CamKey(address, value["spi"], value["protocol"]), value["dfe"],
                        value["sa"], value["route"], value["generation"])

    def _rule(self):
        value = self._fields("rule", "value")
        assert value["valid"]
        return Rule(_selectors(self._fields("rule", "addresses"), value), _ports(value["ingress"]),
                    Action(value["action"]), value["dfe"], value["sa"], value["route"],
                    value["generation"], bool(value["clear"]))

    def _route(self):
        hop = self._fields("route", "hop")
        assert hop["valid"]
        macs = [hop[name].to_bytes(6) if hop["rewrite"] else None for name in ("destination_mac", "source_mac")]
        return Route(Port(hop["egress"]), *macs, hop["vlan_tci"] if hop["tagged"] else None, bool(hop["decrement_ttl"]))

    def _source(self):
        source = self._fields("source", "source")
        assert source["valid"]
        return Source(_network(source["address"], source["mask"]), _ports(source["ingress"]))

    def _soft_sa(self):
        control, tunnel = self._fields("sa", "control"), self._fields("sa", "tunnel")
        assert control["valid"]
        cipher, auth = CIPHERS[control["cipher"]], AUTHS_BY_CODE[control["auth"]]
        material = b"".join(self._fields("sa", name)["value"].to_bytes(ROW_BYTES, "little")
                            for name in ("key_low", "key_high", "auth_0", "auth_1", "auth_2", "auth_3"))
        key = material[:KEYS[control["key_size"]]] if cipher != Cipher.NULL else b""
        limits = {unit: self._fields("sa", f"{unit}_lifetime") for unit in ("byte", "packet")}
        soft, hard = (Lifetime(*(None if limits[unit][name] == (1 << 64) - 1 else limits[unit][name]
                                 for unit in ("byte", "packet"))) for name in ("soft", "hard"))
        state = self._fields("sa", "replay")
        gcm = cipher == Cipher.AES_GCM
        sa = Sa(direction=Direction(control["direction"]), spi=control["spi"], source=IPv4Address(tunnel["source"]),
                destination=IPv4Address(tunnel["destination"]), mode=Mode(control["mode"]), cipher=cipher, key=key,
                salt=control["salt"].to_bytes(4, "little") if gcm else b"", icv_bytes=16 if gcm else 0, auth=auth,
                auth_key=self._hmac_keys[material[32:]] if auth != Auth.NONE else b"",
                replay_window=control["window_size"] if control["anti_replay"] else 0, sequence=state["sequence"],
                window=state["window"], soft=soft, hard=hard, mtu=control["mtu"], df=control["df"],
                copy_tos=bool(control["copy_tos"]), outer_tos=control["outer_tos"], outer_ttl=control["outer_ttl"])
        permitted = [ANY_IPV4]
        if control["check_selectors"]:
            permitted = [_selectors(self._fields("sa", "selector_addresses"), self._fields("sa", "selector_ports"))]
        return Held(SoftSa(sa, permitted), control["generation"])


def _network(address, mask):
    return ip_network((address, mask.bit_count()))


def _selectors(addresses, ports):
    return Selectors(_network(addresses["source"], addresses["source_mask"]),
                     _network(addresses["destination"], addresses["destination_mask"]),
                     None if ports["any_protocol"] else ports["protocol"],
                     (ports["source_port_low"], ports["source_port_high"]),
                     (ports["destination_port_low"], ports["destination_port_high"]))


def _ports(mask):
    return frozenset(port for port in Port if mask >> port & 1)

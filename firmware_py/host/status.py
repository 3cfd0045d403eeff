"""What a gateway shows: rows for tables and JSON, and metrics for Prometheus. Nothing secret."""
from collections.abc import Iterable
from dataclasses import asdict

from spigate.firmware_py.host.plane import Active, Plane
from spigate.firmware_py.ike.endpoint import Endpoint
from spigate.firmware_py.ike.events import Event
from spigate.firmware_py.policy import Policy
from spigate.firmware_py.sa import ANY_PORTS, ESP, Direction, Selectors

Row = dict[str, object]


def sas(plane: Plane, now: float) -> list[Row]:
    """SAs of ESP and AH."""
    return [_sa(each, now) for each in plane.sas]


def _sa(active: Active, now: float) -> Row:
    sa, state = active.sa, active.soft.state
    return {"peer": active.peer, "child": active.child, "direction": sa.direction.name.lower(),
            "protocol": ("esp" if sa.protocol == ESP else "ah") + ("-in-udp" if sa.encapsulation else ""),
            "mode": sa.mode.name.lower(), "spi": f"{sa.spi:08x}", "source": str(sa.source), "destination": str(sa.destination),
            "suite": sa.suite, "esn": sa.esn, "sequence": state.sequence, "packets": state.packets, "bytes": state.bytes,
            "seconds": int(now - active.since)}


def ikes(endpoint: Endpoint, now: float) -> list[Row]:
    """IKE SAs."""
    return [{"peer": ike.peer.name if ike.peer else "", "state": ike.state.name.lower(),
             "role": "initiator" if ike.initiator else "responder", "local": str(ike.path.local),
             "remote": str(ike.path.remote), "identity": str(ike.identity or ""), "suite": str(ike.suite or ""),
             "children": sorted({child.config.name for child in ike.children.values()}), "spis": ike.name,
             "seconds": int(now - ike.created)} for ike in endpoint.ikes]


def policies(plane: Plane) -> list[Row]:
    """Policies, in the order in which they decide."""
    return [_policy(each) for each in plane.policies]


def _policy(policy: Policy) -> Row:
    selectors = policy.selectors
    return {"direction": policy.direction.value, "action": policy.action.value, "source": str(selectors.source),
            "destination": str(selectors.destination), "protocol": selectors.protocol, "ports": _ports(selectors),
            "reqid": policy.templates[0].reqid if policy.templates else None}


def _ports(selectors: Selectors) -> str:
    both = (selectors.source_ports, selectors.destination_ports)
    return "" if both == (ANY_PORTS, ANY_PORTS) else " -> ".join(f"{low}-{high}" for low, high in both)


def event(event: Event, time: str) -> Row:
    """An event, and when it was."""
    return {"time": time, **asdict(event), "kind": event.kind.value}


def metrics(endpoint: Endpoint, plane: Plane, events: dict[str, int]) -> str:
    """The text that Prometheus reads (exposition format 0.0.4)."""
    states: dict[str, int] = {"connecting": 0, "established": 0}
    for ike in endpoint.ikes:
        states[ike.state.name.lower()] = states.get(ike.state.name.lower(), 0) + 1
    directions = {"inbound": 0, "outbound": 0}
    for each in plane.sas:
        directions["inbound" if each.sa.direction == Direction.INBOUND else "outbound"] += 1
    kinds = ("encrypted", "decrypted", "bypassed")
    lines = [
        *_metric("ike_sas", "gauge", "IKE SAs, by state.", "state", states),
        *_metric("half_open", "gauge", "Handshakes that peers began and have not finished.", "", {"": endpoint.half_open}),
        *_metric("sas", "gauge", "SAs of ESP and AH, by direction.", "direction", directions),
        *_metric("policies", "gauge", "Policies.", "", {"": len(plane.policies)}),
        *_metric("packets_total", "counter", "Packets done, by kind.", "kind", {kind: plane.counts[kind] for kind in kinds}),
        *_metric("bytes_total", "counter", "Bytes of clear packets done, by kind.", "kind",
                 {kind: plane.counts[f"{kind}_bytes"] for kind in kinds}),
        *_metric("dropped_packets_total", "counter", "Packets dropped, by reason.", "reason", plane.drops),
        *_metric("events_total", "counter", "Events, by kind.", "kind", events)]
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, text: str, label: str, values: dict[str, int]) -> Iterable[str]:
    yield f"# HELP spigate_{name} {text}"
    yield f"# TYPE spigate_{name} {kind}"
    for key, value in sorted(values.items()):
        labels = f'{{{label}="{key}"}}' if label else ""
        yield f"spigate_{name}{labels} {value}"

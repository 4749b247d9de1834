"""NetworkPolicy, evaluated: may this endpoint open a connection to that one?

As the API's reference has it: a direction of a pod that no policy selects is open; one that some policy selects is open
to what at least one rule of one of them names; and a connection needs egress of its source and ingress of its target.
"""

import ipaddress
from dataclasses import dataclass, field


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod, or with ``namespace`` "" an address outside of the cluster."""

    namespace: str = ""
    labels: dict = field(default_factory=dict)
    address: str = "10.0.0.1"


def allows(policies, source, target, port, protocol="TCP"):
    """Tell whether the policies, of any namespaces, let ``source`` reach ``port`` of ``target``."""
    wanted = (port, protocol)
    return _open(policies, "Egress", source, target, wanted) and _open(policies, "Ingress", target, source, wanted)


def _open(policies, direction, own, other, port):
    selecting = [policy["spec"] for policy in policies if _selects(policy, direction, own)]
    rules = [rule for spec in selecting for rule in spec.get(direction.lower(), [])]
    peers = {"Egress": "to", "Ingress": "from"}[direction]
    return not selecting or any(_port(rule, port) and _peer(rule, peers, other, own.namespace) for rule in rules)


def _selects(policy, direction, end):
    here = policy["metadata"]["namespace"] == end.namespace
    return here and direction in policy["spec"]["policyTypes"] and _labels(policy["spec"]["podSelector"], end.labels)


def _port(rule, port):
    return not rule.get("ports") or port in [(one["port"], one["protocol"]) for one in rule["ports"]]


def _peer(rule, peers, end, own_namespace):
    return not rule.get(peers) or any(_matches(peer, end, own_namespace) for peer in rule[peers])


def _matches(peer, end, own_namespace):
    if "ipBlock" in peer:
        assert set(peer["ipBlock"]) == {"cidr"}
        return ipaddress.ip_address(end.address) in ipaddress.ip_network(peer["ipBlock"]["cidr"])
    if not end.namespace:
        return False
    if "namespaceSelector" not in peer:
        return end.namespace == own_namespace and _labels(peer["podSelector"], end.labels)
    named = {"kubernetes.io/metadata.name": end.namespace}
    return _labels(peer["namespaceSelector"], named) and _labels(peer.get("podSelector", {}), end.labels)


def _labels(selector, labels):
    assert set(selector) <= {"matchLabels"}, f"expressions are not evaluated here, got {selector}"
    return selector.get("matchLabels", {}).items() <= labels.items()

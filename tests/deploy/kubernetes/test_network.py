"""Who may talk to whom: the policies of each overlay, evaluated over its pods and over strangers."""

import pytest

from .network import End, allows
from .rendered import FUNCTION, NAMESPACE, OVERLAYS, SERVING, kind, pods_of, services

STRANGER = End(NAMESPACE, {"app": "stranger", "app.kubernetes.io/part-of": "segment"})
CLIENT = End("shop", {"app": "shop"})
PRETENDER = End("shop", {"app.kubernetes.io/name": FUNCTION})
INTERNET = End(address="93.184.215.14")
DNS = (
    End("kube-system", {"k8s-app": "kube-dns"}),
    End(address="169.254.20.10"),
)
AUTOSCALER = End("knative-serving", {"app": "autoscaler"})
CALLS_ANYBODY = {
    "metadata": {"namespace": NAMESPACE},
    "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]},
}


def policies(overlay):
    return list(kind(overlay, "NetworkPolicy").values())


def ends(overlay, name):
    found = [End(NAMESPACE, pod.labels) for pod in pods_of(overlay, name)]
    assert found
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_function_alone_reaches_tf_serving_and_only_by_grpc(overlay):
    rules = policies(overlay)
    for serving in ends(overlay, SERVING):
        for function in ends(overlay, FUNCTION):
            assert allows(rules, function, serving, 8500)
            assert not allows(rules, function, serving, 8501)
            assert not allows(rules, function, serving, 8500, "UDP")
        for other in (STRANGER, CLIENT, PRETENDER, INTERNET, AUTOSCALER, *DNS, serving):
            assert not allows(rules, other, serving, 8500)
            assert not allows([*rules, CALLS_ANYBODY], other, serving, 8500)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_function_calls_nobody_else_but_dns(overlay):
    rules = policies(overlay)
    for function in ends(overlay, FUNCTION):
        for server in DNS:
            assert allows(rules, function, server, 53, "UDP")
            assert allows(rules, function, server, 53)
            assert not allows(rules, function, server, 443)
        for port, protocol in ((443, "TCP"), (80, "TCP"), (53, "TCP"), (53, "UDP")):
            assert not allows(rules, function, INTERNET, port, protocol)
        assert not allows(rules, function, CLIENT, 8500)
        assert not allows(rules, function, STRANGER, 8500)
        assert not allows(rules, function, End("kube-system", {"k8s-app": "metrics-server"}), 53, "UDP")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_tf_serving_and_strangers_in_the_namespace_call_nobody(overlay):
    rules = policies(overlay)
    for source in (*ends(overlay, SERVING), STRANGER):
        for target in (*ends(overlay, FUNCTION), *DNS, CLIENT, INTERNET):
            for port in (53, 443, 8080, 8500):
                assert not allows(rules, source, target, port)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_requests_reach_the_function_at_its_http_port_alone(overlay):
    rules = policies(overlay)
    http = 8012 if overlay == "knative" else 8080  # 8012 is Knative's proxy, which counts and holds requests back
    for function in ends(overlay, FUNCTION):
        reached = [port for port in (53, 80, 443, 8012, 8080, 8500, 9090) if allows(rules, CLIENT, function, port)]
        assert reached == [http]


def test_knatives_autoscaler_reads_the_figures_of_its_proxy():
    (function,) = ends("knative", FUNCTION)
    assert allows(policies("knative"), AUTOSCALER, function, 9090)
    assert not allows(policies("plain"), AUTOSCALER, function, 9090)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_is_published_beyond_the_cluster(overlay):
    assert {service["spec"]["type"] for service in services(overlay).values()} == {"ClusterIP"}
    for service in services(overlay).values():
        assert not {"externalIPs", "loadBalancerIP", "externalName"} & set(service["spec"])
    for public in ("Ingress", "HTTPRoute", "GRPCRoute", "Gateway"):
        assert kind(overlay, public) == {}


def test_knative_and_kserve_are_told_to_publish_nothing():
    function = kind("knative", "Service", "serving.knative.dev", FUNCTION)
    assert function["metadata"]["labels"]["networking.knative.dev/visibility"] == "cluster-local"
    serving = kind("kserve", "InferenceService", name="shapes")
    assert serving["metadata"]["labels"]["networking.kserve.io/visibility"] == "cluster-local"


def test_without_policies_everything_is_open():
    (function,), (serving,) = ends("plain", FUNCTION), ends("plain", SERVING)
    for source, target in ((CLIENT, serving), (STRANGER, serving), (function, INTERNET), (serving, INTERNET)):
        assert allows([], source, target, 8500)


@pytest.mark.parametrize("missing", [FUNCTION, SERVING])
def test_each_pair_of_policies_is_needed_for_a_request_to_pass(missing):
    (function,), (serving,) = ends("plain", FUNCTION), ends("plain", SERVING)
    rest = [policy for policy in policies("plain") if policy["metadata"]["name"] != missing]
    assert len(rest) == 2
    assert not allows(rest, function, serving, 8500)


def test_another_namespace_is_told_from_this_one():
    policy = {
        "metadata": {"namespace": "a"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {}}]}]},
    }
    assert allows([policy], End("a"), End("a"), 1)
    assert not allows([policy], End("b"), End("a"), 1)
    assert allows([policy], End("a"), End("b"), 1)

"""Whom things select, how many there are, and that a rollout or a drain loses no request."""

import pytest
from gunicorn.config import GracefulTimeout

from deploy.model_server.flags import Flags
from handler.config import Config
from handler.web.routes import PAGES

from .rendered import FUNCTION, OVERLAYS, SERVING, environment, kind, pods, pods_of, services

DNS_AGAIN_S = 30  # gRPC's least time between two look-ups
JITTER = 1.1  # of gRPC's connection age


def selected(overlay, selector):
    return [pod for pod in pods(overlay) if selector.items() <= pod.labels.items()]


def deployments(overlay):
    return [pod for pod in pods(overlay) if pod.workload["kind"] == "Deployment"]


def deadline_s(overlay):
    return max(Config.from_environ(environment(pod, overlay)).deadline_s for pod in pods_of(overlay, FUNCTION))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_deployment_selects_its_own_pods_alone(overlay):
    for pod in deployments(overlay):
        assert selected(overlay, pod.workload["spec"]["selector"]["matchLabels"]) == [pod]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_service_selects_all_pods_of_its_name_at_a_port_they_have(overlay):
    assert services(overlay).keys() == ({SERVING} if overlay == "knative" else {FUNCTION, SERVING})
    for name, service in services(overlay).items():
        found = selected(overlay, service["spec"]["selector"])
        assert found == pods_of(overlay, name) != []
        (port,) = service["spec"]["ports"]
        for pod in found:
            assert port["targetPort"] in [one[key] for one in pod.main["ports"] for key in ("name", "containerPort")]


def test_a_canary_and_the_stable_pods_answer_behind_one_service():
    tracks = [pod.track for pod in selected("canary", services("canary")[FUNCTION]["spec"]["selector"])]
    assert sorted(tracks) == ["canary", "stable"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_deployment_has_an_autoscaler_or_a_number(overlay):
    scaled = {one["spec"]["scaleTargetRef"]["name"]: one["spec"] for one in autoscalers(overlay)}
    names = {pod.workload["metadata"]["name"]: pod.workload["spec"] for pod in deployments(overlay)}
    assert scaled.keys() <= names.keys()
    for name, spec in names.items():
        assert (name in scaled) is not ("replicas" in spec)
    for spec in scaled.values():
        assert spec["scaleTargetRef"]["kind"] == "Deployment"
        assert 2 <= spec["minReplicas"] < spec["maxReplicas"]


def autoscalers(overlay):
    return kind(overlay, "HorizontalPodAutoscaler").values()


def test_kserve_scales_as_the_base_does():
    (base,) = [one["spec"] for one in autoscalers("plain") if one["metadata"]["name"] == SERVING]
    service = kind("kserve", "InferenceService", name="shapes")
    predictor = service["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (base["minReplicas"], base["maxReplicas"])
    assert predictor["scaleMetric"] == base["metrics"][0]["resource"]["name"]
    assert predictor["scaleTarget"] == base["metrics"][0]["resource"]["target"]["averageUtilization"]
    # KServe takes a metric of processors only where both of these stand so
    annotations = service["metadata"]["annotations"]
    assert annotations["serving.kserve.io/deploymentMode"] == "Standard"
    assert annotations["serving.kserve.io/autoscalerClass"] == "hpa"


def test_knative_scales_between_bounds():
    service = kind("knative", "Service", "serving.knative.dev", FUNCTION)
    annotations = service["spec"]["template"]["metadata"]["annotations"]
    bounds = [int(annotations[f"autoscaling.knative.dev/{end}-scale"]) for end in ("min", "max")]
    assert bounds[0] < bounds[1]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_drain_takes_one_pod_at_a_time(overlay):
    budgets = kind(overlay, "PodDisruptionBudget")
    assert budgets.keys() == {FUNCTION, SERVING}
    for name, budget in budgets.items():
        assert budget["spec"]["maxUnavailable"] == 1
        assert selected(overlay, budget["spec"]["selector"]["matchLabels"]) == pods_of(overlay, name) != []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_rollout_takes_no_pod_away_before_there_is_a_new_one(overlay):
    strategies = [pod.workload["spec"]["strategy"] for pod in deployments(overlay)]
    strategies += [one["spec"]["predictor"]["deploymentStrategy"] for one in kind(overlay, "InferenceService").values()]
    assert strategies
    for strategy in strategies:
        assert strategy["type"] == "RollingUpdate"
        assert strategy["rollingUpdate"]["maxUnavailable"] == 0


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_of_a_kind_spread_over_nodes(overlay):
    # Knative takes no constraints unless a feature flag allows them
    spread = [pod for pod in pods(overlay) if not pod.workload["apiVersion"].startswith("serving.knative.dev")]
    assert len(spread) == len(pods(overlay)) - (overlay == "knative")
    for pod in spread:
        constraints = pod.spec["topologySpreadConstraints"]
        assert "kubernetes.io/hostname" in [one["topologyKey"] for one in constraints]
        for constraint in constraints:
            assert constraint["labelSelector"]["matchLabels"].items() <= pod.labels.items()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_function_ends_its_requests_before_it_is_killed(overlay):
    gunicorn_s = GracefulTimeout.default
    assert deadline_s(overlay) < gunicorn_s
    for pod in pods_of(overlay, FUNCTION):
        if "timeoutSeconds" in pod.spec:  # Knative holds requests back itself, and gives the pod this long
            assert pod.spec["timeoutSeconds"] > gunicorn_s
        else:
            waits_s = pod.main["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert pod.spec["terminationGracePeriodSeconds"] > waits_s + gunicorn_s


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_tf_serving_is_left_by_all_before_it_is_killed(overlay):
    for pod in pods_of(overlay, SERVING):
        age_s, grace_s = (connection_ms(pod, f"grpc.max_connection_age{part}_ms") / 1000 for part in ("", "_grace"))
        assert grace_s > deadline_s(overlay)
        waits_s = pod.main["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert waits_s > JITTER * age_s + DNS_AGAIN_S + deadline_s(overlay)
        killed_s = pod.spec["terminationGracePeriodSeconds"]
        assert waits_s < killed_s <= waits_s + 15, "it would ignore SIGTERM for the rest of it"


def connection_ms(pod, name):
    (text,) = [argument.split("=", 1)[1] for argument in pod.main["args"] if "grpc_channel_arguments" in argument]
    return dict(Flags(model_base_path="/", grpc_channel_arguments=text).channel_arguments())[name]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_functions_probes_ask_what_they_should(overlay):
    for pod in pods_of(overlay, FUNCTION):
        asked = {probe: pod.main[probe]["httpGet"]["path"] for probe in pod.main if probe.endswith("Probe")}
        assert asked.keys() >= {"readinessProbe", "livenessProbe"}
        assert set(asked.values()) <= PAGES.keys()
        assert asked["readinessProbe"] == "/ready"
        assert asked["livenessProbe"] == asked.get("startupProbe", "/health") == "/health"
        # a process with all its threads in requests is busy, not dead
        assert pod.main["livenessProbe"]["timeoutSeconds"] > deadline_s(overlay)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_tf_servings_probes_ask_its_port_by_grpc_but_for_tls(overlay):
    for pod in pods_of(overlay, SERVING):
        has_tls = any(argument.startswith("--ssl_config_file") for argument in pod.main["args"])
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            (way,) = {"grpc", "tcpSocket", "httpGet", "exec"} & set(pod.main[probe])
            assert way == ("tcpSocket" if has_tls else "grpc")
            assert pod.main[probe][way]["port"] == 8500
            if way == "grpc":
                assert pod.main[probe][way]["service"] in ("", "ModelService", "PredictionService")
        starts_s = pod.main["startupProbe"]["periodSeconds"] * pod.main["startupProbe"]["failureThreshold"]
        assert pod.workload["spec"].get("progressDeadlineSeconds", starts_s + 1) > starts_s

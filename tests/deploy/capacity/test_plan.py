"""The arithmetic against numbers worked by hand, and what has to hold for any numbers."""

from dataclasses import replace

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from deploy.capacity import plan
from deploy.capacity.figures import Request
from deploy.capacity.plan import Assumptions, PlanError

INT8 = Request("int8", 250_000, 3_000_000, 75_000, function_s=0.016925, cpu_s=0.01, measured=True)
FLOAT32 = replace(INT8, numbers="float32", up_bytes=16_000_000, down_bytes=25_000_000, measured=False)
# half of 2 vCPUs, of 10 places, of 1 GB/s each way; a place is held for 16.925 + 3.075 + 100 = 120 ms in int8
GIVEN = Assumptions(
    utilisation=0.5,
    vcpus=2,
    memory_gib=4,
    concurrency=10,
    max_instances=100,
    gbit_per_instance=8,
    answer_bytes=50_000,
    model_ms=100,
    models_at_once=1,
    threads=16,
    gbit_per_replica=8,
)
ANY_RATE = st.floats(0.01, 1e6)


def test_what_one_instance_carries_by_hand():
    assert plan.held_s(INT8, GIVEN) == pytest.approx(0.120)
    assert plan.instance_limits(INT8, GIVEN) == pytest.approx(
        {
            "CPU": 100,  # 0.5 * 2 / 0.01
            "network out": 163.934,  # 0.5e9 / 3,050,000
            "network in": 1538.46,  # 0.5e9 / 325,000
            "requests at once": 41.6667,  # 0.5 * 10 / 0.12
        },
        rel=1e-5,
    )
    assert plan.instance_limits(FLOAT32, GIVEN)["network in"] == pytest.approx(19.802, rel=1e-5)  # 0.5e9 / 25,250,000


def test_what_one_replica_carries_by_hand():
    assert plan.replica_limits(FLOAT32, GIVEN) == pytest.approx(
        {"model": 5, "network in": 31.25, "network out": 20, "threads": 80}
    )


def test_a_hundred_a_second_by_hand():
    int8, float32 = plan.needs([INT8, FLOAT32], [100], GIVEN)
    assert (int8.to_model, int8.from_model) == pytest.approx((2.4, 0.06))
    assert (int8.from_clients, int8.to_clients) == pytest.approx((0.2, 0.04))
    assert (float32.to_model, float32.from_model) == pytest.approx((12.8, 20))
    assert (int8.at_once, float32.at_once) == pytest.approx((12, 15.7925))
    assert (int8.instances, float32.instances) == (3, 6)  # 2.4 by places, 5.05 by the network
    assert (int8.replicas, float32.replicas) == (20, 20)
    assert int8.vcpus_busy == pytest.approx(1)
    assert (int8.first_limit, float32.first_limit) == ("requests at once of an instance", "network in of an instance")


def test_one_a_second_is_within_one_instance():
    (need,) = plan.needs([INT8], [1], GIVEN)
    assert (need.instances, need.replicas) == (1, 1)
    assert need.first_limit == "none; 2% of one instance (requests at once)"


def test_more_instances_than_allowed_is_the_first_limit_from_the_rate_that_fills_them():
    (need,) = plan.needs([INT8], [9_900], GIVEN)
    assert need.instances == 238  # 9,900 * 0.12 / 5 = 237.6
    assert need.first_limit == "100 instances, at 4,167/s (requests at once)"
    (raised,) = plan.needs([INT8], [9_900], replace(GIVEN, max_instances=238))
    assert raised.first_limit == "requests at once of an instance"


def test_a_month_by_hand():
    (month,) = plan.months(plan.needs([INT8], [1], GIVEN), GIVEN)
    assert month.requests == 2_628_000  # 730 * 3,600
    assert (month.vcpu_h_busy, month.vcpu_h_up, month.gib_h_up) == pytest.approx((7.3, 1460, 2920))
    assert (month.clients_gb, month.model_gb) == pytest.approx((131.4, 8081.1))


def first(request, **changed):
    limits = plan.instance_limits(request, replace(GIVEN, **changed))
    return min(limits, key=limits.get)


@pytest.mark.parametrize(
    ("changed", "limit"),
    [
        ({}, "requests at once"),
        ({"concurrency": 30}, "CPU"),  # 125 /s by places
        ({"concurrency": 30, "vcpus": 4}, "requests at once"),
        ({"concurrency": 50, "vcpus": 4}, "network out"),  # 208 by places, 200 by CPU, 164 by the network
        ({"concurrency": 50, "vcpus": 4, "gbit_per_instance": 16}, "CPU"),
        ({"concurrency": 30, "client_ms": 100}, "requests at once"),  # 68 by places
        ({"concurrency": 30, "answer_bytes": 3_000_000}, "network out"),  # 83
    ],
)
def test_the_first_limit_of_an_instance_flips(changed, limit):
    assert first(INT8, **changed) == limit


@pytest.mark.parametrize(
    ("changed", "limit"),
    [
        ({}, "model"),
        ({"model_ms": 20}, "network out"),  # 25 /s by the model, 20 by the network
        ({"models_at_once": 32, "gbit_per_replica": 80}, "threads"),
    ],
)
def test_the_first_limit_of_a_replica_flips(changed, limit):
    limits = plan.replica_limits(FLOAT32, replace(GIVEN, **changed))
    assert min(limits, key=limits.get) == limit


@drawn(ANY_RATE, st.floats(1, 100))
def test_more_images_never_need_less(rate, factor):
    for request in (INT8, FLOAT32):
        less, more = plan.needs([request], [rate, rate * factor], GIVEN)
        assert less.instances <= more.instances
        assert less.replicas <= more.replicas
        assert more.to_model == pytest.approx(less.to_model * factor)


@drawn(
    ANY_RATE,
    st.sampled_from(["vcpus", "utilisation", "concurrency", "gbit_per_instance", "models_at_once", "gbit_per_replica"]),
    st.floats(1, 2),
)
def test_more_of_anything_never_needs_more_machines(rate, name, factor):
    (before,) = plan.needs([INT8], [rate], GIVEN)
    (after,) = plan.needs([INT8], [rate], replace(GIVEN, **{name: getattr(GIVEN, name) * factor}))
    assert after.instances <= before.instances
    assert after.replicas <= before.replicas


@drawn(ANY_RATE)
def test_the_instances_carry_the_rate_and_one_less_would_not(rate):
    for request in (INT8, FLOAT32):
        (need,) = plan.needs([request], [rate], GIVEN)
        for limit in plan.instance_limits(request, GIVEN).values():
            assert need.instances * limit >= rate * (1 - 1e-9)
        fewer = (need.instances - 1) * min(plan.instance_limits(request, GIVEN).values())
        assert need.instances == 1 or fewer < rate


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("utilisation", 1.1, "utilisation must be above 0 and at most 1, got 1.1"),
        ("utilisation", 0, "utilisation must be above 0 and at most 1, got 0"),
        ("concurrency", 1001, "concurrency must be 1 or more and at most 1000, got 1001"),
        ("max_instances", 0, "max_instances must be 1 or more, got 0"),
        ("client_ms", -1, "client_ms must be 0 or more, got -1"),
        ("model_ms", float("nan"), "model_ms must be above 0, got nan"),
        ("vcpus", float("inf"), "vcpus must be above 0, got inf"),
    ],
)
def test_an_assumption_that_cannot_be_is_refused(name, value, message):
    with pytest.raises(PlanError, match=f"^{message}$"):
        replace(GIVEN, **{name: value})


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_cannot_be_is_refused(rate):
    with pytest.raises(PlanError, match="a rate must be above 0 images a second, got"):
        plan.needs([INT8], [1, rate], GIVEN)

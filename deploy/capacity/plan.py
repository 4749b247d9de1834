"""Figures of one request and assumptions in, what a rate of requests needs out: arithmetic alone, nothing is measured.

Two pools of machines stand in the path of a photograph, instances of the function and replicas of TensorFlow Serving.
One of a pool carries what the least of its limits lets through; a rate needs as many as that asks for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from deploy.capacity.figures import Request

MONTH_H = 730.0
LEAST = {"client_ms": (0, "0 or more"), **dict.fromkeys(("concurrency", "max_instances", "threads"), (1, "1 or more"))}
MOST = {"utilisation": 1, "concurrency": 1000}  # the latter of one Cloud Run instance


class PlanError(ValueError):
    """An assumption that cannot be; the text says which, and what it must be."""


def _of(default: float, meaning: str) -> float:
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class Assumptions:
    """What the benchmark does not say. All but ``answer_bytes`` and the limits of Cloud Run are for you to replace."""

    utilisation: float = _of(0.6, "share of any limit that is planned for; Cloud Run's autoscaler aims at 0.6, too")
    vcpus: float = _of(2, "vCPUs of an instance, a worker on each, as fast as a core of the machine that was measured")
    memory_gib: float = _of(1, "memory of an instance, GiB")
    concurrency: float = _of(16, "requests that an instance takes at once, at most 1000 on Cloud Run")
    max_instances: float = _of(100, "greatest number of instances: what Cloud Run sets unless told more")
    gbit_per_instance: float = _of(1, "network of an instance each way, Gbit/s: an assumption, measure yours")
    answer_bytes: float = _of(39_000, "bytes of an answer: 100 objects as RLE took 38,985; bytes_down in your log")
    client_ms: float = _of(0, "milliseconds for which a slow client holds its place in an instance")
    model_ms: float = _of(100, "milliseconds of the model for an image: an example, measure yours")
    models_at_once: float = _of(1, "images that a replica works on at the same time, each within --model-ms")
    threads: float = _of(16, "requests that a replica takes at once: TensorFlow Serving's default is 4 a core")
    gbit_per_replica: float = _of(10, "network of a replica each way, Gbit/s: an assumption, measure yours")

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            least, words = LEAST.get(one.name, (math.ulp(0), "above 0"))
            most = MOST.get(one.name, math.inf)
            if not (math.isfinite(value) and least <= value <= most):
                at_most = f" and at most {most:g}" if most < math.inf else ""
                raise PlanError(f"{one.name} must be {words}{at_most}, got {value:g}")


@dataclass(frozen=True)
class Need:
    """What ``rate`` images a second need; bandwidths in Gbit/s. Lower bounds where the request is not ``measured``."""

    rate: float
    request: Request
    at_once: float
    to_model: float
    from_model: float
    from_clients: float
    to_clients: float
    instances: int
    vcpus_busy: float
    replicas: int
    first_limit: str


@dataclass(frozen=True)
class Month:
    """What drives the bill of a month of 730 hours at a steady rate; bytes are decimal."""

    need: Need
    requests: float
    vcpu_h_busy: float
    vcpu_h_up: float
    gib_h_up: float
    clients_gb: float
    model_gb: float


def needs(requests: Sequence[Request], rates: Sequence[float], given: Assumptions) -> list[Need]:
    """Return what each rate, images a second, needs for each request. Raises PlanError for a rate not above 0."""
    for rate in rates:
        if not (math.isfinite(rate) and rate > 0):
            raise PlanError(f"a rate must be above 0 images a second, got {rate}")
    return [_need(request, rate, given) for rate in rates for request in requests]


def _need(request: Request, rate: float, given: Assumptions) -> Need:
    instance, replica = instance_limits(request, given), replica_limits(request, given)
    return Need(
        rate=rate,
        request=request,
        at_once=rate * held_s(request, given),
        to_model=_gbit(rate * request.up_bytes),
        from_model=_gbit(rate * request.down_bytes),
        from_clients=_gbit(rate * request.photo_bytes),
        to_clients=_gbit(rate * given.answer_bytes),
        instances=units(rate, instance),
        vcpus_busy=rate * request.cpu_s,
        replicas=units(rate, replica),
        first_limit=_first(rate, instance, given),
    )


def held_s(request: Request, given: Assumptions) -> float:
    """Return the seconds that a request is in an instance: of the function, the network, the model, a slow client."""
    wire_s = _gbit(request.up_bytes + request.down_bytes) / given.gbit_per_instance
    return request.function_s + wire_s + (given.model_ms + given.client_ms) / 1000


def instance_limits(request: Request, given: Assumptions) -> dict[str, float]:
    """Return limit -> images a second that one instance carries within it."""
    out, into = request.up_bytes + given.answer_bytes, request.photo_bytes + request.down_bytes
    return {
        "CPU": given.utilisation * given.vcpus / request.cpu_s,
        "network out": given.utilisation * given.gbit_per_instance / _gbit(out),
        "network in": given.utilisation * given.gbit_per_instance / _gbit(into),
        "requests at once": given.utilisation * given.concurrency / held_s(request, given),  # Little's law
    }


def replica_limits(request: Request, given: Assumptions) -> dict[str, float]:
    """Return limit -> images a second that one replica of TensorFlow Serving carries within it."""
    model_s = given.model_ms / 1000
    return {
        "model": given.utilisation * given.models_at_once / model_s,
        "network in": given.utilisation * given.gbit_per_replica / _gbit(request.up_bytes),
        "network out": given.utilisation * given.gbit_per_replica / _gbit(request.down_bytes),
        "threads": given.utilisation * given.threads / model_s,
    }


def units(rate: float, limits: Mapping[str, float]) -> int:
    """Return how many of a pool a rate needs, one at least."""
    return max(1, math.ceil(rate / min(limits.values())))


def _first(rate: float, limits: Mapping[str, float], given: Assumptions) -> str:
    name = min(limits, key=lambda limit: limits[limit])
    fits = math.floor(given.max_instances)
    if units(rate, limits) > fits:
        return f"{fits:,} instances, at {fits * limits[name]:,.0f}/s ({name})"
    if rate < limits[name]:
        return f"none; {rate / limits[name]:.0%} of one instance ({name})"
    return f"{name} of an instance"


def months(planned: Sequence[Need], given: Assumptions) -> list[Month]:
    """Return the quantities of a month at each rate."""
    return [_month(need, given) for need in planned]


def _month(need: Need, given: Assumptions) -> Month:
    requests = need.rate * MONTH_H * 3600
    return Month(
        need=need,
        requests=requests,
        vcpu_h_busy=need.vcpus_busy * MONTH_H,
        vcpu_h_up=need.instances * given.vcpus * MONTH_H,
        gib_h_up=need.instances * given.memory_gib * MONTH_H,
        clients_gb=requests * given.answer_bytes / 1e9,
        model_gb=requests * (need.request.up_bytes + need.request.down_bytes) / 1e9,
    )


def _gbit(number_of_bytes: float) -> float:
    return 8 * number_of_bytes / 1e9

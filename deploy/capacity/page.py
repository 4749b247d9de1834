"""The plan as tables: what one machine carries, what a rate needs, a month's quantities, and the sizes of messages."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.capacity import plan
from deploy.capacity.figures import Request
from deploy.capacity.plan import Assumptions, Need
from deploy.tools.tables import table
from handler.config import Config

MIB = 1 << 20
CLOUD_RUN_BODY = 32 * MIB  # request or response over HTTP/1
GRPC_MESSAGE = 2048 * MIB
GRPC_RECEIVED = 4 * MIB  # what a gRPC client takes unless told otherwise; the function lifts it


def page(requests: Sequence[Request], rates: Sequence[float], given: Assumptions) -> str:
    """Return all tables. Raises PlanError."""
    needs = plan.needs(requests, rates, given)
    return "\n\n".join(
        [carried(requests, given), bandwidth(needs), machines(needs), month(needs, given), messages(requests, given)]
    )


def carried(requests: Sequence[Request], given: Assumptions) -> str:
    """Return what each limit of one instance and of one replica lets through; the least is the first to be hit."""
    pools = (
        ("instance", [plan.instance_limits(one, given) for one in requests]),
        ("replica", [plan.replica_limits(one, given) for one in requests]),
    )
    bounded = {"CPU", "requests at once"}  # by seconds, which may be a bound themselves
    rows = []
    for pool, limits in pools:
        for name in limits[0]:
            cells = []
            for one, own in zip(requests, limits, strict=True):
                bound = "" if one.measured or pool == "replica" or name not in bounded else "<= "
                least = " *" if own[name] == min(own.values()) else "  "
                cells.append(f"{bound}{digits(own[name])}{least}")
            rows.append([f"{pool}: {name}", *cells])
    header = [f"images/s of one, at {given.utilisation:.0%}; * least", *(f"{one.numbers}  " for one in requests)]
    return table(header, rows)


def bandwidth(needs: Sequence[Need]) -> str:
    """Return Gbit/s at each rate, and the requests that are in the function at once."""
    rows = [
        [
            *_name(need),
            *(digits(x) for x in (need.to_model, need.from_model, need.from_clients, need.to_clients)),
            _least(need, digits(need.at_once)),
        ]
        for need in needs
    ]
    header = [
        "Gbit/s at images/s",
        "numbers",
        "to model",
        "from model",
        "from clients",
        "to clients",
        "requests at once",
    ]
    return table(header, rows, left=0)


def machines(needs: Sequence[Need]) -> str:
    """Return instances and replicas at each rate, and the first limit that is hit."""
    rows = [
        [
            *_name(need),
            _least(need, f"{need.instances:,}"),
            _least(need, digits(need.vcpus_busy)),
            f"{need.replicas:,}",
            need.first_limit,
        ]
        for need in needs
    ]
    header = ["images/s", "numbers", "instances", "vCPUs busy", "replicas", "first limit of the function"]
    return table(header, rows, left=0)


def month(needs: Sequence[Need], given: Assumptions) -> str:
    """Return what drives a month's bill."""
    rows = [
        [
            *_name(one.need),
            f"{one.requests / 1e6:,.1f}",
            _least(one.need, f"{one.vcpu_h_busy:,.0f}"),
            _least(one.need, f"{one.vcpu_h_up:,.0f}"),
            _least(one.need, f"{one.gib_h_up:,.0f}"),
            f"{one.clients_gb:,.0f}",
            f"{one.model_gb:,.0f}",
        ]
        for one in plan.months(needs, given)
    ]
    header = [
        "month at images/s",
        "numbers",
        "requests, M",
        "vCPU-h busy",
        "vCPU-h up",
        "GiB-h up",
        "GB to clients",
        "GB with model",
    ]
    return table(header, rows, left=0)


def messages(requests: Sequence[Request], given: Assumptions) -> str:
    """Return the share of each size limit that one message takes; no rate changes it."""
    body = Config.from_environ({}).max_body_bytes
    limits = [
        ("photograph, MAX_BODY_BYTES", body, [one.photo_bytes for one in requests]),
        ("photograph, Cloud Run over HTTP/1", CLOUD_RUN_BODY, [one.photo_bytes for one in requests]),
        ("answer, Cloud Run over HTTP/1", CLOUD_RUN_BODY, [given.answer_bytes for _ in requests]),
        ("to the model, gRPC", GRPC_MESSAGE, [one.up_bytes for one in requests]),
        ("from the model, gRPC", GRPC_MESSAGE, [one.down_bytes for one in requests]),
        ("from the model, a gRPC client's default", GRPC_RECEIVED, [one.down_bytes for one in requests]),
    ]
    rows = [
        [name, f"{limit / MIB:,.0f} MiB", *(f"{size / limit:.1%}" for size in sizes)] for name, limit, sizes in limits
    ]
    return table(["message", "limit", *(one.numbers for one in requests)], rows)


def digits(value: float) -> str:
    """Return a number above 0 to three digits, with all digits before the point."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"


def _name(need: Need) -> tuple[str, str]:
    return f"{need.rate:,.10g}", need.request.numbers


def _least(need: Need, text: str) -> str:
    return text if need.request.measured else f">= {text}"

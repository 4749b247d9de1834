"""The figures as a dictionary, a table and a picture."""

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from deploy.tools import tables
from tests.bench import timing

MS, MB = 1000, 1e6
LEAST_MS = 5  # of a package that gets a row
SMALL, PHONE = "1024 x 1024", "4032 x 3024"
JPEG = "adapter, jpeg"


def figures(raw):
    """Return what bench.json holds: ratios, absolute figures, bytes, and all that they come from."""
    spread = {
        situation: {name: timing.summary(values) for name, values in times.items()}
        for situation, times in raw["times"].items()
    }
    median = {
        situation: {name: one["median"] for name, one in summaries.items()} for situation, summaries in spread.items()
    }
    ten, hundred, twelve = (median[situation] for situation in ("10 objects", "100 objects", "12 megapixels"))
    decoding = {
        model: {name: timing.summary(values)["median"] for name, values in times.items()}
        for model, times in raw["decoding"].items()
    }
    slope, fit = timing.slope([(objects, adapter) for objects, _, adapter in raw["curves"]["instances"]])
    served, alone = (
        {clients: raw["load"][f"{workers}, {clients}"] for clients in (1, 16)}
        for workers in ("a worker a core", "one worker")
    )
    first, last = raw["memory"].values()
    cpu_10 = raw["cpu_s"][10]
    fast, slow = (median[f"10 objects, {rate}"] for rate in ("1 Gbit/s", "100 Mbit/s"))
    added_ms = raw["jpeg_cost"][SMALL]["wall_ms"]
    cold = {name: one["median"] for name, one in raw["cold_s"].items()}
    return {
        "ratios": {
            "adapter_over_floor_0": median["0 objects"]["adapter"] / median["0 objects"]["floor"],
            "adapter_over_floor_10": ten["adapter"] / ten["floor"],
            "adapter_over_floor_100": hundred["adapter"] / hundred["floor"],
            "adapter_jpeg_over_floor_10": (ten[JPEG] - added_ms) / ten["floor"],
            "jpeg_over_int8_cpu_10": cpu_10[JPEG] / cpu_10["adapter"],
            "jpeg_over_int8_up_bytes": raw["wire"]["int8, jpeg"]["up"] / raw["wire"]["int8"]["up"],
            "int8_over_jpeg_10": ten["adapter"] / ten[JPEG],
            "int8_over_jpeg_1_gbit": fast["adapter"] / fast[JPEG],
            "int8_over_jpeg_100_mbit": slow["adapter"] / slow[JPEG],
            "recipe_over_adapter_100": hundred["recipe path"] / hundred["adapter"],
            "competent_over_adapter_100": hundred["competent path"] / hundred["adapter"],
            "rest_over_adapter_100": hundred["TF Serving REST"] / hundred["adapter"],
            "scaled_decode_12mp": twelve["adapter"] / twelve["adapter, whole decode"],
            "response_decode_speedup": decoding["int8-cast"]["fromiter"] / decoding["int8-cast"]["ours"],
            "response_decode_speedup_wrapped": decoding["wrapped"]["fromiter"] / decoding["wrapped"]["ours"],
            "cold_start_over_plain": cold["function"] / cold["plain import"],
            "throughput_16_over_1": served[16]["rps"] / served[1]["rps"],
            "throughput_16_over_1_one_worker": alone[16]["rps"] / alone[1]["rps"],
            "p99_over_p50_16": served[16]["p99_ms"] / served[16]["p50_ms"],
            "memory_1000_over_100": last / first,
        },
        "absolute": {
            "cold_start_s": cold["function"],
            "plain_cold_start_s": cold["plain import"],
            "rss_mb": raw["resident"]["function"] / MB,
            "plain_rss_mb": raw["resident"]["plain import"] / MB,
            "rss_1000_mb": last / MB,
            "bundle_mb": raw["sizes"]["bundle"] / MB,
            "plain_mb": raw["sizes"]["plain"] / MB,
            "ms_per_instance": slope,
            "ms_per_instance_r2": fit,
        },
        "wire_bytes": raw["wire"],
        "times_ms": spread,
        "cpu_s_per_request_10": cpu_10,
        "cpu_s_per_request_100": raw["cpu_s"][100],
        "jpeg_backend_ms": raw["jpeg_cost"],
        "load": raw["load"],
        "cold_start_s": raw["cold_s"],
        "imports_ms": raw["imports"],
        "curves": raw["curves"],
        "photo_bytes": raw["photos"],
    }


def times_table(found):
    rows = []
    for situation, summaries in found["times_ms"].items():
        floor = summaries["floor"]["median"]
        for name, one in summaries.items():
            cpu = found.get(f"cpu_s_per_request_{situation.removesuffix(' objects')}", {}).get(name)
            rows.append(
                [
                    situation,
                    name,
                    f"{one['median']:,.1f} ms",
                    f"{one['low']:,.1f} .. {one['high']:,.1f}",
                    f"{one['median'] / floor:,.2f}",
                    "" if cpu is None else f"{MS * cpu:,.1f} ms",
                ]
            )
    return tables.table(["", "path", "median", "quartiles", "of floor", "CPU"], rows, left=2)


def table(found):
    """Return all of it as text."""
    sizes = [[kind, f"{one['up']:,}", f"{one['down']:,}"] for kind, one in found["wire_bytes"].items()]
    clients = [
        [count, f"{one['rps']:.1f}", f"{one['p50_ms']:.1f} ms", f"{one['p99_ms']:.1f} ms"]
        for count, one in found["load"].items()
    ]
    added = [
        [photo, f"{one['wall_ms']:.1f} ms", f"{one['cpu_ms']:.1f} ms"]
        for photo, one in found["jpeg_backend_ms"].items()
    ]
    imports = [[package, f"{ms:.1f} ms"] for package, ms in found["imports_ms"].items() if ms >= LEAST_MS]
    imports.append(["all others", f"{sum(ms for ms in found['imports_ms'].values() if ms < LEAST_MS):.1f} ms"])
    singles = [[name, f"{value:,.3f}"] for part in ("ratios", "absolute") for name, value in found[part].items()]
    return "\n\n".join(
        [
            times_table(found),
            tables.table(["export, 1024 x 1024", "bytes up", "bytes down"], sizes),
            tables.table(["the backend decodes a JPEG", "time", "CPU"], added),
            tables.table(["function, clients, 10 objects", "requests/s", "p50", "p99"], clients),
            tables.table(["at the start, imports of", "time"], imports),
            tables.table(["figure", ""], singles),
        ]
    )


def plot(found, path):
    """Draw time against objects and against megapixels, with the floor in both."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    objects = list(zip(*found["curves"]["instances"], strict=True))
    left.plot(objects[0], objects[2], "o-", label="function")
    left.plot(objects[0], objects[1], "s--", color="0.4", label="floor: decode, bare gRPC call")
    left.set(xlabel="objects in a photograph of 1024 x 1024", ylabel="milliseconds", ylim=(0, None))
    sizes = list(zip(*found["curves"]["megapixels"], strict=True))
    right.plot(sizes[0], sizes[2], "o-", label="function")
    right.plot(sizes[0], sizes[3], "^:", label="function, decoding whole")
    right.plot(sizes[0], sizes[1], "s--", color="0.4", label="floor")
    right.set(xlabel="megapixels, 10 objects", ylabel="milliseconds", ylim=(0, None))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)

"""Which tests run every day, which in the campaigns, and in which order: every day the cheapest first.

``pytest`` runs the daily tests. ``pytest --campaign`` runs what is marked ``campaign``, which costs too much for every
day, and what is marked ``counted``, with many more cases than every day. Each Hypothesis test is counted.
"""

import functools
from pathlib import Path

import hypothesis
import pytest

from tests.support import counts

ROOT = Path(__file__).parents[1]
COSTS = (  # the longest prefix counts
    # this process alone, without TensorFlow
    *("tests/test_readme.py", "tests/handler/", "tests/deploy/test_capacity.py", "tests/deploy/kubernetes/"),
    *("tests/deploy/container/", "tests/bench/", "tests/load/", "tests/faults/", "tests/http/test_generators.py"),
    # one function for all tests
    *("tests/http/", "tests/http/test_openapi.py", "tests/http/test_call_it_from.py", "tests/http/test_hostile.py"),
    # a few processes each
    *("tests/test_main.py", "tests/handler/test_malloc.py", "tests/deploy/tools/", "tests/deploy/local/"),
    *("tests/deploy/bundle/", "tests/deploy/container/test_dockerfile.py", "tests/deploy/gcloud/"),
    *("tests/load/test_load.py",),
    # TensorFlow, the longest files first: one that begins last would keep one worker waiting for the other; while one
    # worker makes the exports that all use, the other begins with a file that needs none
    *("tests/deploy/export/test_check.py", "tests/deploy/export/test_variants.py", "tests/deploy/export/"),
    "tests/deploy/local/test_demo.py",
    *("tests/handler/backend/test_secure.py", "tests/handler/backend/test_rollouts.py", "tests/deploy/model_server/"),
    *("tests/handler/page/test_page.py", "tests/handler/page/test_package.py"),
    *("tests/deploy/models/", "tests/handler/test_end_to_end.py", "tests/handler/backend/test_protos.py"),
    *("tests/handler/backend/test_versions.py", "tests/handler/backend/test_replicas.py", "tests/bench/test_bench.py"),
    *("tests/bench/test_exports.py",),
)
CAMPAIGNS = ("tests/deploy/gcloud/test_uploaded.py",)


def pytest_addoption(parser):
    parser.addoption("--campaign", action="store_true", help="run the campaigns: what is marked campaign or counted")


def pytest_configure(config):
    counts.CAMPAIGN = config.getoption("campaign")
    for name, examples in counts.EXAMPLES.items():
        hypothesis.settings.register_profile(name, deadline=None, max_examples=examples, print_blob=True)
    hypothesis.settings.load_profile(counts.pick("daily", "campaign"))


def pytest_itemcollected(item):
    if item.nodeid.startswith(CAMPAIGNS):
        item.add_marker("campaign")
    if hypothesis.is_hypothesis_test(getattr(item, "obj", None)):
        item.add_marker("counted")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    wanted, other = [], []
    for item in items:
        (wanted if is_wanted(item) else other).append(item)
    config.hook.pytest_deselected(items=other)
    dearest_first = counts.CAMPAIGN  # so that no worker ends long after the other
    items[:] = sorted(wanted, key=lambda item: cost(item.nodeid.partition("::")[0]), reverse=dearest_first)


def is_wanted(item):
    """Tell whether an item belongs to this kind of run."""
    campaign, counted = (item.get_closest_marker(name) is not None for name in ("campaign", "counted"))
    return campaign or counted if counts.CAMPAIGN else not campaign


@functools.cache
def cost(path):
    """Return a number that grows with what the tests of a file cost."""
    prefixes = [prefix for prefix in COSTS if path.startswith(prefix)]
    return COSTS.index(max(prefixes, key=len)) if prefixes else len(COSTS)


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Return a function from float32, int8-cast or int8 to the base path of that export of the bundled model.

    They are made once, under build/models, and made anew only if what they are made of has changed.
    """
    from deploy.local import exports  # noqa: PLC0415 - the function's own tests run without deploy, too

    exports.ensure(ROOT / "build", tmp_path_factory.mktemp("exports"), ("float32", "int8-cast", "int8"))
    return functools.partial(exports.base_path, ROOT / "build")

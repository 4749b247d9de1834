"""A crowd of small files that hold many pixels: the memory of a container of 1 GiB is enough, and /health answers."""

import pytest

from tests.http import crowd, scenes
from tests.http.client import problem

pytestmark = pytest.mark.campaign
HEALTH_S = 3.0  # beside other tests; alone it takes 0.3, and in a line it would take 10


@pytest.fixture
def limited(tmp_path):
    with crowd.limited(tmp_path) as function:
        yield function


@pytest.mark.parametrize("bodies", [crowd.sixteen, crowd.worst])
def test_a_crowd_is_answered_within_the_limit(limited, bodies):
    bodies = bodies()
    assert max(map(len, bodies)) < 1_200_000
    assert limited.post(scenes.png()).status == 200
    found = crowd.send(limited, bodies)
    assert set(found.statuses) <= {200, 400, 413, 503}, found  # 400: a truncated JPEG that found memory
    assert found.statuses[200] > 0, found
    assert found.peak_bytes < crowd.LIMIT_BYTES, found
    assert found.health_s < HEALTH_S, found
    assert limited.post(scenes.png()).status == 200


def test_who_waited_in_vain_is_told_when_to_come_back(limited):
    body = crowd.sixteen()[0]
    with crowd.ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda _: limited.post(body), range(64)))
    refused = [answer for answer in answers if answer.status == 503]
    assert {answer.headers["retry-after"] for answer in refused} <= {"5"}
    assert all("bytes of memory to decode" in problem(answer, 503) for answer in refused)

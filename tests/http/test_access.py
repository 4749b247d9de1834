"""API keys, where the function asks for them."""

import pytest

from tests.http.client import ok, problem
from tests.http.service import KEYS
from tests.support.images import noise


@pytest.mark.parametrize("key", KEYS)
def test_any_of_the_keys_opens(locked, key):
    assert ok(locked.post(noise(), headers={"X-API-Key": key}))["instances"]
    assert ok(locked.ask("GET", "/model", headers={"X-API-Key": key}))["contract"]


@pytest.mark.parametrize("key", ["", "first-key", KEYS[0] + "x", ", ".join(KEYS), "\xe9"])
def test_no_other_does(locked, key):
    answer = locked.post(noise(), headers={"X-API-Key": key.encode("latin-1")})
    assert "X-API-Key must be a valid key, got another" in problem(answer, 401)
    assert answer.headers["www-authenticate"].startswith("ApiKey")


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/"), ("POST", "/any/path"), ("GET", "/model"), ("HEAD", "/model")]
)
def test_none_at_all_does_not(locked, method, path):
    answer = locked.ask(method, path, noise() if method == "POST" else None)
    assert answer.status == 401
    if method != "HEAD":
        assert "must have an X-API-Key header, got none" in problem(answer, 401)


def test_probes_and_descriptions_need_none(locked):
    for path in ("/", "/health", "/ready", "/openapi.json"):
        assert locked.get(path).status == 200
    assert locked.ask("OPTIONS", "/").status == 204
    assert locked.get("/nothing").status == 404


def test_keys_are_never_logged(locked):
    locked.post(noise(), headers={"X-API-Key": KEYS[1]})
    locked.post(noise(), headers={"X-API-Key": "almost-right-key"})
    text = locked.log.read_text()
    assert "401" in text
    assert not [key for key in (*KEYS, "almost-right-key") if key in text]


def test_a_page_of_another_origin_gets_nothing_where_none_is_configured(locked):
    answer = locked.ask("OPTIONS", "/", headers={"Origin": "https://app.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]

"""Routes, methods, headers, other origins, errors of the backend and the log."""

import gzip
import json
import re

import numpy as np
import pytest

from tests.http.client import PNG, ok, problem
from tests.http.service import MODEL, ORIGIN, running


def test_routes(function):
    assert ok(function.get("/health")) == {"status": "ok"}
    assert ok(function.get("/ready")) == {"model": MODEL, "status": "ready"}
    contract = ok(function.get("/model"))
    assert contract["model"] == MODEL
    assert contract["contract"]["labels"] == {"1": "circle", "2": "square", "3": "ring"}
    assert set(contract["contract"]) >= {"image", "masks", "resize", "source"}
    index = ok(function.get("/"))
    assert index["service"] == "segment"
    assert ok(function.get("/", Accept="*/*")) == index
    assert function.ask("HEAD", "/health").headers["content-length"] == "15"
    assert "got '/nothing'" in problem(function.get("/nothing"), 404)


def test_browsers_get_the_page_if_it_is_on(function, locked):
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    page = function.get("/", Accept=browser)
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.body.startswith(b"<!doctype html>")
    assert "Accept" in page.headers["vary"].split(", ")
    assert "Accept" in function.get("/").headers["vary"].split(", ")
    for other in (function.get("/", Accept="application/json"), function.get("/"), locked.get("/", Accept=browser)):
        assert ok(other)["service"] == "segment"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/health", "GET, HEAD, OPTIONS"),
        ("DELETE", "/openapi.json", "GET, HEAD, OPTIONS"),
        ("PUT", "/", "GET, HEAD, OPTIONS, POST"),
        ("PATCH", "/elsewhere", "OPTIONS, POST"),
    ],
)
def test_methods_not_offered(function, method, path, allowed):
    answer = function.ask(method, path, b"x")
    assert f"one of {allowed}, got '{method}'" in problem(answer, 405)
    assert answer.headers["allow"] == allowed


def test_the_request_id_is_echoed_or_made(function):
    assert function.get("/health", **{"X-Request-Id": "abc-1:2/3"}).headers["x-request-id"] == "abc-1:2/3"
    for odd in ("a b", "x" * 129, "é"):
        sent = {"X-Request-Id": odd.encode("latin-1")}
        assert re.fullmatch(r"[0-9a-f]{32}", function.get("/health", **sent).headers["x-request-id"])


def test_gzip_where_it_is_accepted_and_worth_it(function):
    plain = function.post(PNG)
    packed = function.post(PNG, headers={"Accept-Encoding": "gzip, br"})
    assert packed.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(packed.body)) == plain.json()
    assert int(packed.headers["content-length"]) == len(packed.body) < 0.9 * len(plain.body)
    assert "Accept-Encoding" in packed.headers["vary"]
    assert "Accept-Encoding" in plain.headers["vary"]
    assert "content-encoding" not in plain.headers
    refused = function.post(PNG, headers={"Accept-Encoding": "gzip;q=0, identity"})
    small = function.post(PNG, "?max_instances=1&mask=none", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in {**refused.headers, **small.headers}


@pytest.mark.scripted
def test_a_defect_of_the_contract_is_a_502(function):
    function.backend.outputs["mrcnn_mask"] = np.zeros((1, 10, 33), np.float32)
    assert "mrcnn_mask must be int8 [1, any, any, any], got float32 [1, 10, 33]" in problem(function.post(PNG), 502)


@pytest.mark.scripted
def test_a_model_that_is_loading_is_a_503(function):
    function.backend.available = False
    answer = function.get("/ready")
    assert "must be AVAILABLE, got LOADING" in problem(answer, 503)
    assert answer.headers["retry-after"] == "5"


def test_pages_of_the_configured_origin_may_read(function):
    allowed = function.post(PNG, "?max_instances=1", headers={"Origin": ORIGIN})
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert allowed.headers["timing-allow-origin"] == ORIGIN
    assert "X-Request-Id" in allowed.headers["access-control-expose-headers"]
    assert "Origin" in allowed.headers["vary"]
    failed = function.post(b"", headers={"Origin": ORIGIN})
    assert (failed.status, failed.headers["access-control-allow-origin"]) == (400, ORIGIN)


@pytest.mark.parametrize("origin", ["https://evil.example", "https://app.example.evil.example", "null", ""])
def test_pages_of_other_origins_may_not(function, origin):
    answer = function.post(PNG, "?max_instances=1", headers={"Origin": origin})
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "Origin" in answer.headers["vary"]


def test_preflight(function):
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-api-key"}
    answer = function.ask("OPTIONS", "/", headers={"Origin": ORIGIN, **asked})
    assert (answer.status, answer.body) == (204, b"")
    assert "content-type" not in answer.headers
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in answer.headers["access-control-allow-methods"].split(", ")
    allowed = {name.lower() for name in answer.headers["access-control-allow-headers"].split(", ")}
    assert {"content-type", "x-api-key", "x-request-id", "authorization"} <= allowed
    assert {"traceparent", "tracestate", "baggage", "sentry-trace"} <= allowed
    assert int(answer.headers["access-control-max-age"]) > 0
    other = function.ask("OPTIONS", "/", headers={"Origin": "https://evil.example", **asked})
    assert not [name for name in other.headers if name.startswith("access-control")]


APPS = (
    "capacitor://localhost",
    "ionic://localhost",
    "tauri://localhost",
    "chrome-extension://abcdefghijklmnop",
    "null",
)


def test_apps_and_further_headers(tmp_path):
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-tenant,traceparent"}
    with running(tmp_path, CORS_ORIGINS=",".join(APPS), CORS_HEADERS="X-Tenant") as function:
        for origin in APPS:
            answer = function.ask("OPTIONS", "/", headers={"Origin": origin, **asked})
            assert answer.headers["access-control-allow-origin"] == origin
            names = answer.headers["access-control-allow-headers"].lower().split(", ")
            assert {"x-tenant", "traceparent"} <= set(names)
            assert function.post(b"", headers={"Origin": origin}).headers["access-control-allow-origin"] == origin
        for origin in ("capacitor://elsewhere", "http://localhost", "file://"):
            other = function.ask("OPTIONS", "/", headers={"Origin": origin, **asked})
            assert not [name for name in other.headers if name.startswith("access-control")]


def test_one_line_of_log_a_request(function):
    trace = "0af7651916cd43dd8448eb211c80319c"
    sent = {"X-Request-Id": "log-1", "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    function.post(PNG, "?threshold=0.8", headers=sent)
    function.post(b"nothing", headers={"X-Request-Id": "log-2", "X-Cloud-Trace-Context": f"{trace}/74;o=1"})
    (line,) = [line for line in function.log_lines() if line.get("request_id") == "log-1"]
    assert (line["severity"], line["message"], line["status"]) == ("INFO", "POST / 200", 200)
    assert line["logging.googleapis.com/trace"] == f"projects/a-project/traces/{trace}"
    assert line["logging.googleapis.com/spanId"] == "b7ad6b7169203331"
    assert ({"name": line["model"], "version": line["model_version"]}, line["instances"]) == (MODEL, 4)
    assert line["bytes_up"] == len(PNG)
    assert line["bytes_down"] > 100
    assert line["model_bytes_up"] > 300 * 400 * 3
    assert line["model_bytes_down"] > 10 * 28 * 28
    assert set(line["stages_ms"]) == {"decode", "mold", "predict", "unmold", "encode"}
    assert line["duration_ms"] >= max(line["stages_ms"].values())
    function.ask("HEAD", "/openapi.json", headers={"X-Request-Id": "log-3"})
    (line,) = [line for line in function.log_lines() if line.get("request_id") == "log-3"]
    assert (line["bytes_up"], line["bytes_down"]) == (0, 0)
    (line,) = [line for line in function.log_lines() if line.get("request_id") == "log-2"]
    assert (line["severity"], line["status"]) == ("WARNING", 415)
    assert "none of them" in line["detail"]
    assert line["logging.googleapis.com/spanId"] == f"{74:016x}"

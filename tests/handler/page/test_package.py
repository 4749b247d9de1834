"""The client as others install it, and clients that generators write from /openapi.json?profile=client."""

import importlib
import json
import re
import sys

import pytest

from handler import page
from handler.web import openapi
from tests.support import node

pytestmark = pytest.mark.campaign
FOLDER = page.FOLDER / "client"
COINS = page.FOLDER / "coins.webp"
STRICT = ["--strict", "--noEmit", "--target", "es2022", "--module", "nodenext", "--moduleResolution", "nodenext"]
STRICT += ["--lib", "es2022,dom", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess"]
IN_NODE = """
import { readFileSync } from "node:fs";
import { maskPixels, segment, SegmentError } from "segment-client";
const photo = new Blob([readFileSync(process.argv[3])], { type: "image/webp" });
const url = process.argv[2];
const answer = await segment(photo, { url, mask: "float32" });
const areas = answer.instances.map((one) => maskPixels(one).data.reduce((sum, pixel) => sum + pixel, 0));
const problem = await segment(photo, { url, threshold: 2 }).catch((error) => error);
const offline = await segment(photo, { url: "http://127.0.0.1:1" }).catch((error) => error);
const late = await segment(photo, { url, timeoutS: 0.001 }).catch((error) => error.name);
const told = [problem instanceof SegmentError, problem.status, problem.message, offline.status, late];
const expected = answer.instances.map((one) => one.area);
console.log(JSON.stringify({ areas, expected, told, bytes: answer.modelBytes }));
"""
GENERATED = """
import type { paths } from "./api.js";
type Post = paths["/"]["post"];
export async function ask(url: string, photo: Blob): Promise<number[]> {
  const query: NonNullable<Post["parameters"]["query"]> = { mask: "rle", threshold: 0.5 };
  const address = `${url}/?mask=${query.mask}&threshold=${query.threshold}`;
  const answer = await fetch(address, { method: "POST", body: photo });
  if (!answer.ok) {
    const problem: Post["responses"][400]["content"]["application/problem+json"] = await answer.json();
    throw new Error(problem.detail);
  }
  const found: Post["responses"][200]["content"]["application/json"] = await answer.json();
  return found.instances.map((one) => one.box.width);
}
"""
CALL = """
import { readFileSync } from "node:fs";
import { ask } from "./ask.js";
console.log(JSON.stringify(await ask(process.argv[2], new Blob([readFileSync(process.argv[3])]))));
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return an empty project that the packed client is installed in."""
    folder = tmp_path_factory.mktemp("project")
    npm = node.need("npm")
    packed = json.loads(node.run(npm, "pack", "--json", f"--pack-destination={folder}", cwd=FOLDER))[0]["filename"]
    (folder / "package.json").write_text('{"name": "empty", "private": true, "type": "module"}')
    node.run(npm, "install", "--no-audit", "--no-fund", f"./{packed}", cwd=folder)
    return folder


def compile_strictly(folder, *flags):
    node.run(node.tools() / ".bin" / "tsc", *STRICT, *flags, "index.ts", cwd=folder)


def test_the_example_compiles_strictly(project):
    (example,) = re.findall(r"```ts\n(.*?)```", (FOLDER / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (project / "index.ts").write_text(example)
    compile_strictly(project)
    (project / "index.ts").write_text(example.replace("threshold: 0.6", 'threshold: "0.6"'))
    with pytest.raises(AssertionError, match="not assignable"):
        compile_strictly(project)


def test_it_segments_coins_in_node(project, shapes):
    (project / "ask.mjs").write_text(IN_NODE)
    told = json.loads(node.run(node.need("node"), "ask.mjs", shapes.url, COINS, cwd=project))
    assert len(told["areas"]) == 24
    assert told["areas"] == told["expected"]
    assert told["told"] == [True, 400, "option threshold must be a number in 0..1, got '2'", 0, "TimeoutError"]
    assert told["bytes"]["up"] > 3 * 303 * 384
    assert 0 < told["bytes"]["down"] < 100_000


@pytest.fixture
def document(shapes, tmp_path):
    answer = shapes.get("/openapi.json?profile=client")
    (tmp_path / "client.json").write_bytes(answer.body)
    return tmp_path / "client.json"


def test_a_client_generated_for_typescript(document, shapes):
    folder = document.parent
    node.run(node.tools() / ".bin" / "openapi-typescript", document, "-o", folder / "api.d.ts")
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "index.ts").write_text(GENERATED)
    compile_strictly(folder)
    (folder / "ask.ts").write_text(GENERATED)
    emit = [flag for flag in STRICT if flag != "--noEmit"]
    node.run(node.tools() / ".bin" / "tsc", *emit, "ask.ts", cwd=folder)
    (folder / "call.mjs").write_text(CALL)
    widths = json.loads(node.run(node.need("node"), "call.mjs", shapes.url, COINS, cwd=folder))
    assert widths == [found["box"]["width"] for found in shapes.post(COINS.read_bytes()).json()["instances"]]


def test_a_client_generated_for_python(document, shapes, monkeypatch):
    folder = document.parent
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta=none"]
    node.run(*command, f"--path={document}", f"--output-path={folder / 'generated'}", cwd=folder)
    monkeypatch.syspath_prepend(folder)
    operations = "generated.api.default"
    segment, get_model = (importlib.import_module(f"{operations}.{name}").sync for name in ("segment", "get_model"))
    types = importlib.import_module("generated.types")
    with COINS.open("rb") as photo, importlib.import_module("generated").Client(shapes.url) as client:
        found = segment(client=client, body=types.File(payload=photo), threshold=0.5)
        model = get_model(client=client)
    expected = shapes.post(COINS.read_bytes()).json()["instances"]
    assert [one.mask.counts for one in found.instances] == [one["mask"]["counts"] for one in expected]
    assert model.contract.labels.additional_properties == {"1": "circle", "2": "square", "3": "triangle"}


def test_the_profile_has_one_request_and_one_answer():
    document = json.loads(openapi.document(("jpeg",), locked=True, client=True))
    post = document["paths"]["/"]["post"]
    assert list(post["requestBody"]["content"]) == ["application/octet-stream"]
    assert post["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/Instances")
    assert [option["name"] for option in post["parameters"]] == [
        *("threshold", "max_instances", "classes", "mask", "mask_threshold")
    ]
    assert post["security"] == [{"key": []}]
    assert "prefixItems" not in str(document)

"""The page, as people use it: in Chromium, with the bundled model, by mouse, by keys, and where something fails."""

import base64
import gzip
import io
import json
import re
import sys
import time

import numpy as np
import pytest
from grpc import StatusCode
from PIL import Image
from pycocotools.coco import COCO

from handler import page as package
from tests.http.scenes import CONTRACT, outputs
from tests.support import node
from tests.support.images import noise
from tests.support.processes import ROOT
from tests.support.readers import coco_decode
from tests.support.waiting import wait_for

LARGEST_BYTES = 60_000
SETTLED_MS = 600
LONGEST_TASK_MS = 50
TRIES = 3
DROP = """([data, type]) => {
  const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], "coins.webp", {type}));
  const drop = new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true});
  document.getElementById("stage").dispatchEvent(drop);
}"""
HIDE = """() => {
  Object.defineProperty(document, "hidden", {value: true});
  document.dispatchEvent(new Event("visibilitychange"));
}"""
DENY = """() => {
  navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("no", "NotAllowedError"); };
}"""
WATCH = """() => {
  window.slow = [];
  const keep = (list) => list.getEntries().forEach(({startTime, duration}) => slow.push([startTime, duration]));
  new PerformanceObserver(keep).observe({type: "longtask"});
  performance.clearMarks();
  window.begun = performance.now();
}"""
PASTE = """async (data) => {
  const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
  await navigator.clipboard.write([new ClipboardItem({"image/png": new Blob([bytes], {type: "image/png"})})]);
}"""
HEIC_DECODER = """
  delete window.OffscreenCanvas; // then the page itself decodes, not its worker
  const decode = window.createImageBitmap;
  window.createImageBitmap = (photo, ...rest) => decode(photo.type === "image/heic" ? photo.slice(4) : photo, ...rest);
"""
COINS = (package.FOLDER / "coins.webp").read_bytes()


def write(name, data):
    """Keep what a test made in build/page."""
    folder = ROOT / "build" / "page"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def slide(visit, name, value):
    visit.page.locator(f"#{name}").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }", value
    )


def saved(visit, name):
    with visit.page.expect_download() as waiting:
        visit.page.click(f"[data-save={name}]")
    return waiting.value.path().read_bytes()


def centre(visit, instance):
    """Return the middle of an instance of coins (384 pixels wide), in pixels of the window."""
    place = visit.page.locator("#overlay").bounding_box()
    scale, box = place["width"] / 384, instance["box"]
    return place["x"] + scale * (box["x"] + box["width"] / 2), place["y"] + scale * (box["y"] + box["height"] / 2)


def test_a_walk(visit, shapes):
    """Coins dropped, looked at, picked by mouse and keys, and saved; all with one request."""
    one = visit(shapes)
    one.page.evaluate(DROP, [base64.b64encode(COINS).decode(), "image/webp"])
    assert one.rows().count() == 24
    assert one.status().startswith("24 objects found")
    before = one.drawn()
    slide(one, "mask", 0.9)
    tighter = one.drawn()
    slide(one, "opacity", 0.1)
    fainter = one.drawn()
    slide(one, "mask", 0.5)
    slide(one, "opacity", 0.45)
    assert len({before, tighter, fainter}) == 3
    assert one.drawn() == before
    assert len(one.posts) == 1
    assert one.posts[0].url.endswith("/?mask=float32")

    plain = shapes.post(COINS, content_type="image/webp").json()["instances"]
    one.page.mouse.move(*centre(one, plain[4]))
    assert one.page.locator("#list li[aria-selected=true]").get_attribute("id") == "row-4"
    assert one.drawn() != before
    one.page.focus("#list")
    one.page.keyboard.press("Home")
    one.page.keyboard.press("ArrowDown")
    assert one.page.get_attribute("#list", "aria-activedescendant") == "row-1"
    assert one.status().startswith("circle, 2 of 24: score")
    one.page.keyboard.press("Escape")
    assert one.page.locator("#list li[aria-selected=true]").count() == 0

    results = json.loads(saved(one, "coco"))
    truth = COCO()
    truth.dataset = {"images": [{"id": 0, "height": 303, "width": 384}], "categories": [{"id": 1}], "annotations": []}
    truth.createIndex()
    assert len(truth.loadRes(json.loads(json.dumps(results))).getAnnIds()) == 24  # it changes what it is given
    assert [found["segmentation"]["counts"] for found in results] == [found["mask"]["counts"] for found in plain]
    assert [found["area"] for found in results] == [found["area"] for found in plain]


def test_it_is_one_small_file_with_a_strict_policy(shapes):
    answer = shapes.get("/", Accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert answer.headers["content-type"].startswith("text/html")
    assert len(gzip.compress(answer.body, 9)) < LARGEST_BYTES
    packed = shapes.get("/", **{"Accept": "text/html", "Accept-Encoding": "gzip"})
    assert len(packed.body) < LARGEST_BYTES
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert "unsafe" not in str(policy)
    text = answer.body.decode()
    assert re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"(?!data:)", text) == []
    assert re.findall(r"\sstyle=|\son\w+=", re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)) == []


@pytest.mark.campaign
@pytest.mark.parametrize("sample", ["coins", "paper", "night"])
def test_a_sample(visit, shapes, sample):
    one = visit(shapes)
    one.page.click(f"[data-sample={sample}]")
    assert one.rows().count() == {"coins": 24}.get(sample, 20)


@pytest.mark.campaign
def test_a_class_and_the_score_hide_objects_and_the_address_remembers(visit, shapes):
    one = visit(shapes)
    one.page.click("[data-sample=paper]")
    one.rows()
    one.page.locator("#classes label", has_text="circle").click()
    slide(one, "opacity", 0.7)
    shown = one.rows().count()
    assert 0 < shown < 20
    address = one.page.url
    assert "hide=circle" in address
    assert "opacity=0.7" in address
    again = visit(shapes)
    again.page.goto(address)
    again.page.reload()
    again.page.click("[data-sample=paper]")
    again.page.locator("#list li").first.wait_for()
    assert again.page.locator("#list li").count() == shown
    assert again.page.input_value("#opacity") == "0.7"
    slide(again, "score", 1)
    assert again.page.locator("#list li").count() == 0
    assert "hide all" in again.page.inner_text("#none")


@pytest.mark.campaign
def test_files(visit, shapes):
    one = visit(shapes)
    one.page.click("[data-sample=coins]")
    one.rows()
    plain = shapes.post(COINS, content_type="image/webp").json()["instances"]
    labels = np.asarray(Image.open(io.BytesIO(saved(one, "masks"))).convert("L"))
    for row, found in enumerate(plain):
        assert ((labels == row + 1) == coco_decode(found["mask"]).astype(bool)).all()
    picture = np.asarray(Image.open(io.BytesIO(saved(one, "picture"))).convert("RGB")).astype(int)
    photo = np.asarray(Image.open(io.BytesIO(COINS)).convert("RGB")).astype(int)
    assert picture.shape == photo.shape == (303, 384, 3)
    changed = (abs(picture - photo).max(axis=2) > 25)[labels > 0].mean()
    assert changed > 0.5
    svg = saved(one, "svg").decode()
    assert svg.count("<path") == 24
    assert 'viewBox="0 0 384 303"' in svg


@pytest.mark.campaign
@pytest.mark.parametrize("language", ["curl", "javascript", "python"])
def test_the_request_as_code(visit, shapes, tmp_path, language):
    one = visit(shapes, permissions=["clipboard-read", "clipboard-write"])
    one.page.click("[data-sample=coins]")
    one.rows()
    one.page.click(f"[data-copy={language}]")
    one.page.wait_for_timeout(SETTLED_MS)
    code = one.page.evaluate("navigator.clipboard.readText()")
    (tmp_path / "coins.webp").write_bytes(COINS)
    read = 'import {readFileSync} from "node:fs"; const photo = new Blob([readFileSync("coins.webp")]);\n'
    (tmp_path / "ask.mjs").write_text(read + code)
    commands = {
        "curl": ["bash", "-c", code],
        "javascript": [node.need("node"), "ask.mjs"],
        "python": [sys.executable, "-W", "ignore", "-c", code],
    }
    assert node.run(*commands[language], cwd=tmp_path).count("circle") >= 24


@pytest.mark.campaign
def test_the_camera_runs_until_it_is_stopped_or_the_tab_is_hidden(visit, scripted):
    one = visit(scripted)
    one.page.click("#empty [data-do=camera]")
    one.page.get_by_text(re.compile(r"Live: [\d.]+ frames a second, \d+ ms each, 2 objects")).wait_for(timeout=60_000)
    one.page.wait_for_event("request", lambda request: request.method == "POST")
    assert len(one.posts) >= 2
    one.page.click("[data-do=stop]")
    one.page.wait_for_timeout(SETTLED_MS)
    sent = len(one.posts)
    one.page.wait_for_timeout(SETTLED_MS)
    assert len(one.posts) == sent
    assert one.status().startswith("The camera is off.")
    one.page.click("#bar [data-do=camera]")
    one.page.get_by_text(re.compile(r"Live: ")).wait_for(timeout=60_000)
    one.page.evaluate(HIDE)
    assert one.status().startswith("The camera is off.")


@pytest.mark.campaign
def test_a_camera_that_is_not_allowed(visit, scripted):
    one = visit(scripted)
    one.page.evaluate(DENY)
    one.page.click("#empty [data-do=camera]")
    assert one.problem() == "The camera cannot be used, or you did not allow it."


def choose(visit, data, kind="image/png", name="photo.png"):
    visit.page.set_input_files("#file", [{"name": name, "mimeType": kind, "buffer": data}])


@pytest.mark.campaign
def test_a_photograph_is_pasted(visit, shapes):
    png = io.BytesIO()
    Image.open(io.BytesIO(COINS)).save(png, "PNG")
    one = visit(shapes, permissions=["clipboard-read", "clipboard-write"])
    one.page.evaluate(PASTE, base64.b64encode(png.getvalue()).decode())
    one.page.keyboard.press("Control+V")
    assert one.rows().count() == 24


@pytest.mark.campaign
def test_heic_is_sent_as_jpeg_if_the_browser_decodes_it(visit, scripted):
    """Chromium has no decoder for HEIC. The test adds one, which takes a PNG behind four bytes for HEIC."""
    one = visit(scripted, script=HEIC_DECODER)
    choose(one, b"heic" + noise(), "image/heic", "photo.heic")
    assert one.rows().count() == 2
    assert one.posts[0].headers["content-type"] == "image/jpeg"


@pytest.mark.campaign
@pytest.mark.parametrize(("kind", "name"), [("image/heic", "photo"), ("", "IMG_0001.HEIC")])
def test_heic_that_the_browser_cannot_open_is_named(visit, scripted, kind, name):
    one = visit(scripted)
    choose(one, b"\0\0\0\x18ftypheic", kind, name)
    assert one.problem() == "This browser cannot open HEIC: use Safari, or send a JPEG."
    assert one.posts == []


@pytest.mark.campaign
def test_413(visit, narrow):
    one = visit(narrow, wrong=("413",))
    choose(one, noise())
    assert one.problem().startswith("The photograph is too large. The body must be at most 1000 bytes, got ")


@pytest.mark.campaign
def test_what_fails_is_said_in_sentences(visit, scripted):
    one = visit(scripted, wrong=("Failed to load resource",))
    choose(one, b"no photograph")
    assert one.problem() == "This browser cannot open the file."
    scripted.backend.errors = [(StatusCode.UNIMPLEMENTED, "no")] * 3
    choose(one, noise())
    one.page.locator("#problem-id", has_text=re.compile("Request [0-9a-f]{32}")).wait_for()
    scripted.backend.errors = []
    one.page.click("[data-do=retry]")
    one.page.locator("#list li").first.wait_for()
    assert one.page.locator("#alert").is_hidden()
    one.context.set_offline(True)
    choose(one, noise())
    assert one.problem() == "The service cannot be reached. Is this device offline?"
    one.context.set_offline(False)


@pytest.mark.campaign
def test_503_with_its_wait(visit, scripted):
    one = visit(scripted, wrong=("Failed to load resource",))
    scripted.backend.errors = [(StatusCode.UNAVAILABLE, "gone")] * 1000
    try:
        choose(one, noise())
        one.page.get_by_text(re.compile(r"The model is busy. The page asks again in \d+ s.")).wait_for(timeout=30_000)
        assert one.problem().startswith("The model cannot be reached, or is busy. It asked to wait ")
        assert len(one.posts) == 3
    finally:
        scripted.backend.errors = []
        time.sleep(1)


@pytest.mark.campaign
def test_a_request_is_cancelled(visit, scripted):
    one = visit(scripted)
    scripted.backend.takes_s = 0.9
    try:
        choose(one, noise())
        one.page.get_by_text("Waiting for the answer.").wait_for()
        one.page.click("[data-do=cancel]")
        assert one.problem() == "You cancelled the request."
    finally:
        scripted.backend.takes_s = 0.0


@pytest.mark.campaign
def test_it_asks_for_a_key_and_forgets_it(visit, locked):
    one = visit(locked, wrong=("401",))
    choose(one, noise())
    assert one.problem() == "This service needs an API key."
    one.page.fill("#key-text", "another")
    one.page.keyboard.press("Enter")
    one.page.get_by_text("The API key is not valid.").wait_for()
    one.page.fill("#key-text", "a-key-0123456789")
    one.page.keyboard.press("Enter")
    one.page.locator("#list li").first.wait_for()
    kept = one.page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])")
    assert "a-key" not in kept


@pytest.mark.campaign
def test_everything_by_keys(visit, shapes):
    one = visit(shapes)
    for _ in range(12):
        one.page.keyboard.press("Tab")
        if one.page.evaluate("document.activeElement.dataset.sample") == "coins":
            break
    one.page.keyboard.press("Enter")
    assert one.rows().count() == 24
    reached = set()
    for _ in range(30):
        one.page.keyboard.press("Tab")
        reached.add(one.page.evaluate("document.activeElement.id || Object.values(document.activeElement.dataset)[0]"))
    assert {"overlay", "score", "mask", "opacity", "outlines", "labels", "list", "choose", "camera"} <= reached
    assert {"curl", "javascript", "python", "coco", "masks", "picture", "svg"} <= reached
    one.page.focus("#overlay")
    one.page.keyboard.press("ArrowLeft")
    assert one.status().startswith("circle, 24 of 24")
    assert one.page.get_attribute("#status", "role") == "status"


@pytest.mark.campaign
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_axe_finds_nothing(visit, shapes, scheme, width):
    axe = (node.tools() / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    one = visit(shapes, color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=True)
    one.page.evaluate(axe)
    for step in ("empty", "answered", "picked"):
        if step == "answered":
            one.page.click("[data-sample=coins]")
            one.rows()
        if step == "picked":
            one.page.focus("#list")
            one.page.keyboard.press("ArrowDown")
        one.page.wait_for_timeout(SETTLED_MS)
        found = one.page.evaluate("axe.run().then(({violations}) => violations)")
        assert [(rule["id"], [each["html"] for each in rule["nodes"]][:3]) for rule in found] == []
        assert one.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.campaign
def test_a_browser_without_a_canvas_for_workers(visit, shapes):
    one = visit(shapes, script="delete window.OffscreenCanvas;")
    one.page.click("[data-sample=coins]")
    assert one.rows().count() == 24
    before = one.drawn()
    slide(one, "mask", 0.9)
    assert one.drawn() != before


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("light", {"viewport": {"width": 1280, "height": 800}}),
        ("dark", {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"}),
        ("phone", {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2}),
    ],
)
def test_pictures_of_it(visit, shapes, name, options):
    """They are written to build/page; the light one is deploy/local/page.png."""
    one = visit(shapes, **options)
    one.page.click("[data-sample=coins]")
    one.rows()
    plain = shapes.post(COINS, content_type="image/webp").json()["instances"]
    one.page.mouse.move(*centre(one, max(plain, key=lambda found: found["area"])))
    one.page.wait_for_timeout(SETTLED_MS)
    picture = one.page.screenshot()
    write(f"{name}.png", picture)
    shown = Image.open(io.BytesIO(picture)).convert("L")
    assert (np.asarray(shown)[2, 2] < 60) == (name == "dark")


@pytest.mark.campaign
def test_a_phone_by_touch_without_motion(visit, shapes):
    one = visit(shapes, viewport={"width": 320, "height": 640}, has_touch=True, reduced_motion="reduce", is_mobile=True)
    one.page.tap("[data-sample=coins]")
    assert one.rows().count() == 24
    plain = shapes.post(COINS, content_type="image/webp").json()["instances"]
    one.page.touchscreen.tap(*centre(one, plain[2]))
    assert one.page.locator("#list li[aria-selected=true]").get_attribute("id") == "row-2"
    assert one.page.evaluate("document.documentElement.scrollWidth") == 320


def watched(visit, photo):
    """Return the milliseconds to the answer, and of the longest task while the page is used after it."""
    visit.page.evaluate(WATCH)
    visit.page.set_input_files("#file", [{"name": "large.jpg", "mimeType": "image/jpeg", "buffer": photo}])
    wait_for(lambda: visit.page.evaluate("performance.getEntriesByName('answered').length"))
    visit.page.locator("#list-title", has_text="Objects: 100 of 100").wait_for(timeout=60_000)
    visit.page.mouse.move(*(visit.page.locator("#overlay").bounding_box()[side] + 60 for side in ("x", "y")))
    for value in (0.2, 0.8, 0.4, 0.6):
        slide(visit, "mask", value)
        visit.page.wait_for_timeout(200)
    answered, begun = visit.page.evaluate("[performance.getEntriesByName('answered')[0].startTime, begun]")
    after = [took for start, took in visit.page.evaluate("slow") if start > answered]
    return {"answered_ms": answered - begun, "longest_task_ms": max(after, default=0)}


@pytest.mark.campaign
def test_twelve_megapixels_with_a_hundred_objects(visit, scripted):
    """Sent in the model's size, shown in its own; no task of the main thread is long after the answer."""
    size_hw, sent_hw = (3000, 4000), (384, 512)
    y, x = np.mgrid[:28, :28] - 13.5
    disc = 1 / (1 + np.exp(np.hypot(y, x) - 11))
    spots = [(36 * (row // 10) + 6, 49 * (row % 10) + 6) for row in range(100)]
    objects = [((top, left, top + 30, left + 40), 1, 0.9, disc) for top, left in spots]
    scripted.backend.contract = CONTRACT.to_json()
    scripted.backend.version = 2
    scripted.backend.outputs = outputs(sent_hw, sent_hw, objects)
    photo = io.BytesIO()
    noisy = np.random.default_rng(0).integers(0, 256, (size_hw[0] // 8, size_hw[1] // 8, 3), np.uint8)
    Image.fromarray(noisy).resize(size_hw[::-1]).save(photo, "JPEG", quality=90)
    one = visit(scripted)
    choose(one, noise())
    one.rows()
    for _ in range(TRIES):  # beside other work a task may be late once; what is long by itself is so each time
        measured = watched(one, photo.getvalue())
        if measured["longest_task_ms"] <= LONGEST_TASK_MS:
            break
    measured |= {"sent_bytes": scripted.log_lines()[-1]["bytes_up"], "photo_bytes": photo.tell()}
    write("measured.json", json.dumps(measured).encode())
    assert measured["sent_bytes"] < photo.tell() / 5
    box = json.loads(saved(one, "coco"))[0]["bbox"]
    assert np.abs(np.array(box) - np.array([6, 6, 40, 30]) * 4000 / 512).max() <= 9
    assert measured["longest_task_ms"] <= LONGEST_TASK_MS

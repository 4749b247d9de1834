// The page: one photograph, one request, and everything else from its answer.

const byId = (id) => document.getElementById(id);
const all = (selector) => [...document.querySelectorAll(selector)];
const make = (tag, text = "", properties = {}) => Object.assign(document.createElement(tag), { textContent: text }, properties);
const URL_ROOT = `${location.origin}/`;
const SIDE = 2048; // pixels of the picture on the screen, at most
const DEFAULTS = { score: 0.5, mask: 0.5, opacity: 0.45, outlines: true, labels: false, hide: "" };
const grouped = new Intl.NumberFormat("en");
const STAGES = ["decode", "mold", "predict", "unmold", "encode"];

const stage = new Stage(byId("photo"), byId("overlay"));
const view = { ...DEFAULTS }; // what the address remembers
const now = { photo: null, name: "photo.jpg", opened: null, answer: null, objects: [], picked: -1, key: "", locked: false, live: null, turn: 0 };

// The worker ---------------------------------------------------------------------------------------------------------

const run = startTasks();

/** Return a function that runs a task of tasks.js: in a worker if there can be one. */
function startTasks() {
  if (!window.OffscreenCanvas || !window.Worker) return async (name, args, tell = () => {}) => tasks[name](args, tell);
  const code = [byId("client").textContent, byId("tasks").textContent];
  const worker = new Worker(URL.createObjectURL(new Blob(code, { type: "text/javascript" })));
  const asked = new Map();
  worker.onmessage = ({ data: { id, result, error, note } }) => {
    const { done, fail, tell } = asked.get(id);
    if (note) return tell?.(note);
    asked.delete(id);
    return error ? fail(error) : done(result);
  };
  return (name, args = {}, tell = undefined, moved = []) =>
    new Promise((done, fail) => {
      const id = crypto.getRandomValues(new Uint32Array(2)).join();
      asked.set(id, { done, fail, tell });
      worker.postMessage({ id, name, args }, moved);
    });
}

// One photograph -----------------------------------------------------------------------------------------------------

/** Send a photograph and show its objects. */
async function look(photo, name = photo.name || "photo.jpg") {
  endLive();
  const turn = ++now.turn;
  Object.assign(now, { photo, name, answer: null, objects: [], picked: -1 });
  byId("alert").hidden = byId("key").hidden = true;
  busy(true);
  say("Opening the photograph.");
  try {
    const opened = await run("open", { photo, url: URL_ROOT, key: now.key, side: SIDE });
    if (turn !== now.turn) return;
    now.opened = opened;
    known(opened.contract);
    reveal(opened);
    listObjects();
    say("Waiting for the answer.");
    const answer = await run("ask", request(opened), ({ seconds }) => say(`The model is busy. The page asks again in ${seconds} s.`));
    if (turn === now.turn) await accept(answer);
  } catch (error) {
    if (turn === now.turn) complain(error);
  } finally {
    if (turn === now.turn) busy(false);
  }
}

function request({ sent, original }) {
  return { sent, original, url: URL_ROOT, key: now.key, threshold: view.mask };
}

function reveal({ bitmap, original }) {
  byId("empty").hidden = true;
  byId("help").hidden = false;
  for (const button of all(".later")) button.hidden = false;
  stage.show(bitmap, original);
}

/** Take an answer: its objects, and what it cost. */
async function accept(answer) {
  const { live } = now;
  performance.mark("answered");
  now.answer = answer;
  now.objects = answer.instances.map((one, row) => ({
    ...one,
    name: `${one.label ?? `class ${one.class_id}`}`,
    colour: `hsl(${Math.round((220 + 137.508 * row) % 360)} 80% 70%)`,
    dark: `hsl(${Math.round((220 + 137.508 * row) % 360)} 75% 50%)`,
  }));
  trace(answer.outlines);
  redraw();
  await drawn(); // step by step, or the browser would be busy for too long
  if (now.answer !== answer) return;
  listClasses();
  listObjects();
  await drawn();
  if (now.answer !== answer) return;
  showCost();
  byId("cost").hidden = byId("take").hidden = false;
  const shown = visible().length;
  if (!live) say(`${count(shown)} found${shown < now.objects.length ? `, ${now.objects.length - shown} hidden` : ""}, in ${Math.round(answer.tookMs)} ms.`);
}

/** Wait until the next frame is drawn. */
function drawn() {
  return new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
}

function trace(outlines) {
  outlines.forEach(({ d, area }, row) => Object.assign(now.objects[row], { d, path: new Path2D(d), area }));
}

function known({ labels }) {
  const names = Object.values(labels);
  if (names.length) byId("model").textContent = `The model knows ${names.length > 6 ? `${names.length} kinds of objects` : names.join(", ")}.`;
}

function count(number) {
  return `${number} object${number === 1 ? "" : "s"}`;
}

function say(text) {
  byId("status").textContent = text;
}

function busy(is) {
  byId("busy").hidden = !is;
  document.querySelector('[data-do="cancel"]').hidden = !is;
  byId("stage").ariaBusy = String(is);
}

/** Say in sentences what went wrong. */
function complain(error) {
  const sentence = `${error.message[0]?.toUpperCase() ?? ""}${error.message.slice(1)}.`;
  const known = {
    AbortError: "You cancelled the request.",
    TimeoutError: "The service did not answer within a minute.",
    0: "The service cannot be reached. Is this device offline?",
    401: now.key ? "The API key is not valid." : "This service needs an API key.",
    413: `The photograph is too large. ${sentence}`,
    503: `The model cannot be reached, or is busy. It asked to wait ${error.retryAfterS} s.`,
    504: "The model took too long.",
  };
  say(error.name === "AbortError" ? "Cancelled." : "No answer.");
  byId("problem").textContent = known[error.name] ?? known[error.status] ?? sentence;
  byId("problem-id").textContent = error.requestId ? `Request ${error.requestId}` : "";
  byId("alert").hidden = false;
  document.querySelector('[data-do="retry"]').hidden = !now.photo || error.status === 401;
  if (error.status !== 401) return;
  now.locked = true;
  byId("key").hidden = false;
  byId("key-text").focus();
}

// The view -----------------------------------------------------------------------------------------------------------

const hidden = () => new Set(view.hide.split(",").filter(Boolean));
const rowsShown = () => [...now.objects.keys()].filter((row) => isShown(now.objects[row]));
const visible = () => rowsShown().map((row) => now.objects[row]);

function isShown({ score, name }) {
  return score >= view.score && !hidden().has(name);
}

function redraw() {
  const objects = now.objects.map((one) => ({ ...one, shown: isShown(one) }));
  stage.update(objects, { ...view, picked: now.picked });
}

/** Read the view from the address. */
function recall() {
  const told = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of Object.entries(DEFAULTS)) {
    const text = told.get(name);
    if (typeof value === "number") view[name] = text !== null && +text >= 0 && +text <= 1 ? +text : value;
    else if (typeof value === "boolean") view[name] = text === null ? value : text === "1";
    else view[name] = text ?? value;
  }
  for (const name of ["score", "mask", "opacity"]) byId(name).value = view[name];
  for (const name of ["outlines", "labels"]) byId(name).checked = view[name];
  tellSliders();
}

/** Write the view into the address: what differs from the defaults. */
function remember() {
  const differs = Object.entries(view).filter(([name, value]) => value !== DEFAULTS[name]);
  const text = new URLSearchParams(differs.map(([name, value]) => [name, String(typeof value === "boolean" ? +value : value)]));
  history.replaceState(null, "", `#${text}`);
}

function tellSliders() {
  for (const name of ["score", "mask", "opacity"]) byId(`${name}-text`).textContent = (+byId(name).value).toFixed(2);
}

let tracing = false;

/** Trace the outlines anew after a change of the mask threshold; of many changes, the last one counts. */
async function retrace() {
  if (tracing || !now.answer || now.live) return; // the next frame comes with the new threshold
  tracing = true;
  const { turn } = now;
  let threshold;
  while (threshold !== view.mask) {
    threshold = view.mask;
    const outlines = await run("outlines", { threshold });
    if (turn !== now.turn) break;
    trace(outlines);
    redraw();
  }
  tracing = false;
  await drawn();
  listObjects();
}

function changed(event) {
  const { id, type, value, checked } = event.target;
  if (!(id in DEFAULTS)) return;
  view[id] = type === "checkbox" ? checked : +value;
  tellSliders();
  remember();
  if (id === "mask") retrace();
  if (id === "score") listObjects();
  redraw();
}

// The list -----------------------------------------------------------------------------------------------------------

function listClasses() {
  const names = [...new Set(now.objects.map((one) => one.name))].sort();
  const boxes = names.map((name) => {
    const box = make("input", "", { type: "checkbox", checked: !hidden().has(name) });
    box.addEventListener("change", () => {
      const off = hidden();
      off[box.checked ? "delete" : "add"](name);
      view.hide = [...off].join(",");
      remember();
      listObjects();
      redraw();
    });
    const label = make("label", "", { className: "check chip" });
    label.append(box, `${name} `, make("b", String(now.objects.filter((one) => one.name === name).length)));
    return label;
  });
  byId("classes").replaceChildren(...boxes);
}

function listObjects() {
  const rows = rowsShown();
  byId("list").replaceChildren(...rows.map(listItem));
  byId("list").hidden = !rows.length;
  byId("none").hidden = rows.length > 0;
  byId("none").textContent = now.objects.length ? "The minimum score and the classes hide all of them." : now.answer ? "The model found nothing that it knows." : "They are listed here.";
  byId("list-title").textContent = now.objects.length ? `Objects: ${rows.length} of ${now.objects.length}` : "Objects";
  if (now.picked >= 0 && !rows.includes(now.picked)) now.picked = -1;
  mark(now.picked);
}

function listItem(row) {
  const { name, score, area, box, colour } = now.objects[row];
  const item = make("li", "", { id: `row-${row}`, role: "option", ariaSelected: "false" });
  const swatch = make("i");
  swatch.style.background = colour;
  item.append(
    swatch,
    make("b", name),
    make("span", score.toFixed(3), { className: "score" }),
    make("small", `${grouped.format(area)} px, box ${box.x}, ${box.y}, ${box.width} × ${box.height}`),
  );
  item.addEventListener("pointerenter", () => pick(row, false));
  item.addEventListener("click", () => pick(row));
  return item;
}

/** Pick an object by its row, or -1 for none. `aloud`: true to tell it to screen readers, and to show its row. */
function pick(row, aloud = true) {
  mark(row, aloud);
  redraw();
}

/** Mark a row in the list as picked, without drawing. */
function mark(row, aloud = false) {
  now.picked = row;
  const list = byId("list");
  for (const item of list.querySelectorAll("[aria-selected=true]")) item.ariaSelected = "false";
  const item = row >= 0 && byId(`row-${row}`);
  if (item) {
    item.ariaSelected = "true";
    list.setAttribute("aria-activedescendant", item.id);
    if (aloud) {
      item.scrollIntoView({ block: "nearest" });
      const { name, score, area } = now.objects[row];
      say(`${name}, ${rowsShown().indexOf(row) + 1} of ${rowsShown().length}: score ${score.toFixed(3)}, ${grouped.format(area)} pixels.`);
    }
  } else {
    list.removeAttribute("aria-activedescendant");
  }
}

/** Pick by keys, on the photograph and on the list. */
function pressed(event) {
  const rows = rowsShown();
  const at = rows.indexOf(now.picked);
  const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at < 0 ? -1 : at - 1, ArrowUp: at < 0 ? -1 : at - 1, Home: 0, End: -1 }[event.key];
  if (event.key === "Escape") pick(-1, false);
  else if (to === undefined || !rows.length) return;
  else pick(rows[(to + rows.length) % rows.length]);
  event.preventDefault();
}

function pointed(event) {
  const row = stage.rowAt(event.clientX, event.clientY);
  const tip = byId("tip");
  tip.hidden = row < 0 || event.pointerType === "touch";
  if (row !== now.picked) pick(row, event.type === "pointerdown");
  if (tip.hidden) return;
  const place = byId("stage").getBoundingClientRect();
  tip.textContent = `${now.objects[row].name} ${now.objects[row].score.toFixed(2)}`;
  tip.style.left = `${Math.min(event.clientX - place.left + 14, place.width - tip.offsetWidth - 4)}px`;
  tip.style.top = `${event.clientY - place.top + 18}px`;
}

// The cost -----------------------------------------------------------------------------------------------------------

function size(bytes) {
  const [unit, name] = bytes < 1e3 ? [1, "B"] : bytes < 1e6 ? [1e3, "kB"] : [1e6, "MB"];
  const value = bytes / unit;
  return `${value < 10 && unit > 1 ? value.toFixed(2) : value < 100 && unit > 1 ? value.toFixed(1) : Math.round(value)} ${name}`;
}

/** Show bytes and times, from the headers of the answer. */
function showCost() {
  const { answer, opened } = now;
  const { up, down } = answer.modelBytes;
  const whole = now.live ? 0 : now.photo.size;
  const rows = [
    ["Page to function", `${size(answer.sent.bytes)}${whole > answer.sent.bytes ? `, of a photograph of ${size(whole)}` : ""}`],
    ["Function to page", size(answer.bytes)],
    ["Function to model", size(up)],
    ["Model to function", size(down)],
  ];
  byId("bytes").replaceChildren(...rows.flatMap(([what, text]) => [make("dt", what), make("dd", text)]));
  const { image, masks } = opened.contract;
  const dense = answer.cells ? down / (24 + answer.cells) : 0; // detections, of 24 bytes and a mask each
  const float = [image.dtype === "float32" ? up : 4 * up, masks.dtype === "float32" ? down : down + 3 * dense * answer.cells];
  const factor = (float[0] + float[1]) / Math.max(up + down, 1);
  byId("saved").textContent = `As float32, the same call would take ${size(float[0])} to the model and ${size(float[1])} back: ${factor.toFixed(1)} times as much.`;
  waterfall(answer);
}

/** Draw the stages of the function one after the other, then what remains: the network, and waiting. */
function waterfall({ timingMs, tookMs }) {
  const stages = STAGES.map((name) => [name, timingMs[name] ?? 0]);
  const rest = Math.max(0, tookMs - stages.reduce((sum, [, took]) => sum + took, 0));
  let begin = 0;
  const bars = [...stages, ["network, waiting", rest]].map(([name, took]) => {
    const bar = make("i");
    bar.style.marginLeft = `${(100 * begin) / Math.max(tookMs, begin + took, 1)}%`;
    bar.style.width = `${(100 * took) / Math.max(tookMs, begin + took, 1)}%`;
    begin += took;
    const line = make("div");
    line.append(make("span", name), bar, make("span", `${took.toFixed(1)} ms`));
    return line;
  });
  byId("waterfall").replaceChildren(...bars);
  byId("waterfall").ariaLabel = [...stages, ["network, waiting", rest]].map(([name, took]) => `${name} ${took.toFixed(1)} ms`).join(", ");
}

// Take it along ------------------------------------------------------------------------------------------------------

async function copy(language) {
  const kind = now.opened.sent.type || "application/octet-stream";
  await navigator.clipboard.writeText(requestCode(language, { url: URL_ROOT, name: now.name, kind, locked: now.locked }));
  say("Copied.");
}

async function save(what) {
  const args = { threshold: view.mask, rows: rowsShown() };
  const stem = now.name.replace(/\.\w+$/, "");
  const files = {
    coco: async () => offer(await run("coco", args), `${stem}.coco.json`),
    masks: async () => offer(await run("masks", args), `${stem}.masks.png`),
    svg: async () => offer(svgOf(visible(), now.answer.image), `${stem}.svg`),
    picture: async () => offer(await picture(), `${stem}.segment.png`),
  };
  await files[what]();
  say("Saved.");
}

/** The photograph with what lies on it, in its own pixels. */
async function picture() {
  const { width, height } = now.answer.image;
  const [below, above] = [0, 1].map(() => Object.assign(make("canvas"), { width, height }));
  const source = now.photo ? await createImageBitmap(now.photo) : stage.image.bitmap;
  below.getContext("2d").drawImage(source, 0, 0, width, height);
  stage.paint(above.getContext("2d"), 1);
  below.getContext("2d").drawImage(above, 0, 0);
  return new Promise((done) => below.toBlob(done, "image/png"));
}

// The camera ---------------------------------------------------------------------------------------------------------

/** Send one frame after the other, each as soon as the last is answered. */
async function goLive() {
  endLive();
  const turn = ++now.turn;
  byId("alert").hidden = true;
  try {
    if (!navigator.mediaDevices) throw new Error("the camera needs a page that came by https");
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: 1280 } });
    if (turn !== now.turn) return stream.getTracks().forEach((track) => track.stop());
    now.live = stream;
    const video = Object.assign(byId("video"), { srcObject: stream });
    await video.play();
    document.querySelector('[data-do="stop"]').hidden = false;
    let said = 0;
    for (let last = performance.now(); turn === now.turn && now.live; ) {
      const frame = await createImageBitmap(video);
      const opened = await run("grab", { frame, url: URL_ROOT, key: now.key }, undefined, [frame]);
      const answer = await run("ask", request(opened));
      if (turn !== now.turn || !now.live) return;
      Object.assign(now, { opened, photo: opened.sent, name: "camera.jpg", picked: -1 });
      known(opened.contract);
      reveal(opened);
      await accept(answer);
      const took = performance.now() - last;
      last += took;
      if (last - said < 1000) continue; // more often, no one could read it, or hear it
      said = last;
      say(`Live: ${(1000 / took).toFixed(1)} frames a second, ${Math.round(answer.tookMs)} ms each, ${count(visible().length)}.`);
    }
  } catch (error) {
    if (turn !== now.turn) return;
    endLive();
    const denied = ["NotAllowedError", "NotFoundError"].includes(error.name);
    complain(denied ? { name: error.name, message: "the camera cannot be used, or you did not allow it" } : error);
  }
}

function endLive() {
  if (!now.live) return;
  now.live.getTracks().forEach((track) => track.stop());
  now.live = null;
  now.turn++;
  document.querySelector('[data-do="stop"]').hidden = true;
  say(now.answer ? `The camera is off. ${count(visible().length)} in the last frame.` : "The camera is off.");
}

// Events -------------------------------------------------------------------------------------------------------------

const actions = {
  choose: () => byId("file").click(),
  camera: goLive,
  stop: endLive,
  cancel: () => run("stop"),
  retry: () => look(now.photo, now.name),
};

/** Run what a click asks for; an error becomes a sentence. */
async function clicked({ target }) {
  const button = target.closest("button");
  const { do: action, copy: language, save: what, sample } = button?.dataset ?? {};
  try {
    if (action) await actions[action]();
    if (language) await copy(language);
    if (what) await save(what);
    if (sample) await look(await sampleOf(button), `${sample}.${button.querySelector("canvas") ? "png" : "webp"}`);
  } catch (error) {
    complain(error);
  }
}

function takeFile(files) {
  const photo = [...(files ?? [])][0];
  if (photo) look(photo);
}

document.addEventListener("click", clicked);
document.addEventListener("input", changed);
byId("file").addEventListener("change", ({ target }) => {
  takeFile(target.files);
  target.value = "";
});
document.addEventListener("paste", ({ clipboardData }) => takeFile(clipboardData.files));
for (const type of ["dragover", "drop", "dragleave"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", type === "dragover");
    if (type === "drop") takeFile(event.dataTransfer.files);
  });
}
byId("key").addEventListener("submit", (event) => {
  event.preventDefault();
  now.key = byId("key-text").value;
  byId("key").hidden = byId("alert").hidden = true;
  byId("key-text").value = "";
  if (now.photo) look(now.photo, now.name);
});
for (const type of ["pointermove", "pointerdown"]) byId("overlay").addEventListener(type, pointed);
byId("overlay").addEventListener("pointerleave", ({ pointerType }) => {
  byId("tip").hidden = true;
  if (pointerType !== "touch") pick(-1, false);
});
byId("list").addEventListener("pointerleave", () => pick(-1, false));
for (const id of ["overlay", "list"]) byId(id).addEventListener("keydown", pressed);
document.addEventListener("visibilitychange", () => document.hidden && endLive());
addEventListener("hashchange", () => {
  recall();
  retrace();
  listObjects();
  redraw();
});
for (const canvas of all(".sample canvas")) drawScene(canvas, { ...LOOKS[canvas.parentElement.dataset.sample] });
recall();

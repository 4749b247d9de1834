// The request and its answer. Coordinates of an answer are always pixels of the photograph as displayed.

import { maskPixels } from "./masks.js";
import { shrink } from "./photo.js";
import { encodeRle } from "./rle.js";

const contracts = new Map(); // url and key -> promise of /model

/** What the function, or the way to it, says is wrong. `status` 0: no answer came. */
export class SegmentError extends Error {
  constructor({ title, status, detail, request_id = "" }, retryAfterS = 0) {
    super(detail);
    Object.assign(this, { name: "SegmentError", title, status, detail, requestId: request_id, retryAfterS });
  }
}

/** The contract of the model that the function uses, asked once for each url and key. */
export function model({ url = "/", key, signal } = {}) {
  const name = `${url} ${key ?? ""}`;
  if (!contracts.has(name)) {
    const asked = ask(join(url, "model"), { headers: headers(key), signal }).then(({ json }) => json);
    contracts.set(name, asked);
    asked.catch(() => contracts.delete(name));
  }
  return contracts.get(name);
}

/** Send a photograph; return its instances. The options are in index.d.ts. */
export async function segment(photo, options = {}) {
  const { url = "/", key, signal, timeoutS = 60, retries = 2, resize = true, onWait, onSend, ...query } = options;
  const limit = AbortSignal.any([AbortSignal.timeout(1000 * timeoutS), signal].filter(Boolean));
  const shrinks = resize && globalThis.createImageBitmap;
  const ready = shrinks && (await shrink(photo, (await model({ url, key, signal: limit })).contract.resize));
  const sent = ready || { photo };
  const enlarged = ready && (ready.width !== ready.original.width || ready.height !== ready.original.height);
  const asRle = enlarged && (query.mask ?? "rle") === "rle";
  if (asRle) query.mask = "float32";
  const address = `${join(url, "")}?${new URLSearchParams(Object.entries(query).filter(([, value]) => value !== undefined))}`;
  onSend?.(sent);
  for (let repeats = 0; ; repeats++) {
    try {
      const { json, response, bytes } = await ask(address, {
        method: "POST",
        body: sent.photo,
        headers: { ...headers(key), "Content-Type": sent.photo.type || "application/octet-stream" },
        signal: limit,
      });
      const answer = enlarged ? inPixelsOf(json, ready.original) : json;
      if (asRle) {
        for (const one of answer.instances) one.mask = encodeRle(maskPixels(one, query.mask_threshold), answer.image);
      }
      return { ...answer, sent: { bytes: sent.photo.size, ...json.image }, ...told(response, bytes) };
    } catch (error) {
      if (error.status !== 503 || repeats >= retries) throw error;
      onWait?.(error.retryAfterS, error);
      await pause(error.retryAfterS, limit);
    }
  }
}

/** The coordinates of an answer, in pixels of the image at another size. RLE cannot be scaled, other masks can. */
export function inPixelsOf(answer, size) {
  const across = size.width / answer.image.width;
  const down = size.height / answer.image.height;
  const scaled = ({ x, y, width, height }) => {
    const [left, top] = [Math.round(x * across), Math.round(y * down)];
    return {
      x: left,
      y: top,
      width: Math.max(1, Math.round((x + width) * across) - left),
      height: Math.max(1, Math.round((y + height) * down) - top),
    };
  };
  const masked = (mask) => ({
    ...mask,
    ...(mask.box && { box: scaled(mask.box) }),
    ...(mask.polygons && { polygons: mask.polygons.map((ring) => ring.map((one, i) => one * (i % 2 ? down : across))) }),
  });
  const instances = answer.instances.map((one) => ({
    ...one,
    area: Math.round(one.area * across * down),
    box: scaled(one.box),
    mask: one.mask && masked(one.mask),
  }));
  return { ...answer, image: { width: size.width, height: size.height }, instances };
}

async function ask(address, request) {
  let response;
  let body;
  try {
    response = await fetch(address, request);
    body = await response.arrayBuffer();
  } catch (error) {
    if (request.signal?.aborted) throw request.signal.reason;
    throw new SegmentError({ title: "Offline", status: 0, detail: "the service must answer, got nothing" });
  }
  let json;
  try {
    json = JSON.parse(new TextDecoder().decode(body));
  } catch {
    json = { title: response.statusText, detail: "the answer must be JSON, got something else" };
  }
  if (!response.ok || !(json.instances || json.contract)) {
    const { status } = response;
    throw new SegmentError({ ...json, status }, +response.headers.get("Retry-After") || 1);
  }
  return { json, response, bytes: body.byteLength };
}

/** What the headers tell: the request, the milliseconds of each stage, the bytes to and from the model. */
function told({ headers: all }, bytes) {
  const pairs = (name, pattern) => [...(all.get(name) ?? "").matchAll(pattern)].map(([, key, value]) => [key, +value]);
  return {
    requestId: all.get("X-Request-Id") ?? "",
    timingMs: Object.fromEntries(pairs("Server-Timing", /(\w+);dur=([\d.]+)/g)),
    modelBytes: { up: 0, down: 0, ...Object.fromEntries(pairs("X-Model-Bytes", /(\w+)=(\d+)/g)) },
    bytes: +all.get("Content-Length") || bytes,
  };
}

function headers(key) {
  return key ? { "X-API-Key": key } : {};
}

function join(url, path) {
  return url.replace(/\/?$/, "/") + path;
}

function pause(seconds, signal) {
  return new Promise((done, fail) => {
    signal.addEventListener("abort", () => fail(signal.reason), { once: true });
    setTimeout(done, 1000 * seconds);
  });
}

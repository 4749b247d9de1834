// What the page does away from the main thread: decode, send, trace outlines, write files. It runs after the client's
// code, in a worker, or in the page itself if the browser has no canvas for workers.

const found = { answer: null, grids: [] }; // the last answer, in pixels of the photograph
const MASK_THRESHOLD = 0.5; // of the areas in an answer
let stopper = new AbortController();

const tasks = {
  /** Decode a photograph: what to send, what to show (`side` pixels at most), and its size. */
  async open({ photo, url, key, side }) {
    stopper = new AbortController();
    const { contract } = await model({ url, key, signal: stopper.signal });
    const decoded = await createImageBitmap(photo).catch(() => null);
    if (!decoded) {
      const heic = /hei[cf]/i.test(`${photo.type} ${photo.name}`);
      const what = heic ? "HEIC: use Safari, or send a JPEG" : "the file";
      throw new SegmentError({ title: "Not a photograph", detail: `this browser cannot open ${what}` });
    }
    const ready = await shrink(photo, contract.resize, { decoded });
    const scale = Math.min(1, side / Math.max(ready.original.width, ready.original.height));
    const resizeWidth = Math.max(1, Math.round(ready.original.width * scale));
    const resizeHeight = Math.max(1, Math.round(ready.original.height * scale));
    const bitmap = await createImageBitmap(decoded, { resizeWidth, resizeHeight, resizeQuality: "medium" });
    decoded.close();
    return { bitmap, sent: ready.photo, original: ready.original, contract };
  },

  /** Bring a frame of the camera to the size that the model uses. */
  async grab({ frame, url, key }) {
    stopper = new AbortController();
    const { contract } = await model({ url, key, signal: stopper.signal });
    const size = uploadSize(frame, contract.resize);
    const canvas = newCanvas(size);
    canvas.getContext("2d").drawImage(frame, 0, 0, size.width, size.height);
    const sent = await blobOf(canvas, "image/jpeg", 0.85);
    frame.close();
    return { bitmap: await createImageBitmap(canvas), sent, original: size, contract };
  },

  /** Send what `open` returned, and keep its answer. */
  async ask({ sent, original, url, key, threshold }, tell) {
    const started = performance.now();
    const options = { url, key, mask: "float32", resize: false, signal: stopper.signal };
    const answer = await segment(sent, { ...options, onWait: (seconds) => tell({ seconds }) });
    const tookMs = performance.now() - started;
    found.answer = inPixelsOf(answer, original);
    found.grids = answer.instances.map((one) => probabilities(one.mask));
    const [height, width] = answer.instances[0]?.mask.size ?? [0, 0];
    const instances = found.answer.instances.map(({ mask, ...rest }) => rest);
    return { ...found.answer, instances, tookMs, cells: height * width, outlines: tasks.outlines({ threshold }) };
  },

  /** The outline of each object at a mask threshold, and its area in pixels. */
  outlines({ threshold }) {
    return found.answer.instances.map((one, index) => {
      const rings = outline(one, threshold, found.grids[index]);
      return { d: svgPath(rings), area: threshold === MASK_THRESHOLD ? one.area : Math.round(ringArea(rings)) };
    });
  },

  /** The objects of some rows as COCO results. */
  coco({ threshold, rows }) {
    const { image, instances } = found.answer;
    const entries = rows.map((row) => {
      const { class_id, score, box } = instances[row];
      const crop = maskPixels(instances[row], threshold, found.grids[row]);
      const { size, counts } = encodeRle(crop, image);
      const area = crop.data.reduce((sum, one) => sum + one, 0);
      const bbox = [box.x, box.y, box.width, box.height];
      return { image_id: 0, category_id: class_id, bbox, score, area, segmentation: { size, counts } };
    });
    return new Blob([JSON.stringify(entries)], { type: "application/json" });
  },

  /** One grey picture; a pixel is the number of its object's row from 1 on. The best score covers the others. */
  async masks({ threshold, rows }) {
    const { image, instances } = found.answer;
    const pixels = new ImageData(image.width, image.height);
    const words = new Uint32Array(pixels.data.buffer).fill(0xff000000);
    for (const row of [...rows].reverse()) {
      const { x, y, width, data } = maskPixels(instances[row], threshold, found.grids[row]);
      const word = 0xff000000 + 0x010101 * Math.min(row + 1, 255);
      data.forEach((one, at) => {
        if (one) words[(y + Math.floor(at / width)) * image.width + x + (at % width)] = word;
      });
    }
    const canvas = newCanvas(image);
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return blobOf(canvas, "image/png");
  },

  stop() {
    stopper.abort();
  },
};

if (typeof WorkerGlobalScope !== "undefined") {
  onmessage = async ({ data: { id, name, args } }) => {
    try {
      const result = await tasks[name](args, (note) => postMessage({ id, note }));
      postMessage({ id, result }, result?.bitmap ? [result.bitmap] : []);
    } catch (error) {
      postMessage({ id, error: { ...error, name: error.name, message: error.message } });
    }
  };
}

// Masks of mask=float32: a small grid of probabilities over a box, enlarged exactly as handler/masks/spans.py does.

const TIE = 1e-6; // values this close below the threshold are inside, as in the function

/** The probabilities of a float32 mask, row-major. */
export function probabilities({ data }) {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, index) => view.getFloat32(4 * index, true));
}

/** Where to sample a grid of `count` cells over [start, start + length) for the pixels from `first` on. */
function samples(first, pixels, start, length, count) {
  return Array.from({ length: pixels }, (_, index) => sample((first + index + 0.5 - start) / length, count));
}

function sample(part, count) {
  const at = Math.min(Math.max(part * count - 0.5, 0), count - 1);
  const low = Math.min(at | 0, Math.max(count - 2, 0));
  return [low, Math.min(low + 1, count - 1), at - low];
}

/** The probability of an instance at a point of the image; 0 outside its box. */
export function probabilityAt(instance, grid, x, y) {
  const { box, size: [rows, columns] } = extent(instance);
  const across = (x - box.x) / box.width;
  const down = (y - box.y) / box.height;
  if (across < 0 || down < 0 || across >= 1 || down >= 1) return 0;
  const [left, right, u] = sample(across, columns);
  const [top, bottom, v] = sample(down, rows);
  const row = (r) => grid[r * columns + left] * (1 - u) + grid[r * columns + right] * u;
  return row(top) * (1 - v) + row(bottom) * v;
}

/** The box that the grid covers: that of the instance, or a larger one if the image's edge cut it. */
function extent({ box, mask }) {
  return { box: mask.box ?? box, size: mask.size };
}

/** The pixels of an instance over its box, 0 or 1, row-major. */
export function maskPixels(instance, threshold = 0.5, grid = probabilities(instance.mask)) {
  const { x, y, width, height } = instance.box;
  const { box, size: [rows, columns] } = extent(instance);
  const data = new Uint8Array(width * height);
  const across = samples(x, width, box.x, box.width, columns);
  const line = new Float32Array(columns);
  const least = Math.fround(threshold - TIE);
  samples(y, height, box.y, box.height, rows).forEach(([top, bottom, v], row) => {
    for (let c = 0; c < columns; c++) line[c] = grid[top * columns + c] * (1 - v) + grid[bottom * columns + c] * v;
    across.forEach(([left, right, u], column) => {
      if (line[left] * (1 - u) + line[right] * u >= least) data[row * width + column] = 1;
    });
  });
  return { x, y, width, height, data };
}

/** The outline of a float32 mask as rings [x, y, x, y, ...] in image pixels, clockwise; holes run the other way. */
export function outline(instance, threshold = 0.5, grid = probabilities(instance.mask)) {
  const { box, size: [rows, columns] } = extent(instance);
  const xs = places(columns, box.x, box.width);
  const ys = places(rows, box.y, box.height);
  const wide = xs.length;
  const levels = new Float32Array(wide * ys.length).fill(-1); // above 0 inside; the outermost lie outside
  for (let r = 1; r < ys.length - 1; r++) {
    for (let c = 1; c < wide - 1; c++) {
      levels[r * wide + c] = grid[inner(r, rows) * columns + inner(c, columns)] - threshold + TIE;
    }
  }
  const next = new Map(); // edge that the outline crosses -> the one that it crosses next
  for (let at = 0; at < levels.length - wide; at++) {
    const first = levels[at] >= 0;
    if (first === levels[at + 1] >= 0 && first === levels[at + wide] >= 0 && first === levels[at + wide + 1] >= 0) continue;
    const inside = [at, at + 1, at + wide + 1, at + wide].map((corner) => levels[corner] >= 0);
    const sides = [2 * at, 2 * at + 3, 2 * (at + wide), 2 * at + 1]; // even: to the right, odd: down
    for (let from = 0; from < 4; from++) {
      if (!inside[from] || inside[(from + 1) % 4]) continue;
      let to = (from + 3) % 4; // from the side where it leaves the mask, back to the one where it came in
      while (!inside[(to + 1) % 4] || inside[to]) to = (to + 3) % 4;
      next.set(sides[from], sides[to]);
    }
  }
  const cross = (edge) => {
    const down = edge % 2;
    const at = (edge - down) / 2;
    const part = levels[at] / (levels[at] - levels[at + (down ? wide : 1)]);
    const [c, r] = [at % wide, Math.floor(at / wide)];
    return [xs[c] + (down ? 0 : part * (xs[c + 1] - xs[c])), ys[r] + (down ? part * (ys[r + 1] - ys[r]) : 0)];
  };
  const rings = [];
  for (let [at] of next) {
    const ring = [];
    for (let to; (to = next.get(at)) !== undefined; at = to) {
      ring.push(...cross(at));
      next.delete(at);
    }
    if (ring.length) rings.push(ring);
  }
  return rings;
}

/** Where the values of a grid lie: its cells' centres, and its border twice, where the value falls. */
function places(count, start, length) {
  return Array.from({ length: count + 4 }, (_, at) => start + (Math.min(Math.max(at - 1.5, 0), count) / count) * length);
}

/** The cell of a grid for one of its places. */
function inner(at, count) {
  return Math.min(Math.max(at - 2, 0), count - 1);
}

/** The area that rings enclose, without holes, in square pixels. */
export function ringArea(rings) {
  let twice = 0;
  for (const ring of rings) {
    for (let i = 0, n = ring.length; i < n; i += 2) twice += ring[i] * ring[(i + 3) % n] - ring[(i + 2) % n] * ring[i + 1];
  }
  return Math.abs(twice) / 2;
}

/** Rings as the `d` of an SVG path; fill it even-odd. */
export function svgPath(rings) {
  return rings.map((ring) => `M${ring.map((number) => +number.toFixed(2)).join(" ")}Z`).join("");
}

/** Rings as a Path2D; fill it with "evenodd". */
export function toPath2D(rings) {
  return new Path2D(svgPath(rings));
}

// What holds for every mask and every size, checked by fast-check. Arguments: the folder of its package, runs.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

import * as client from "../../../handler/page/client/index.js";

const fc = createRequire(`${process.argv[2]}/`)("fast-check");
const numRuns = Number(process.argv[3]);

const side = fc.integer({ min: 1, max: 40 });
const crops = fc.tuple(side, side, side, side).chain(([width, height, right, below]) =>
  fc.record({
    crop: fc.record({
      x: fc.integer({ min: 0, max: right }),
      y: fc.integer({ min: 0, max: below }),
      width: fc.constant(width),
      height: fc.constant(height),
      data: fc.uint8Array({ minLength: width * height, maxLength: width * height, max: 1 }),
    }),
    image: fc.constant({ width: width + right, height: height + below }),
  }),
);

fc.assert(
  fc.property(crops, ({ crop, image }) => {
    const { data } = client.decodeRle(client.encodeRle(crop, image));
    for (let y = 0; y < image.height; y++) {
      for (let x = 0; x < image.width; x++) {
        const [row, column] = [y - crop.y, x - crop.x];
        const within = row >= 0 && row < crop.height && column >= 0 && column < crop.width;
        assert.equal(data[y * image.width + x], within ? crop.data[row * crop.width + column] : 0);
      }
    }
  }),
  { numRuns },
);

const pixels = fc.integer({ min: 1, max: 20000 });
fc.assert(
  fc.property(pixels, pixels, fc.integer({ min: 64, max: 4096 }), (width, height, max_dim) => {
    const size = client.uploadSize({ width, height }, { mode: "square", min_dim: 0, max_dim });
    assert.ok(size.width <= width && size.height <= height);
    assert.ok(Math.max(size.width, size.height) <= Math.max(max_dim, 1));
    assert.ok(size.width >= 1 && size.height >= 1);
  }),
  { numRuns },
);

const boxes = fc.record({ x: fc.nat(50), y: fc.nat(50), width: side, height: side });
const grids = fc.array(fc.float({ min: 0, max: 1, noNaN: true }), { minLength: 16, maxLength: 16 });
fc.assert(
  fc.property(boxes, grids, fc.float({ min: Math.fround(0.01), max: 1, noNaN: true }), (box, values, threshold) => {
    const instance = { box, mask: { size: [4, 4] } };
    const grid = Float32Array.from(values);
    const rings = client.outline(instance, threshold, grid);
    for (const ring of rings) {
      assert.ok(ring.length >= 6 && ring.every(Number.isFinite));
      for (let i = 0; i < ring.length; i += 2) {
        assert.ok(ring[i] >= box.x - 1e-3 && ring[i] <= box.x + box.width + 1e-3);
        assert.ok(ring[i + 1] >= box.y - 1e-3 && ring[i + 1] <= box.y + box.height + 1e-3);
      }
    }
    const { data } = client.maskPixels(instance, threshold, grid);
    data.forEach((inside, at) => {
      const [x, y] = [box.x + (at % box.width) + 0.5, box.y + Math.floor(at / box.width) + 0.5];
      const probability = client.probabilityAt(instance, grid, x, y);
      if (Math.abs(probability - threshold) > 1e-4) assert.equal(Boolean(inside), probability > threshold);
    });
  }),
  { numRuns },
);
console.log(JSON.stringify("ok"));

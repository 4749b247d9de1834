export { maskPixels, outline, probabilities, probabilityAt, ringArea, svgPath, toPath2D } from "./masks.js";
export { shrink, uploadSize } from "./photo.js";
export { decodeRle, encodeRle } from "./rle.js";
export { SegmentError, inPixelsOf, model, segment } from "./segment.js";

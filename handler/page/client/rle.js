// COCO's compressed run-length encoding; handler/masks/rle.py explains it. Source: cocoapi, common/maskApi.c.

/** Encode a crop (x, y, width, height; data: 0 or not, row-major) as a mask over the whole image. */
export function encodeRle(crop, image) {
  const runs = [];
  let start = 0;
  let inside = 0;
  for (let column = 0; column < crop.width; column++) {
    const top = (crop.x + column) * image.height + crop.y;
    for (let row = 0; row < crop.height; row++) {
      const value = crop.data[row * crop.width + column] ? 1 : 0;
      if (value !== inside) flip(top + row, value);
    }
    if (inside && crop.height < image.height) flip(top + crop.height, 0);
  }
  if (inside) flip((crop.x + crop.width) * image.height, 0);
  const total = image.width * image.height;
  if (start < total || !runs.length) runs.push(total - start);
  return { format: "rle", size: [image.height, image.width], counts: runs.map(digits).join("") };

  function flip(at, value) {
    runs.push(at - start);
    start = at;
    inside = value;
  }

  function digits(run, index) {
    let value = index > 2 ? run - runs[index - 2] : run;
    let text = "";
    for (let more = true; more; ) {
      const digit = value & 31;
      value >>= 5;
      more = digit & 16 ? value !== -1 : value !== 0;
      text += String.fromCharCode(48 + (more ? digit | 32 : digit));
    }
    return text;
  }
}

/** Decode a mask to pixels 0 or 1, row-major, as large as the image. */
export function decodeRle({ size: [height, width], counts }) {
  const data = new Uint8Array(width * height);
  const runs = [];
  let position = 0;
  for (let at = 0; at < counts.length; ) {
    let value = 0;
    let shift = 0;
    let digit;
    do {
      digit = counts.charCodeAt(at++) - 48;
      if (!(digit >= 0 && digit < 64)) throw new RangeError("counts must be characters 0 to o and whole, got others");
      value |= (digit & 31) << shift;
      shift += 5;
    } while (digit & 32);
    if (digit & 16) value |= shift < 32 ? -1 << shift : 0;
    if (runs.length > 2) value += runs[runs.length - 2];
    if (value < 0 || position + value > data.length) throw new RangeError("counts must fill the size, got more");
    for (const end = position + value; position < end; position++) {
      data[(position % height) * width + Math.floor(position / height)] = runs.length % 2;
    }
    runs.push(value);
  }
  if (position !== data.length) throw new RangeError("counts must fill the size, got less");
  return { x: 0, y: 0, width, height, data };
}

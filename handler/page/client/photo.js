// Photographs on the device: as large as the model uses them, never larger, so that a phone sends a tenth.

/** The size at which a photograph is worth sending; `resize` is that of the model's contract. */
export function uploadSize({ width, height }, resize) {
  let scale = Math.max(1, resize.min_dim / Math.min(width, height), resize.min_scale ?? 0);
  if (Math.round(Math.max(width, height) * scale) > resize.max_dim) scale = resize.max_dim / Math.max(width, height);
  if (resize.frame_hw) {
    const [down, across] = [resize.frame_hw[0] / height, resize.frame_hw[1] / width];
    scale = resize.mode === "stretch" ? Math.max(down, across) : Math.min(down, across);
  }
  scale = Math.min(scale, 1);
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

/**
 * Bring a photograph to the size that the model uses. The browser decodes it, HEIC too if it can, and applies EXIF.
 * Returns what to send, its size, and that of the photograph; null outside a browser, or if it cannot decode.
 */
export async function shrink(photo, resize, { type = "image/jpeg", quality = 0.92, decoded } = {}) {
  const bitmap = decoded ?? (await globalThis.createImageBitmap?.(photo).catch(() => null));
  if (!bitmap) return null;
  const original = { width: bitmap.width, height: bitmap.height };
  const size = uploadSize(original, resize);
  if (size.width === original.width && size.height === original.height && /^image\/(jpeg|png|webp)$/.test(photo.type)) {
    if (!decoded) bitmap.close();
    return { photo, ...size, original };
  }
  const canvas = newCanvas(size);
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // transparent pixels become white, as in the function
  context.fillRect(0, 0, size.width, size.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, size.width, size.height);
  if (!decoded) bitmap.close();
  return { photo: await blobOf(canvas, type, quality), ...size, original };
}

function newCanvas({ width, height }) {
  if (globalThis.OffscreenCanvas) return new OffscreenCanvas(width, height);
  return Object.assign(document.createElement("canvas"), { width, height });
}

function blobOf(canvas, type, quality) {
  if (canvas.convertToBlob) return canvas.convertToBlob({ type, quality });
  return new Promise((done) => canvas.toBlob(done, type, quality));
}

// The photograph and what lies on it. Paths are in pixels of the photograph; the canvas scales them.

class Stage {
  /** `photo`, `overlay`: two canvases, one upon the other. */
  constructor(photo, overlay) {
    Object.assign(this, { photo, overlay, objects: [], look: {}, glow: [], shade: 0, image: null });
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    new ResizeObserver(() => this.fit()).observe(photo.parentElement);
  }

  /** Show a picture of a photograph that is `size` large. */
  show(bitmap, size) {
    this.image = { bitmap, size };
    this.objects = [];
    this.glow = [];
    this.shade = 0;
    this.photo.hidden = this.overlay.hidden = false;
    this.fit();
  }

  /** Fit the canvases into their place. */
  fit() {
    if (!this.image) return;
    const { bitmap, size } = this.image;
    const room = this.photo.parentElement.clientWidth;
    const tall = Math.max(240, innerHeight * 0.74);
    const scale = Math.min(room / size.width, tall / size.height);
    const density = Math.min(devicePixelRatio || 1, 2);
    for (const canvas of [this.photo, this.overlay]) {
      canvas.width = Math.round(size.width * scale * density);
      canvas.height = Math.round(size.height * scale * density);
      canvas.style.width = `${size.width * scale}px`;
      canvas.style.height = `${size.height * scale}px`;
    }
    this.scale = scale * density;
    const context = this.photo.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, this.photo.width, this.photo.height);
    this.draw();
  }

  /** Draw objects ({path, d, colour, name, box, shown}) as `look` says: opacity, outlines, labels, picked (or -1). */
  update(objects, look) {
    this.objects = objects;
    this.look = look;
    this.draw();
  }

  /** Draw in the next frame, and in those after it until nothing moves. */
  draw() {
    if (!this.image) return;
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      if (this.move()) this.draw();
      this.paint(this.overlay.getContext("2d"), this.scale);
    });
  }

  /** Bring glow and shade nearer to where they should be. Return true if they are not there yet. */
  move() {
    const step = this.still.matches ? 1 : 0.22;
    const nearer = (from, to) => (Math.abs(to - from) < 0.02 ? to : from + step * (to - from));
    const { picked } = this.look;
    this.shade = nearer(this.shade, picked >= 0 ? 1 : 0);
    let moves = this.shade !== (picked >= 0 ? 1 : 0);
    this.objects.forEach((_, row) => {
      const goal = row === picked ? 1 : 0;
      this.glow[row] = nearer(this.glow[row] ?? 0, goal);
      moves ||= this.glow[row] !== goal;
    });
    return moves;
  }

  /** Paint the objects on a canvas whose pixels are `scale` times those of the photograph. */
  paint(context, scale) {
    const { opacity, outlines, labels } = this.look;
    const { width, height } = this.image.size;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    context.lineJoin = "round";
    const shown = this.objects.map((one, row) => ({ ...one, glow: this.glow[row] ?? 0 })).filter((one) => one.shown);
    if (this.shade > 0.01) {
      const veil = new Path2D();
      veil.rect(0, 0, width, height);
      for (const one of shown) if (one.glow > 0.5) veil.addPath(one.path);
      context.globalAlpha = 0.5 * this.shade;
      context.fillStyle = "#080b12";
      context.fill(veil, "evenodd");
    }
    for (const one of [...shown].reverse()) {
      const rest = 1 - 0.75 * this.shade * (1 - one.glow);
      context.globalAlpha = opacity * rest;
      context.fillStyle = one.colour;
      context.fill(one.path, "evenodd");
      if (outlines || one.glow > 0.05) {
        context.globalAlpha = Math.max(outlines ? 0.95 * rest : 0, one.glow);
        context.lineWidth = (1 + 2 * one.glow) * Math.min(devicePixelRatio || 1, 2) / scale;
        context.strokeStyle = one.glow > 0.5 ? "#fff" : one.colour;
        context.stroke(one.path);
      }
    }
    context.globalAlpha = 1;
    if (labels) for (const one of shown) this.label(context, scale, one);
  }

  label(context, scale, { box, colour, name, glow }) {
    context.globalAlpha = 1 - 0.7 * this.shade * (1 - glow);
    const size = Math.min(13 * Math.min(devicePixelRatio || 1, 2), 26) / scale;
    context.font = `600 ${size}px system-ui, sans-serif`;
    const wide = context.measureText(name).width + size;
    const x = Math.max(0, Math.min(box.x + (box.width - wide) / 2, this.image.size.width - wide));
    const y = Math.max(0, box.y + box.height / 2 - 0.8 * size);
    context.fillStyle = colour;
    context.beginPath();
    context.roundRect(x, y, wide, 1.6 * size, 0.8 * size);
    context.fill();
    context.fillStyle = "#10131a";
    context.textBaseline = "middle";
    context.fillText(name, x + size / 2, y + 0.85 * size);
    context.globalAlpha = 1;
  }

  /** The row of the smallest object under a point of the window, -1 if there is none. */
  rowAt(clientX, clientY) {
    const place = this.overlay.getBoundingClientRect();
    const context = this.overlay.getContext("2d");
    const x = ((clientX - place.left) / place.width) * this.overlay.width;
    const y = ((clientY - place.top) / place.height) * this.overlay.height;
    context.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    const hit = (one) => one.shown && context.isPointInPath(one.path, x, y, "evenodd");
    const rows = [...this.objects.keys()].filter((row) => hit(this.objects[row]));
    return rows.length ? rows.reduce((best, row) => (this.objects[row].area < this.objects[best].area ? row : best)) : -1;
  }
}

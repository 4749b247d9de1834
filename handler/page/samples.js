// Photographs to try: one comes with the page, two are drawn. The bundled model knows circles, squares and triangles.

const LOOKS = {
  paper: { ground: ["#f3ead9", "#d9cbb2"], colours: ["#c8553d", "#2d6a8e", "#588157", "#e0a030", "#7a4e8a", "#33475b"], seed: 7 },
  night: { ground: ["#141c2e", "#05070d"], colours: ["#ffd166", "#ef476f", "#06d6a0", "#4cc9f0", "#f4f1de", "#ff9f5a"], seed: 23 },
};

/** Draw a scene of about twenty objects on a canvas; it is the same every time. */
function drawScene(canvas, { ground, colours, seed }) {
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  const random = () => ((seed = (Math.imul(seed, 48271) >>> 0) % 2147483647) / 2147483647);
  const light = context.createLinearGradient(0, 0, width, height);
  ground.forEach((colour, at) => light.addColorStop(at, colour));
  context.fillStyle = light;
  context.fillRect(0, 0, width, height);
  for (let row = 0; row < 4; row++) {
    for (let column = 0; column < 5; column++) {
      context.save();
      context.translate(((column + 0.5) * width) / 5 + 16 * (random() - 0.5), ((row + 0.5) * height) / 4 + 12 * (random() - 0.5));
      context.rotate(6.3 * random());
      const radius = 20 + 15 * random();
      const sides = [0, 4, 3][Math.floor(3 * random())];
      const path = new Path2D();
      if (!sides) path.arc(0, 0, radius, 0, 7);
      for (let side = 0; side < sides; side++) path.lineTo(radius * 1.2 * Math.cos((side * 6.2832) / sides), radius * 1.2 * Math.sin((side * 6.2832) / sides));
      path.closePath();
      Object.assign(context, { shadowColor: "#0008", shadowBlur: 9, shadowOffsetX: 3, shadowOffsetY: 5 });
      context.fillStyle = colours[Math.floor(colours.length * random())];
      context.fill(path);
      context.restore();
    }
  }
}

/** Return a sample as a Blob. */
function sampleOf(button) {
  const canvas = button.querySelector("canvas");
  if (canvas) return new Promise((done) => canvas.toBlob(done, "image/png"));
  const [, kind, text] = /data:(.*?);base64,(.*)/.exec(button.querySelector("img").src);
  return new Blob([Uint8Array.from(atob(text), (character) => character.charCodeAt(0))], { type: kind });
}

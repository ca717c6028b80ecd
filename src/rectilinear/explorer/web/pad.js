// A canvas to draw on with pointer or keys: arrows move the pen, the space bar lowers and lifts it.
function padOf(canvas, drawn) {
  const [, height, width] = page.shape, factor = Math.round(280 / width);
  canvas.width = width * factor;
  canvas.height = height * factor;
  const context = canvas.getContext("2d");
  let ink = new Float64Array(width * height), last = null, pen = [width / 2, height / 2], down = false, base = null;
  const radius = Math.max(0.9, width / 26);

  function paint() {
    const { paper, ink: tone } = colours(), pixels = context.createImageData(width, height), flip = page.ink ? [paper, tone] : [[0, 0, 0], [255, 255, 255]];
    const [channels] = page.shape;
    for (let i = 0; i < ink.length; i++) for (let c = 0; c < 3; c++) {
      const v = Math.max(ink[i], base ? base[channels === 3 ? c * ink.length + i : i] : 0);
      pixels.data[4 * i + c] = flip[0][c] + (flip[1][c] - flip[0][c]) * Math.min(1, v);
      pixels.data[4 * i + 3] = 255;
    }
    createImageBitmap(pixels).then((bitmap) => {
      context.imageSmoothingEnabled = false;
      context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
      if (document.activeElement === canvas && keyed) { context.strokeStyle = getComputedStyle(canvas).accentColor; context.strokeRect((pen[0] - 1) * factor, (pen[1] - 1) * factor, 2 * factor, 2 * factor); }
    });
  }
  let keyed = false;

  function dab(x, y) {
    if (base) { base = null; ink.fill(0); }
    for (let j = 0; j < height; j++) for (let i = 0; i < width; i++) {
      const far = Math.hypot(i + 0.5 - x, j + 0.5 - y), v = Math.min(1, Math.max(0, radius + 0.5 - far));
      if (v > ink[j * width + i]) ink[j * width + i] = v;
    }
  }

  function stroke(x, y) {
    const [a, b] = last || [x, y], parts = Math.max(1, Math.ceil(Math.hypot(x - a, y - b) * 2));
    for (let k = 1; k <= parts; k++) dab(a + (x - a) * k / parts, b + (y - b) * k / parts);
    last = [x, y];
    paint();
    tell();
  }

  let wait = 0;
  const tell = () => {
    clearTimeout(wait);
    wait = setTimeout(() => drawn(ink.slice()), 60);
  };
  const at = (event) => { const box = canvas.getBoundingClientRect(); return [(event.clientX - box.left) / box.width * width, (event.clientY - box.top) / box.height * height]; };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); keyed = false; last = null; stroke(...at(event)); });
  canvas.addEventListener("pointermove", (event) => { if (event.buttons) stroke(...at(event)); });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!move && event.key !== " ") return;
    event.preventDefault();
    keyed = true;
    if (event.key === " ") { down = !down; last = null; } else pen = [Math.min(width, Math.max(0, pen[0] + move[0])), Math.min(height, Math.max(0, pen[1] + move[1]))];
    if (down) stroke(...pen); else paint();
  });
  painted.add(paint);
  return {
    clear() { clearTimeout(wait); base = null; ink.fill(0); paint(); },
    show(x) { clearTimeout(wait); base = x; ink.fill(0); paint(); },
  };
}

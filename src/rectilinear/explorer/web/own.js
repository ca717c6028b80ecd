// Section 5: an image of the reader's own, drawn, chosen or dropped.

function ownImage(place, ask, { gallery, changed, toSliders }) {
  const [channels, height, width] = page.shape, size = height * width, pad = padOf(place.querySelector(".pad"), (x) => take(x, true));
  const views = [sheet(1), sheet(1), sheet(1)], said = place.querySelector(".said"), charts = place.querySelector(".charts");
  const projections = sheet(page.ranks.length), near = page.neighbourCount ? sheet(page.near) : null, facts = place.querySelector(".facts");
  const figure = (view, text) => el("figure", {}, view.node, el("figcaption", {}, text));
  place.querySelector(".pair").append(figure(views[0], "your image"), figure(views[1], "its noise"), figure(views[2], "the image again"));
  const rows = place.querySelector(".rows");
  rows.append(el("p", { class: "label" }, "cut to rank"), projections.node, el("p", {}), el("p", { class: "under" }, ...page.ranks.map((r) => el("span", {}, String(r)))));
  if (near) rows.append(el("p", { class: "label" }, "nearest in training"), near.node);
  place.querySelector(".nearest").textContent = near ? page.neighboursText
    : "The training images are not in this file, so that the nearest cannot be shown: make it again with --data-dir and the folder of the data.";
  const invert = place.querySelector("#invert"), file = place.querySelector("#file");
  invert.addEventListener("click", () => take(current.map((v) => 1 - v), false));
  file.addEventListener("change", () => file.files[0] && read(file.files[0]));
  place.querySelector("#clear").addEventListener("click", () => pad.clear());
  place.querySelector("#to-sliders").addEventListener("click", () => toSliders(coordinates));
  const thumbs = chooser("own", "Or take one of these", gallery, () => -1, (k) => k < page.gallery && take(gallery.images[k], false));
  thumbs.node.querySelector(".own").remove();
  place.querySelector(".choosers").append(thumbs.node);
  for (const kind of ["dragover", "dragenter"]) place.addEventListener(kind, (event) => { event.preventDefault(); place.classList.add("over"); });
  place.addEventListener("dragleave", () => place.classList.remove("over"));
  place.addEventListener("drop", (event) => { event.preventDefault(); place.classList.remove("over"); if (event.dataTransfer.files[0]) read(event.dataTransfer.files[0]); });
  addEventListener("paste", (event) => { const found = [...event.clipboardData.files].find((f) => f.type.startsWith("image/")); if (found) read(found); });
  let current = null, coordinates = null;

  async function read(blob) {
    try {
      const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [width, height];
      const context = canvas.getContext("2d"), factor = Math.max(width / bitmap.width, height / bitmap.height);
      context.imageSmoothingQuality = "high";
      const w = bitmap.width * factor, h = bitmap.height * factor;  // the shorter side fits, the longer is cropped at the centre
      context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
      const data = context.getImageData(0, 0, width, height).data;
      const x = new Float64Array(channels * size);
      const behind = page.ink && dark(data) ? 1 : 0;
      for (let i = 0; i < size; i++) {
        const alpha = data[4 * i + 3] / 255, rgb = [0, 1, 2].map((c) => data[4 * i + c] / 255 * alpha + behind * (1 - alpha));
        const grey = rgb[0] === rgb[1] && rgb[1] === rgb[2] ? rgb[0] : 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
        for (let c = 0; c < channels; c++) x[c * size + i] = channels === 1 ? grey : rgb[c];
      }
      return await take(page.ink && channels === 1 && onPaper(x) ? x.map((v) => 1 - v) : x, false);
    } catch {
      said.textContent = "This file is not an image that the browser can read: take a PNG, JPEG or WebP.";
    }
  }

  // Whether what is visible is dark: then what is transparent is white paper, else black.
  function dark(data) {
    let light = 0, seen = 0;
    for (let i = 0; i < data.length; i += 4) { light += (data[i] + data[i + 1] + data[i + 2]) / 765 * data[i + 3]; seen += data[i + 3]; }
    return light < seen / 2;
  }

  // Whether the border is light: ink on paper, where the model has ink as 1 and paper as 0.
  function onPaper(x) {
    const border = Array.from(x).filter((_, i) => i < width || i >= size - width || i % width === 0 || i % width === width - 1);
    return mean(border) > 0.75;
  }

  async function take(x, drawn) {
    current = Float64Array.from(x);
    if (!drawn) pad.show(current);
    views[0].show([current], "Your image");
    const { answer: { c, noise: found, back, classes: probabilities } } = await ask("own", "recover", { x: current, given: -1 });
    coordinates = c;
    views[1].show([found.map((v) => v / 5 + 0.5)], "The noise that gives it");
    views[2].show([back], "The image from that noise");
    const error = farthest(current, back), likely = probabilities && probabilities.indexOf(Math.max(...probabilities));
    const asTrained = page.noise ? await noisy() : found, clear = probabilities && probabilities[likely] > 0.5, close = number(spread(asTrained), 2);
    facts.replaceChildren(
      fact(small(error), "largest error of a pixel after image → noise → image"),
      fact(close, `standard deviation of its noise${page.noise ? `, with σ = ${page.noise} added to the pixels as in training` : ""}; near 1 for an image like the training's`),
      ...(probabilities ? [fact(clear ? page.classes[likely] : "none", `most likely class${clear ? ", if it is of any" : ": no class has more than half"}; largest probability ${number(probabilities[likely], 2)}`)] : []),
    );
    charts.replaceChildren(
      captioned(bars(Array.from(c.slice(0, page.sliders)), `The first ${page.sliders} coordinates of the image`),
        `Its first ${page.sliders} coordinates, in standard deviations: for a typical image nine of ten lie in the band.`),
      captioned(histogram(asTrained, page.noise ? found : null, `Histogram of the recovered noise, of standard deviation ${close}, beside the density of N(0, 1)`),
        `All ${page.n} values of its noise (bars) beside the density of N(0, 1) (curve).${page.noise ? ` The model learned images with noise of σ = ${page.noise} added, so it is added here first; without it the values of the finest directions are too small (thin line).` : ""}`),
    );
    said.textContent = `Encoded: largest error ${small(error)} after the way back.${clear ? ` Most likely class ${page.classes[likely]}.` : ""}`;
    page.ranks.forEach((rank, k) => ask("own", "image", { c, rank, given: -1 }).then(({ answer }) => projections.cell(k, answer)));
    projections.label(`Projections of your image at rank ${page.ranks.join(", ")}`);
    if (near) neighbours();
    await changed(current, c, probabilities ? likely : -1);
    return { x: current, c, back, error };
  }

  async function noisy() {  // the noise of the image with that of the training added
    const extra = noise(4242, current.length), x = current.map((v, i) => v + page.noise * extra[i]);
    return (await ask("own", "recover", { x, given: -1 })).answer.noise;
  }

  function neighbours() {
    const order = page.neighbours.map((y, k) => [y.reduce((sum, v, i) => sum + (v - current[i]) ** 2, 0), k]).sort((a, b) => a[0] - b[0]).slice(0, page.near);
    near.show(order.map(([, k]) => page.neighbours[k]), "The nearest training images, the nearest first");
  }

  const fact = (value, meaning) => el("div", { class: "fact" }, el("b", {}, value), el("span", {}, meaning));
  const captioned = (chart, text) => el("figure", {}, chart, el("figcaption", {}, text));
  return { take, read, first: (images) => thumbs.show(images), get current() { return current; } };
}

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
    wait = setTimeout(() => {
      const centre = document.querySelector("#centre"), x = centre && centre.checked ? centred(ink) : ink;
      drawn(page.shape[0] === 3 ? Float64Array.from([...x, ...x, ...x]) : Float64Array.from(x));
    }, 60);
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
    clear() { base = null; ink.fill(0); paint(); },
    show(x) { base = x; ink.fill(0); paint(); },
  };
}

function centred(ink) {  // the strokes in a box of 5/7 of the side, their centre of mass in the middle, as in MNIST
  const [, height, width] = page.shape, rows = [], columns = [];
  ink.forEach((v, i) => { if (v > 0.1) { rows.push(Math.floor(i / width)); columns.push(i % width); } });
  if (!rows.length) return ink;
  const [top, bottom, left, right] = [Math.min(...rows), Math.max(...rows) + 1, Math.min(...columns), Math.max(...columns) + 1];
  const factor = Math.max(bottom - top, right - left) / (width * 5 / 7);
  const draw = (dx, dy) => {
    const out = new Float64Array(ink.length), parts = 4;
    for (let j = 0; j < height; j++) for (let i = 0; i < width; i++) {
      let sum = 0;
      for (let a = 0; a < parts; a++) for (let b = 0; b < parts; b++) {
        const x = ((i + (a + 0.5) / parts) - width / 2 + dx) * factor + (left + right) / 2 - 0.5;
        const y = ((j + (b + 0.5) / parts) - height / 2 + dy) * factor + (top + bottom) / 2 - 0.5;
        sum += sampled(ink, x, y);
      }
      out[j * width + i] = sum / parts ** 2;
    }
    return out;
  };
  const first = draw(0, 0), mass = first.reduce((a, v) => a + v, 0);
  const mx = first.reduce((a, v, i) => a + v * (i % width + 0.5), 0) / mass, my = first.reduce((a, v, i) => a + v * (Math.floor(i / width) + 0.5), 0) / mass;
  return draw(mx - width / 2, my - height / 2);
}

function sampled(ink, x, y) {
  const [, height, width] = page.shape, i = Math.floor(x), j = Math.floor(y), u = x - i, v = y - j;
  const at = (a, b) => (a < 0 || b < 0 || a >= width || b >= height ? 0 : ink[b * width + a]);
  return (1 - u) * (1 - v) * at(i, j) + u * (1 - v) * at(i + 1, j) + (1 - u) * v * at(i, j + 1) + u * v * at(i + 1, j + 1);
}

// Elements, images and small charts.

function el(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG_TAGS.has(tag) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml", tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}
const SVG_TAGS = new Set(["svg", "rect", "path", "line", "text"]);

const number = (value, digits = 2) => value.toFixed(digits).replace("-", "−");

function small(value) {  // 1.2 × 10⁻⁷
  if (value === 0) return "0";
  const power = Math.floor(Math.log10(value));
  if (power > -3) return value.toPrecision(2);
  const raised = String(power).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
  return `${(value / 10 ** power).toFixed(1)} × 10${raised}`;
}

const painted = new Set();  // canvases, drawn again in another colour scheme

// A row or grid of images in one canvas; `show(images, label)` draws them, what is null stays empty.
function sheet(columns, rows = 1, { gap = 2, signed = false } = {}) {
  const [channels, height, width] = page.shape, node = el("canvas", { role: "img" });
  node.width = columns * (width + gap) - gap;
  node.height = rows * (height + gap) - gap;
  node.style.aspectRatio = `${node.width} / ${node.height}`;
  const context = node.getContext("2d");
  const cells = new Array(columns * rows).fill(null);
  const cell = (k, image) => {
    cells[k] = image;
    const pixels = context.createImageData(width, height), size = width * height, { paper, ink, plus, minus } = colours();
    for (let i = 0; i < size; i++) for (let c = 0; c < 3; c++) {
      const v = image ? image[channels === 3 ? c * size + i : i] : 0;
      const bounded = Math.min(1, Math.max(signed ? -1 : 0, v));
      const tone = signed ? (bounded < 0 ? minus : plus) : ink;
      const base = page.ink || signed ? paper : [0, 0, 0], top = page.ink || signed ? tone : [255, 255, 255];
      pixels.data[4 * i + c] = base[c] + (top[c] - base[c]) * Math.abs(bounded);
      pixels.data[4 * i + 3] = 255;
    }
    context.putImageData(pixels, (k % columns) * (width + gap), Math.floor(k / columns) * (height + gap));
  };
  const again = () => cells.forEach((image, k) => cell(k, image));
  again();
  painted.add(again);
  return {
    node,
    cell,
    label(text) { node.setAttribute("aria-label", text); },
    clear(text) { cells.forEach((_, k) => cell(k, null)); node.setAttribute("aria-label", text); },
    show(images, text) { images.forEach((image, k) => cell(k, image)); if (text) node.setAttribute("aria-label", text); },
  };
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => { const hex = style.getPropertyValue(name).trim(); return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)); };
  return { paper: read("--tile"), ink: read("--ink"), plus: read("--first"), minus: read("--second") };
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => painted.forEach((again) => again()));

// Bars up and down from zero, with the band that nine of ten coordinates of noise lie in.
function bars(values, label) {
  const width = 640, height = 172, foot = 22, middle = (height - foot) / 2, unit = 20, each = width / values.length;
  const chart = el("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: "chart" },
    el("rect", { class: "band", x: 0, width, y: middle - 1.645 * unit, height: 2 * 1.645 * unit }));
  values.forEach((v, i) => {
    const long = Math.min(middle - 2, Math.abs(v) * unit);
    chart.append(el("rect", { class: "bar", x: i * each + each * 0.15, width: each * 0.7, y: v > 0 ? middle - long : middle, height: Math.max(0.5, long) }));
  });
  chart.append(el("line", { class: "axis", x1: 0, x2: width, y1: middle, y2: middle }));
  for (let i = 0; i < values.length; i += i ? 8 : 7) chart.append(el("text", { x: (i + 0.5) * each, y: height - 4, "text-anchor": i ? "middle" : "start" }, String(i + 1)));
  return chart;
}

// A histogram beside the density of N(0, 1), and a second one as a thin line.
function histogram(values, others, label) {
  const width = 640, height = 190, count = 41, low = -4.1, step = 0.2, foot = 22, highest = 0.75;
  const densities = (numbers) => {
    const found = new Array(count).fill(0);
    for (const v of numbers) found[Math.min(count - 1, Math.max(0, Math.floor((v - low) / step)))] += 1 / numbers.length / step;
    return found;
  };
  const x = (v) => (v - low) / (-2 * low) * width, y = (d) => height - foot - Math.min(d, highest) / highest * (height - foot - 4);
  const chart = el("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: "chart" });
  densities(values).forEach((d, i) => chart.append(el("rect", { class: "bar", x: x(low + i * step) + 1, width: width / count - 2, y: y(d), height: height - foot - y(d) })));
  if (others) chart.append(el("path", { class: "thin", d: densities(others).map((d, i) => `${i ? "L" : "M"}${x(low + (i + 0.5) * step).toFixed(1)} ${y(d).toFixed(1)}`).join("") }));
  let path = "";
  for (let v = low; v <= -low; v += 0.05) path += `${path ? "L" : "M"}${x(v).toFixed(1)} ${y(Math.exp(-v * v / 2) / Math.sqrt(2 * Math.PI)).toFixed(1)}`;
  chart.append(el("path", { class: "curve", d: path }));
  for (let v = -4; v <= 4; v += 2) chart.append(el("text", { x: x(v), y: height - 4, "text-anchor": "middle" }, String(v).replace("-", "−")));
  return chart;
}

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const spread = (values) => { const m = mean(values); return Math.sqrt(values.reduce((a, v) => a + (v - m) ** 2, 0) / (values.length - 1)); };
const farthest = (a, b) => a.reduce((d, v, i) => Math.max(d, Math.abs(v - b[i])), 0);

// Images of a sprite: tiles in reading order, as numbers from 0 to 1, channel by channel.
async function tiles(url, count) {
  const file = new Image();
  file.src = url;
  await file.decode();
  const [channels, height, width] = page.shape, canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [file.width, file.height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(file, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data, across = canvas.width / width, size = width * height;
  return Array.from({ length: count }, (_, k) => {
    const left = (k % across) * width, top = Math.floor(k / across) * height, image = new Float64Array(channels * size);
    for (let c = 0; c < channels; c++) for (let i = 0; i < size; i++) {
      image[c * size + i] = data[4 * ((top + Math.floor(i / width)) * canvas.width + left + i % width) + c] / 255;
    }
    return image;
  });
}

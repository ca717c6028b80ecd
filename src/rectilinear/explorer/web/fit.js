// Strokes placed as those of the data were: their box at the size of the data's, their centre where the data have it.

const FAINT = 0.15;  // of the darkest ink: below it, paper

// Grey values of any size, 0 paper and 1 ink, as an image of the model's size; unchanged where there is no ink.
function fitted(grey, wide, high) {
  const [, height, width] = page.shape, { box, mass, centre } = page.fit, rows = [], columns = [];
  grey.forEach((v, i) => { if (v > FAINT) { rows.push(Math.floor(i / wide)); columns.push(i % wide); } });
  if (!rows.length) return new Float64Array(width * height);
  const least = (a) => a.reduce((m, v) => Math.min(m, v)), most = (a) => a.reduce((m, v) => Math.max(m, v)) + 1;
  const [top, bottom, left, right] = [least(rows), most(rows), least(columns), most(columns)];
  const factor = Math.max(bottom - top, right - left) / box, parts = Math.max(4, Math.ceil(factor));
  const at = (i, j) => (i < 0 || j < 0 || i >= wide || j >= high ? 0 : grey[j * wide + i]);
  const sampled = (x, y) => {
    const i = Math.floor(x), j = Math.floor(y), u = x - i, v = y - j;
    return (1 - u) * (1 - v) * at(i, j) + u * (1 - v) * at(i + 1, j) + (1 - u) * v * at(i, j + 1) + u * v * at(i + 1, j + 1);
  };
  const draw = (dx, dy) => {  // the middle of the box at `centre`, less the offset
    const out = new Float64Array(width * height);
    for (let j = 0; j < height; j++) for (let i = 0; i < width; i++) {
      let sum = 0;
      for (let a = 0; a < parts; a++) for (let b = 0; b < parts; b++) {
        const x = (i + (a + 0.5) / parts - centre + dx) * factor + (left + right) / 2 - 0.5;
        const y = (j + (b + 0.5) / parts - centre + dy) * factor + (top + bottom) / 2 - 0.5;
        sum += sampled(x, y);
      }
      out[j * width + i] = sum / parts ** 2;
    }
    return out;
  };
  const first = draw(0, 0);
  if (!mass) return first;
  const total = first.reduce((a, v) => a + v, 0);
  const middle = (along) => first.reduce((a, v, i) => a + v * (along(i) + 0.5), 0) / total - centre;
  return draw(middle((i) => i % width), middle((i) => Math.floor(i / width)));
}

// A file's pixels as grey values of ink, and what was done to them.
function inked({ data, width, height }) {
  const behind = dark(data) ? 1 : 0, count = width * height, border = [];
  let grey = Float64Array.from({ length: count }, (_, i) => over(data, i, behind).grey);
  for (let i = 0; i < count; i++) if (i < width || i >= count - width || i % width === 0 || i % width === width - 1) border.push(grey[i]);
  const paper = border.sort((a, b) => a - b)[border.length >> 1], turned = paper > 0.6;
  if (turned) grey = grey.map((v) => 1 - v);
  return { grey, turned, paper: turned ? 1 - paper : paper, width, height };
}

// Without the tone of the paper, and the darkest ink black: for a photograph of a drawing.
function stretched({ grey, paper }) {
  const most = grey.reduce((a, v) => Math.max(a, v), 0);
  return most - paper < 0.1 ? grey.map(() => 0) : grey.map((v) => Math.max(0, v - paper) / (most - paper));
}

// Whether what is visible is dark: then what is transparent is white paper, else black.
function dark(data) {
  let light = 0, seen = 0;
  for (let i = 0; i < data.length; i += 4) { light += (data[i] + data[i + 1] + data[i + 2]) / 765 * data[i + 3]; seen += data[i + 3]; }
  return light < seen / 2;
}

function over(data, i, behind) {  // pixel i before a background
  const alpha = data[4 * i + 3] / 255, rgb = [0, 1, 2].map((c) => data[4 * i + c] / 255 * alpha + behind * (1 - alpha));
  return { rgb, grey: rgb[0] === rgb[1] && rgb[1] === rgb[2] ? rgb[0] : 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] };
}

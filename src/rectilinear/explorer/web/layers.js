// Invertible layers on one image at a time, as flat Float64Arrays: each has encode(x) and decode(z).
// `layer(spec, tensors)` makes one of the description that explorer/translate.py wrote.

function layer(spec, tensors) {
  const make = LAYERS[spec.kind];
  if (!make) throw new Error(`no layer of kind ${spec.kind}`);
  return make(spec, (name) => tensors[spec[name]], (part) => layer(part, tensors), tensors);
}

const LAYERS = {
  identity: () => ({ encode: (x) => x, decode: (z) => z }),

  chain(spec, tensor, make) {
    const blocks = spec.blocks.map(make);
    return {
      blocks,
      encode: (x, given) => blocks.reduce((y, block) => block.encode(y, given), x),
      decode: (z, given) => blocks.reduceRight((y, block) => block.decode(y, given), z),
    };
  },

  inverse(spec, tensor, make) {
    const block = make(spec.block);
    return { encode: (x) => block.decode(x), decode: (z) => block.encode(z) };
  },

  leading(spec, tensor, make) {
    const block = make(spec.block), keep = spec.keep;
    const on = (apply) => (x, given) => {
      const out = Float64Array.from(x);
      out.set(apply(x.slice(0, keep), given));
      return out;
    };
    return { block, keep, encode: on((x, given) => block.encode(x, given)), decode: on((z, given) => block.decode(z, given)) };
  },

  order(spec, tensor) {  // z[i] = x[index[i]]
    const index = tensor("index");
    return {
      encode: (x) => { const z = new Float64Array(x.length); for (let i = 0; i < z.length; i++) z[i] = x[index[i]]; return z; },
      decode: (z) => { const x = new Float64Array(z.length); for (let i = 0; i < z.length; i++) x[index[i]] = z[i]; return x; },
    };
  },

  affine(spec, tensor) {  // z = (x - mean) scale
    const scale = tensor("scale"), mean = tensor("mean");
    return { encode: (x) => x.map((v, i) => (v - mean[i]) * scale[i]), decode: (z) => z.map((v, i) => v / scale[i] + mean[i]) };
  },

  rotation(spec, tensor) {  // z = Q^T (x - mean)
    const q = tensor("matrix"), mean = tensor("mean"), n = mean.length;
    return {
      encode(x) {
        const z = new Float64Array(n);
        for (let i = 0; i < n; i++) {
          const v = x[i] - mean[i], row = i * n;
          if (v !== 0) for (let j = 0; j < n; j++) z[j] += v * q[row + j];
        }
        return z;
      },
      decode: dense(q, mean),
    };
  },

  reflections(spec, tensor) {  // I - 2 v v^T / |v|^2 for each row v, one after the other
    const vectors = tensor("vectors"), count = spec.count, n = vectors.length / count;
    const square = new Float64Array(count);
    for (let k = 0; k < count; k++) for (let j = 0; j < n; j++) square[k] += vectors[k * n + j] ** 2;
    const reflect = (x, k) => {
      let dot = 0;
      const row = k * n;
      for (let j = 0; j < n; j++) dot += vectors[row + j] * x[j];
      const factor = 2 * dot / square[k];
      for (let j = 0; j < n; j++) x[j] -= factor * vectors[row + j];
    };
    return {
      encode(x) { const z = Float64Array.from(x); for (let k = 0; k < count; k++) reflect(z, k); return z; },
      decode(z) { const x = Float64Array.from(z); for (let k = count; k-- > 0;) reflect(x, k); return x; },
    };
  },

  mix(spec, tensor) {  // an orthogonal matrix on the channels
    const weight = tensor("weight"), c = spec.channels;
    const apply = (x, transposed) => {
      const size = x.length / c, out = new Float64Array(x.length);
      for (let o = 0; o < c; o++) for (let i = 0; i < c; i++) {
        const w = weight[transposed ? i * c + o : o * c + i];
        for (let p = 0; p < size; p++) out[o * size + p] += w * x[i * size + p];
      }
      return out;
    };
    return { encode: (x) => apply(x, false), decode: (z) => apply(z, true) };
  },

  coupling(spec, tensor, make, tensors) {  // (x1, x2 exp(s(x1)) + t(x1)); a shift alone without a bound
    const net = NETS[spec.net.kind](spec.net, (name) => tensors[spec.net[name]], tensors);
    const keep = spec.keep, bound = spec.bound;
    const move = (x, forth) => {
      const out = Float64Array.from(x), made = net(x.subarray(0, keep)), moved = x.length - keep;
      for (let i = 0; i < moved; i++) {
        const scale = bound ? Math.exp(bound * Math.tanh(made[i] / bound)) : 1;
        const shift = bound ? made[moved + i] : made[i];
        out[keep + i] = forth ? x[keep + i] * scale + shift : (x[keep + i] - shift) / scale;
      }
      return out;
    };
    return { encode: (x) => move(x, true), decode: (z) => move(z, false) };
  },

  spline(spec, tensor, make, tensors) {  // (x1, h(x2 exp(s(x1)) + t(x1); x1)), h a rational-quadratic spline
    const net = NETS[spec.net.kind](spec.net, (name) => tensors[spec.net[name]], tensors);
    const { keep, bins, box, bound } = spec, each = 3 * bins + 1;
    const places = (raw) => {
      const top = Math.max(...raw), parts = raw.map((v) => Math.exp(v - top)), all = parts.reduce((a, b) => a + b);
      const edges = [-box];
      let sum = 0;
      for (let i = 0; i < bins - 1; i++) { sum += 0.1 / bins + 0.9 * parts[i] / all; edges.push(box * (2 * sum - 1)); }
      return [...edges, box];
    };
    const move = (x, forth) => {
      const out = Float64Array.from(x), made = net(x.subarray(0, keep));
      for (let i = 0; i < x.length - keep; i++) {
        const raw = Array.from(made.subarray(i * each, (i + 1) * each));
        const scale = Math.exp(bound * Math.tanh(raw[0] / bound)), shift = raw[1];
        const xs = places(raw.slice(2, 2 + bins)), ys = places(raw.slice(2 + bins, 2 + 2 * bins));
        const mean = xs.slice(1).map((v, k) => (ys[k + 1] - ys[k]) / (v - xs[k])), slopes = [1];
        for (let k = 0; k < bins - 1; k++) {
          slopes.push(2 * mean[k] * mean[k + 1] / (mean[k] + mean[k + 1]) * Math.exp(Math.tanh(raw[2 + 2 * bins + k])));
        }
        slopes.push(1);
        const v = forth ? x[keep + i] * scale + shift : x[keep + i];
        const bent = Math.abs(v) < box ? bend(v, forth ? xs : ys, xs, ys, slopes, forth) : v;
        out[keep + i] = forth ? bent : (bent - shift) / scale;
      }
      return out;
    };
    return { encode: (x) => move(x, true), decode: (z) => move(z, false) };
  },

  mixture: (spec, tensor) => mixture(spec, tensor),
};

function bend(v, edges, xs, ys, slopes, forth) {
  let k = 0;
  while (k < edges.length - 2 && edges[k + 1] <= v) k++;
  const width = xs[k + 1] - xs[k], height = ys[k + 1] - ys[k], s = height / width, d0 = slopes[k], d1 = slopes[k + 1];
  if (forth) {
    const u = (v - xs[k]) / width;
    return ys[k] + height * (s * u * u + d0 * u * (1 - u)) / (s + (d0 + d1 - 2 * s) * u * (1 - u));
  }
  const up = v - ys[k], turn = up * (d0 + d1 - 2 * s);
  const a = height * (s - d0) + turn, b = height * d0 - turn, c = -s * up;
  return xs[k] + width * 2 * c / (-b - Math.sqrt(Math.max(0, b * b - 4 * a * c)));
}

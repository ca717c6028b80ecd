// Networks inside couplings: from the kept coordinates to scales and shifts.

const NETS = {
  linear(spec, tensor) { return dense(tensor("weight"), tensor("bias")); },

  mlp(spec, tensor, tensors) {
    const [enter, ...rest] = spec.layers.map(({ weight, bias }) => dense(tensors[weight], tensors[bias]));
    const leave = rest.pop();
    return (x) => {
      let h = enter(x);
      for (const middle of rest) {
        const step = middle(h.map(gelu));
        if (spec.residual) for (let i = 0; i < h.length; i++) h[i] += step[i];
        else h = step;
      }
      return leave(h.map(gelu));
    };
  },

  conv(spec, tensor, tensors) {
    const { height, width } = spec, position = tensor("position");
    const pad = Math.max(...spec.layers.map(({ kernel }) => kernel >> 1)), row = width + 2 * pad;
    const plane = row * (height + 2 * pad), first = pad * row + pad, last = plane - first;
    const [enter, ...rest] = spec.layers.map(({ weight, bias, kernel, from, to }) =>
      convolution(tensors[weight], tensors[bias], kernel, from, to, plane, row, first, last));
    const leave = rest.pop(), channels = spec.layers[0].to;
    const hidden = new Float64Array(channels * plane), active = new Float64Array(channels * plane);
    const input = new Float64Array(spec.layers[0].from * plane);
    const inside = (c, y) => c * plane + first + y * row;
    const activate = () => {  // borders stay zero
      for (let c = 0; c < channels; c++) for (let y = 0; y < height; y++) {
        for (let i = inside(c, y), end = i + width; i < end; i++) active[i] = gelu(hidden[i]);
      }
      return active;
    };
    return (x) => {
      for (let c = 0, k = 0; c < spec.layers[0].from; c++) for (let y = 0; y < height; y++) {
        for (let i = inside(c, y), end = i + width; i < end; i++) input[i] = x[k++];
      }
      hidden.set(enter(input));
      if (position) for (let c = 0, k = 0; c < channels; c++) for (let y = 0; y < height; y++) {
        for (let i = inside(c, y), end = i + width; i < end; i++) hidden[i] += position[k++];
      }
      for (const middle of rest) {
        const step = middle(activate());
        for (let i = 0; i < hidden.length; i++) hidden[i] += step[i];
      }
      const made = leave(activate()), to = spec.layers[spec.layers.length - 1].to;
      const out = new Float64Array(to * height * width);
      for (let c = 0, k = 0; c < to; c++) for (let y = 0; y < height; y++) {
        for (let i = inside(c, y), end = i + width; i < end; i++) out[k++] = made[i];
      }
      return out;
    };
  },
};

function dense(weight, bias) {  // weight (out, in), row by row
  const size = bias.length, n = weight.length / size;
  return (x) => {
    const out = new Float64Array(size);
    for (let o = 0, w = 0; o < size; o++) {
      let a = bias[o], b = 0, c = 0, d = 0, j = 0;
      for (; j + 3 < n; j += 4, w += 4) {
        a += weight[w] * x[j]; b += weight[w + 1] * x[j + 1]; c += weight[w + 2] * x[j + 2]; d += weight[w + 3] * x[j + 3];
      }
      for (; j < n; j++, w++) a += weight[w] * x[j];
      out[o] = a + b + c + d;
    }
    return out;
  };
}

// Planes have a border of zeros, so that a tap is one offset and a whole plane one loop. What the loop writes between
// two rows of the image is not read.
function convolution(weight, bias, kernel, from, to, plane, row, first, last) {
  const out = new Float64Array(to * plane), radius = kernel >> 1;
  return (x) => {
    for (let o = 0; o < to; o++) {
      const y = out.subarray(o * plane, (o + 1) * plane);
      y.fill(bias[o], first, last);
      for (let i = 0; i < from; i++) {
        const w = (o * from + i) * kernel * kernel, start = i * plane;
        if (kernel === 3) addThree(y, x, weight, w, start, row, first, last);
        else for (let t = 0; t < kernel * kernel; t++) {
          const shift = start + (Math.floor(t / kernel) - radius) * row + t % kernel - radius, v = weight[w + t];
          for (let p = first; p < last; p++) y[p] += v * x[shift + p];
        }
      }
    }
    return out;
  };
}

function addThree(y, x, weight, w, start, row, first, last) {
  const w0 = weight[w], w1 = weight[w + 1], w2 = weight[w + 2], w3 = weight[w + 3], w4 = weight[w + 4];
  const w5 = weight[w + 5], w6 = weight[w + 6], w7 = weight[w + 7], w8 = weight[w + 8];
  for (let p = first, q = start + first; p < last; p++, q++) {
    y[p] += w0 * x[q - row - 1] + w1 * x[q - row] + w2 * x[q - row + 1] + w3 * x[q - 1] + w4 * x[q] + w5 * x[q + 1]
      + w6 * x[q + row - 1] + w7 * x[q + row] + w8 * x[q + row + 1];
  }
}

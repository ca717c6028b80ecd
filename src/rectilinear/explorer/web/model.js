// The generator of the page: images from coordinates along its singular directions, and back, exactly.

function model(spec, bytes) {
  const tensors = spec.tensors.map((place) => numbersAt(bytes.buffer, place));
  tensors[-1] = null;
  const data = layer(spec.data, tensors), noiseNet = layer(spec.noise, tensors), operator = spec.operator;
  const sigma = tensors[operator.sigma], n = sigma.length;
  const [left, right] = operator.kind === "diagonal"
    ? [picked(tensors[operator.order], tensors[operator.sign]), picked(tensors[operator.order], null)]
    : [basis(tensors[operator.left], n), basis(tensors[operator.right], n)];

  // Coordinates c of the noise along the right singular vectors, in standard deviations.
  const latents = (c, rank) => left.join(c.map((v, i) => (i < rank ? v * sigma[i] : 0)));
  const image = (c, rank = n, given = -1) => data.decode(latents(c, rank), given);
  const coordinates = (x, given = -1) => left.split(data.encode(Float64Array.from(x), given)).map((v, i) => (sigma[i] > 0 ? v / sigma[i] : 0));
  const noiseOf = (c) => noiseNet.decode(right.join(c), -1);
  const coordinatesOfNoise = (x) => right.split(noiseNet.encode(Float64Array.from(x), -1));

  // dz/dt = W(t) z by Runge and Kutta's method in so many steps; `seen(step, z)` after each.
  function steps(c, count, rank, seen) {
    const { s0, s1 } = spec.velocity, a = tensors[s0], b = tensors[s1];
    const rate = (t, i) => (t * b[i] - (1 - t) * a[i]) / ((1 - t) ** 2 * a[i] + t * t * b[i]);
    const z = Float64Array.from(right.join(c)), h = 1 / count;
    seen(0, z);
    for (let k = 0; k < count; k++) {
      for (let i = 0; i < n; i++) {
        const w0 = rate(k * h, i), w1 = rate((k + 0.5) * h, i), w2 = rate((k + 1) * h, i);
        const k1 = w0 * z[i], k2 = w1 * (z[i] + h / 2 * k1), k3 = w1 * (z[i] + h / 2 * k2), k4 = w2 * (z[i] + h * k3);
        z[i] += h / 6 * (k1 + 2 * k2 + 2 * k3 + k4);
      }
      seen(k + 1, z);
    }
    const ends = left.split(Float64Array.from(z));
    return left.join(ends.map((v, i) => (i < rank ? v : 0)));
  }

  const classifier = mixtureBehind(data);
  return { n, sigma, latents, image, coordinates, noiseOf, coordinatesOfNoise, steps, decode: data.decode, logOfClasses: classifier };
}

function picked(order, sign) {  // the orthogonal operator whose column i is sign[order[i]] times unit vector order[i]
  const s = (j) => (sign ? sign[j] : 1);
  return {
    join(c) { const z = new Float64Array(c.length); for (let i = 0; i < c.length; i++) z[order[i]] = s(order[i]) * c[i]; return z; },
    split(z) { const c = new Float64Array(z.length); for (let i = 0; i < z.length; i++) c[i] = s(order[i]) * z[order[i]]; return c; },
  };
}

function basis(columns, n) {  // singular vectors, one after the other
  return {
    join(c) { const z = new Float64Array(n); for (let i = 0; i < n; i++) if (c[i] !== 0) for (let j = 0; j < n; j++) z[j] += c[i] * columns[i * n + j]; return z; },
    split(z) { const c = new Float64Array(n); for (let i = 0; i < n; i++) { let sum = 0; for (let j = 0; j < n; j++) sum += columns[i * n + j] * z[j]; c[i] = sum; } return c; },
  };
}

function mixtureBehind(network) {  // x => log p(class, leading latents) of every class, where a mixture with classes is in the chain
  if (network.logOfClasses) return network.logOfClasses;
  if (network.block && network.keep) {
    const inner = mixtureBehind(network.block);
    return inner && ((x) => inner(x.slice(0, network.keep)));
  }
  for (const [i, block] of (network.blocks || []).entries()) {
    const inner = mixtureBehind(block);
    if (inner) return (x) => inner(network.blocks.slice(0, i).reduce((y, b) => b.encode(y), Float64Array.from(x)));
  }
  return null;
}

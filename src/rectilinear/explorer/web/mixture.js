// The triangular map of a Gaussian mixture to N(0, I), in double precision, one row at a time: see
// rectilinear.invertible.MixtureMap, whose algorithm this is.

const NEGLIGIBLE = 26;  // log of the share of a tail below which a component changes nothing
const COARSE = 6;  // the same for a first approximation of the root
const FAR = 35;  // deviations behind which tails are kept as logarithms alone

function mixture(spec, tensor) {
  const weights = Float64Array.from(tensor("log_weights")), means = tensor("means"), logScales = tensor("log_scales");
  const lower = tensor("lower"), classes = tensor("classes"), count = weights.length, d = means.length / count;
  const total = logSumExp(weights, count), pairs = d * (d - 1) / 2;
  const shift = new Float64Array(count * d), scale = Float64Array.from(logScales, Math.exp);
  const rows = Array.from({ length: d }, (_, i) => new Float64Array(count * i));  // by coordinate: read in this order
  for (let k = 0; k < count; k++) weights[k] -= total;
  for (let k = 0; k < count; k++) for (let i = 0; i < d; i++) {
    const row = k * pairs + i * (i - 1) / 2;
    let sum = scale[k * d + i] * means[k * d + i];
    for (let j = 0; j < i; j++) sum += (rows[i][k * i + j] = lower[row + j]) * means[k * d + j];
    shift[k * d + i] = sum;
  }
  const chosen = (given) => {  // components of a class; all without one
    const all = Array.from({ length: count }, (_, k) => k);
    return given === undefined || given < 0 || !classes ? all : all.filter((k) => classes[k] === given);
  };
  const below = (k, i, x) => {  // sum_j<i P_kij x_j
    const row = rows[i], start = k * i;
    let sum = 0;
    for (let j = 0; j < i; j++) sum += row[start + j] * x[j];
    return sum;
  };
  const normalised = (logW, live) => {
    const kept = live.map((k) => logW[k]), sum = logSumExp(kept, kept.length);
    return kept.map((v) => v - sum);
  };

  function encode(input, given) {
    const x = Float64Array.from(input), z = new Float64Array(d), live = chosen(given), logW = Float64Array.from(weights);
    for (let i = 0; i < d; i++) {
      const logR = normalised(logW, live), low = [], high = [];
      live.forEach((k, m) => {
        const e = below(k, i, x) + scale[k * d + i] * x[i] - shift[k * d + i];
        low.push(logR[m] + logNormalTail(e));
        high.push(logR[m] + logNormalTail(-e));
        logW[k] += logNormal(e) + logScales[k * d + i];
      });
      const left = logSumExp(low, low.length), right = logSumExp(high, high.length);
      z[i] = left < right ? quantileOfLog(left) : -quantileOfLog(right);
    }
    return z;
  }

  function decode(input, given) {
    const x = new Float64Array(d), all = chosen(given), size = all.length, logW = Float64Array.from(all, (k) => weights[k]);
    const heavyW = new Float64Array(size), heavyMean = new Float64Array(size), heavyDeviation = new Float64Array(size);
    const known = new Float64Array(size);  // P_k (x - m_k) without the term of x_i
    const w = new Float64Array(size), mean = new Float64Array(size), deviation = new Float64Array(size);
    for (let i = 0; i < d; i++) {
      const z = input[i], sum = logSumExp(logW, size), least = logNormalTail(-Math.abs(z)) - NEGLIGIBLE;
      let live = 0, heavy = 0;  // components that can move the root, and those that can move it much
      for (let m = 0; m < size; m++) {
        const k = all[m];
        known[m] = below(k, i, x) - shift[k * d + i];
        if (logW[m] - sum < least) continue;
        w[live] = logW[m] - sum;
        deviation[live] = 1 / scale[k * d + i];
        mean[live] = -known[m] * deviation[live];
        if (w[live++] < least + NEGLIGIBLE - COARSE) continue;
        heavyW[heavy] = w[live - 1];
        heavyMean[heavy] = mean[live - 1];
        heavyDeviation[heavy++] = deviation[live - 1];
      }
      let start = heavyMean[0] + z * heavyDeviation[0];
      if (heavy > 1) start = quantile(heavyW, heavyMean, heavyDeviation, heavy, z, start, 1e-3);
      x[i] = live === 1 ? start : quantile(w, mean, deviation, live, z, start, 1e-10);
      for (let m = 0; m < size; m++) {
        const at = all[m] * d + i, e = known[m] + scale[at] * x[i];
        logW[m] += logScales[at] - 0.5 * e * e;
      }
    }
    return x;
  }

  function logOfClasses(input) {  // log p(class, input) of every class
    const x = Float64Array.from(input), size = Math.max(...classes) + 1, joint = Array.from({ length: size }, () => []);
    for (let k = 0; k < count; k++) {
      let sum = weights[k];
      for (let i = 0; i < d; i++) {
        sum += logNormal(below(k, i, x) + scale[k * d + i] * x[i] - shift[k * d + i]) + logScales[k * d + i];
      }
      joint[classes[k]].push(sum);
    }
    return joint.map((values) => logSumExp(values, values.length));
  }
  return { encode, decode, logOfClasses: classes ? logOfClasses : null };
}

// The x with F(x) = P(Z <= z): Halley's method on the quantile of F in a bracket, and bisection where the error does
// not halve. A step is the last where the error behind it, by the bend and the narrowest component, is small.
function quantile(w, mean, deviation, size, z, start, close) {
  const sign = z < 0 ? 1 : -1, weight = w.slice(0, size).map((v) => Math.exp(v)), terms = new Float64Array(size);
  let low = Infinity, high = -Infinity, x = start, narrowest = Infinity;
  for (let m = 0; m < size; m++) {
    const end = mean[m] + z * deviation[m];
    low = Math.min(low, end);
    high = Math.max(high, end);
    narrowest = Math.min(narrowest, deviation[m]);
  }
  const width = high - low, eps = Number.EPSILON;
  low -= 1e-5 * width + 8 * eps * Math.abs(low);
  high += 1e-5 * width + 8 * eps * Math.abs(high);
  x = Math.min(high, Math.max(low, x));
  let before = Infinity;
  for (let step = 0; step < 120; step++) {
    const [tail, slope, bend] = (Math.abs(z) > FAR ? inLogs : near)(x);
    const error = sign * tail - z, off = Math.abs(error), limit = close * (1 + Math.abs(z));
    if (error < 0) low = x;
    if (error > 0) high = x;
    if (off <= limit) return x;
    const move = -error / slope, curved = 0.5 * move * bend, sharp = 10 * move / narrowest;
    let next = x + (Math.abs(curved) < 0.5 ? move / (1 + curved) : move);
    const newton = next >= low && next <= high && tail <= 2.5 && (off <= 0.5 * before || off < 1e-2);
    if (newton && off < 1e-2 && off * (curved * curved + sharp * sharp) <= limit) return next;
    if (!newton) next = (low + high) / 2;
    const still = Math.abs(next - x) <= 2 * eps * Math.abs(x);
    x = next;
    before = off;
    if ((still && off < 1e-2) || high - low <= 2 * eps * Math.abs(x)) return x;
  }
  return x;

  function near(x) {
    let tail = 0, density = 0, falling = 0;
    for (let m = 0; m < size; m++) {
      const t = (x - mean[m]) / deviation[m], e = weight[m] * Math.exp(-0.5 * t * t);
      const part = 0.5 * e * erfcx(Math.abs(t) * Math.SQRT1_2);
      tail += sign * t < 0 ? part : weight[m] - part;
      density += e / deviation[m];
      falling += e * t / (deviation[m] * deviation[m]);
    }
    const q = tail <= 0.5 ? quantileOfLog(Math.log(tail)) : -quantileOfLog(Math.log(Math.max(1 - tail, Number.EPSILON)));
    const slope = density / Math.exp(-0.5 * q * q);
    return [q, slope, sign * q * slope - falling / density];
  }

  function inLogs(x) {
    for (let m = 0; m < size; m++) terms[m] = w[m] + logNormalTail(sign * (x - mean[m]) / deviation[m]);
    const tail = logSumExp(terms, size);
    const q = tail <= LOG_HALF ? quantileOfLog(tail) : -quantileOfLog(Math.log(Math.max(-Math.expm1(tail), Number.EPSILON)));
    for (let m = 0; m < size; m++) terms[m] = w[m] + logNormal((x - mean[m]) / deviation[m]) - Math.log(deviation[m]);
    return [q, Math.exp(logSumExp(terms, size) - logNormal(q)), Infinity];
  }
}

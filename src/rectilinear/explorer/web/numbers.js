// Numbers: half precision, the normal distribution in every tail, and seeded noise.

const LOG_HALF = Math.log(0.5);
const HALF_LOG_2_PI = 0.5 * Math.log(2 * Math.PI);

function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// The numbers of one array: halves, pairs of halves (a number and what is left of it), single precision or integers.
function numbersAt(buffer, { type, offset, length }) {
  if (type === "i32") return new Int32Array(buffer, offset, length);
  if (type === "f32") return Float64Array.from(new Float32Array(buffer, offset, length));
  const table = halfTable(), halves = new Uint16Array(buffer, offset, type === "pair" ? 2 * length : length);
  const out = new Float64Array(length);
  for (let i = 0; i < length; i++) out[i] = table[halves[i]];
  if (type === "pair") for (let i = 0; i < length; i++) out[i] += table[halves[length + i]] / 2048;
  return out;
}

let halfValues = null;
function halfTable() {
  if (halfValues) return halfValues;
  halfValues = new Float64Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits >> 15 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = (bits & 1023) / 1024;
    halfValues[bits] = sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction);
  }
  return halfValues;
}

// erfcx(x) (1 + 2 x) on x >= 0 as a Chebyshev series in (x - 4) / (x + 4); relative error 1e-15.
const ERFCX = new Float64Array([
  1.1774832005374487, -0.007260796620301901, -0.081265123236185, 0.06009212804122225,
  -0.02875393558027666, 0.01059566336347286, -0.003136927294554264, 0.0007456494372536184,
  -0.0001369696503010054, 1.7183861600300937e-5, -7.158364623450346e-7, -2.4261399442449534e-7,
  5.5765709395703566e-8, -2.1057869513809494e-9, -1.1717889351884957e-9, 1.9098355172456688e-10,
  1.408871764208813e-11, -6.901108320480815e-12, 9.167958364111294e-14, 2.1454508286554553e-13,
  -1.4716575027010623e-14, -6.668675118770408e-15, 7.504598509880083e-16, 2.22009300666632e-16,
]);

function erfcx(x) {  // exp(x^2) erfc(x), x >= 0
  const t = 2 * (x - 4) / (x + 4);
  let a = 0, b = 0;
  for (let i = ERFCX.length - 1; i > 0; i--) { const next = t * a - b + ERFCX[i]; b = a; a = next; }
  return (t / 2 * a - b + ERFCX[0]) / (1 + 2 * x);
}

function normalTail(t) {  // P(Z <= t)
  const x = Math.abs(t) * Math.SQRT1_2, tail = 0.5 * Math.exp(-x * x) * erfcx(x);
  return t < 0 ? tail : 1 - tail;
}

function logNormalTail(t) {  // log P(Z <= t)
  const x = Math.abs(t) * Math.SQRT1_2;
  return t < 0 ? Math.log(0.5 * erfcx(x)) - x * x : Math.log1p(-0.5 * Math.exp(-x * x) * erfcx(x));
}

function logNormal(t) { return -0.5 * t * t - HALF_LOG_2_PI; }

function quantileOfLog(logP) {  // the z <= 0 with log P(Z <= z) = logP <= log(1/2)
  if (logP >= LOG_HALF) return 0;
  const s = Math.sqrt(-2 * logP);  // Abramowitz and Stegun 26.2.23, then Newton's method on logarithms
  let z = -(s - (2.515517 + s * (0.802853 + s * 0.010328)) / (1 + s * (1.432788 + s * (0.189269 + s * 0.001308))));
  for (let i = 0; i < 12; i++) {
    const tail = logNormalTail(z), step = (tail - logP) * Math.exp(tail - logNormal(z));
    z -= step;
    if (Math.abs(step) <= 1e-14 * (1 + Math.abs(z))) break;
  }
  return z;
}

function logSumExp(values, count) {
  let top = -Infinity, sum = 0;
  for (let i = 0; i < count; i++) if (values[i] > top) top = values[i];
  if (top === -Infinity) return top;
  for (let i = 0; i < count; i++) sum += Math.exp(values[i] - top);
  return top + Math.log(sum);
}

// x P(Z <= x) between the entries of a table; error 1e-7.
const GELU_END = 7, GELU_STEPS = 1024, GELU = Float64Array.from({ length: 2 * GELU_END * GELU_STEPS + 2 }, (_, i) => {
  const x = i / GELU_STEPS - GELU_END;
  return x * normalTail(x);
});

function gelu(x) {
  if (!(x > -GELU_END)) return 0;
  if (x >= GELU_END) return x;
  const place = (x + GELU_END) * GELU_STEPS, i = place | 0;
  return GELU[i] + (place - i) * (GELU[i + 1] - GELU[i]);
}

function noise(seed, count) {  // N(0, 1): Box and Muller on mulberry32, as explorer/noise.py draws it
  const out = new Float64Array(count);
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
  for (let i = 0; i < count; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(uniform())), angle = 2 * Math.PI * uniform();
    out[i] = radius * Math.cos(angle);
    if (i + 1 < count) out[i + 1] = radius * Math.sin(angle);
  }
  return out;
}

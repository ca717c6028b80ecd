// The worker: weights arrive once, then one question at a time, each answered with the milliseconds it took.

const REPEATS = 200;  // of what is too quick for the clock of a browser
let generator = null;

const ANSWERS = {
  load({ spec, weights }) {
    generator = model(spec, bytesOf(weights));
    return { n: generator.n, sigma: generator.sigma, classes: Boolean(generator.logOfClasses) };
  },
  image: ({ c, rank, given }) => generator.image(full(c), rank, given),
  coordinates: ({ x, given }) => generator.coordinates(x, given),
  recover({ x, given }) {  // coordinates, noise, the image again, and log p(class, image) of each class
    const c = generator.coordinates(x, given), classes = generator.logOfClasses;
    return { c, noise: generator.noiseOf(c), back: generator.image(c, generator.n, given), classes: classes ? classes(x) : null };
  },
  path({ c, rank, count, stops }) {  // latents after some of the steps, decoded; the milliseconds of one step and of all
    const kept = [], begin = performance.now();
    const z = generator.steps(full(c), count, rank, (step, now) => { if (stops.includes(step)) kept.push(Float64Array.from(now)); });
    const many = performance.now() - begin, middle = performance.now();
    let one = null;
    for (let k = 0; k < REPEATS; k++) one = generator.latents(full(c), rank);
    const once = (performance.now() - middle) / REPEATS;
    return { frames: kept.map((part) => generator.decode(part, -1)), many: generator.decode(z, -1), one: generator.decode(one, -1), times: [once, many] };
  },
};

function full(c) {  // coordinates that are left out are zero
  const all = new Float64Array(generator.n);
  all.set(c);
  return all;
}

onmessage = ({ data: { id, op, args } }) => {
  const begin = performance.now();
  try {
    postMessage({ id, answer: ANSWERS[op](args), ms: performance.now() - begin });
  } catch (error) {
    postMessage({ id, error: String(error) });
  }
};

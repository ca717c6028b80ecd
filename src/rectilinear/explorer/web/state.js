// What the page shows, and the part of the address that restores it.

const state = {
  z: [...page.start],  // coordinates of the sliders, in standard deviations
  given: -1,  // class of the sliders; any
  samples: 1,  // seeds: of the rows of ranks, of the classes, of the steps
  noise: 1,
  steps: 1,
  ends: [...page.ends],  // images of the line, by their place in the gallery
  at: 0.5,
  terms: [...page.terms],  // a - b + c
};

const HASH = {
  z: [() => trimmed(state.z).map((v) => +v.toFixed(3)).join(",") || "0", (text) => text.split(",").map(Number)],
  given: [() => (state.given < 0 ? "" : String(state.given)), (text) => Number(text)],
  samples: [() => String(state.samples), Number],
  noise: [() => String(state.noise), Number],
  steps: [() => String(state.steps), Number],
  ends: [() => state.ends.join(","), (text) => text.split(",").map(Number)],
  at: [() => String(state.at), Number],
  terms: [() => state.terms.join(","), (text) => text.split(",").map(Number)],
};
const FIRST = JSON.stringify(state);

function trimmed(values) {
  let last = values.length;
  while (last && !values[last - 1]) last--;
  return values.slice(0, last);
}

function hashOf() {
  const initial = JSON.parse(FIRST), words = [];
  for (const [name, [write]] of Object.entries(HASH)) {
    if (JSON.stringify(state[name]) !== JSON.stringify(initial[name])) words.push(`${name}=${write()}`);
  }
  return words.length ? `#${words.join("&")}` : "";
}

function readHash() {  // what is not understood keeps its first value
  const words = new URLSearchParams(location.hash.slice(1)), initial = JSON.parse(FIRST);
  for (const [name, [, read]] of Object.entries(HASH)) {
    let value = initial[name];
    if (words.get(name)) {
      const found = read(words.get(name));
      if ([found].flat().every(Number.isFinite)) value = found;
    }
    state[name] = value;
  }
  const pick = (k) => (Number.isInteger(k) && k >= 0 && k <= page.gallery ? k : 0);
  state.z = Array.from({ length: page.sliders }, (_, i) => state.z[i] || 0);
  state.ends = [0, 1].map((i) => pick(state.ends[i]));
  state.terms = [0, 1, 2].map((i) => pick(state.terms[i]));
  state.at = Math.min(1, Math.max(0, state.at));
  if (!Number.isInteger(state.given) || state.given >= page.classes.length) state.given = -1;
}

let later = 0;
function remember() {
  clearTimeout(later);
  later = setTimeout(() => history.replaceState(null, "", hashOf() || location.pathname + location.search), 200);
}

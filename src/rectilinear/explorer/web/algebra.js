// Sections 2 to 4: ranks, the line between two images, sums. Section 6: steps. Section 7: classes.

function ranks(place, ask, drop) {
  let shown = null;  // of the image of section 5
  const columns = page.columns + 1, rows = page.ranks.map((rank) => {
    const row = sheet(columns);
    place.querySelector(".rows").append(el("p", { class: "label" }, rank === page.n ? `all ${rank}` : `rank ${rank}`), row.node);
    row.label(`Your image, then ${page.columns} samples, at rank ${rank}`);
    return row;
  });
  place.querySelector(".buttons").append(el("button", { type: "button", onclick: () => { state.samples++; remember(); update(); } }, "Other samples"));

  function update() {
    drop("ranks");
    rows.forEach((row, r) => {
      for (let k = 0; k < page.columns; k++) {
        ask("ranks", "image", { c: noise(1000 * state.samples + k, page.n), rank: page.ranks[r], given: -1 }).then(({ answer }) => row.cell(k + 1, answer));
      }
    });
  }

  function own(c) {  // the coordinates of the image of section 5
    shown = c;
    if (!c) rows.forEach((row) => row.cell(0, null));
    else rows.forEach((row, r) => ask("own", "image", { c, rank: page.ranks[r], given: -1 }).then(({ answer }) => shown === c && row.cell(0, answer)));
  }
  return { first: (images) => rows.forEach((row, r) => images.slice(r * page.columns, (r + 1) * page.columns).forEach((x, k) => row.cell(k + 1, x))), update, own };
}

// Images to choose from: radio buttons, so that arrow keys move among them. The last is the image of section 5.
function chooser(name, title, gallery, chosen, choose) {
  const row = el("div", { class: "thumbs" }), views = [];
  for (let k = 0; k <= page.gallery; k++) {
    const view = sheet(1), word = k < page.gallery ? gallery.name(k) : "your image";
    view.node.removeAttribute("role");
    view.node.setAttribute("aria-hidden", "true");
    const radio = el("input", { type: "radio", name, value: String(k), "aria-label": `${title}: ${word}`, onchange: () => choose(k) });
    row.append(el("label", { class: k < page.gallery ? null : "own", title: word }, radio, view.node));
    views.push(view);
    radio.checked = k === chosen();
  }
  return {
    node: el("fieldset", { class: "chooser" }, el("legend", {}, title), row),
    show(images) { images.forEach((image, k) => views[k] && views[k].cell(0, image)); },
    mark() { row.querySelectorAll("input").forEach((radio, k) => { radio.checked = k === chosen(); }); },
  };
}

function between(place, ask, drop, gallery) {
  const space = sheet(page.line), pixels = sheet(page.line), big = [sheet(1), sheet(1)];
  space.label("From A to B in the model's space");
  pixels.label("From A to B in pixels: one image fades into the other");
  big[0].label("The point of the slider in the model's space");
  big[1].label("The point of the slider in pixels");
  const choosers = ["A", "B"].map((title, k) => chooser(`end${k}`, title, gallery, () => state.ends[k], (i) => { state.ends[k] = i; remember(); update(); }));
  const slider = el("input", { type: "range", min: 0, max: 1, step: 0.02, "aria-label": "From A to B", oninput: () => { state.at = Number(slider.value); remember(); point(); } });
  place.querySelector(".choosers").append(...choosers.map((c) => c.node));
  place.querySelector(".rows").append(el("p", { class: "label" }, "in the model"), space.node, el("p", { class: "label" }, "in pixels"), pixels.node,
    el("p", { class: "label" }, "from A to B"), el("div", { class: "track" }, slider));
  place.querySelector(".pair").append(...["in the model", "in pixels"].map((text, k) => el("figure", {}, big[k].node, el("figcaption", {}, text))));
  let ends = null;
  const mixed = (t) => [0, 1].map((kind) => ends[0][kind].map((v, i) => (1 - t) * v + t * ends[1][kind][i]));

  function point() {
    if (!ends) return;
    const [c, x] = mixed(state.at);
    drop("point");
    big[1].cell(0, x);
    ask("point", "image", { c, rank: page.n, given: -1 }).then(({ answer }) => big[0].cell(0, answer));
  }

  async function update() {
    slider.value = state.at;
    choosers.forEach((c) => c.mark());
    const chosen = String(state.ends), found = await Promise.all(state.ends.map((k) => gallery.known(k)));
    if (chosen !== String(state.ends)) return;  // a newer choice is on its way
    ends = found;
    drop("line");
    point();
    for (let k = 0; k < page.line; k++) {
      const [c, x] = mixed(k / (page.line - 1));
      pixels.cell(k, x);
      ask("line", "image", { c, rank: page.n, given: -1 }).then(({ answer }) => space.cell(k, answer));
    }
  }
  return { first: (images) => choosers.forEach((c) => c.show(images)), update };
}

function sums(place, ask, drop, gallery) {
  const views = { space: sheet(1), kept: sheet(1), pixels: sheet(1) };
  views.space.label("a minus b plus c in the model's space");
  views.kept.label(`The same sum at the length of c${page.galleryClasses.length ? ", given its class" : ""}`);
  views.pixels.label("a minus b plus c in pixels, cut to black and white");
  const choosers = ["a", "b", "c"].map((title, k) => chooser(`term${k}`, title, gallery, () => state.terms[k], (i) => { state.terms[k] = i; remember(); update(); }));
  const terms = [sheet(1), sheet(1), sheet(1)];
  place.querySelector(".choosers").append(...choosers.map((c) => c.node));
  const figure = (view, text) => el("figure", {}, view.node, el("figcaption", {}, text));
  place.querySelector(".sum").append(figure(terms[0], "a"), el("b", {}, "−"), figure(terms[1], "b"), el("b", {}, "+"), figure(terms[2], "c"), el("b", {}, "="),
    figure(views.kept, page.galleryClasses.length ? "scaled to c, in its class" : "scaled to c"), figure(views.space, "plain sum"), figure(views.pixels, "in pixels"));

  async function update() {
    choosers.forEach((c) => c.mark());
    terms.forEach((view, k) => { view.cell(0, gallery.pixels(state.terms[k])); view.label(["a", "b", "c"][k]); });
    const chosen = String(state.terms), known = await Promise.all(state.terms.map((k) => gallery.known(k)));
    if (chosen !== String(state.terms)) return;
    const [c, x] = [0, 1].map((kind) => known[0][kind].map((v, i) => v - known[1][kind][i] + known[2][kind][i]));
    views.pixels.cell(0, x);
    drop("sums");
    if (page.galleryClasses.length) {  // each image in the space of its own class, the sum in that of c
      Promise.all(state.terms.map((k) => gallery.within(k))).then((parts) => keep(parts, gallery.label(state.terms[2])));
    } else keep(known.map(([own]) => own), -1);
    ask("sums", "image", { c, rank: page.n, given: -1 }).then(({ answer }) => views.space.cell(0, answer));
  }
  function keep([a, b, c], given) {
    const sum = a.map((v, i) => (i < page.rank ? v - b[i] + c[i] : 0)), length = (x) => Math.hypot(...x.slice(0, page.rank));
    const factor = length(c) / (length(sum) || 1);
    ask("sums", "image", { c: sum.map((v) => v * factor), rank: page.rank, given }).then(({ answer }) => views.kept.cell(0, answer));
  }
  return { first: (images) => choosers.forEach((c) => c.show(images)), update };
}

const STOPS = [0, 40, 60, 70, 80, 90, 100];

function steps(place, ask) {
  if (!page.velocity) return { update() {} };
  const path = sheet(STOPS.length), ends = [sheet(1), sheet(1), sheet(1, 1, { signed: true })], said = place.querySelector(".said");
  path.label(`The image after ${STOPS.join(", ")} of 100 steps`);
  place.querySelector(".rows").append(el("p", { class: "label" }, "steps"), path.node, el("p", {}), el("p", { class: "under" }, ...STOPS.map((n) => el("span", {}, String(n)))));
  const figure = (view, text) => el("figure", {}, view.node, el("figcaption", {}, text));
  const third = el("figcaption", {}, "difference");
  place.querySelector(".pair").append(figure(ends[0], "one step"), figure(ends[1], "a hundred steps"), el("figure", {}, ends[2].node, third));
  place.querySelector(".buttons").append(el("button", { type: "button", onclick: () => { state.steps++; remember(); update(); } }, "Other noise"));

  async function update() {
    const c = noise(77000 + state.steps, page.n);
    const { answer: { frames, one, many, times } } = await ask("steps", "path", { c, rank: page.rank, count: 100, stops: STOPS });
    path.show(frames);
    const apart = farthest(one, many), factor = apart ? enlarging(apart) : 1;
    ends[0].show([one], "The image of one step");
    ends[1].show([many], "The image of a hundred steps");
    ends[2].show([one.map((v, i) => (v - many[i]) * factor)], "Their difference, enlarged");
    third.textContent = apart ? `difference, ${factor.toLocaleString("en")} times enlarged` : "difference: none";
    said.textContent = `Largest difference of a pixel: ${small(apart)}, on a scale from 0 to 1. One multiplication took ${small(times[0])} ms, `
      + `400 of them, four in each step, ${times[1].toFixed(1)} ms. Decoding the image comes to both.`;
  }
  return { update };
}

function enlarging(value) {  // the largest of 1, 2, 5, 10, 20, ... whose product with the value is at most 1
  const power = 10 ** Math.floor(-Math.log10(value));
  return power * [5, 2, 1].find((k) => k * power * value <= 1);
}

function classes(place, ask, drop) {
  if (!page.classes.length) return { first() {}, update() {}, own() {} };
  let shown = null;
  const rows = page.classes.slice(0, page.classRows).map((name) => {
    const row = sheet(page.columns + 1);
    row.label(`Class ${name}: your image, then ${page.columns} samples`);
    place.querySelector(".rows").append(el("p", { class: "label" }, name), row.node);
    return row;
  });
  place.querySelector(".buttons").append(el("button", { type: "button", onclick: () => { state.noise++; remember(); update(); } }, "Other noise"));

  function update() {
    drop("classes");
    rows.forEach((row, given) => {
      for (let k = 0; k < page.columns; k++) {
        ask("classes", "image", { c: noise(50000 + 1000 * state.noise + k, page.n), rank: page.rank, given }).then(({ answer }) => row.cell(k + 1, answer));
      }
    });
  }

  async function own(x, label) {  // its noise, given its own class, decoded as every class
    shown = x;
    if (!x) { rows.forEach((row) => row.cell(0, null)); return; }
    const { answer: c } = await ask("own", "coordinates", { x, given: label });
    rows.forEach((row, given) => ask("own", "image", { c, rank: page.n, given }).then(({ answer }) => shown === x && row.cell(0, answer)));
  }
  return { first: (images) => rows.forEach((row, r) => images.slice(r * page.columns, (r + 1) * page.columns).forEach((x, k) => row.cell(k + 1, x))), update, own };
}

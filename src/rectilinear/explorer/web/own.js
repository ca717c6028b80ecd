// Section 5: an image of the reader's own, drawn, chosen or dropped.

const LARGEST = 448;  // pixels of a side at which a file is read
const BLANK = 0.1;  // between the lightest and the darkest pixel of an image that shows nothing
const SLACK = 0.05;  // beyond the deviations of the held-out images

function ownImage(place, ask, { gallery, changed, toSliders }) {
  const [channels, height, width] = page.shape, size = height * width, pad = padOf(place.querySelector(".pad"), (ink) => drawn(ink));
  const views = [sheet(1), sheet(1), sheet(1)], said = place.querySelector(".said"), charts = place.querySelector(".charts");
  const projections = sheet(page.ranks.length), near = page.neighbourCount ? sheet(page.near) : null, facts = place.querySelector(".facts");
  const figure = (view, text) => el("figure", {}, view.node, el("figcaption", {}, text));
  place.querySelector(".pair").append(figure(views[0], "your image"), figure(views[1], "its noise"), figure(views[2], "the image again"));
  const rows = place.querySelector(".rows");
  rows.append(el("p", { class: "label" }, "cut to rank"), projections.node, el("p", {}), el("p", { class: "under" }, ...page.ranks.map((r) => el("span", {}, String(r)))));
  if (near) rows.append(el("p", { class: "label" }, "nearest in training"), near.node);
  place.querySelector(".nearest").textContent = near ? page.neighboursText
    : "The training images are not in this file, so that the nearest cannot be shown: make it again with --data-dir and the folder of the data.";
  const invert = place.querySelector("#invert"), file = place.querySelector("#file");
  invert.addEventListener("click", () => current && take(current.map((v) => 1 - v), false));
  file.addEventListener("change", () => { const [chosen] = file.files; file.value = ""; if (chosen) read(chosen); });  // the same file may be chosen again
  place.querySelector("#clear").addEventListener("click", clear);
  place.querySelector("#to-sliders").addEventListener("click", () => coordinates && toSliders(coordinates));
  const thumbs = chooser("own", "Or take one of these", gallery, () => -1, (k) => { source = null; done.textContent = ""; if (k < page.gallery) take(gallery.images[k], false); });
  thumbs.node.querySelector(".own").remove();
  place.querySelector(".choosers").append(thumbs.node);
  for (const kind of ["dragover", "dragenter"]) place.addEventListener(kind, (event) => { event.preventDefault(); place.classList.add("over"); });
  place.addEventListener("dragleave", () => place.classList.remove("over"));
  place.addEventListener("drop", (event) => { event.preventDefault(); place.classList.remove("over"); if (event.dataTransfer.files[0]) read(event.dataTransfer.files[0]); });
  addEventListener("paste", (event) => { const found = [...event.clipboardData.files].find((f) => f.type.startsWith("image/")); if (found) read(found); });
  const fit = place.querySelector("#fit"), done = place.querySelector(".done");
  fit.addEventListener("change", () => source && source());
  let current = null, coordinates = null, source = null, turns = 0;

  const drawn = (ink) => {
    source = () => drawn(ink);
    const placed = page.fit && fit.checked, x = placed ? fitted(ink, width, height) : ink;
    done.textContent = !page.fit ? "" : placed ? `Your strokes, ${page.fit.words}.` : "Your strokes as they are.";
    return take(channels === 3 ? Float64Array.from([...x, ...x, ...x]) : Float64Array.from(x), true);
  };

  async function read(blob) {
    let bitmap = null;
    try {
      bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
    } catch {
      said.textContent = done.textContent = "This file is not an image that the browser can read: take a PNG, JPEG or WebP.";
      return null;
    }
    source = () => taken(bitmap);
    return source();
  }

  function taken(bitmap) {
    const exact = bitmap.width === width && bitmap.height === height, whole = page.fit && fit.checked && !exact;
    if (whole) {
      const found = inked(scaled(bitmap, Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height)), false));
      done.textContent = `The file: ${found.turned ? "dark ink on light paper, so inverted; " : ""}its ink, ${page.fit.words}.`;
      return take(fitted(stretched(found), found.width, found.height), false);
    }
    const pixels = scaled(bitmap, Math.max(width / bitmap.width, height / bitmap.height), true);
    done.textContent = exact ? "The file has the model's size: its pixels as they are" : "The file: its shorter side scaled to the model's, the longer cropped";
    if (!page.ink) {
      const parts = Array.from({ length: size }, (_, i) => over(pixels.data, i, 0));
      done.textContent += ".";
      return take(Float64Array.from({ length: channels * size }, (_, k) => (channels === 1 ? parts[k].grey : parts[k % size].rgb[Math.floor(k / size)])), false);
    }
    const { grey, turned } = inked(pixels);
    done.textContent += turned ? ", inverted, as dark ink on light paper." : ".";
    return take(channels === 1 ? grey : Float64Array.from([...grey, ...grey, ...grey]), false);
  }

  // The pixels of a file at a scale; cut to the model's size about the middle.
  function scaled(bitmap, factor, cut) {
    const canvas = document.createElement("canvas"), w = Math.max(1, Math.round(bitmap.width * factor)), h = Math.max(1, Math.round(bitmap.height * factor));
    [canvas.width, canvas.height] = cut ? [width, height] : [w, h];
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, (canvas.width - w) / 2, (canvas.height - h) / 2, w, h);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  }

  function clear() {  // nothing is left of the image before
    turns++;
    current = coordinates = source = null;
    pad.clear();
    for (const view of [...views, ...(near ? [near] : [])]) view.clear("No image yet");
    projections.clear("No image yet");
    facts.replaceChildren();
    charts.replaceChildren();
    done.textContent = "";
    said.textContent = "Cleared.";
    changed(null);
  }

  async function take(x, onPad) {
    const turn = ++turns;
    current = Float64Array.from(x);
    if (!onPad) pad.show(current);
    views[0].show([current], "Your image");
    const { answer: { c, noise: found, back } } = await ask("own", "recover", { x: current, given: -1 });
    const { noise: asTrained, classes: logs } = (await ask("own", "recover", { x: noisy(current), given: -1 })).answer;
    if (turn !== turns) return null;  // a newer image is on its way
    coordinates = c;
    views[1].show([found.map((v) => v / 5 + 0.5)], "The noise that gives it");
    views[2].show([back], "The image from that noise");
    const error = farthest(current, back), close = number(spread(asTrained), 2), [label, name, why] = classOf(current, spread(asTrained), logs);
    facts.replaceChildren(
      fact(small(error), "largest error of a pixel after image → noise → image"),
      fact(close, `standard deviation of its noise; ${page.usual ? `${number(page.usual[0])} to ${number(page.usual[1])} for held-out images` : "near 1 for an image like the training's"}`),
      ...(logs ? [fact(name, why)] : []),
    );
    charts.replaceChildren(
      captioned(bars(Array.from(c.slice(0, page.sliders)), `The first ${page.sliders} coordinates of the image`),
        `Its first ${page.sliders} coordinates, in standard deviations: for a typical image nine of ten lie in the band.`),
      captioned(histogram(asTrained, page.noise ? found : null, `Histogram of the recovered noise, of standard deviation ${close}, beside the density of N(0, 1)`),
        `All ${page.n} values of its noise (bars) beside the density of N(0, 1) (curve).${page.noise ? ` The model learned images with noise of σ = ${page.noise} added, so it is added here first; without it the values of the finest directions are too small (thin line).` : ""}`),
    );
    said.textContent = `Encoded: largest error ${small(error)} after the way back.${logs ? ` Class: ${name}.` : ""}`;
    page.ranks.forEach((rank, k) => ask("own", "image", { c, rank, given: -1 }).then(({ answer }) => turn === turns && projections.cell(k, answer)));
    projections.label(`Projections of your image at rank ${page.ranks.join(", ")}`);
    if (near) neighbours();
    await changed(current, c, label);
    return { x: current, c, back, error };
  }

  // The most likely class where the image can be of one: its place, its name, and why.
  function classOf(x, deviation, logs) {
    if (!logs) return [-1, "", ""];
    const least = x.reduce((a, v) => Math.min(a, v)), most = x.reduce((a, v) => Math.max(a, v));
    if (most - least < BLANK) return [-1, "none", page.ink && most < BLANK ? "class: the image is blank" : "class: the image has one tone"];
    if (page.usual && (deviation < page.usual[0] - SLACK || deviation > page.usual[1] + SLACK)) return [-1, "none", "class: its noise is unlike that of held-out images"];
    const top = Math.max(...logs), total = top + Math.log(logs.reduce((sum, v) => sum + Math.exp(v - top), 0));
    if (page.leastLog !== null && total < page.leastLog) return [-1, "none", "class: it is less likely than 99 % of the held-out images"];
    const probabilities = logs.map((v) => Math.exp(v - total));
    const likely = probabilities.indexOf(Math.max(...probabilities)), share = number(probabilities[likely], 2);
    return probabilities[likely] > 0.5 ? [likely, page.classes[likely], `most likely class, if it is of any; probability ${share}`] : [-1, "none", `class: the most likely, ${page.classes[likely]}, has probability ${share}`];
  }

  function noisy(x) {  // with the noise of the training
    const extra = noise(4242, x.length);
    return page.noise ? x.map((v, i) => v + page.noise * extra[i]) : x;
  }

  function neighbours() {
    const order = page.neighbours.map((y, k) => [y.reduce((sum, v, i) => sum + (v - current[i]) ** 2, 0), k]).sort((a, b) => a[0] - b[0]).slice(0, page.near);
    near.show(order.map(([, k]) => page.neighbours[k]), "The nearest training images, the nearest first");
  }

  const fact = (value, meaning) => el("div", { class: "fact" }, el("b", {}, value), el("span", {}, meaning));
  const captioned = (chart, text) => el("figure", {}, chart, el("figcaption", {}, text));
  return { take, read, first: (images) => thumbs.show(images), get current() { return current; } };
}

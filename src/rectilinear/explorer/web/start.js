// The page comes to life: first what came with it, then the weights, then everything is computed here.

async function start() {
  readHash();
  const status = document.querySelector("#status"), by = (id) => document.getElementById(id);
  let begin = null;
  const loaded = new Promise((done) => { begin = done; });
  let talk = null;
  const ask = async (...words) => { await loaded; return talk.ask(...words); };
  const drop = (lane) => talk && talk.drop(lane);
  const gallery = { images: [], found: new Map(), own: null };
  gallery.known = async (k) => {  // coordinates and pixels of an image of the gallery, or of the reader's own
    if (k >= page.gallery) return gallery.own || gallery.known(0);
    if (!gallery.found.has(k)) gallery.found.set(k, ask("gallery", "coordinates", { x: gallery.images[k], given: -1 }).then(({ answer }) => [answer, gallery.images[k]]));
    return gallery.found.get(k);
  };

  gallery.label = (k) => (k < page.gallery ? page.galleryClasses[k] : gallery.own ? gallery.own[2] : page.galleryClasses[0]);
  gallery.name = (k) => (page.galleryClasses.length ? `a ${page.classes[page.galleryClasses[k]]}, number ${k + 1}` : `image ${k + 1}`);
  gallery.within = (k) => ask("gallery", "coordinates", { x: gallery.pixels(k), given: gallery.label(k) }).then(({ answer }) => answer);
  gallery.pixels = (k) => (k < page.gallery ? gallery.images[k] : gallery.own ? gallery.own[1] : gallery.images[0]);

  const parts = {};
  parts.directions = directions(by("directions"), ask, drop);
  parts.ranks = ranks(by("ranks"), ask, drop);
  parts.between = between(by("between"), ask, drop, gallery);
  parts.sums = sums(by("sums"), ask, drop, gallery);
  parts.steps = steps(by("steps"), ask);
  parts.classes = classes(by("classes"), ask, drop);

  const sprite = await tiles(page.sprite, page.tiles), cut = (count) => sprite.splice(0, count);
  parts.directions.first(cut(1 + page.first * page.strip));
  parts.ranks.first(cut(page.ranks.length * page.columns));
  parts.classes.first(cut(page.classRows * page.columns));
  gallery.images = cut(page.gallery);
  parts.own = ownImage(by("own"), ask, {
    gallery,
    async changed(x, c, label) {  // null: cleared
      gallery.own = x && [c, x, label];
      for (const part of [parts.between, parts.sums]) part.first([...gallery.images, x]);
      parts.ranks.own(c);
      parts.classes.own(x, label);
      if (!x) for (const name of ["ends", "terms"]) state[name].forEach((k, i) => { if (k === page.gallery) { state[name][i] = page[name][i]; parts[name === "ends" ? "between" : "sums"].update(); } });
      if (state.ends.includes(page.gallery)) parts.between.update();
      if (state.terms.includes(page.gallery)) parts.sums.update();
    },
    toSliders(c) {
      parts.directions.set(Array.from(c.slice(0, page.sliders)), -1);
      by("directions").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    },
  });
  for (const part of [parts.between, parts.sums, parts.own]) part.first(gallery.images);
  parts.sums.update();
  parts.between.update();

  return async (spec, weights) => {  // when the weights are here
    talk = engine(by("engine").textContent);
    await talk.ask("slider", "load", { spec, weights });
    begin();
    if (page.neighbourCount) page.neighbours = await tiles(page.neighbourSprite, page.neighbourCount);
    const all = () => {
      const plain = !location.hash;
      if (!plain) parts.directions.restore();
      if (!plain && state.samples !== 1) parts.ranks.update();
      if (!plain && state.noise !== 1) parts.classes.update();
      parts.steps.update();
    };
    all();
    addEventListener("hashchange", () => { readHash(); parts.directions.restore(); parts.ranks.update(); parts.classes.update(); parts.between.update(); parts.sums.update(); parts.steps.update(); });
    await parts.own.take(gallery.images[page.terms[0]], false);
    status.textContent = "Ready. Every image below is computed in this page; nothing leaves your machine.";
    window.explorer = { ask, state, parts, idle: talk.idle };
    document.documentElement.dataset.ready = "yes";
  };
}

// Section 1: sliders along the leading singular directions.

const STRIP = Array.from({ length: page.strip }, (_, i) => page.reach * (2 * i / (page.strip - 1) - 1));

const onSlider = (v) => Math.min(page.reach, Math.max(-page.reach, Math.round(v / page.step) * page.step));

function directions(place, ask, drop) {
  const hero = sheet(1), rows = [], sliders = [];
  hero.label("The image at the present sliders");
  place.querySelector(".hero").prepend(hero.node);
  const list = place.querySelector(".sliders"), more = place.querySelector("details");
  const took = place.querySelector(".took");
  let shown = Promise.resolve(), settle = 0;

  page.sigma.slice(0, page.sliders).forEach((sigma, i) => {
    const strip = sheet(page.strip), value = el("output", { for: `d${i}` });
    const slider = el("input", {
      type: "range", id: `d${i}`, min: -page.reach, max: page.reach, step: page.step, oninput: () => { state.z[i] = Number(slider.value); moved(i); },
    });
    strip.label(`The image along direction ${i + 1}`);
    const head = el("label", { for: `d${i}` }, el("b", {}, String(i + 1)), el("span", {}, `σ ${sigma.toPrecision(3)}`));
    const row = el("div", { class: "slider" }, head, el("div", { class: "track" }, strip.node, slider), value);
    (i < page.first ? list : more).append(row);
    rows.push(strip);
    sliders.push(() => {
      slider.value = state.z[i];
      value.textContent = number(state.z[i], 1);
      slider.setAttribute("aria-valuetext", `${number(state.z[i], 1)} standard deviations`);
    });
  });
  more.addEventListener("toggle", () => { if (more.open) strips(); });

  function moved(i) {
    sliders[i]();
    remember();
    update();
  }

  function update() {  // the image now, the strips when the hand rests
    drop("slider");
    drop("strips");
    shown = ask("slider", "image", { c: state.z, rank: page.n, given: state.given }).then(({ answer, ms }) => {
      hero.cell(0, answer);
      took.textContent = `computed here in ${ms.toFixed(0)} ms`;
      return ms;
    });
    clearTimeout(settle);
    settle = setTimeout(strips, 250);
    return shown;
  }

  function strips() {
    drop("strips");
    rows.forEach((row, i) => {
      if (i >= page.first && !more.open) return;
      STRIP.forEach((v, k) => {
        const c = [...state.z];
        c[i] = v;
        ask("strips", "image", { c, rank: page.n, given: state.given }).then(({ answer }) => row.cell(k, answer));
      });
    });
  }

  function set(values, given = state.given) {
    state.z = Array.from({ length: page.sliders }, (_, i) => values[i] || 0);
    state.given = given;
    choose.value = String(given);
    sliders.forEach((show) => show());
    remember();
    return update();
  }

  const choose = el("select", { id: "given", onchange: () => set(state.z, Number(choose.value)) }, el("option", { value: "-1" }, "any class"));
  page.classes.forEach((name, k) => choose.append(el("option", { value: String(k) }, name)));
  const button = (text, act) => el("button", { type: "button", onclick: act }, text);
  const buttons = place.querySelector(".buttons");
  buttons.append(
    button("Random", () => set(Array.from(noise(Math.floor(Math.random() * 2 ** 31), page.sliders), onSlider))),
    button("Reset", () => set(page.start, -1)),
    button("Copy link", async (event) => {
      history.replaceState(null, "", hashOf() || location.pathname + location.search);
      const text = event.target;
      try { await navigator.clipboard.writeText(location.href); text.textContent = "Copied"; } catch { text.textContent = "It is in the address"; }
      setTimeout(() => { text.textContent = "Copy link"; }, 2000);
    }),
  );
  if (page.classes.length) buttons.append(el("label", { class: "choice", for: "given" }, "Class ", choose));

  return {
    first([image, ...images]) {  // what came with the page
      hero.cell(0, image);
      rows.slice(0, page.first).forEach((row, i) => row.show(images.slice(i * page.strip, (i + 1) * page.strip)));
      sliders.forEach((show) => show());
    },
    restore: () => { choose.value = String(state.given); sliders.forEach((show) => show()); return update(); },
    set,
    get shown() { return shown; },
  };
}

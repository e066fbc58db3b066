"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const narrow = matchMedia("(max-width: 40rem)");

// Text from files is only ever written as text; characters that could mislead are shown by code.
const misleading = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\uffff]/g;
const clean = (text) =>
  String(text).replace(misleading, (c) => `[U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}]`);

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "class") element.className = value;
    else if (key === "text") element.textContent = clean(value);
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const views = (pair) => `${pair.initial} → ${pair.final}`;

// Filters: the ones of a pair have to hold for one and the same pair of a sample.

const BINS = 5;
const bin = (pair) => Math.min(BINS - 1, Math.floor(pair.difficulty * BINS));
const binName = (k) => `${(k / BINS).toFixed(1)} to ${((k + 1) / BINS).toFixed(1)}`;

function verdict(pair) {
  if (!pair.said) return "none";
  return pair.said.right ? "right" : "wrong";
}

const verdictName = { right: "✓ right", wrong: "✗ wrong", none: "no prediction" };

const filters = [
  { id: "f-preset", of: (s) => [s.preset] },
  { id: "f-attribute", of: (s) => s.attributes },
  { id: "f-count", of: (s) => [s.triplets.length] },
  { id: "f-objects", of: (s) => [s.objects] },
  { id: "f-cameras", pair: true, of: (p) => [views(p)] },
  { id: "f-split", pair: true, of: (p) => p.splits },
  { id: "f-difficulty", pair: true, of: (p) => [bin(p)], name: binName },
  { id: "f-said", pair: true, of: (p) => [verdict(p)], name: (v) => verdictName[v] },
].filter((filter) => $(filter.id));

for (const filter of filters) {
  filter.select = $(filter.id);
  const values = new Set();
  for (const sample of data.samples) {
    const owners = filter.pair ? sample.pairs : [sample];
    for (const owner of owners) for (const value of filter.of(owner)) values.add(value);
  }
  const sorted = [...values].sort((a, b) => (typeof a === "number" ? a - b : a < b ? -1 : 1));
  filter.select.append(make("option", { value: "", text: "any" }));
  for (const value of sorted) {
    filter.select.append(make("option", { value, text: filter.name ? filter.name(value) : value }));
  }
  if (!sorted.length) filter.select.disabled = true;
  filter.select.addEventListener("change", apply);
}

function holds(filter, owner) {
  const wanted = filter.select.value;
  return wanted === "" || filter.of(owner).some((value) => String(value) === wanted);
}

function fitting(sample) {
  if (!filters.every((f) => f.pair || holds(f, sample))) return [];
  const said = $("search").value.trim().toLowerCase();
  const found =
    said === "" ||
    sample.id.includes(said) ||
    [...sample.triplets, ...sample.words].some((t) => t.toLowerCase().includes(said));
  return found ? sample.pairs.filter((pair) => filters.every((f) => !f.pair || holds(f, pair))) : [];
}

// The grid: one button for each sample. Small pictures get their source when they come near.

const near = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) {
        target.near = true;
        showThumbnails(target);
      }
    }
  },
  { rootMargin: "600px" },
);

function thumbnail(sample, state, camera) {
  const image = sample.images[`${state}-${camera}`];
  return image.thumb || image.full || "";
}

function showThumbnails(card) {
  if (!card.near) return;
  const sources = [
    thumbnail(card.sample, "initial", card.pair.initial),
    thumbnail(card.sample, "final", card.pair.final),
  ];
  card.pictures.forEach((picture, k) => {
    if (picture.getAttribute("src") !== sources[k]) picture.setAttribute("src", sources[k]);
  });
}

function makeCard(sample) {
  const card = make("button", { class: "card", type: "button", "data-id": sample.id });
  const picture = () => make("img", { alt: "", decoding: "async", width: data.size[0], height: data.size[1] });
  card.sample = sample;
  card.pictures = [picture(), picture()];
  card.side = make("small");
  card.mark = make("span", { class: "mark" });
  card.append(
    make("span", { class: "two" }, ...card.pictures),
    make("span", { class: "id" }, make("span", { text: sample.id }), card.side),
    make("small", {
      text: `${plural(sample.objects, "object")}; ${sample.attributes.join(", ")} (${sample.triplets.length})`,
    }),
    card.mark,
  );
  card.addEventListener("click", () => open(sample));
  card.addEventListener("focus", () => rove(card));
  near.observe(card);
  return card;
}

const cards = new Map(data.samples.map((sample) => [sample.id, makeCard(sample)]));
let shown = [];

function showPair(card, pairs) {
  const pair = pairs[0];
  card.pair = pair;
  card.side.textContent = clean(views(pair));
  if (data.answers) {
    const said = pairs.filter((p) => p.said);
    const right = said.filter((p) => p.said.right).length;
    const kind = !said.length ? "none" : right === said.length ? "yes" : right ? "some" : "no";
    const sign = { none: "", yes: "✓", some: "~", no: "✗" }[kind];
    card.mark.className = `mark ${kind}`;
    card.mark.textContent = said.length > 1 ? `${sign} ${right} of ${said.length} right` : verdictName[said.length ? verdict(said[0]) : "none"];
  }
  showThumbnails(card);
}

function preferred(pairs) {
  const said = pairs.filter((p) => p.said);
  const rest = pairs.filter((p) => !p.said);
  return [...said, ...rest];
}

function apply() {
  const order = $("order").value;
  shown = [];
  for (const sample of data.samples) {
    const pairs = preferred(fitting(sample));
    const card = cards.get(sample.id);
    card.hidden = !pairs.length;
    if (pairs.length) {
      showPair(card, pairs);
      shown.push(card);
    }
  }
  const hardness = (card) => card.pair.difficulty;
  if (order === "easy") shown.sort((a, b) => hardness(a) - hardness(b));
  if (order === "hard") shown.sort((a, b) => hardness(b) - hardness(a));
  if (order !== apply.order || order !== "id") $("grid").append(...shown);
  if (order === "id" && apply.order !== "id") $("grid").append(...cards.values());
  apply.order = order;
  $("shown").textContent =
    shown.length === data.samples.length
      ? plural(shown.length, "sample")
      : `${shown.length} of ${plural(data.samples.length, "sample")}`;
  $("nothing").hidden = shown.length > 0;
  const active = filters.filter((f) => f.select.value !== "").length;
  $("more").textContent = active ? `Filters (${active})` : "Filters";
  rove(shown.includes(rove.card) ? rove.card : shown[0]);
}

// One card can be reached with Tab; arrow keys go on from there.
function rove(card) {
  if (rove.card) rove.card.tabIndex = -1;
  rove.card = card;
  if (card) card.tabIndex = 0;
}

function columns() {
  const top = shown[0].offsetTop;
  const next = shown.findIndex((card) => card.offsetTop > top);
  return next < 0 ? shown.length : next;
}

const ARROWS = { ArrowLeft: () => -1, ArrowRight: () => 1, ArrowUp: () => -columns(), ArrowDown: columns };

function moveInGrid(event) {
  const step = ARROWS[event.key];
  if (!step || !shown.length) return;
  const from = shown.indexOf(document.activeElement);
  const on = from < 0 ? shown.indexOf(rove.card) : from + step();
  if (shown[on]) {
    shown[on].focus();
    event.preventDefault();
  }
}

// One sample.

const dialog = $("sample");
const state = { sample: null, document: null, pair: null, sides: {} };

async function inflate(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).text();
}

async function open(sample) {
  state.sample = sample;
  const text = await inflate(sample.json);
  if (state.sample !== sample) return; // another one was opened meanwhile
  state.document = JSON.parse(text);
  const pairs = preferred(fitting(sample));
  const pair = pairs[0] || preferred(sample.pairs)[0];
  $("json").textContent = clean(text);
  $("file").hidden = !sample.file;
  $("file").setAttribute("href", sample.file || "");
  $("name").textContent = clean(sample.id);
  for (const [side, camera, which] of [["left", pair.initial, "initial"], ["right", pair.final, "final"]]) {
    const options = Object.keys(sample.images).map((key) => make("option", { value: key, text: key.replace("-", ", ") }));
    $(side).replaceChildren(...options);
    $(side).value = `${which}-${camera}`;
  }
  $("truth").replaceChildren(
    ...sample.words.map((words, k) =>
      make("li", {}, make("span", { text: words }), " ", make("code", { text: sample.triplets[k] })),
    ),
  );
  const place = shown.indexOf(cards.get(sample.id));
  $("previous").disabled = place <= 0;
  $("next").disabled = place < 0 || place >= shown.length - 1;
  showViews();
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  rove(cards.get(sample.id));
  if (location.hash !== `#${sample.id}`) history.replaceState(null, "", `#${sample.id}`);
}

function step(by) {
  const next = shown[shown.indexOf(cards.get(state.sample.id)) + by];
  if (next) open(next.sample);
}

function words(object) {
  return `${object.size} ${object.color} ${object.material} ${object.shape}`;
}

function objectsOf(stateName) {
  return state.document.states[stateName].objects;
}

function imageOf(key) {
  return state.document.images.find((image) => `${image.state}-${image.camera}` === key);
}

const SVG = "http://www.w3.org/2000/svg";

function makeRect(box, name) {
  const rect = document.createElementNS(SVG, "rect");
  const [x0, y0, x1, y1] = box;
  for (const [key, value] of Object.entries({ x: x0, y: y0, width: x1 - x0, height: y1 - y0 })) {
    rect.setAttribute(key, value);
  }
  rect.setAttribute("class", name);
  return rect;
}

function makeFrame(side) {
  const key = $(side).value;
  const image = imageOf(key);
  const links = state.sample.images[key];
  const changed = new Set(state.document.transformations.map((t) => t.object));
  const frame = make("div", { class: "frame" });
  const photo = make("img", { class: "photo", alt: `${image.state} image from camera ${image.camera}`, width: image.width, height: image.height });
  photo.addEventListener("error", () => {
    if (links.thumb && photo.getAttribute("src") !== links.thumb) {
      photo.setAttribute("src", links.thumb);
      tell("A full picture is not at its place beside this page; the small one is shown instead.");
    } else {
      tell("A picture is missing or damaged.");
    }
  });
  photo.setAttribute("src", links.full || links.thumb || "");
  frame.append(photo);
  if (links.mask && pressed("masks")) frame.append(make("img", { class: links.gray ? "gray mask" : "mask", alt: "", src: links.mask }));
  const overlay = document.createElementNS(SVG, "svg");
  overlay.setAttribute("viewBox", `0 0 ${image.width} ${image.height}`);
  overlay.setAttribute("preserveAspectRatio", "none");
  frame.append(overlay);
  const marks = new Map();
  for (const object of image.objects) {
    if (!object.bbox) continue;
    const kind = changed.has(object.index) ? "changed" : "";
    const rects = [makeRect(object.bbox, `${kind} back`), makeRect(object.bbox, kind)];
    overlay.append(...rects);
    const label = make("span", { class: "index", text: object.index });
    label.style.left = `${(100 * object.bbox[0]) / image.width}%`;
    label.style.top = `${(100 * Math.max(object.bbox[1], 0.07 * image.height)) / image.height}%`;
    frame.append(label);
    marks.set(object.index, rects);
  }
  const tip = make("div", { class: "tip" });
  tip.hidden = true;
  frame.append(tip);
  const figure = $(`view-${side}`);
  figure.replaceChildren(frame, make("figcaption", { text: key.replace("-", ", ") }));
  state.sides[side] = { image, frame, marks, tip };
  frame.addEventListener("pointermove", (event) => point(side, event));
  frame.addEventListener("pointerdown", (event) => point(side, event));
  frame.addEventListener("pointerleave", () => highlight(null));
}

function point(side, event) {
  if ($("views").classList.contains("slide")) {
    if (event.buttons) setCut(event);
    side = 100 * share(event, "left") < Number($("cut").value) ? "left" : "right";
  }
  const { image, frame } = state.sides[side];
  const area = frame.getBoundingClientRect();
  const x = ((event.clientX - area.left) / area.width) * image.width;
  const y = ((event.clientY - area.top) / area.height) * image.height;
  const size = (o) => (o.bbox[2] - o.bbox[0]) * (o.bbox[3] - o.bbox[1]);
  const hits = image.objects
    .filter((o) => o.bbox && o.bbox[0] <= x && x < o.bbox[2] && o.bbox[1] <= y && y < o.bbox[3])
    .sort((a, b) => size(a) - size(b));
  highlight(hits.length ? hits[0].index : null, side);
}

// Mark an object in both pictures and in the table; tell about it in one of the pictures.
function highlight(index, side = null) {
  for (const [name, { image, frame, marks, tip }] of Object.entries(state.sides)) {
    for (const [k, rects] of marks) for (const rect of rects) rect.classList.toggle("hot", k === index);
    const view = image.objects.find((o) => o.index === index);
    tip.hidden = name !== side || !view;
    if (tip.hidden) continue;
    const [x0, y0, x1, y1] = view.bbox;
    tip.textContent = clean(
      `${index}: ${words(stateOf(image)[index])}\n` +
        state.document.transformations.filter((t) => t.object === index).map((t) => `${t.attribute} becomes ${t.value}\n`).join("") +
        `box ${x0}, ${y0} to ${x1}, ${y1}; ${view.pixels} pixels, ${percent(view.visibility)} visible`,
    );
    const area = frame.getBoundingClientRect();
    const width = Math.min(tip.offsetWidth, area.width);
    const left = Math.max(0, Math.min((x0 / image.width) * area.width, area.width - width));
    const below = (y1 / image.height) * area.height + 4;
    tip.style.left = `${left}px`;
    tip.style.top = below + tip.offsetHeight <= area.height ? `${below}px` : `${Math.max(0, (y0 / image.height) * area.height - tip.offsetHeight - 4)}px`;
  }
  for (const row of $("objects").children) row.classList.toggle("hot", Number(row.dataset.index) === index);
}

function stateOf(image) {
  return objectsOf(image.state);
}

const percent = (share) => `${Math.round(100 * share)}\u00a0%`;

function swatch(object) {
  const box = make("span", { class: "chip-color" });
  const rgb = data.colors[object.color];
  if (rgb) box.style.background = `rgb(${rgb.join(",")})`;
  return box;
}

function showObjects() {
  const changed = new Set(state.document.transformations.map((t) => t.object));
  const last = objectsOf("final");
  const cell = (side, index) => {
    const view = state.sides[side].image.objects.find((o) => o.index === index);
    return make("td", { text: view ? `${view.pixels}, ${percent(view.visibility)}` : "not in the picture" });
  };
  $("objects").replaceChildren(
    ...objectsOf("initial").map((object) => {
      const { index } = object;
      const row = make("tr", { tabindex: "0", "data-index": index, class: changed.has(index) ? "changed" : "" });
      const after = words(last[index]) === words(object) ? (changed.has(index) ? "moved" : "the same") : words(last[index]);
      const end = after === "the same" || after === "moved" ? [] : [swatch(last[index])];
      row.append(
        make("td", { text: index }),
        make("td", {}, swatch(object), make("span", { text: words(object) })),
        make("td", {}, ...end, make("span", { text: after })),
        cell("left", index),
        cell("right", index),
      );
      row.addEventListener("pointerenter", () => highlight(index));
      row.addEventListener("pointerleave", () => highlight(null));
      row.addEventListener("focus", () => highlight(index));
      row.addEventListener("blur", () => highlight(null));
      return row;
    }),
  );
}

function tell(problem) {
  $("problem").textContent = problem;
  $("problem").hidden = !problem;
}

function showViews() {
  tell("");
  makeFrame("left");
  makeFrame("right");
  $("views").classList.toggle("all", pressed("boxes"));
  $("views").classList.toggle("slide", pressed("slide"));
  $("cut-label").hidden = !pressed("slide");
  showCut();
  $("masks").disabled = !Object.values(state.sample.images).some((image) => image.mask);
  showObjects();
  showPrediction();
}

function showPrediction() {
  const { sample } = state;
  const pair = sample.pairs.find((p) => `initial-${p.initial}` === $("left").value && `final-${p.final}` === $("right").value);
  const facts = [sample.preset, plural(sample.objects, "object"), plural(sample.triplets.length, "transformation")];
  if (pair) {
    facts.push(pair.initial === pair.final ? "same view" : `${pair.angle.toFixed(0)}° between the views`);
    facts.push(`difficulty ${pair.difficulty.toFixed(2)}`, ...pair.splits);
  }
  $("facts").textContent = clean(facts.join(" · "));
  $("said").hidden = !data.answers;
  if (!data.answers) return;
  const said = pair && pair.said;
  const others = sample.pairs.filter((p) => p.said).map(views);
  $("verdict").textContent = said
    ? `${said.right ? "Right" : "Wrong"}; STAR reward ${said.reward.toFixed(1).replace("-", "−")}.`
    : `There is none for these two pictures${others.length ? `, but for ${clean(others.join(", "))}` : ""}.`;
  const chips = said ? said.chips : [];
  $("chips").replaceChildren(
    ...chips.map(([text, kind, meaning]) =>
      make("li", { class: kind }, make("bdi", { text }), " ", make("small", { text: meaning })),
    ),
  );
  if (said && said.more) $("chips").append(make("li", { class: "none", text: `and ${said.more} more predictions` }));
  $("text").textContent = clean((said && said.text) || "");
  $("text").parentElement.hidden = !said || said.text === null;
}

const pressed = (id) => $(id).getAttribute("aria-pressed") === "true";

function toggle(id) {
  if ($(id).disabled) return;
  $(id).setAttribute("aria-pressed", String(!pressed(id)));
  showViews();
}

// The slider: left of the cut the left picture, right of it the right one.

function share(event, side) {
  const area = state.sides[side].frame.getBoundingClientRect();
  return Math.min(1, Math.max(0, (event.clientX - area.left) / area.width));
}

function setCut(event) {
  $("cut").value = 100 * share(event, "left");
  showCut();
}

function showCut() {
  $("views").style.setProperty("--cut", `${$("cut").value}%`);
}

// Of masks, black becomes nothing and all else half transparent. Those of older data sets hold the
// index + 1 as brightness, and get their colours here, too.
function makeFilters() {
  const table = (channel) => data.maskColors.map((color) => (color[channel] / 255).toFixed(3)).join(" ");
  const node = (name, attributes, ...children) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const part = (channel, values) => node(`feFunc${channel}`, { type: "discrete", tableValues: values });
  const filter = (id, ...colors) => node(
    "filter",
    { id, "color-interpolation-filters": "sRGB", x: 0, y: 0, width: 1, height: 1 },
    node("feComponentTransfer", { in: "SourceGraphic", result: "colors" }, ...colors),
    node("feColorMatrix", { in: "SourceGraphic", values: "0 0 0 0 0  0 0 0 0 0  0 0 0 0 0  1 1 1 0 0", result: "light" }),
    node("feComponentTransfer", { in: "light", result: "there" }, part("A", Array.from({ length: 256 }, (_, v) => (v ? 0.6 : 0)).join(" "))),
    node("feComposite", { in: "colors", in2: "there", operator: "in" }),
  );
  const gray = filter("gray-mask", part("R", table(0)), part("G", table(1)), part("B", table(2)));
  const svg = node("svg", { width: 0, height: 0, "aria-hidden": "true", focusable: "false" }, filter("mask"), gray);
  svg.style.position = "absolute";
  document.body.append(svg);
}

// Events.

for (const side of ["left", "right"]) $(side).addEventListener("change", showViews);
for (const id of ["slide", "masks", "boxes"]) $(id).addEventListener("click", () => toggle(id));
$("cut").addEventListener("input", showCut);
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
dialog.addEventListener("close", () => {
  history.replaceState(null, "", location.pathname + location.search);
  const card = cards.get(state.sample.id);
  if (!card.hidden) card.focus();
});
$("search").addEventListener("input", apply);
$("order").addEventListener("change", apply);
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("clear").addEventListener("click", () => {
  for (const { select } of filters) select.value = "";
  $("search").value = "";
  $("order").value = "id";
  apply();
});
$("more").addEventListener("click", () => {
  const is = $("selects").classList.toggle("open");
  $("more").setAttribute("aria-expanded", String(is));
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const { target } = event;
  const typing = target.matches("input, select, textarea");
  if (dialog.open) {
    if (typing) return;
    const actions = {
      ArrowLeft: () => step(-1),
      ArrowRight: () => step(1),
      s: () => toggle("slide"),
      m: () => toggle("masks"),
      b: () => toggle("boxes"),
    };
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (action) {
      action();
      event.preventDefault();
    }
    return;
  }
  if (target === $("search")) {
    if (event.key === "Escape") {
      $("search").value = "";
      apply();
      $("search").blur();
    } else if (event.key === "ArrowDown" && shown.length) {
      shown[0].focus();
      event.preventDefault();
    } else if (event.key === "Enter" && shown.length) {
      open(shown[0].sample);
    }
    return;
  }
  if (typing) return;
  if (event.key === "/") {
    $("search").focus();
    $("search").select();
    event.preventDefault();
    return;
  }
  moveInGrid(event);
});

function openFromAddress() {
  const card = cards.get(location.hash.slice(1));
  if (card) open(card.sample);
}

window.addEventListener("hashchange", openFromAddress);
makeFilters();
apply();
openFromAddress();

"use strict";
// Panels are cut out of strips, which are set when they come near the window: 100 queries' figures
// stay text until they are looked at.
const data = JSON.parse(document.getElementById("data").textContent);
const photograph = data.figures.photograph;
document.documentElement.style.setProperty("--photograph", `url(${photograph.src})`);
const MOST_TAGS = 20; // more hide the photograph, and then only the chosen box has one
let chosen = null;

function panelOf(figure, index, query) {
  const panel = document.createElement(query === undefined ? "div" : "button");
  panel.className = "panel";
  const view = document.createElement("div");
  view.className = "view";
  view.setAttribute("role", "img");
  view.setAttribute("aria-label", figure.labels[index]);
  const shape = figure.over ? photograph : figure;
  view.style.aspectRatio = `${shape.w} / ${shape.h}`;
  view.style.setProperty("--n", figure.n);
  view.style.setProperty("--at", figure.n > 1 ? `${(100 * index) / (figure.n - 1)}%` : "0");
  const label = document.createElement("span");
  label.textContent = figure.labels[index];
  panel.append(view, label);
  if (query !== undefined) {
    panel.type = "button";
    panel.dataset.query = query;
    label.textContent = nameOf(query);
    view.setAttribute("aria-label", `mask logits of ${nameOf(query)}`);
  }
  return panel;
}

/** Panels with outlines, which may be of small things, are larger. */
function columnsOf(figure) {
  if (figure.outlines) return figure.n === 2 || figure.n === 4 ? 2 : 3;
  return figure.n > 5 ? 4 : Math.max(figure.n, 3);
}

function draw(slot, name) {
  const figure = data.figures[name];
  slot.replaceChildren();
  slot.dataset.shown = name;
  if (!figure) {
    const note = document.createElement("p");
    note.className = "missing";
    note.textContent = `Query ${chosen}: ${slot.dataset.missing}.`;
    slot.append(note);
    return;
  }
  slot.classList.toggle("cells", figure.cells);
  slot.classList.toggle("over", figure.over);
  slot.classList.toggle("one", figure.n === 1);
  slot.style.setProperty("--columns", columnsOf(figure));
  slot.style.setProperty("--strip", `url(${figure.src})`);
  for (let i = 0; i < figure.n; i++) {
    slot.append(panelOf(figure, i, "perQuery" in slot.dataset ? data.kept[i] : undefined));
    if (figure.outlines) drawOutlines(slot.lastChild.querySelector(".view"), figure.outlines[i]);
  }
  if ("boxes" in slot.dataset) drawBoxes(slot);
  if (slot.dataset.ofQuery === "self_attention") {
    for (const view of slot.querySelectorAll(".view")) drawPoint(view, data.queries[chosen].box);
  }
}

function svgOver(view) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 1 1");
  svg.setAttribute("preserveAspectRatio", "none");
  view.append(svg);
  return svg;
}

function boxOf(query, [x, y, w, h] = query.box) {
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [key, value] of Object.entries({ x: x - w / 2, y: y - h / 2, width: w, height: h })) {
    rect.setAttribute(key, value);
  }
  rect.setAttribute("stroke", query.color);
  rect.setAttribute("class", query.kept ? "box" : "box out");
  rect.dataset.query = query.number;
  const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
  title.textContent = nameOf(query.number);
  rect.append(title);
  return rect;
}

/** A round dot with a white border: strokes of lines without length. */
function dotOf(query, [x, y]) {
  return ["rim", "dot"].map((part) => {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
    line.setAttribute("d", `M${x} ${y}h0`);
    line.setAttribute("stroke", part === "rim" ? "#fff" : query.color);
    line.setAttribute("class", query.kept ? part : `${part} out`);
    line.dataset.query = query.number;
    return line;
  });
}

/** Boxes over a panel, each with the point that it comes from, if there is one. */
function drawOutlines(view, outlines) {
  const svg = svgOver(view);
  svg.setAttribute("class", "outlines");
  const kept = ([number]) => data.queries[number].kept;
  for (const [number, box, point] of [...outlines].sort((a, b) => kept(a) - kept(b))) {
    const query = data.queries[number];
    svg.append(boxOf(query, box));
    if (point.length) svg.append(...dotOf(query, point));
  }
}

/** A box's class and score at its upper left, or upper right in the right half. */
function tagOf(query) {
  const [x, y, w, h] = query.box;
  const tag = document.createElement("b");
  tag.className = query.kept ? "tag" : "tag out";
  tag.textContent = nameOf(query.number);
  tag.dataset.query = query.number;
  tag.style.borderColor = query.color;
  tag.style.top = `${100 * Math.max(0, y - h / 2)}%`;
  if (x > 0.5) tag.style.right = `${100 * Math.max(0, 1 - x - w / 2)}%`;
  else tag.style.left = `${100 * Math.max(0, x - w / 2)}%`;
  return tag;
}

function drawBoxes(slot) {
  const { queries } = data;
  const view = slot.querySelector(".view");
  const svg = svgOver(view);
  view.removeAttribute("role");
  view.removeAttribute("aria-label");
  slot.querySelector(".panel > span").textContent = slot.dataset.boxes;
  slot.classList.toggle("many", data.kept.length > MOST_TAGS);
  // Kept boxes come last, the smallest on top, so that each can be pointed at.
  const area = (query) => query.box[2] * query.box[3];
  const order = [...queries].sort((a, b) => a.kept - b.kept || area(b) - area(a));
  for (const query of order) svg.append(boxOf(query));
  view.append(...order.map(tagOf));
}

function drawPoint(view, [x, y]) {
  const svg = svgOver(view);
  const { w, h } = photograph;
  for (const stroke of ["stroke:#000;stroke-width:5", "stroke:#fff;stroke-width:2"]) {
    const ring = document.createElementNS("http://www.w3.org/2000/svg", "ellipse");
    for (const [key, value] of Object.entries({ cx: x, cy: y, rx: 0.035, ry: (0.035 * w) / h })) {
      ring.setAttribute(key, value);
    }
    ring.setAttribute("style", `fill:none;${stroke};vector-effect:non-scaling-stroke`);
    svg.append(ring);
  }
}

function nameOf(number) {
  const query = data.queries[number];
  return `${number} ${query.label} ${query.percent}`;
}

// The map of the winning queries, from runs of equal pixels.
const map = data.map && { w: data.map.w, h: data.map.h, of: new Int16Array(data.map.w * data.map.h) };
if (map) {
  let at = 0;
  for (let i = 0; i < data.map.runs.length; i += 2) {
    map.of.fill(data.map.runs[i], at, (at += data.map.runs[i + 1]));
  }
}

const stage = document.getElementById("stage");
stage.style.aspectRatio = `${photograph.w} / ${photograph.h}`;
stage.style.backgroundImage = `url(${(data.figures.panoptic || photograph).src})`;

/** Darkens all but the pixels of the query; the rest of its stuff segment is left half lit. */
function light(number) {
  const box = document.getElementById("chosen-box");
  const rect = boxOf(data.queries[number]);
  rect.setAttribute("style", "stroke:#fff;stroke-width:3;pointer-events:none");
  box.replaceChildren(rect);
  if (!map) return;
  const canvas = document.getElementById("light");
  [canvas.width, canvas.height] = [map.w, map.h];
  const pixels = new ImageData(map.w, map.h);
  const partners = new Set(data.partners[number] || []);
  for (let i = 0; i < map.of.length; i++) {
    const winner = map.of[i];
    pixels.data[4 * i + 3] = winner === number ? 0 : partners.has(winner) ? 90 : 170;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

function lightMarks() {
  for (const element of document.querySelectorAll("[data-query]")) {
    const lit = Number(element.dataset.query) === chosen;
    element.classList.toggle("lit", lit);
    if (element.tagName === "BUTTON") element.setAttribute("aria-pressed", lit);
  }
}

const near = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) if (entry.isIntersecting) refresh(entry.target);
  },
  { rootMargin: "600px" },
);
const slots = [...document.querySelectorAll(".figure")];

function wanted(slot) {
  const part = slot.dataset.ofQuery;
  return part ? `query-${String(chosen).padStart(3, "0")}-${part}` : slot.dataset.figure;
}

function refresh(slot) {
  if (slot.dataset.shown !== wanted(slot)) draw(slot, wanted(slot));
  lightMarks();
}

function choose(number) {
  if (!data.queries[number] || number === chosen) return;
  chosen = number;
  const radio = document.querySelector(`#queries input[value="${number}"]`);
  radio.checked = true;
  const folded = radio.closest("details");
  if (folded) folded.open = true;
  const query = data.queries[number];
  document.getElementById("chosen").textContent =
    `Query ${nameOf(number)}${query.kept ? "" : " (does not pass)"}`;
  history.replaceState(null, "", `#query=${number}`);
  light(number);
  lightMarks();
  for (const slot of slots.filter((s) => s.dataset.shown && s.dataset.ofQuery)) refresh(slot);
}

/** The query before (-1) or after (1) the chosen one in the list, on a phone's lower edge. */
function walk(step) {
  const order = [...document.querySelectorAll("#queries input")].map((radio) => Number(radio.value));
  choose(order[(order.indexOf(chosen) + step + order.length) % order.length]);
}

document.getElementById("previous").addEventListener("click", () => walk(-1));
document.getElementById("next").addEventListener("click", () => walk(1));
document.getElementById("queries").addEventListener("change", (event) => choose(Number(event.target.value)));
document.querySelector("main").addEventListener("click", (event) => {
  const marked = event.target.closest("[data-query]");
  if (marked) choose(Number(marked.dataset.query));
});
function pointAt(event) {
  const frame = stage.getBoundingClientRect();
  const x = (event.clientX - frame.left) / frame.width;
  const y = (event.clientY - frame.top) / frame.height;
  if (map) {
    const column = Math.min(map.w - 1, Math.max(0, Math.floor(x * map.w)));
    const row = Math.min(map.h - 1, Math.max(0, Math.floor(y * map.h)));
    choose(map.of[row * map.w + column]);
    return;
  }
  // Without masks: the smallest box around the point, those that pass before the others.
  const around = data.queries.filter(
    ({ box: [cx, cy, w, h] }) => 2 * Math.abs(x - cx) <= w && 2 * Math.abs(y - cy) <= h,
  );
  around.sort((a, b) => b.kept - a.kept || a.box[2] * a.box[3] - b.box[2] * b.box[3]);
  if (around.length) choose(around[0].number);
}
stage.addEventListener("pointermove", (event) => event.pointerType === "mouse" && pointAt(event));
stage.addEventListener("click", pointAt);
addEventListener("beforeprint", () => slots.forEach(refresh));

const asked = /^#query=(\d+)$/.exec(location.hash);
choose(asked && data.queries[asked[1]] ? Number(asked[1]) : data.first);
for (const slot of slots) near.observe(slot);

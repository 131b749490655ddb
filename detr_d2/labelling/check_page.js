"use strict";
/* What is seen, and what keys and the pointer do. */

const byId = (id) => document.getElementById(id);
const overlay = byId("overlay"), photograph = byId("photograph");
let files = new Files(), dataset = null, entry = null, labels = null;
let chosen = 0, tool = "choose", radius = 8, stroke = null, hidden = false;

function say(text) {
  byId("message").textContent = text;
}

/** Run one thing after the other, and say what went wrong. */
let last = Promise.resolve();
function queue(run) {
  last = last.then(run).catch((error) => say(error.message));
  return last;
}

async function openFiles(add) {
  files = new Files();
  await add(files);
  dataset = await Dataset.open(files);
  document.querySelector("main").hidden = false;
  byId("start").hidden = true;
  byId("save").disabled = byId("add-images").disabled = false;
  byId("doubt").value = "score";
  byId("doubt").parentElement.hidden = !dataset.hasSecond;
  byId("category").replaceChildren(...[...dataset.categories.values()].map((c) => new Option(c.name, c.id)));
  await show(dataset.entries.find((e) => !e.checked) ?? dataset.entries[0]);
  const found = dataset.entries.filter((e) => e.changed).length;
  if (found) say(`${found} images were changed here before and are not saved yet.`);
}

async function show(next) {
  if (!next) return;
  const [opened, picture] = [await dataset.labels(next), await dataset.photograph(next)];
  [entry, labels, chosen, stroke] = [next, opened, 0, null];
  for (const canvas of [photograph, overlay]) [canvas.width, canvas.height] = [labels.width, labels.height];
  if (picture) photograph.getContext("2d").drawImage(picture, 0, 0, labels.width, labels.height);
  say(picture ? "" : `${next.image.file_name} is in no open folder: add the folder of the photographs.`);
  setTool("choose");
  listImages();
  draw();
}

function neighbour(step) {
  return dataset.entries[dataset.entries.indexOf(entry) + step];
}

function listImages() {
  byId("progress").textContent = `${dataset.entries.filter((e) => e.checked).length} of ${dataset.entries.length} checked; the most doubtful first`;
  byId("images").replaceChildren(...dataset.entries.map((e) => {
    const button = row(e === entry, () => queue(() => show(e)));
    button.append(text(e.image.file_name), text(e.checked ? "✓" : `${(100 * e.doubt).toFixed(0)}%`));
    return item(button);
  }));
  document.querySelector('#images [aria-current="true"]')?.scrollIntoView({ block: "nearest" });
}

function listSegments() {
  byId("segments").replaceChildren(...[...labels.infos.values()].map((info) => {
    const category = dataset.categories.get(info.category_id), swatch = text("", "swatch");
    const button = row(info.id === chosen, () => choose(info.id));
    swatch.style.background = `rgb(${category.color})`;
    const score = info.source === MODEL ? info.score?.toFixed(2) ?? "?" : "✓";
    button.append(swatch, text(category.name, "name"), text(score, "score"));
    return item(button);
  }));
}

function row(current, act) {
  const button = document.createElement("button");
  button.setAttribute("aria-current", current);
  button.addEventListener("click", act);
  return button;
}

function item(child) {
  const element = document.createElement("li");
  element.append(child);
  return element;
}

function text(content, className = "") {
  const element = document.createElement("span");
  Object.assign(element, { textContent: content, className });
  return element;
}

/** Segments over the photograph: a model's hatched, the chosen one strong, with white borders. */
function draw() {
  drawOverlay();
  listSegments();
}

function drawOverlay() {
  const { width, height, ids } = labels, context = overlay.getContext("2d");
  const image = context.createImageData(width, height), pixels = new Uint32Array(image.data.buffer);
  const looks = new Map([...labels.infos].map(([id, info]) => {
    const [r, g, b] = dataset.categories.get(info.category_id).color, color = r | (g << 8) | (b << 16);
    const alpha = id === chosen ? 210 : 120, thin = info.source === MODEL ? alpha - 70 : alpha;
    return [id, [color | (alpha << 24), color | (thin << 24)]]; // bytes R, G, B, A in a word
  }));
  let look, of = -1;
  for (let y = 0, n = 0; y < height && !hidden; y++) {
    for (let x = 0; x < width; x++, n++) {
      const id = ids[n];
      if (id !== of) [look, of] = [looks.get(id), id];
      if ((x + 1 < width && ids[n + 1] !== id) || (y + 1 < height && ids[n + width] !== id)) pixels[n] = 0xffffffff;
      else if (look) pixels[n] = look[(x + y) & 4 ? 0 : 1];
    }
  }
  context.putImageData(image, 0, 0);
}

function choose(id) {
  if (tool === "merge" && id && id !== chosen) return edit(() => labels.merge(chosen, id));
  chosen = id;
  const info = labels.infos.get(id);
  if (info) byId("category").value = info.category_id;
  draw();
}

function setTool(name) {
  tool = name;
  const width = `the brush is ${2 * radius + 1} pixels wide.`;
  byId("tool").textContent = {
    choose: "Click a segment.",
    merge: "Click what belongs to the chosen segment.",
    brush: `Paint the chosen segment; ${width}`,
    wipe: `Wipe; ${width}`,
  }[tool];
}

/** A change that can be undone, drawn and kept. */
function edit(run) {
  labels.change(run);
  edited();
}

function edited() {
  if (!labels.infos.has(chosen)) chosen = 0;
  if (tool === "merge" || (tool === "brush" && !chosen)) setTool("choose");
  draw();
  const [ofEntry, now] = [entry, labels];
  return queue(() => dataset.keep(ofEntry, now));
}

function acceptAll() {
  entry.checked = true;
  edit(() => labels.acceptAll());
  queue(() => show(neighbour(1) ?? entry));
}

function addSegment() {
  labels.begin();
  chosen = labels.add(category()); // it has pixels when the stroke ends, and is one step with it
  stroke = { opened: true };
  setTool("brush");
  draw();
}

function category() {
  return dataset.categories.get(Number(byId("category").value));
}

function walk(step) {
  const ids = [...labels.infos.keys()];
  if (ids.length) choose(ids[(ids.indexOf(chosen) + step + ids.length) % ids.length]);
}

function resize(step) {
  radius = Math.max(0, Math.min(200, radius + step * Math.max(1, Math.floor(radius / 4))));
  setTool(tool);
}

function undo(step) {
  labels[step]();
  edited();
}

const needsChosen = (act) => () => (chosen ? act() : say("Choose a segment first: click it."));
const KEYS = {
  j: () => queue(() => show(neighbour(1))),
  k: () => queue(() => show(neighbour(-1))),
  Enter: acceptAll,
  n: () => walk(1),
  p: () => walk(-1),
  a: needsChosen(() => edit(() => labels.accept(chosen))),
  x: needsChosen(() => edit(() => labels.replace(chosen, 0))),
  r: needsChosen(() => edit(() => labels.relabel(chosen, category()))),
  m: needsChosen(() => setTool("merge")),
  b: needsChosen(() => setTool("brush")),
  c: addSegment,
  e: () => setTool("wipe"),
  "[": () => resize(-1),
  "]": () => resize(1),
  Escape: () => setTool("choose"),
  u: () => undo("undo"),
  y: () => undo("redo"),
  o: () => { hidden = !hidden; draw(); },
  s: () => queue(async () => say(await dataset.save())),
};

addEventListener("keydown", (event) => {
  const inForm = event.target.closest("select, button, label") && event.key === "Enter";
  if (!labels || inForm || event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
  event.preventDefault();
  if (stroke?.opened && !["[", "]"].includes(event.key)) cancelSegment();
  if (!stroke) KEYS[event.key]();
});

/** A new segment that was not painted is none. */
function cancelSegment() {
  labels.infos = labels.step.infos;
  [labels.step, stroke, chosen] = [null, null, 0];
  setTool("choose");
  draw();
}

function pixelAt(event) {
  const frame = overlay.getBoundingClientRect();
  const place = (at, start, length, pixels) => Math.max(0, Math.min(pixels - 1, Math.floor(((at - start) / length) * pixels)));
  return [place(event.clientX, frame.left, frame.width, labels.width), place(event.clientY, frame.top, frame.height, labels.height)];
}

overlay.addEventListener("pointerdown", (event) => {
  const [x, y] = pixelAt(event);
  if (tool !== "brush" && tool !== "wipe") return choose(labels.ids[y * labels.width + x]);
  overlay.setPointerCapture(event.pointerId);
  if (!stroke) labels.begin();
  stroke = { id: tool === "brush" ? chosen : 0, at: [x, y] };
  labels.paint(stroke.id, stroke.at, stroke.at, radius);
  draw();
});
overlay.addEventListener("pointermove", (event) => {
  if (!stroke?.at) return;
  const to = pixelAt(event);
  labels.paint(stroke.id, stroke.at, to, radius);
  stroke.at = to;
  drawOverlay();
});
for (const end of ["pointerup", "pointercancel"]) {
  overlay.addEventListener(end, () => {
    if (!stroke?.at) return;
    stroke = null;
    labels.end();
    edited();
  });
}

byId("open-folder").addEventListener("click", () => queue(async () => {
  if (!window.showDirectoryPicker) throw new Error("This browser cannot save into a folder: open one to download, or a zip.");
  const folder = await showDirectoryPicker({ mode: "readwrite" });
  await openFiles((opened) => { opened.folder = folder; return opened.addFolder(folder); });
}));
for (const id of ["open-zip", "open-list"]) {
  byId(id).addEventListener("change", ({ target }) => queue(() => openFiles((opened) => opened.addList(target.files))));
}
byId("add-images").addEventListener("click", () => {
  const input = Object.assign(document.createElement("input"), { type: "file", multiple: true, webkitdirectory: true });
  input.addEventListener("change", () => queue(async () => {
    await files.addList(input.files);
    await show(entry);
  }));
  input.click();
});
byId("doubt").addEventListener("change", ({ target }) => queue(async () => {
  dataset.sort(target.value);
  await show(dataset.entries.find((e) => !e.checked) ?? dataset.entries[0]);
  overlay.focus();
}));
byId("save").addEventListener("click", KEYS.s);

"use strict";
/* What is seen: a picture, its segments over it, and their names. */

const byId = (id) => document.getElementById(id);
const metadata = JSON.parse(byId("metadata").textContent);
const photograph = byId("photograph"), overlay = byId("overlay"), stage = byId("stage"), video = byId("video");
const SHARP = 1000; // pixels that the longer side of the overlay has at least
let shown = null, chosen = 0, streaming = false;

function say(text, isError = false) {
  byId("message").textContent = text;
  byId("message").classList.toggle("error", isError);
}

/** What the page has in it, base64 of gzip. */
async function unpacked(id) {
  const bytes = Uint8Array.from(atob(byId(id).textContent), (letter) => letter.charCodeAt(0));
  byId(id).remove(); // so that it is not kept twice
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

const worker = new Worker(URL.createObjectURL(new Blob([byId("worker").textContent])));

/** What the worker answers; it does one thing after the other. */
function ask(message, moved = []) {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => ("error" in data ? reject(new Error(data.error)) : resolve(data));
    worker.onerror = (event) => reject(new Error(event.message || "The model could not be started."));
    worker.postMessage(message, moved);
  });
}

/** Run one thing after the other, and say what went wrong. */
let last = Promise.resolve();
function queue(run) {
  last = last.then(run).catch((error) => say(error.message, true));
  return last;
}

async function open() {
  const [wasm, model] = await Promise.all(["wasm", "model"].map(unpacked));
  // A page without a server may not import what it has made, a blob, but what is spelt out.
  const runtime = `data:text/javascript;base64,${byId("runtime").textContent}`;
  await ask({ act: "open", runtime, wasm, model, about: metadata }, [wasm, model]);
  say("Ready.");
}

/** Find the segments of a picture that can be drawn, at most `metadata.longest` pixels long. */
async function look(source, width, height) {
  const shrunk = Math.min(1, metadata.longest / Math.max(width, height));
  const size = [width, height].map((side) => Math.max(1, Math.round(side * shrunk)));
  const canvas = Object.assign(document.createElement("canvas"), { width: size[0], height: size[1] });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, ...size);
  const rgba = context.getImageData(0, 0, ...size).data;
  if (!streaming) say("Looking ...");
  const found = await ask({ act: "run", rgba, width: size[0], height: size[1] }, [rgba.buffer]);
  shown = { ...found, width: size[0], height: size[1], canvas };
  chosen = 0;
  draw();
  const seconds = (found.milliseconds / 1000).toFixed(2);
  say(`${size[0]} x ${size[1]} pixels, ${seconds} s on this device.`);
}

async function lookAtFile(file) {
  stopCamera();
  const picture = await createImageBitmap(file).catch(() => {
    throw new Error(`${file.name || "This"} is no picture that this browser can read.`);
  });
  await look(picture, picture.width, picture.height);
}

const colorOf = (segment) => {
  const alike = shown.segments.filter((s) => s.label === segment.label);
  const turn = metadata.classes[segment.label].isthing ? alike.indexOf(segment) : 0;
  const away = turn % 2 ? 255 : 0, part = Math.min(0.6, 0.2 * Math.ceil(turn / 2)); // things of one class differ
  return metadata.classes[segment.label].color.map((c) => Math.round(c + part * (away - c)));
};

function draw() {
  const { width, height, canvas } = shown, scale = Math.max(1, Math.ceil(SHARP / Math.max(width, height)));
  stage.style.maxWidth = `calc(68vh * ${width / height})`;
  Object.assign(photograph, { width, height });
  photograph.getContext("2d").drawImage(canvas, 0, 0);
  Object.assign(overlay, { width: width * scale, height: height * scale });
  const context = overlay.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(filled(), 0, 0, overlay.width, overlay.height);
  context.strokeStyle = "white";
  context.lineWidth = Math.max(1.5, overlay.width / 500);
  context.stroke(borders(scale));
  writeNames();
  listSegments();
}

/** A canvas of the segments' colours. */
function filled() {
  const { width, height, map, segments } = shown;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const image = new ImageData(width, height), looks = new Map();
  for (const segment of segments) {
    const opacity = !chosen ? 140 : segment.id === chosen ? 190 : 45;
    looks.set(segment.id, [...colorOf(segment), opacity]);
  }
  map.forEach((id, n) => id && image.data.set(looks.get(id), 4 * n));
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** A path between pixels of different segments. */
function borders(scale) {
  const { width, height, map } = shown, path = new Path2D();
  for (let y = 0, n = 0; y < height; y++) {
    for (let x = 0; x < width; x++, n++) {
      if (x + 1 < width && map[n] !== map[n + 1]) line(path, (x + 1) * scale, y * scale, 0, scale);
      if (y + 1 < height && map[n] !== map[n + width]) line(path, x * scale, (y + 1) * scale, scale, 0);
    }
  }
  return path;
}

function line(path, x, y, right, down) {
  path.moveTo(x, y);
  path.lineTo(x + right, y + down);
}

function writeNames() {
  const { width, height, map, segments } = shown, places = innermost(map, width, height);
  const least = 0.02 * Math.max(width, height); // what is thinner is named in the list alone
  byId("names").replaceChildren(...segments.flatMap((segment) => {
    const { x, y, depth } = places.get(segment.id);
    if (chosen ? segment.id !== chosen : depth < least) return [];
    const name = text(metadata.classes[segment.label].name);
    Object.assign(name.style, { left: `${(100 * (x + 0.5)) / width}%`, top: `${(100 * (y + 0.5)) / height}%` });
    return [name];
  }));
}

function listSegments() {
  const { width, height, segments } = shown;
  byId("empty").hidden = segments.length > 0;
  byId("segments").replaceChildren(...[...segments].sort((a, b) => b.area - a.area).map((segment) => {
    const button = document.createElement("button"), share = (100 * segment.area) / (width * height);
    button.append(swatch(colorOf(segment)), text(metadata.classes[segment.label].name, "name"));
    button.append(text(`${share < 1 ? "< 1" : share.toFixed(0)} %`, "share"));
    button.title = `Sure to ${(100 * segment.score).toFixed(0)} %, ${segment.area} pixels`;
    button.setAttribute("aria-current", segment.id === chosen);
    button.addEventListener("click", () => choose(segment.id));
    return item(button);
  }));
}

function choose(id) {
  chosen = id === chosen ? 0 : id;
  draw();
}

function swatch(color) {
  const element = text("", "swatch");
  element.style.background = `rgb(${color})`;
  return element;
}

function text(content, className = "") {
  return Object.assign(document.createElement("span"), { textContent: content, className });
}

function item(...children) {
  const element = document.createElement("li");
  element.append(...children);
  return element;
}

async function startCamera() {
  if (!navigator.mediaDevices) throw new Error("This browser gives no camera to a page like this: choose a picture.");
  video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } }).catch((error) => {
    throw new Error(`There is no camera to use (${error.message}): choose a picture.`);
  });
  await video.play();
  streaming = true;
  byId("camera").textContent = "Stop the camera";
  nextFrame();
}

function nextFrame() {
  if (!streaming) return;
  queue(() => streaming && look(video, video.videoWidth, video.videoHeight)).then(() => requestAnimationFrame(nextFrame));
}

function stopCamera() {
  streaming = false;
  video.srcObject?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  byId("camera").textContent = "Use the camera";
}

function take(files) {
  const file = [...files].find((f) => f.type.startsWith("image/"));
  queue(() => {
    if (!file) throw new Error("That was no picture.");
    return lookAtFile(file);
  });
}

byId("choose").addEventListener("change", ({ target }) => {
  if (target.files.length) take(target.files);
  target.value = ""; // so that the same one can be chosen again
});
byId("camera").addEventListener("click", () => (streaming ? stopCamera() : queue(startCamera)));
byId("hide").addEventListener("click", ({ target }) => {
  target.setAttribute("aria-pressed", stage.classList.toggle("hidden"));
});
overlay.addEventListener("click", (event) => {
  if (!shown) return;
  const x = Math.floor((event.offsetX / overlay.clientWidth) * shown.width);
  const y = Math.floor((event.offsetY / overlay.clientHeight) * shown.height);
  choose(shown.map[y * shown.width + x]);
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  stage.classList.add("over");
});
for (const end of ["dragleave", "drop"]) addEventListener(end, () => stage.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  take(event.dataTransfer.files);
});
addEventListener("paste", (event) => event.clipboardData.files.length && take(event.clipboardData.files));

byId("classes").append(...metadata.classes.map((c) => item(swatch(c.color), text(c.name))));
byId("examples").append(...metadata.examples.map((png, n) => {
  const button = document.createElement("button"), picture = new Image();
  Object.assign(picture, { src: png, alt: `Example ${n + 1}` });
  button.append(picture);
  button.addEventListener("click", () => {
    stopCamera();
    queue(async () => look(await picture.decode().then(() => picture), picture.naturalWidth, picture.naturalHeight));
  });
  return button;
}));
queue(open);
if (metadata.examples.length) byId("examples").firstChild.click();

"use strict";
/* A COCO panoptic dataset among the files: its images, the most doubtful first, and saving it. */

class Dataset {
  /** @param {Files} files that are open; one of them is a panoptic JSON. */
  static async open(files) {
    const paths = [...files.readers.keys()].filter((path) => /(^|\/)panoptic_[^/]*\.json$/.test(path));
    if (paths.length !== 1) {
      const found = paths.length ? `has ${paths.length} (${paths.join(", ")})` : "has none";
      throw new Error(`One panoptic_NAME.json is needed, and this ${found}: open a folder with one.`);
    }
    const text = await (await files.read(paths[0])).text();
    let content;
    try {
      content = JSON.parse(text);
    } catch (error) {
      throw new Error(`${paths[0]} is not valid JSON (${error.message}): write it again.`);
    }
    for (const key of ["images", "annotations", "categories"]) {
      if (!Array.isArray(content[key])) throw new Error(`${paths[0]} has no list ${key}: give a COCO panoptic JSON.`);
    }
    const dataset = new Dataset(files, paths[0], content, crc32(new TextEncoder().encode(text)));
    await dataset.takeUp();
    return dataset;
  }

  constructor(files, path, content, checksum) {
    Object.assign(this, { files, path, content });
    this.root = path.replace(/\.json$/, "/");
    const images = new Map(content.images.map((image) => [image.id, image]));
    this.categories = new Map(content.categories.map((category, n) => [
      category.id,
      { ...category, color: category.color ?? colorOf(n) },
    ]));
    this.entries = content.annotations.map((annotation) => {
      const image = images.get(annotation.image_id);
      if (!image) throw new Error(`${path}: image ${annotation.image_id} has an annotation but is not in images: add it.`);
      const pixels = image.width * image.height;
      return { image, annotation, pixels, checked: false, changed: false };
    });
    this.sort("score");
    this.kept = new Kept(`${path} ${checksum}`);
  }

  /** The most doubtful first, by a key of DOUBTS. */
  sort(by) {
    for (const entry of this.entries) entry.doubt = doubtOf(entry.annotation.segments_info, entry.pixels, by);
    this.entries.sort((a, b) => b.doubt - a.doubt);
  }

  /** Whether a second model has seen the images. */
  get hasSecond() {
    return this.entries.some((entry) => entry.annotation.segments_info.some((info) => "agreement" in info));
  }

  /** What was done before, and not saved. */
  async takeUp() {
    for (const entry of this.entries) {
      const record = await this.kept.get(entry.image.id);
      if (record && record.ids.length === entry.pixels) Object.assign(entry, { checked: record.checked, changed: true });
    }
  }

  async labels(entry) {
    const { width, height, id } = entry.image;
    const record = entry.changed ? await this.kept.get(id) : null;
    if (record) return new Labels(width, height, record.ids, record.infos);
    const path = this.root + entry.annotation.file_name;
    if (!this.files.readers.has(path)) throw new Error(`${path} (image ${id}) is not there: put it there, or remove the image from the JSON.`);
    const bitmap = await this.bitmap(await this.files.read(path), path);
    if (bitmap.width !== width || bitmap.height !== height) {
      throw new Error(`${path} is ${bitmap.width} x ${bitmap.height} pixels, and the JSON says ${width} x ${height}: prepare the dataset again.`);
    }
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    const colors = context.getImageData(0, 0, width, height).data, ids = new Uint32Array(width * height);
    for (let n = 0; n < ids.length; n++) ids[n] = colors[4 * n] + 256 * colors[4 * n + 1] + 65536 * colors[4 * n + 2];
    return new Labels(width, height, ids, entry.annotation.segments_info);
  }

  /** The photograph, upright; null where no folder that is open has it. */
  async photograph(entry) {
    const path = this.files.find(entry.image.file_name, (p) => !p.startsWith(this.root));
    return path === undefined ? null : this.bitmap(await this.files.read(path), path);
  }

  async bitmap(blob, path) {
    try {
      return await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    } catch (error) {
      throw new Error(`${path} cannot be read as an image: ${error.message}`);
    }
  }

  /** Keep what was done to an image until it is saved. */
  async keep(entry, labels) {
    entry.changed = true;
    await this.kept.put(entry.image.id, { ids: labels.ids, infos: labels.listed(), checked: entry.checked });
  }

  /** Into the folder, PNGs first; or, where none may be written to, as a zip to download. */
  async save() {
    const changed = this.entries.filter((entry) => entry.changed), pngs = new Map();
    for (const entry of changed) {
      const labels = await this.labels(entry);
      entry.annotation.segments_info = labels.listed();
      pngs.set(this.root + entry.annotation.file_name, await pngOf(labels));
    }
    const json = new Blob([JSON.stringify(this.content)], { type: "application/json" });
    if (!this.files.folder) return this.download(pngs, json);
    for (const [path, blob] of pngs) await this.files.write(path, blob);
    await this.files.write(this.path, json);
    for (const entry of changed) {
      await this.kept.remove(entry.image.id); // only now: nothing is lost before all is written
      entry.changed = false;
    }
    return `Saved ${changed.length} images.`;
  }

  async download(pngs, json) {
    const entries = [[this.path, json]];
    for (const { annotation } of this.entries) {
      const path = this.root + annotation.file_name;
      entries.push([path, pngs.get(path) ?? (await this.files.read(path))]);
    }
    const link = document.createElement("a");
    link.download = `${this.path.split("/").pop().replace(/\.json$/, "")}-checked.zip`;
    link.href = URL.createObjectURL(await zipped(entries));
    link.click();
    return `${link.download}: JSON and PNGs of all images, ${pngs.size} of them changed.`;
  }
}

function colorOf(number) {
  const hue = (number * 137.5) % 360; // the golden angle: neighbours differ
  const channel = (shift) => Math.round(255 * (0.5 + 0.45 * Math.cos(((hue - shift) * Math.PI) / 180)));
  return [channel(0), channel(120), channel(240)];
}

async function pngOf({ width, height, ids }) {
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const words = new Uint32Array(image.data.buffer); // bytes R, G, B, A: the id, and opaque
  ids.forEach((id, n) => { words[n] = id | 0xff000000; });
  context.putImageData(image, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

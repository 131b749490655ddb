"use strict";
/* Files in, files out: a folder, a list of files, or a zip; nothing leaves the computer. */

const END = 0x06054b50, CENTRAL = 0x02014b50, LOCAL = 0x04034b50;

/** Files by path, read when they are asked for. */
class Files {
  constructor() {
    this.readers = new Map();
    this.folder = null; // that may be written to
  }

  /** All files of a FileSystemDirectoryHandle. */
  async addFolder(folder, prefix = "") {
    for await (const [name, handle] of folder.entries()) {
      const path = `${prefix}${name}`;
      if (handle.kind === "directory") await this.addFolder(handle, `${path}/`);
      else this.readers.set(path, () => handle.getFile());
    }
  }

  /** The files of an <input type="file">; of a zip, those in it. */
  async addList(files) {
    for (const file of files) {
      if (file.name.toLowerCase().endsWith(".zip")) await this.addZip(file);
      else this.readers.set(file.webkitRelativePath || file.name, async () => file);
    }
  }

  async addZip(file) {
    const tail = file.slice(Math.max(0, file.size - 65557));
    const view = new DataView(await tail.arrayBuffer());
    let end = view.byteLength - 22;
    while (end >= 0 && view.getUint32(end, true) !== END) end--;
    if (end < 0) throw new Error(`${file.name} is no zip: choose another file.`);
    const count = view.getUint16(end + 10, true), offset = view.getUint32(end + 16, true);
    if (count === 0xffff || offset === 0xffffffff) {
      throw new Error(`${file.name} is a zip of more than 4 GB or 65,534 files: unpack it, and open the folder.`);
    }
    const central = new DataView(await file.slice(offset, offset + view.getUint32(end + 12, true)).arrayBuffer());
    for (let at = 0, n = 0; n < count && central.getUint32(at, true) === CENTRAL; n++) {
      const method = central.getUint16(at + 10, true), size = central.getUint32(at + 20, true);
      const length = central.getUint16(at + 28, true), start = central.getUint32(at + 42, true);
      const name = new TextDecoder().decode(new Uint8Array(central.buffer, at + 46, length));
      if (!name.endsWith("/")) this.readers.set(name, () => unpacked(file, name, method, start, size));
      at += 46 + length + central.getUint16(at + 30, true) + central.getUint16(at + 32, true);
    }
  }

  read(path) {
    return this.readers.get(path)();
  }

  /** The path that is `name`, or ends with it below a folder; undefined where none does. */
  find(name, accept = () => true) {
    if (this.readers.has(name) && accept(name)) return name;
    return [...this.readers.keys()].find((path) => path.endsWith(`/${name}`) && accept(path));
  }

  /** Write a file to the folder; it takes the place of the old one when all of it is there. */
  async write(path, blob) {
    const parts = path.split("/"), name = parts.pop();
    let folder = this.folder;
    for (const part of parts) folder = await folder.getDirectoryHandle(part, { create: true });
    const handle = await folder.getFileHandle(name, { create: true });
    const stream = await handle.createWritable();
    await stream.write(blob);
    await stream.close();
    this.readers.set(path, () => handle.getFile());
  }
}

async function unpacked(file, name, method, start, size) {
  const local = new DataView(await file.slice(start, start + 30).arrayBuffer());
  const data = start + 30 + local.getUint16(26, true) + local.getUint16(28, true);
  const packed = file.slice(data, data + size);
  if (method === 0) return packed;
  if (method !== 8) throw new Error(`${name} is packed in a way that is not known: unpack the zip, and open the folder.`);
  return new Response(packed.stream().pipeThrough(new DecompressionStream("deflate-raw"))).blob();
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** A zip of [name, Blob] pairs, not compressed: PNGs are already. */
async function zipped(entries) {
  const parts = [], central = [];
  let offset = 0, centralSize = 0;
  for (const [name, blob] of entries) {
    const title = new TextEncoder().encode(name), crc = crc32(new Uint8Array(await blob.arrayBuffer()));
    // Version 2.0, names in UTF-8, stored, 1 January 1980.
    const common = [20, 0x800, 0, 0, 0x21];
    parts.push(header(LOCAL, common, crc, blob.size, title.length, 30), title, blob);
    const listed = header(CENTRAL, [20, ...common], crc, blob.size, title.length, 46);
    new DataView(listed.buffer).setUint32(42, offset, true);
    central.push(listed, title);
    offset += 30 + title.length + blob.size;
    centralSize += 46 + title.length;
  }
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, END, true);
  end.setUint16(8, entries.length, true);
  end.setUint16(10, entries.length, true);
  end.setUint32(12, centralSize, true);
  end.setUint32(16, offset, true);
  return new Blob([...parts, ...central, end], { type: "application/zip" });
}

function header(signature, numbers, crc, size, titleLength, length) {
  const bytes = new Uint8Array(length), view = new DataView(bytes.buffer);
  view.setUint32(0, signature, true);
  numbers.forEach((number, n) => view.setUint16(4 + 2 * n, number, true));
  const at = 4 + 2 * numbers.length;
  [crc, size, size].forEach((number, n) => view.setUint32(at + 4 * n, number, true));
  view.setUint16(at + 12, titleLength, true);
  return bytes;
}

/** What was done and is not saved yet, in the browser's own store: a crash loses nothing. */
class Kept {
  constructor(dataset) {
    this.dataset = dataset;
  }

  static open() {
    return new Promise((resolve, reject) => {
      const asked = indexedDB.open("detr_d2 labels", 1);
      asked.onupgradeneeded = () => asked.result.createObjectStore("images");
      asked.onsuccess = () => resolve(asked.result);
      asked.onerror = () => reject(asked.error);
    });
  }

  async ask(mode, request) {
    Kept.database ??= await Kept.open();
    return new Promise((resolve, reject) => {
      const transaction = Kept.database.transaction("images", mode);
      const asked = request(transaction.objectStore("images"));
      transaction.oncomplete = () => resolve(asked.result);
      transaction.onerror = () => reject(transaction.error);
    });
  }

  put(imageId, record) {
    return this.ask("readwrite", (store) => store.put(record, [this.dataset, String(imageId)]));
  }

  get(imageId) {
    return this.ask("readonly", (store) => store.get([this.dataset, String(imageId)]));
  }

  remove(imageId) {
    return this.ask("readwrite", (store) => store.delete([this.dataset, String(imageId)]));
  }
}

"use strict";
/* The segments of one image, and what a person does to them. */

const MODEL = "model", HUMAN = "human", MOST_UNDONE = 100;

class Labels {
  /**
   * @param {Uint32Array} ids of the segments, row after row; 0 = VOID.
   * @param {object[]} infos COCO's segments_info.
   */
  constructor(width, height, ids, infos) {
    Object.assign(this, { width, height, ids, past: [], future: [] });
    this.infos = new Map(infos.map((info) => [info.id, { ...info }]));
  }

  /** Run one change, which `undo` takes back whole. */
  change(run) {
    this.begin();
    run();
    this.end();
  }

  begin() {
    this.step = { infos: this.copied(), at: [], old: [] };
  }

  end() {
    const there = new Set(this.ids);
    for (const id of this.infos.keys()) if (!there.has(id)) this.infos.delete(id);
    this.past.push(this.step);
    if (this.past.length > MOST_UNDONE) this.past.shift();
    this.future = [];
    this.step = null;
  }

  copied() {
    return new Map([...this.infos].map(([id, info]) => [id, { ...info }]));
  }

  undo() {
    if (this.past.length) this.future.push(this.reverted(this.past.pop()));
  }

  redo() {
    if (this.future.length) this.past.push(this.reverted(this.future.pop()));
  }

  /** Take a step back; gives the step that would do it again. */
  reverted(step) {
    const again = { infos: this.copied(), at: [], old: [] };
    for (let n = step.at.length - 1; n >= 0; n--) {
      again.at.push(step.at[n]);
      again.old.push(this.ids[step.at[n]]);
      this.ids[step.at[n]] = step.old[n];
    }
    this.infos = step.infos;
    return again;
  }

  set(pixel, id) {
    if (this.ids[pixel] === id) return;
    this.step.at.push(pixel);
    this.step.old.push(this.ids[pixel]);
    this.ids[pixel] = id;
  }

  replace(id, by) {
    for (let pixel = 0; pixel < this.ids.length; pixel++) if (this.ids[pixel] === id) this.set(pixel, by);
  }

  /** A person has seen a segment, and it is right. */
  accept(id) {
    const info = this.infos.get(id);
    info.source = HUMAN;
    delete info.score;
    delete info.agreement;
  }

  acceptAll() {
    for (const id of this.infos.keys()) this.accept(id);
  }

  /** Another class; of stuff, an image has one segment a class. */
  relabel(id, category) {
    this.infos.get(id).category_id = category.id;
    this.accept(id);
    if (category.isthing) return;
    for (const [other, info] of this.infos) {
      if (other !== id && info.category_id === category.id) this.merge(id, other);
    }
  }

  /** One segment of two; it is of the first one's class. */
  merge(id, other) {
    this.replace(other, id);
    this.accept(id);
  }

  /** A new segment, or that of a class of stuff which is there; it has yet to be painted. */
  add(category) {
    const there = [...this.infos.values()].find((info) => info.category_id === category.id);
    if (there && !category.isthing) return there.id;
    const id = Math.max(0, ...this.infos.keys()) + 1;
    this.infos.set(id, { id, category_id: category.id, iscrowd: 0, source: HUMAN });
    return id;
  }

  /** A round brush from one point to another, in pixels; the id 0 wipes. */
  paint(id, [x0, y0], [x1, y1], radius) {
    const steps = Math.max(1, Math.ceil(Math.hypot(x1 - x0, y1 - y0)));
    for (let step = 0; step <= steps; step++) {
      const x = x0 + ((x1 - x0) * step) / steps, y = y0 + ((y1 - y0) * step) / steps;
      const bottom = Math.min(this.height - 1, Math.floor(y + radius));
      const right = Math.min(this.width - 1, Math.floor(x + radius));
      for (let row = Math.max(0, Math.ceil(y - radius)); row <= bottom; row++) {
        for (let column = Math.max(0, Math.ceil(x - radius)); column <= right; column++) {
          if ((column - x) ** 2 + (row - y) ** 2 <= radius ** 2) this.set(row * this.width + column, id);
        }
      }
    }
    if (id) this.accept(id);
  }

  /** COCO's segments_info, with areas and boxes as they are now. */
  listed() {
    const measured = new Map();
    for (let pixel = 0; pixel < this.ids.length; pixel++) {
      const id = this.ids[pixel];
      if (!id) continue;
      const x = pixel % this.width, y = (pixel - x) / this.width;
      const m = measured.get(id);
      if (!m) measured.set(id, [1, x, y, x, y]);
      else [m[0], m[1], m[3], m[4]] = [m[0] + 1, Math.min(m[1], x), Math.max(m[3], x), y];
    }
    return [...this.infos.values()].map((info) => {
      const [area, x0, y0, x1, y1] = measured.get(info.id);
      return { ...info, area, bbox: [x0, y0, x1 + 1 - x0, y1 + 1 - y0] };
    });
  }
}

/** Bits of a yes that has this probability: 1 at one half, 0 where it is sure. */
function entropy(p) {
  return p <= 0 || p >= 1 ? 0 : -p * Math.log2(p) - (1 - p) * Math.log2(1 - p);
}

/** What a model's segment is doubted for: bits of its score, or the share that a second model disputes. */
const DOUBTS = {
  score: (info) => entropy(info.score ?? 0.5),
  agreement: (info) => 1 - (info.agreement ?? 0),
};

/** The mean over the pixels: that of their segment where a model is, 0 where a person is, 1 in VOID. */
function doubtOf(infos, pixels, by) {
  let covered = 0, doubt = 0;
  for (const info of infos) {
    covered += info.area;
    if (info.source === MODEL) doubt += info.area * DOUBTS[by](info);
  }
  return (doubt + pixels - covered) / pixels;
}

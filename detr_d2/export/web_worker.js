"use strict";
/* The model, beside the page, so that the page can be used while it runs. */

let ort = null, session = null, metadata = null;
let reason = "it is not there yet"; // why there is no session

/** Colours of each pixel, RGBA -> planes of the channels that the model takes, in its order. */
function planes(rgba) {
  const pixels = rgba.length / 4, floats = metadata.dtype === "float32";
  const values = new (floats ? Float32Array : Uint8Array)(3 * pixels);
  const order = metadata.input_format === "RGB" ? [0, 1, 2] : [2, 1, 0];
  order.forEach((channel, plane) => {
    for (let n = 0; n < pixels; n++) values[plane * pixels + n] = rgba[4 * n + channel];
  });
  return values;
}

const ACTS = {
  async open({ runtime, wasm, model, about }) {
    metadata = about;
    ort = await import(runtime);
    ort.env.wasm.wasmBinary = wasm;
    ort.env.wasm.numThreads = 1; // threads share memory, which a page without a server may not
    session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
    return {};
  },

  async run({ rgba, width, height }) {
    if (!session) throw new Error(`The model could not be started: ${reason}.`);
    const started = performance.now();
    const image = new ort.Tensor(metadata.dtype, planes(rgba), [1, 3, height, width]);
    const found = await session.run({ image });
    const labels = found.segment_classes.data, segments = [];
    for (let n = 0; n < labels.length && labels[n] >= 0; n++) {
      const [score, area] = [found.segment_scores.data[n], Number(found.segment_areas.data[n])];
      segments.push({ id: n + 1, label: Number(labels[n]), score, area });
    }
    const map = Int32Array.from(found.panoptic_seg.data);
    for (const tensor of Object.values(found)) tensor.dispose();
    return { map, segments, milliseconds: performance.now() - started };
  },
};

onmessage = async ({ data }) => {
  try {
    postMessage(await ACTS[data.act](data));
  } catch (error) {
    reason = String(error?.message ?? error);
    postMessage({ error: reason });
  }
};

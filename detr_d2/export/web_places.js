"use strict";
/* Where the name of each segment is written. */

/**
 * Of each segment the pixel that lies deepest in it.
 * @param {Int32Array} map of ids, row after row; 0 = VOID.
 * @returns {Map<number, {x: number, y: number, depth: number}>} depth: steps to what is no part of it.
 */
function innermost(map, width, height) {
  const depth = new Uint16Array(map.length), places = new Map();
  const at = (n, other) => (map[other] === map[n] ? depth[other] : 0);
  for (let n = 0; n < map.length; n++) {
    const left = n % width ? at(n, n - 1) : 0, above = n >= width ? at(n, n - width) : 0;
    depth[n] = 1 + Math.min(left, above);
  }
  for (let n = map.length - 1; n >= 0; n--) {
    const x = n % width, y = (n - x) / width;
    const right = x + 1 < width ? at(n, n + 1) : 0, below = y + 1 < height ? at(n, n + width) : 0;
    depth[n] = Math.min(depth[n], 1 + right, 1 + below);
    if (map[n] && depth[n] > (places.get(map[n])?.depth ?? 0)) places.set(map[n], { x, y, depth: depth[n] });
  }
  return places;
}

// Templates of elements: `html`, by htm over Preact.

import htm from '../lib/htm.js';
import { h } from '../lib/preact.js';

/**
 * htm keeps a part of a template that has no values, to use it again, unless `this[0]` forbids that. Preact writes into such an
 * element where it stands. So one that is kept holds the page that it was first on, and every item that was there.
 */
function element(...of) {
  this[0] = 3;
  return h(...of);
}

export const html = htm.bind(element);

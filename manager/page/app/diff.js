// Differences: of two texts, and in git's unified form.

import { useState } from '../lib/preact.js';
import { html } from './html.js';
import { Long } from './parts.js';
import { line, plain } from './text.js';

/** Lines of a file's difference that are shown at first. */
const FIRST = 200;
/** Above this product of changed lines, lines are not compared one by one. */
const MOST_WORK = 1_000_000;
/** Lines around a change. */
const AROUND = 3;

/** Compares two texts by lines. Returns rows `{sign: ' '|'+'|'-'|'@', text, old, now}`. */
export function compare(before, after) {
  const a = lines(before);
  const b = lines(after);
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail += 1;
  const rows = [];
  const keep = (at) => rows.push({ sign: ' ', text: a[at], old: at + 1 });
  for (let at = 0; at < head; at += 1) keep(at);
  for (const one of middle(a.slice(head, a.length - tail), b.slice(head, b.length - tail))) rows.push(one);
  for (let at = a.length - tail; at < a.length; at += 1) keep(at);
  const shown = hunks(rows);
  if (before && after && before.endsWith('\n') !== after.endsWith('\n'))
    shown.push({ sign: '@', text: `the new text ends ${after.endsWith('\n') ? 'with' : 'without'} a line break` });
  return shown;
}

const lines = (text) => (text === '' ? [] : text.replace(/\n$/, '').split('\n'));

function middle(a, b) {
  const rows = [];
  if (a.length * b.length > MOST_WORK) {
    return [...a.map((text) => ({ sign: '-', text })), ...b.map((text) => ({ sign: '+', text }))];
  }
  const width = b.length + 1;
  const table = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      table[i * width + j] =
        a[i] === b[j] ? table[(i + 1) * width + j + 1] + 1 : Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
    }
  }
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      rows.push({ sign: ' ', text: a[i] });
      i += 1;
      j += 1;
    } else if (i < a.length && (j === b.length || table[(i + 1) * width + j] >= table[i * width + j + 1])) {
      rows.push({ sign: '-', text: a[i] });
      i += 1;
    } else {
      rows.push({ sign: '+', text: b[j] });
      j += 1;
    }
  }
  return rows;
}

/** Leaves out what is far from every change. */
function hunks(rows) {
  const near = new Uint8Array(rows.length);
  rows.forEach((row, at) => {
    if (row.sign === ' ') return;
    near.fill(1, Math.max(0, at - AROUND), Math.min(rows.length, at + AROUND + 1));
  });
  const kept = [];
  let skipped = 0;
  rows.forEach((row, at) => {
    if (!near[at]) {
      skipped += 1;
      return;
    }
    if (skipped) kept.push({ sign: '@', text: `${skipped} unchanged ${skipped === 1 ? 'line' : 'lines'}` });
    skipped = 0;
    kept.push(row);
  });
  return kept;
}

/** Splits a difference in git's form into files: `{path, old, rows, binary}`. */
export function parse(text) {
  const files = [];
  let file = null;
  let inside = false;
  for (const row of text.split('\n')) {
    if (row.startsWith('diff --git ')) {
      file = { head: row, path: '', old: '', rows: [], notes: [] };
      files.push(file);
      inside = false;
    } else if (!file) {
      continue;
    } else if (!inside && row.startsWith('--- ')) {
      file.old = named(row.slice(4));
    } else if (!inside && row.startsWith('+++ ')) {
      file.path = named(row.slice(4));
    } else if (row.startsWith('@@')) {
      inside = true;
      file.rows.push({ sign: '@', text: row });
    } else if (inside && /^[ +-]/.test(row)) {
      file.rows.push({ sign: row[0], text: row.slice(1) });
    } else if (!inside && row) {
      file.notes.push(row);
    }
  }
  for (const one of files) {
    if (!one.path || one.path === '/dev/null')
      one.path = one.old && one.old !== '/dev/null' ? one.old : one.head.replace(/^diff --git a\/.* b\//, '');
  }
  return files;
}

function named(text) {
  const path = text.startsWith('"') && text.endsWith('"') ? text.slice(1, -1) : text.replace(/\t$/, '');
  return path.replace(/^[ab]\//, '');
}

export function counted(rows) {
  let added = 0;
  let removed = 0;
  for (const { sign } of rows) {
    if (sign === '+') added += 1;
    else if (sign === '-') removed += 1;
  }
  return { added, removed };
}

const NAMES = { '+': 'added', '-': 'removed' };

/** Rows of a difference. Screen readers hear which lines were added and removed. */
export function Rows({ rows, label }) {
  const [end, setEnd] = useState(FIRST);
  const part = rows.slice(0, end);
  return html`<div class="diff" role="group" aria-label=${label}>
    ${part.map((row, at) => {
      const kind = row.sign === '+' ? 'is-added' : row.sign === '-' ? 'is-removed' : row.sign === '@' ? 'is-place' : '';
      const name = NAMES[row.sign];
      const text = row.text.length > 4_000 ? `${row.text.slice(0, 4_000)}… (${row.text.length} characters)` : row.text;
      return html`<div key=${at} class=${`diff-row ${kind}`} dir="ltr">
        <span class="diff-sign" aria-hidden="true">${row.sign === '@' ? '⋯' : row.sign}</span>
        <code>${name ? html`<span class="unseen">${name}: </span>` : null}${plain(text) || ' '}</code></div>`;
    })}
    ${rows.length > end ? html`<button class="small" onClick=${() => setEnd(end + 2_000)}>Show more <span class="dim">(${end} of ${rows.length} lines)</span></button>` : null}
  </div>`;
}

/** The numbers of added and removed lines. */
export function Count({ added, removed }) {
  return html`<span class="count"><span class="plus">+${added}</span> <span class="minus">−${removed}</span></span>`;
}

/** Rows of differences by their part: a part is compared once, however often it is drawn. */
const compared = new WeakMap();
export function rowsOf(part) {
  let rows = compared.get(part);
  if (!rows) {
    rows = compare(part.old, part.now);
    compared.set(part, rows);
  }
  return rows;
}

/** A difference of two texts with its path. */
export function Change({ part }) {
  if (!part.fits)
    return html`<p class="dim">${line(part.path)}: the texts are too long to compare here.</p>
    ${part.old ? html`<p>The old text:</p><${Long} text=${part.old} clean=${plain} />` : null}
    ${part.now ? html`<p>The new text:</p><${Long} text=${part.now} clean=${plain} />` : null}`;
  const rows = rowsOf(part);
  return html`<figure class="change">
    <figcaption><span class="path" dir="ltr">${line(part.path)}</span> <${Count} ...${counted(rows)} /></figcaption>
    <${Rows} rows=${rows} label=${`Change of ${line(part.path)}`} />
  </figure>`;
}

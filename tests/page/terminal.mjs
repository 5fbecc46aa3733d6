// Pictures of what kennel shows in a terminal: the screen of a real tmux, drawn by Chromium.
//
//   tests/page/run does what is needed first; then: node tests/page/terminal.mjs [DIRECTORY]      default: manager/docs/pictures

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { browser } from './browser.mjs';
import { story } from './story.mjs';
import { eventually } from './suite.mjs';
import { Terminal } from './tmux.mjs';

const out = process.argv[2] ?? fileURLToPath(new URL('../../manager/docs/pictures', import.meta.url));

/** The sixteen colours of a terminal, on a dark ground. */
const COLOURS = ['#3b4252', '#e06c75', '#98c379', '#e5c07b', '#61afef', '#c678dd', '#56b6c2', '#d8dee9',
  '#7f8796', '#ff7b86', '#b5e08f', '#ffd68a', '#82c4ff', '#dd9bf0', '#7fd6e0', '#ffffff'];
const INK = '#d8dee9';
const GROUND = '#1b1f27';

/** Colour number `n` of the palette of 256. */
function palette(n) {
  if (n < 16) return COLOURS[n];
  if (n >= 232) return `rgb(${Array(3).fill(8 + 10 * (n - 232)).join(',')})`;
  const level = (at) => [0, 95, 135, 175, 215, 255][Math.floor((n - 16) / at) % 6];
  return `rgb(${level(36)},${level(6)},${level(1)})`;
}

/** What a style is after these parameters of an SGR sequence. */
function styled(style, parameters) {
  const next = { ...style };
  const codes = parameters === '' ? [0] : parameters.split(/[;:]/).map(Number);
  const colour = () => {
    if (codes.shift() === 5) return palette(codes.shift());
    return `rgb(${codes.splice(0, 3).join(',')})`;
  };
  while (codes.length) {
    const code = codes.shift();
    if (code === 0) for (const key of Object.keys(next)) delete next[key];
    else if (code === 1) next.bold = true;
    else if (code === 2) next.dim = true;
    else if (code === 3) next.italic = true;
    else if (code === 4) next.underline = true;
    else if (code === 7) next.reverse = true;
    else if (code === 22) { delete next.bold; delete next.dim; }
    else if (code === 23) delete next.italic;
    else if (code === 24) delete next.underline;
    else if (code === 27) delete next.reverse;
    else if (code === 38) next.ink = colour();
    else if (code === 48) next.ground = colour();
    else if (code === 39) delete next.ink;
    else if (code === 49) delete next.ground;
    else if (code >= 30 && code <= 37) next.ink = COLOURS[code - 30];
    else if (code >= 40 && code <= 47) next.ground = COLOURS[code - 40];
    else if (code >= 90 && code <= 97) next.ink = COLOURS[code - 82];
    else if (code >= 100 && code <= 107) next.ground = COLOURS[code - 92];
  }
  return next;
}

/** A screen with SGR sequences as runs of text, each with its style. */
function runs(screen) {
  const made = [];
  let style = {};
  for (const [at, part] of screen.split(/\x1b\[([\d;:]*)m/).entries()) {
    if (at % 2) style = styled(style, part);
    else if (part) made.push({ text: part, style });
  }
  return made;
}

/** Saves a picture of a screen. */
async function draw(page, screen, columns, file) {
  await page.setContent('<pre></pre>');
  await page.addStyleTag({ content: `body { margin: 0; background: ${GROUND}; }
    pre { margin: 0; padding: 14px 16px; width: max-content; min-width: ${columns}ch; color: ${INK}; background: ${GROUND};
      font: 14px/1.35 "DejaVu Sans Mono", monospace; font-variant-ligatures: none; }` });
  await page.evaluate(({ parts, ink, ground }) => {
    const pre = document.querySelector('pre');
    for (const { text, style } of parts) {
      const span = document.createElement('span');
      span.textContent = text;
      const [front, back] = style.reverse ? [style.ground ?? ground, style.ink ?? ink] : [style.ink, style.ground];
      if (front) span.style.color = front;
      if (back) span.style.background = back;
      if (style.bold) span.style.fontWeight = 'bold';
      if (style.dim) span.style.opacity = '0.6';
      if (style.italic) span.style.fontStyle = 'italic';
      if (style.underline) span.style.textDecoration = 'underline';
      pre.append(span);
    }
  }, { parts: runs(screen), ink: INK, ground: GROUND });
  await page.locator('pre').screenshot({ path: file });
}

const shots = [
  { file: 'top.png', columns: 130, rows: 14, command: 'kennel top', ready: (text) => /I am reading/.test(text) && /MiB/.test(text) },
  { file: 'attach.png', columns: 100, rows: 30, command: 'kennel attach release', ready: (text) => /publish --locked/.test(text) && /1\) Allow/.test(text) },
];

await mkdir(out, { recursive: true });
const { daemon } = await story();
const chromium = await browser();
try {
  const page = await chromium.started.newPage({ viewport: { width: 1200, height: 700 } });
  for (const { file, columns, rows, command, ready } of shots) {
    const terminal = new Terminal(daemon, columns, rows);
    try {
      await terminal.start(command);
      const screen = await eventually(() => terminal.screen(), ready, command);
      await draw(page, screen, columns, join(out, file));
    } finally {
      await terminal.end();
    }
  }
} finally {
  await chromium.close();
  await daemon.end();
}

// A daemon and a browser for all tests of one file, and the two sizes at which each flow is tried.

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { after, afterEach, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { DESK, PHONE, browser, page } from './browser.mjs';
import { Daemon } from './daemon.mjs';

export const SIZES = [
  ['at 360 px', PHONE],
  ['at 1280 px', DESK],
];
const out = fileURLToPath(new URL('out', import.meta.url));

/** Makes a daemon and a browser for the tests of a file. `prepare` gets the daemon before the first test. */
export function suite({ prepare } = {}) {
  const with_ = { daemon: null, browser: null, pages: [] };
  before(async () => {
    await mkdir(out, { recursive: true });
    with_.daemon = await Daemon.start();
    await prepare?.(with_.daemon);
    with_.browser = await browser();
  });
  after(async () => {
    await with_.browser?.close();
    await with_.daemon?.end();
  });
  afterEach(async (context) => {
    for (const [at, opened] of with_.pages.entries()) {
      const name = `${context.fullName ?? context.name}-${at}`
        .replace(/[^\w]+/g, '-')
        .toLowerCase()
        .slice(0, 120);
      await opened.screenshot({ path: `${out}/${name}.png` }).catch(() => {});
      await opened.context().close();
    }
    with_.pages = [];
  });

  /** Opens a page that is logged in. What goes wrong in it fails the test. */
  with_.open = async (settings = {}, ...web) => {
    const opened = await page(with_.browser, settings);
    with_.pages.push(opened);
    await opened.goto(await with_.daemon.link(...web));
    await opened.getByRole('region', { name: 'Sessions' }).waitFor();
    return opened;
  };

  /** Goes to a place of the page. */
  with_.go = (opened, hash) =>
    opened.evaluate((to) => {
      location.hash = to;
    }, hash);

  /** A test at both sizes. */
  with_.both = (name, run) => {
    for (const [at, size] of SIZES) {
      test(`${name}, ${at}`, async () => {
        await run(size);
        for (const opened of with_.pages) assert.deepEqual(opened.wrong, []);
      });
    }
  };
  return with_;
}

/** Asks again until the answer is right, and returns it. */
export async function eventually(ask, right, what) {
  let last;
  for (const end = Date.now() + 30_000; Date.now() < end;) {
    last = await ask();
    if (right(last)) return last;
    await new Promise((done) => {
      setTimeout(done, 30);
    });
  }
  throw new Error(`${what}: ${JSON.stringify(last)?.slice(0, 2_000)}`);
}

/**
 * Presses a button of a card until the card goes. A press counts only while the card lies still, and a card may grow, or be scrolled
 * to, at the moment of the press.
 */
export async function answer(card, name) {
  const press = async () => {
    const button = card.getByRole('button', { name }).first();
    await button.click({ timeout: 2_000 }).catch(() => {});
    return card.count();
  };
  await eventually(press, (left) => left === 0, 'the card goes');
}

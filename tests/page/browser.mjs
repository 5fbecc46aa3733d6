// A Chromium of a test, and pages in it that report whatever goes wrong in them.

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

export const PHONE = { width: 360, height: 740 };
export const DESK = { width: 1280, height: 800 };
/** The bound of every wait, in milliseconds. */
export const PATIENCE = 20_000;

const ARGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-dev-shm-usage',
];

/** Starts a browser with an empty profile. */
export async function browser() {
  const profile = await mkdtemp(join(tmpdir(), 'kennel-browser-'));
  const started = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ARGS,
    chromiumSandbox: false,
    env: { ...process.env, HOME: profile, XDG_CONFIG_HOME: profile, XDG_CACHE_HOME: profile },
  });
  return {
    started,
    async close() {
      await started.close();
      await rm(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/**
 * Errors of the console that a test expects: the browser's own lines about requests that the daemon refused or did not
 * take.
 */
const EXPECTED = [
  /Failed to load resource: net::ERR_/,
  /Failed to load resource: the server responded with a status of (400|401|403|404|409|503)/,
];

/**
 * Opens a page. `page.wrong` collects what must never happen: an error, a dialog, a violation of the content security
 * policy, a request to another host. With `ownCertificate` the browser accepts the certificate that kennel made.
 */
export async function page(from, { size = PHONE, dark = false, expected = [], ownCertificate = false } = {}) {
  const phone = size.width < 600;
  const context = await from.started.newContext({
    viewport: size,
    ignoreHTTPSErrors: ownCertificate,
    colorScheme: dark ? 'dark' : 'light',
    hasTouch: phone,
    isMobile: phone,
    deviceScaleFactor: 1,
    reducedMotion: 'reduce',
    locale: 'en-GB',
    timezoneId: 'UTC',
  });
  const opened = await context.newPage();
  opened.setDefaultTimeout(PATIENCE);
  const wrong = [];
  opened.wrong = wrong;
  opened.on('pageerror', (error) => wrong.push(`error: ${error.stack ?? error}`));
  opened.on('dialog', (dialog) => {
    wrong.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  opened.on('console', (message) => {
    const text = message.text();
    if (!['error', 'warning'].includes(message.type()) || [...EXPECTED, ...expected].some((one) => one.test(text))) return;
    wrong.push(`console: ${text}`);
  });
  opened.on('request', (request) => {
    const url = new URL(request.url());
    if (['http:', 'https:'].includes(url.protocol) && !/^127\./.test(url.hostname)) wrong.push(`request: ${url}`);
  });
  if (process.env.KENNEL_PAGE_FILES === 'tree') await fromTree(opened);
  await opened.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) =>
      console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`),
    );
    window.ran = (what) => console.error(`ran: ${what}`);
  });
  return opened;
}

/**
 * Lets the page have the files of the tree instead of those in the program, with all headers of the daemon: nothing need
 * be built.
 */
async function fromTree(opened) {
  const tree = fileURLToPath(new URL('../../manager/page', import.meta.url));
  const types = {
    html: 'text/html; charset=utf-8',
    js: 'text/javascript; charset=utf-8',
    css: 'text/css; charset=utf-8',
    svg: 'image/svg+xml',
    png: 'image/png',
    webmanifest: 'application/manifest+json',
  };
  await opened.route(
    (url) => url.pathname === '/' || url.pathname.startsWith('/page/'),
    async (route) => {
      const url = new URL(route.request().url());
      const path = url.pathname === '/' ? 'index.html' : url.pathname.slice('/page/'.length);
      try {
        const { headers } = await route.fetch({ url: url.origin });
        const body = await readFile(join(tree, path));
        await route.fulfill({
          body,
          headers: { ...headers, 'content-type': types[path.split('.').at(-1)], 'content-length': String(body.length) },
        });
      } catch {
        await route.abort().catch(() => {});
      }
    },
  );
}

/** Waits until a condition in the page holds. */
export function until(opened, condition, argument) {
  return opened.waitForFunction(condition, argument, { timeout: PATIENCE, polling: 50 });
}

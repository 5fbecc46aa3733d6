// Makes the three pictures of the documentation: the list and a permission on a phone, a session on a desk. Makes the
// icon for home screens that take no SVG, too.
//
//   tests/page/run does what is needed first; then: node tests/page/pictures.mjs

import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DESK, PHONE, browser, page } from './browser.mjs';
import { story } from './story.mjs';
import { eventually } from './suite.mjs';

const out = fileURLToPath(new URL('../../manager/docs/pictures', import.meta.url));
const MOST = 150_000;

const { daemon, parser, release } = await story();
const started = await browser();
try {
  await mkdir(out, { recursive: true });
  const take = async (opened, name) => {
    await opened.evaluate(() => document.activeElement?.blur());
    const path = join(out, `${name}.png`);
    await opened.screenshot({ path, animations: 'disabled' });
    const { size } = await stat(path);
    if (size > MOST) throw new Error(`${name}.png has ${size} bytes, more than ${MOST}`);
    console.log(`${name}.png ${size} bytes`);
  };
  const icon = await page(started, { size: { width: 512, height: 512 } });
  await icon.goto(new URL('../../manager/page/icon.svg', import.meta.url).href);
  await icon.screenshot({
    path: fileURLToPath(new URL('../../manager/page/icon.png', import.meta.url)),
    omitBackground: true,
  });
  const phone = await page(started, { size: PHONE });
  await phone.goto(await daemon.link());
  await phone.locator('.is-needs .row').waitFor();
  await eventually(
    () => phone.locator('.row-facts', { hasText: 'MiB' }).count(),
    (count) => count >= 6,
    'the memory of each session',
  );
  await take(phone, 'page-list');
  await phone.locator(`[data-id="${release.id}"]`).click();
  await phone.locator('.command pre').waitFor();
  await phone.locator('.item.is-permission').waitFor();
  await take(phone, 'page-permission');
  const desk = await page(started, { size: DESK, dark: true });
  await desk.goto(await daemon.link());
  await desk.locator(`[data-id="${parser.id}"]`).click();
  await desk.locator('.tool-head', { hasText: 'Edit' }).click();
  await desk.locator('.diff-row.is-added').waitFor();
  await desk
    .locator('.scroller')
    .first()
    .evaluate((node) => {
      node.scrollTop = 0;
    });
  await take(desk, 'page-session');
} finally {
  await started.close();
  await daemon.end();
}

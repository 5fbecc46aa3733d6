// Access for everybody: axe finds nothing in any view, light and dark; targets are large enough; the keyboard alone is
// enough.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { DESK, PHONE, until } from '../browser.mjs';
import { update } from '../daemon.mjs';
import { eventually, suite } from '../suite.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const s = suite({
  async prepare(daemon) {
    await writeFile(join(daemon.work, 'main.rs'), 'one\ntwo\n');
    await daemon.git('init', '-q');
    await daemon.git('add', '.');
    await daemon.git('commit', '-qm', 'a');
    await writeFile(join(daemon.work, 'main.rs'), 'one\n2\n');
  },
});

/** Axe's violations in a page, each in a line. The debugger runs axe, because no script of a test passes the policy. */
async function violations(opened) {
  // Without reduced motion, a colour could be looked at on its way.
  const debug = await opened.context().newCDPSession(opened);
  await debug.send('Runtime.evaluate', { expression: axe });
  const found = await opened.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  await debug.detach();
  return found.violations.flatMap((one) =>
    one.nodes.map(
      (node) => `${one.id}: ${node.html.slice(0, 160)} ${node.failureSummary.replace(/\s+/g, ' ').slice(0, 200)}`,
    ),
  );
}

/** Buttons and links of controls that are smaller than a thumb needs. Links within a text are as high as its lines. */
function small() {
  const all = [
    ...document.querySelectorAll(
      '#page button, #page .round, #page .tabs a, #page .row-link, #page .file-link, #page .hit, #page input:not([type=file]):not([type=checkbox]), #page select, #page textarea',
    ),
  ];
  return all
    .filter((node) => {
      const box = node.getBoundingClientRect();
      return node.checkVisibility() && box.width > 0 && (box.height < 43.5 || box.width < 43.5);
    })
    .map((node) => `${node.outerHTML.slice(0, 120)} ${JSON.stringify(node.getBoundingClientRect())}`);
}

let talk;
let asks;
let form;

async function sessions() {
  if (talk) return;
  const call = update({
    sessionUpdate: 'tool_call',
    toolCallId: 't',
    title: 'make test',
    kind: 'execute',
    status: 'completed',
    rawInput: { command: 'make test' },
    content: [
      { type: 'content', content: { type: 'text', text: 'green' } },
      { type: 'diff', path: 'a.rs', oldText: 'a\n', newText: 'b\n' },
    ],
  });
  talk = await s.daemon.session({ title: 'Talks' });
  await s.daemon.turn(
    talk.id,
    `think hm; ${call}; plan; say # Title\n\n**bold** [link](https://example.invalid/)\n\n> quote\n\n| a | b |\n|---|---|\n| c | d |`,
  );
  asks = await s.daemon.session({ title: 'Asks' });
  await s.daemon.prompt(asks.id, 'ask run execute /srv/app');
  form = await s.daemon.session({ title: 'Asks in a form' });
  await s.daemon.prompt(form.id, 'survey About you');
  await s.daemon.wait(asks.id, 'requires_action');
  await s.daemon.wait(form.id, 'requires_action');
  await s.daemon.turn((await s.daemon.session({ title: 'Sleeps' })).id, 'say zzz');
}

for (const dark of [false, true]) {
  for (const size of [PHONE, DESK]) {
    test(`axe finds nothing, ${dark ? 'dark' : 'light'}, at ${size.width} px`, async () => {
      await sessions();
      const opened = await s.open({ size, dark });
      const views = [
        ['#/', '.row'],
        [`#/s/${talk.id}`, '.md'],
        [`#/s/${asks.id}`, '.card .answers'],
        [`#/s/${form.id}`, '.card input'],
        [`#/s/${talk.id}/changes`, '.file-diff'],
        [`#/s/${talk.id}/files`, '.file-link'],
        [`#/s/${talk.id}/files/main.rs`, '.file-text'],
        [`#/s/${talk.id}/timeline`, '.times'],
        [`#/s/${talk.id}/about`, '.facts'],
        ['#/search?q=bold', '.hit'],
        ['#/new', '#dir'],
        ['#/settings', '.facts'],
      ];
      const found = [];
      for (const [hash, shown] of views) {
        await s.go(opened, hash);
        await opened.locator(shown).first().waitFor();
        for (const head of await opened.locator('.tool-head[aria-expanded=false]').all()) await head.click();
        for (const one of [...(await violations(opened)), ...(await opened.evaluate(small))]) found.push(`${hash}: ${one}`);
      }
      await s.go(opened, `#/s/${talk.id}`);
      await opened.getByRole('button', { name: 'More about this session' }).click();
      found.push(...(await violations(opened)));
      await opened.getByRole('button', { name: 'Restart' }).click();
      await opened.getByRole('dialog').waitFor();
      found.push(...(await violations(opened)));
      assert.deepEqual(found, []);
      assert.deepEqual(opened.wrong, []);
    });

    test(`axe finds nothing in the log-in, ${dark ? 'dark' : 'light'}, at ${size.width} px`, async () => {
      const opened = await s.open({ size, dark });
      await s.go(opened, '#/settings');
      await opened.getByRole('button', { name: 'Log out' }).click();
      await opened.getByLabel('Key').waitFor();
      assert.deepEqual([...(await violations(opened)), ...(await opened.evaluate(small))], []);
    });
  }
}

/** Presses Tab until the focus is on an element with this name. */
async function tabTo(opened, name) {
  for (let tries = 0; tries < 80; tries += 1) {
    await opened.keyboard.press('Tab');
    const at = await opened.evaluate(() => {
      const node = document.activeElement;
      const seen = node.matches(':focus-visible') && getComputedStyle(node).outlineStyle !== 'none';
      return { name: node.getAttribute('aria-label') ?? node.labels?.[0]?.textContent ?? node.textContent, seen };
    });
    if (name.test(at.name ?? '')) {
      assert.ok(at.seen, `the focus on ${at.name} cannot be seen`);
      return;
    }
  }
  throw new Error(`Tab does not reach ${name}`);
}

s.both('the keyboard alone answers a permission and sends a prompt', async (size) => {
  const one = await s.daemon.session({ title: `By keyboard ${size.width}` });
  await s.daemon.prompt(one.id, 'ask edit');
  await s.daemon.wait(one.id, 'requires_action');
  const opened = await s.open({ size });
  await opened.locator(`[data-id="${one.id}"]`, { hasText: 'Permission' }).waitFor();
  await tabTo(opened, new RegExp(`By keyboard ${size.width}`));
  await opened.keyboard.press('Enter');
  await opened.getByRole('button', { name: 'Allow', exact: true }).waitFor();
  await until(opened, () => {
    const allow = document.querySelector('.allow');
    return !allow.disabled && allow.getAttribute('aria-disabled') === null;
  });
  await tabTo(opened, /^Allow/);
  await opened.keyboard.press('Enter');
  await eventually(
    () => s.daemon.api('GET', `/v1/sessions/${one.id}/result`),
    (now) => now.text === 'answered yes',
    'the agent hears yes',
  );
  await opened.locator('.card').waitFor({ state: 'detached' });
  await tabTo(opened, /^Prompt$/);
  await opened.keyboard.type('say typed');
  await opened.keyboard.press('Control+Enter');
  await opened.locator('.md', { hasText: 'typed' }).waitFor();
});

s.both('a screen reader hears that a session needs somebody, and nothing of a stream', async (size) => {
  const loud = await s.daemon.session({ title: `Loud ${size.width}` });
  const asking = await s.daemon.session({ title: `Will ask ${size.width}` });
  const opened = await s.open({ size });
  await s.go(opened, `#/s/${loud.id}`);
  await opened.evaluate(() => {
    window.heard = [];
    new MutationObserver(() => {
      const text = document.getElementById('said').textContent;
      if (text) window.heard.push(text);
    }).observe(document.getElementById('said'), { childList: true, subtree: true, characterData: true });
  });
  await s.daemon.turn(loud.id, 'messages 300 20');
  await opened.getByText('Finished').waitFor();
  assert.deepEqual(await opened.evaluate(() => window.heard), []);
  const live = await opened.evaluate(
    () =>
      [...document.querySelectorAll('#page [aria-live], #page [role=log], #page [role=status], #page [role=alert]')].length,
  );
  assert.equal(live, 0);
  await s.daemon.prompt(asking.id, 'ask edit');
  await until(opened, (name) => window.heard.includes(`${name} needs you.`), `Will ask ${size.width}`);
  assert.equal((await opened.evaluate(() => window.heard)).length, 1);
  await s.daemon.api('DELETE', `/v1/sessions/${asking.id}?force=true`);
});

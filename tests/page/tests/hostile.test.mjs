// Hostile text in every field that an agent, a file or another client can fill: nothing runs, nothing is fetched,
// nothing is hidden.

import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { until } from '../browser.mjs';
import { permission, update } from '../daemon.mjs';
import { answer, suite } from '../suite.mjs';

const MARKUP =
  '<img src=x onerror="ran(1)"><script>ran(2)</script><svg onload=ran(3)><iframe srcdoc="<script>parent.ran(4)</script>"></iframe>' +
  '<a href="javascript:ran(5)">a</a><style>*{display:none!important}</style><form action=//example.invalid><button>b</button></form>';
const CONTROLS =
  '\u001b[31mred\u001b[0m\u001b]0;title\u0007\u001b[2J\u0008\u0000 \u202egnp.exe\u202c \u2066isolated\u2069 \u200bzero \u{e0041}tag';
const EVIL = `"'\`${MARKUP}${CONTROLS}`;
/** Markdown that would run, fetch or lie in a careless renderer. */
const MARKDOWN =
  `# Title ${EVIL}\n\n[click](javascript:ran(6)) [data](data:text/html,<script>ran(7)</script>) ![pixel](https://example.invalid/p.png) ` +
  `[fine](https://example.invalid/) <https://example.invalid/auto>\n\n\`\`\`html\n${MARKUP}\n\`\`\`\n\n| a | b |\n|---|---|\n| ${MARKUP.replaceAll('|', '')} | x |\n\n` +
  `<div onclick="ran(8)" style="position:fixed">over</div>\n\n[ref]: javascript:ran(9)\n[ref]\n\n- [x] done`;
/** Without what the API refuses in names and titles. */
const LINE = EVIL.replace(/[\u0000-\u001f\u007f-\u009f]/g, '');

const s = suite({
  async prepare(daemon) {
    const dir = join(daemon.work, 'files <b>');
    await mkdir(dir, { recursive: true });
    await writeFile(join(daemon.work, 'start.txt'), 'start\n');
    await daemon.git('init', '-q');
    await daemon.git('add', '.');
    await daemon.git('commit', '-qm', 'a');
    await writeFile(join(dir, 'evil \u202e<img src=x onerror=ran(1)>.txt'), EVIL.replace('\u0000', ''));
    await writeFile(join(daemon.work, 'start.txt'), `${EVIL.replace('\u0000', '')}\n--- a/fake\n+++ b/fake\n@@ -1 +1 @@\n`);
  },
});

/** Steps that put hostile text into each field of each kind of update. */
function steps() {
  const content = [
    { type: 'content', content: { type: 'text', text: EVIL } },
    { type: 'diff', path: EVIL, oldText: EVIL, newText: `${EVIL}\n${EVIL}` },
    { type: 'terminal', terminalId: EVIL },
    { type: EVIL },
    null,
    7,
  ];
  const call = {
    toolCallId: 'evil',
    title: EVIL,
    kind: EVIL,
    status: 'pending',
    content,
    locations: [{ path: EVIL }, null],
    rawInput: { command: EVIL, cwd: EVIL, [EVIL]: EVIL },
  };
  return [
    update({ sessionUpdate: 'agent_message_chunk', content: { type: 'text', text: MARKDOWN } }),
    update({
      sessionUpdate: 'agent_message_chunk',
      content: {
        type: 'image',
        mimeType: 'image/svg+xml',
        data: Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" onload="ran(1)"/>').toString('base64'),
      },
    }),
    update({ sessionUpdate: 'agent_message_chunk', content: { type: 'image', mimeType: 'image/png', data: 'AAAA' } }),
    update({ sessionUpdate: 'agent_thought_chunk', content: { type: 'text', text: EVIL } }),
    update({ sessionUpdate: 'tool_call', ...call }),
    update({ sessionUpdate: 'tool_call_update', toolCallId: 'evil', status: EVIL }),
    update({
      sessionUpdate: 'tool_call',
      toolCallId: 'proto',
      title: 'x',
      rawInput: JSON.parse('{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}'),
      content: 'x',
      locations: 7,
    }),
    update({ sessionUpdate: 'plan', entries: [{ content: EVIL, priority: EVIL, status: EVIL }, null, 3] }),
    update({ sessionUpdate: 'something_new', text: EVIL }),
    // Other types of values than the protocol has.
    ...[
      7,
      null,
      [],
      [[]],
      {},
      'x',
      [null, 7, 'x', { type: 'diff', path: 7, oldText: {}, newText: [] }, { type: 'content', content: null }],
    ].flatMap((odd, at) => [
      update({
        sessionUpdate: 'tool_call',
        toolCallId: `odd-${at}`,
        title: 'odd',
        kind: odd,
        status: odd,
        content: odd,
        locations: odd,
        rawInput: odd,
        rawOutput: odd,
      }),
      update({
        sessionUpdate: 'tool_call_update',
        toolCallId: `odd-${at}`,
        title: odd,
        content: odd,
        rawInput: { command: odd, cwd: odd },
      }),
      update({ sessionUpdate: 'plan', entries: odd }),
      update({ sessionUpdate: 'agent_message_chunk', content: { type: 'image', mimeType: odd, data: odd } }),
    ]),
  ];
}

/** What must be true of any view. */
async function harmless(opened, where) {
  const found = await opened.evaluate(() => ({
    foreign: document.querySelectorAll(
      '#page img:not(.picture):not(.mark), #page script, #page iframe, #page style, #page object, #page embed, #page form[action], #page [onclick], #page [onerror], #page [style*=fixed]',
    ).length,
    links: [...document.querySelectorAll('#page a[href]')]
      .map((link) => link.getAttribute('href'))
      .filter((href) => !/^(#|https?:)/.test(href)),
    open: [...document.querySelectorAll('#page a[href^=http]')].filter(
      (link) => link.rel !== 'noopener noreferrer' || link.target !== '_blank',
    ).length,
    // eslint-disable-next-line no-control-regex
    hidden:
      document
        .getElementById('page')
        .textContent.match(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u202a-\u202e\u2066-\u2069]|\u{e0041}/u)?.index ??
      -1,
    polluted: {}.polluted,
  }));
  assert.deepEqual(found, { foreign: 0, links: [], open: 0, hidden: -1, polluted: undefined }, where);
}

s.both('hostile text in every field is text', async (size) => {
  const one = await s.daemon
    .session({ title: LINE.slice(0, 190), labels: { team: 'a<b>"c' } })
    .catch(() => s.daemon.session({ title: `${MARKUP.slice(0, 150)}` }));
  const opened = await s.open({ size });
  await s.go(opened, `#/s/${one.id}`);
  await s.daemon.turn(one.id, steps().join('; '));
  await opened.getByText('Finished').waitFor();
  assert.ok((await opened.locator('.tool-head').count()) >= 2);
  for (const head of await opened.locator('.tool-head').all()) await head.click();
  for (const head of await opened.locator('summary').all()) await head.click();
  await harmless(opened, 'talk');
  // Nothing of a command is hidden, and nothing turns its direction.
  const command = await opened.locator('.command pre').first().textContent();
  assert.ok(
    command.includes('\\u{202e}gnp.exe') && command.includes('\\u{1b}[31m') && command.includes('<script>'),
    command,
  );
  // A picture from elsewhere is a text; a link to a script is none.
  await opened.getByText('[picture: pixel]').waitFor();
  assert.equal((await opened.locator('.md a[href^=https]').count()) >= 2, true);
  assert.equal(await opened.evaluate(() => typeof window.polluted), 'undefined');

  const options = [
    { optionId: 'x', name: EVIL, kind: 'allow_once' },
    { optionId: 'n', name: EVIL, kind: 'reject_once' },
    { optionId: 'z', name: EVIL, kind: EVIL },
  ];
  await s.daemon.prompt(
    one.id,
    permission(
      {
        toolCallId: 'p',
        title: EVIL,
        kind: 'execute',
        rawInput: { command: EVIL, cwd: EVIL },
        content: [{ type: 'diff', path: EVIL, oldText: EVIL, newText: '' }],
      },
      options,
    ),
  );
  const card = opened.getByRole('article', { name: 'Permission' });
  await card.locator('.command pre').waitFor();
  await harmless(opened, 'permission');
  const title = await card.locator('.card-title').textContent();
  assert.ok(title.includes('\\u{1b}[31m') && title.includes('<img src=x'), title);
  await opened.screenshot({ path: `out/hostile-permission-${size.width}.png` });
  await answer(card, /^Deny/);

  const schema = {
    type: 'object',
    required: ['a'],
    properties: {
      a: { type: 'string', title: EVIL, description: EVIL, default: EVIL },
      b: { type: 'string', oneOf: [{ const: EVIL, title: EVIL }] },
      c: { type: EVIL },
      d: null,
      [LINE]: { type: 'boolean', title: EVIL },
    },
  };
  const ask = {
    jsonrpc: '2.0',
    id: 72,
    method: 'elicitation/create',
    params: { sessionId: '$S', mode: 'form', message: EVIL, requestedSchema: schema },
  };
  await s.daemon.prompt(one.id, `wire ${JSON.stringify(ask).replaceAll(';', '\\u003b')}; heard`);
  const form = opened.getByRole('article', { name: 'Question' });
  await form.waitFor();
  await harmless(opened, 'form');
  await answer(form, 'Decline');
  for (const tab of ['changes', 'files', 'files/files <b>', 'files/start.txt', 'timeline', 'about']) {
    await s.go(opened, `#/s/${one.id}/${tab.split('/').map(encodeURIComponent).join('/')}`);
    await until(
      opened,
      () => !document.querySelector('.page') || !/Loading…/.test(document.querySelector('.page').textContent),
    );
    await harmless(opened, tab);
  }
  await s.go(opened, `#/s/${one.id}/files/${encodeURIComponent('files <b>')}`);
  await opened.locator('.file-link', { hasText: '\\u{202e}' }).click();
  await opened.locator('.file-text').waitFor();
  await harmless(opened, 'file');
  await s.go(opened, '#/search?q=gnp');
  await opened.locator('.hit').first().waitFor();
  await harmless(opened, 'search');
  await s.go(opened, '#/');
  await opened.locator('.row').first().waitFor();
  await harmless(opened, 'list');
});

s.both('an address bar with hostile text does nothing', async (size) => {
  const opened = await s.open({ size });
  for (const hash of [
    '#/s/%3Cimg%20src=x%20onerror=ran(1)%3E',
    '#/s/..%2f..%2fhealthz/files/..%2f..',
    '#/search?q=%22%3E%3Cscript%3Eran(2)%3C/script%3E',
    '#/s/%E0%A4%A/talk?at=NaN',
    '#/__proto__/x',
    '#/s/session-1/constructor',
  ]) {
    await s.go(opened, hash);
    await until(opened, () => document.querySelector('main') !== null);
    await harmless(opened, hash);
  }
});

s.both('a line of 1 MiB is shown in parts', async (size) => {
  const one = await s.daemon.session({ title: 'Says much' });
  await s.daemon.turn(one.id, 'messages 1 1048576');
  const opened = await s.open({ size });
  await s.go(opened, `#/s/${one.id}`);
  const more = opened.getByRole('button', { name: /Show more of this message/ });
  await more.waitFor();
  const wide = await opened.evaluate(
    () => document.querySelector('.scroller').scrollWidth - document.querySelector('.scroller').clientWidth,
  );
  assert.ok(wide <= 1, `it is ${wide} px too wide`);
  const before = await opened
    .locator('.item.is-message .long pre')
    .first()
    .evaluate((node) => node.textContent.length);
  await more.click();
  await until(
    opened,
    (length) => document.querySelectorAll('.item.is-message .long pre')[0].textContent.length > length,
    before,
  );
});

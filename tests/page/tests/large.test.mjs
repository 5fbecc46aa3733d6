// Much of everything: 500 sessions, 100,000 events, 10,000 tool calls in a turn. Times are printed, not judged: the
// machine is shared.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { PHONE, until } from '../browser.mjs';
import { update } from '../daemon.mjs';
import { heap, mib, nodes } from '../streaming.mjs';
import { suite } from '../suite.mjs';

const s = suite();
const SESSIONS = Number(process.env.KENNEL_PAGE_SESSIONS ?? 500);

test('a conversation of 100,000 events is read from its end, and to its beginning, in a bounded page', async () => {
  const one = await s.daemon.session({ title: 'Long' });
  await s.daemon.turn(one.id, 'say the very beginning');
  // 20 turns of 5,000 events: tool calls, and one long message.
  const call = update({
    sessionUpdate: 'tool_call',
    toolCallId: 'call-$I',
    title: 'step $I',
    kind: 'read',
    status: 'completed',
  }).replace('wire ', '');
  for (let turn = 0; turn < 20; turn += 1)
    await s.daemon.turn(one.id, `wires 800 ${call}; messages 4200 20; say end of turn ${turn}`, 120_000);
  const { last_event_id: last } = await s.daemon.api('GET', '/v1/manager');
  assert.ok(last > 100_000, `there are ${last} events`);
  const opened = await s.open({ size: PHONE });
  const began = Date.now();
  await s.go(opened, `#/s/${one.id}`);
  await opened.locator('.md', { hasText: 'end of turn 19' }).waitFor();
  const shown = Date.now() - began;
  const first = await heap(opened);
  assert.ok((await nodes(opened)) < 4_000, `${await nodes(opened)} elements`);
  // Up to the very beginning, as a thumb would scroll.
  const scroller = opened.getByRole('region', { name: 'Conversation' });
  let most = 0;
  for (let step = 0; step < 3_000; step += 1) {
    if (await opened.locator('.md', { hasText: 'the very beginning' }).count()) break;
    await scroller.evaluate((node) => {
      node.scrollTop = 0;
    });
    await opened.evaluate(
      () =>
        new Promise((done) => {
          requestAnimationFrame(() => requestAnimationFrame(done));
        }),
    );
    if (step % 50 === 0) most = Math.max(most, await nodes(opened));
  }
  await opened.locator('.md', { hasText: 'the very beginning' }).waitFor();
  const up = Date.now() - began - shown;
  const second = await heap(opened);
  assert.ok(most < 6_000, `${most} elements`);
  assert.ok(second < first + 60 * 1048576, `${mib(first)} grew to ${mib(second)}`);
  await opened.getByRole('button', { name: 'Newest' }).click();
  await opened.locator('.md', { hasText: 'end of turn 19' }).waitFor();
  console.log(
    `100,000 events: the end shown after ${shown} ms; scrolled to the beginning in ${up} ms; heap ${mib(first)}, then ${mib(second)}; at most ${most} elements`,
  );
  assert.deepEqual(opened.wrong, []);
});

test('10,000 tool calls in a turn stream into a bounded page, whose memory does not grow with them', async () => {
  const one = await s.daemon.session({ title: 'Calls much' });
  const opened = await s.open({ size: PHONE });
  await s.go(opened, `#/s/${one.id}`);
  const call = update({
    sessionUpdate: 'tool_call',
    toolCallId: 'call-$I',
    title: 'step $I',
    kind: 'execute',
    status: 'completed',
    rawInput: { command: 'make step-$I' },
    content: [{ type: 'content', content: { type: 'text', text: '«4000×x»' } }],
  }).replace('wire ', '');
  await s.daemon.prompt(one.id, `wires 10000 ${call}; say the last word`);
  await opened.locator('.md', { hasText: 'the last word' }).waitFor({ timeout: 60_000 });
  const first = await heap(opened);
  const count = await nodes(opened);
  // All calls together have 40 MB of output.
  assert.ok(first < 30 * 1048576, mib(first));
  assert.ok(count < 4_000, `${count} elements`);
  assert.ok((await opened.getByText('step 10000').count()) >= 1);
  await s.daemon.wait(one.id, 'idle');
  // Three times as much again: what is kept is bounded, so the heap is, too.
  for (let turn = 0; turn < 3; turn += 1) {
    await s.daemon.prompt(one.id, `messages 10000 100; say round ${turn}`);
    await opened
      .locator('.md', { hasText: `round ${turn}` })
      .or(opened.locator('.long', { hasText: `round ${turn}` }))
      .first()
      .waitFor({ timeout: 60_000 });
    await s.daemon.wait(one.id, 'idle');
  }
  const second = await heap(opened);
  assert.ok(second < first + 40 * 1048576, `${mib(first)} grew to ${mib(second)}`);
  console.log(`10,000 tool calls: heap ${mib(first)}, after 30,000 more events ${mib(second)}; ${count} elements`);
  assert.deepEqual(opened.wrong, []);
});

test(`${SESSIONS} sessions are listed, filtered and followed`, async () => {
  const all = [];
  for (let at = 0; at < SESSIONS; at += 5) {
    const some = await Promise.all(
      Array.from({ length: 5 }, (_, index) => s.daemon.session({ agent: 'shell', title: `Session number ${at + index}` })),
    );
    await Promise.all(some.map((one) => s.daemon.api('POST', `/v1/sessions/${one.id}/stop`)));
    all.push(...some);
  }
  const asks = await s.daemon.session({ title: 'The one that asks' });
  const opened = await s.open({ size: PHONE });
  await until(opened, () => document.querySelectorAll('.row').length > 0);
  await opened.reload();
  await opened.getByRole('button', { name: /^Ended/ }).click();
  await until(opened, (count) => document.querySelectorAll('.row').length >= count, SESSIONS);
  // The time from the load to the drawn list, measured within the page.
  const times = [];
  for (let round = 0; round < 5; round += 1) {
    await opened.reload();
    times.push(
      await opened.evaluate(
        () =>
          new Promise((done) => {
            const look = () => {
              if (document.querySelector('.group'))
                requestAnimationFrame(() =>
                  done(Math.round(performance.now() - performance.getEntriesByType('navigation')[0].loadEventEnd)),
                );
              else requestAnimationFrame(look);
            };
            look();
          }),
      ),
    );
  }
  await opened.getByLabel('Filter the list').fill('number 49');
  await until(
    opened,
    () =>
      document.querySelectorAll('.row').length > 0 &&
      [...document.querySelectorAll('.row-name')].every((row) =>
        /49/.test(row.textContent + row.closest('.row').dataset.id),
      ),
  );
  await opened.getByLabel('Filter the list').fill('');
  await s.daemon.prompt(asks.id, 'ask edit');
  await until(opened, (id) => document.querySelector('.group.is-needs .row')?.dataset.id === id, asks.id);
  console.log(
    `${SESSIONS} sessions: the list is drawn ${times.join(', ')} ms after the load; heap ${mib(await heap(opened))}`,
  );
  assert.deepEqual(opened.wrong, []);
});

test('a new file that is too large to be compared is not said to be no text', async () => {
  await writeFile(join(s.daemon.work, 'small.txt'), 'one\n');
  await s.daemon.git('init', '-q');
  await s.daemon.git('add', 'small.txt');
  await s.daemon.git('commit', '-qm', 'a');
  const one = await s.daemon.session({ title: 'Large file' });
  await writeFile(join(s.daemon.work, 'large.txt'), 'a line of text\n'.repeat(1_000_000));
  await writeFile(join(s.daemon.work, 'bytes.bin'), Buffer.from([1, 0, 2, 0]));
  const opened = await s.open({ size: PHONE });
  await s.go(opened, `#/s/${one.id}/changes`);
  const of = (name) => opened.locator('.file-diff', { hasText: name });
  await of('bytes.bin').getByText('no text', { exact: true }).waitFor();
  await of('large.txt').getByText('not counted', { exact: true }).waitFor();
  await of('large.txt').getByText('The file is too large to show its lines here.').waitFor();
  assert.deepEqual(opened.wrong, []);
});

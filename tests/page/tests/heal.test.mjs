// A tab lives through the ends of daemons: it says that it has no connection, comes back by itself, and misses nothing.

import assert from 'node:assert/strict';
import { until } from '../browser.mjs';
import { eventually, suite } from '../suite.mjs';

const s = suite();

/** Waits until the page says that it has no connection, and then that it has one again. */
const offline = (opened) => opened.locator('.offline').waitFor();
const online = (opened) => opened.locator('.offline').waitFor({ state: 'detached' });

s.both('a tab heals over three restarts of the daemon, and misses nothing', async (size) => {
  const one = await s.daemon.session({ title: `Lives on ${size.width}` });
  const opened = await s.open({ size });
  await s.go(opened, `#/s/${one.id}`);
  await s.daemon.turn(one.id, 'say before the restarts');
  await opened.locator('.md', { hasText: 'before the restarts' }).waitFor();
  await opened.getByLabel('Prompt', { exact: true }).fill('a draft');
  const ways = [
    async () => {
      await s.daemon.crash();
      await offline(opened);
      await s.daemon.kennel('daemon', 'start');
    },
    async () => {
      await s.daemon.kennel('daemon', 'stop');
      await offline(opened);
      await s.daemon.kennel('daemon', 'start');
    },
    async () => {
      await s.daemon.kennel('daemon', 'restart');
    },
  ];
  for (const [at, restart] of ways.entries()) {
    await restart();
    await online(opened);
    await s.daemon.api('PUT', `/v1/sessions/${one.id}`, {});
    await s.daemon.turn(one.id, `say after restart ${at}`);
    await opened.locator('.md', { hasText: `after restart ${at}` }).waitFor();
  }
  const said = await opened.locator('.item.is-message').allTextContents();
  assert.deepEqual(
    said.map((text) => text.trim()),
    ['before the restarts', 'after restart 0', 'after restart 1', 'after restart 2'],
  );
  assert.equal(await opened.getByLabel('Prompt', { exact: true }).inputValue(), 'a draft');
});

s.both('a prompt that finds no daemon stays in the box, and is accepted once', async (size) => {
  const one = await s.daemon.session({ title: `Is sent later ${size.width}` });
  const opened = await s.open({ size });
  await s.go(opened, `#/s/${one.id}`);
  const box = opened.getByLabel('Prompt', { exact: true });
  await box.fill('say once');
  await s.daemon.kennel('daemon', 'stop');
  await offline(opened);
  await opened.getByRole('button', { name: 'Send the prompt' }).click();
  await opened.getByText('The daemon does not answer.').waitFor();
  assert.equal(await box.inputValue(), 'say once');
  await s.daemon.kennel('daemon', 'start');
  await online(opened);
  await opened.getByRole('button', { name: 'Send the prompt' }).click();
  await opened.locator('.md', { hasText: 'once' }).waitFor();
  await eventually(
    () => s.daemon.api('GET', `/v1/sessions/${one.id}`),
    (now) => now.turn_count === 1,
    'one turn',
  );
});

s.both('the network of a phone that comes and goes is healed', async (size) => {
  const one = await s.daemon.session({ title: `On a train ${size.width}` });
  const opened = await s.open({ size });
  await s.go(opened, `#/s/${one.id}`);
  await s.daemon.turn(one.id, 'say first');
  await opened.locator('.md', { hasText: 'first' }).waitFor();
  await opened.context().setOffline(true);
  await offline(opened);
  await s.daemon.turn(one.id, 'say in the tunnel');
  await opened.context().setOffline(false);
  await opened.locator('.md', { hasText: 'in the tunnel' }).waitFor();
  assert.deepEqual(
    (await opened.locator('.item.is-message').allTextContents()).map((text) => text.trim()),
    ['first', 'in the tunnel'],
  );
});

s.both('a session that is removed elsewhere leaves the page', async (size) => {
  const one = await s.daemon.session({ title: `Goes ${size.width}` });
  const opened = await s.open({ size });
  await s.go(opened, `#/s/${one.id}`);
  await opened.getByRole('heading', { name: `Goes ${size.width}` }).waitFor();
  await s.daemon.api('DELETE', `/v1/sessions/${one.id}?force=true`);
  await opened.getByText('There is no such session.').waitFor();
  await s.go(opened, '#/');
  await until(opened, (id) => !document.querySelector(`[data-id="${id}"]`), one.id);
});

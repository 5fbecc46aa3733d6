// The day of `manager/docs/desk.md`, typed as the page has it: run, close the laptop, answer on a phone, read the
// change, go on in the terminal. README's own line of the installation is run by .ci/run; here the programs are found by PATH.

import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { PHONE, browser, page } from '../browser.mjs';
import { Daemon } from '../daemon.mjs';
import { Terminal } from '../tmux.mjs';

const desk = fileURLToPath(new URL('../../../manager/docs/desk.md', import.meta.url));
const agent = fileURLToPath(new URL('../story-agent.mjs', import.meta.url));

/** The commands of a step of the day, in their order. */
async function commands() {
  const day = (await readFile(desk, 'utf8')).split('## A day\n')[1];
  assert.ok(day, 'desk.md has a section named "A day"');
  const steps = day.split(/^\d+\. /m).slice(1);
  assert.equal(steps.length, 6, 'the day has as many steps as this test');
  return steps.map((step) => [...step.matchAll(/`(kennel [^`]+)`/g)].map((found) => found[1]));
}

test('the day works as typed: run, close the laptop, answer on a phone, read the change, attach', async (t) => {
  const [[list], [run], , [web], , [attach]] = await commands();
  const daemon = await Daemon.start({
    name: 'claude',
    command: [process.execPath, agent],
    more: '\n[listen]\ntcp = "127.0.0.1:0"\n',
  });
  t.after(() => daemon.end());
  const dir = join(daemon.work, 'project');
  await mkdir(dir);
  await writeFile(join(dir, 'retries.sh'), 'sleep 1\n');
  await daemon.git('init', '-q', 'project');
  await daemon.git('-C', 'project', 'add', '.');
  await daemon.git('-C', 'project', 'commit', '-qm', 'a');
  const terminal = async (name) => {
    const made = new Terminal(daemon, 200, 50, { name, dir });
    t.after(() => made.end());
    await made.start('PS1="$ " sh');
    return made;
  };

  const laptop = await terminal('laptop');
  await laptop.type(list);
  await laptop.shows(/claude/);
  await laptop.type(run);
  await laptop.shows(/The slow test is/);
  await laptop.end();

  const machine = await terminal('machine');
  await machine.type(web);
  const link = (await machine.shows(/https:\/\/\S+\/#\S+/)).match(/https:\/\/\S+\/#\S+/)[0];
  const chromium = await browser();
  t.after(() => chromium.close());
  const phone = await page(chromium, { size: PHONE, ownCertificate: true });
  await phone.goto(link);
  const first = phone.locator('.row').first();
  await first.click();
  const card = phone.getByRole('article', { name: 'Permission' });
  await card.locator('.command pre').waitFor();
  assert.equal(await card.locator('.command pre').textContent(), 'sh retries.sh --all');
  await card.getByRole('button', { name: 'Allow', exact: true }).click();
  await phone.locator('.md', { hasText: 'The tests pass without the pause.' }).waitFor();
  await phone.getByRole('link', { name: 'Changes' }).click();
  const change = phone.locator('.file-diff');
  await change.getByText('wait_for retry').waitFor();
  await change.getByText('sleep 1').waitFor();
  assert.deepEqual(phone.wrong, []);
  await phone.context().close();

  const back = await terminal('back');
  await back.type(attach);
  const said = await back.shows(/The tests pass without the pause\./);
  assert.match(said, /The slow test is/);
});

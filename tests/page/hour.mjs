// The memory of a tab over an hour of streaming, at the rate of a busy agent.
//
//   tests/page/run does what is needed first; then: node tests/page/hour.mjs [MINUTES]      default: 60
//
// Prints a line a minute, and at the end the highest heap of both halves. Exit status 1: the second half's is higher by
// more than 5 MiB.

import { PHONE, browser, page } from './browser.mjs';
import { Daemon } from './daemon.mjs';
import { MIB, beats, calls, heap, mib, nodes, over } from './streaming.mjs';

const minutes = Number(process.argv[2] ?? 60);
if (!(minutes > 0)) throw new Error(`not a number of minutes: ${process.argv[2]}`);
const daemon = await Daemon.start();
let started;
try {
  started = await browser();
  const one = await daemon.session({ title: 'An hour' });
  const opened = await page(started, { size: PHONE });
  await opened.goto(await daemon.link());
  await opened.locator(`[data-id="${one.id}"]`).click();
  await daemon.prompt(one.id, `${calls('fill', 4_500)}; say fill is over`);
  await over(opened, 'fill', 60_000);
  const end = Date.now() + minutes * 60_000;
  const began = Date.now();
  const heaps = [];
  for (let round = 0; Date.now() < end; round += 1) {
    // About ten events a second; a round has some 20 seconds.
    const name = `round ${round}`;
    await daemon.prompt(one.id, beats(name, { beats: 20, calls: 5, pieces: 5, pause: '1s' }));
    await over(opened, name, 120_000);
    await daemon.wait(one.id, 'idle');
    heaps.push(await heap(opened));
    const at = ((Date.now() - began) / 60_000).toFixed(1);
    if (round % 3 === 2) console.log(`${at} min: ${mib(heaps.at(-1))}, ${await nodes(opened)} elements`);
  }
  if (opened.wrong.length) throw new Error(opened.wrong.join('\n'));
  // Old items go a thousand at a time, so the heap is a saw: its highest teeth are compared.
  const early = Math.max(...heaps.slice(0, Math.max(1, Math.ceil(heaps.length / 2))));
  const late = Math.max(...heaps.slice(Math.floor(heaps.length / 2)));
  const told = `at most ${mib(early)} in the first half, ${mib(late)} in the second`;
  console.log(`${heaps.length} rounds in ${minutes} min: ${told}; at least ${mib(Math.min(...heaps))}`);
  if (late > early + 5 * MIB) process.exitCode = 1;
} finally {
  await started?.close();
  await daemon.end();
}

// A tab that follows an agent for long keeps a bounded part of what the agent said. `hour.mjs` measures its heap for longer.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PHONE } from '../browser.mjs';
import { beats, calls, heap, held, kept, mib, nodes, over } from '../streaming.mjs';
import { suite } from '../suite.mjs';

const s = suite();

test('a tab that follows a stream keeps a bounded number of items and elements', async () => {
  const one = await s.daemon.session({ title: 'Streams' });
  const opened = await s.open({ size: PHONE });
  await s.go(opened, `#/s/${one.id}`);
  // More items than the page keeps: from here on each new item takes the place of an old one.
  await s.daemon.prompt(one.id, `${calls('fill', 4_500)}; say fill is over`);
  await over(opened, 'fill', 60_000);
  const nodesHeld = [];
  for (let round = 0; round < 4; round += 1) {
    const name = `round ${round}`;
    await s.daemon.prompt(one.id, beats(name, { beats: 20, calls: 48, pieces: 20, pause: '50ms' }));
    await over(opened, name, 60_000);
    await s.daemon.wait(one.id, 'idle');
    const items = await kept(opened);
    const elements = await nodes(opened);
    nodesHeld.push(await held(opened));
    const told = `${items} items, ${elements} elements, ${nodesHeld.at(-1)} nodes, heap ${mib(await heap(opened))}`;
    console.log(`${name}: ${told}`);
    assert.ok(items > 1_000 && items < 4_000, told);
    assert.ok(elements < 4_000, told);
  }
  // What has left the page is held by nobody. A window of items has some hundreds of nodes.
  assert.ok(Math.max(...nodesHeld) < Math.min(...nodesHeld) + 100, nodesHeld.join(', '));
  assert.deepEqual(opened.wrong, []);
});

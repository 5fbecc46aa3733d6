// The memory of a tab while an agent streams: what the short test and the long run have in common.

import { update } from './daemon.mjs';

export const MIB = 1048576;

/** The page's heap in bytes, after the garbage was collected. */
export async function heap(opened) {
  const debug = await opened.context().newCDPSession(opened);
  await debug.send('HeapProfiler.collectGarbage');
  const { usedSize } = await debug.send('Runtime.getHeapUsage');
  await debug.detach();
  return usedSize;
}

/** The number of elements in the page. */
export const nodes = (opened) => opened.evaluate(() => document.querySelectorAll('#page *').length);

/** The nodes that Chromium keeps for the page after the garbage was collected: those in it, and those that scripts hold. */
export async function held(opened) {
  const debug = await opened.context().newCDPSession(opened);
  await debug.send('HeapProfiler.collectGarbage');
  const { nodes: count } = await debug.send('Memory.getDOMCounters');
  await debug.detach();
  return count;
}

/** Bytes in MiB, for people. */
export const mib = (bytes) => `${(bytes / MIB).toFixed(1)} MiB`;

/** `count` finished tool calls, each with 2,000 bytes of output. Their ids begin with `name`. */
export function calls(name, count) {
  const call = update({
    sessionUpdate: 'tool_call',
    toolCallId: `${name}-$I`,
    title: `step $I of ${name}`,
    kind: 'execute',
    status: 'completed',
    rawInput: { command: 'make step-$I' },
    content: [{ type: 'content', content: { type: 'text', text: '«2000×x»' } }],
  });
  return `wires ${count} ${call.replace('wire ', '')}`;
}

/**
 * A turn of `beats` beats: in each the agent sends calls and a message in pieces, and then waits. Its last words are
 * `${name} is over`.
 */
export function beats(name, { beats: number, calls: count, pieces, pause }) {
  const one = (at) => `${calls(`${name}.${at}`, count)}; messages ${pieces} 40; think beat ${at}; sleep ${pause}`;
  return `${Array.from({ length: number }, (_, at) => one(at)).join('; ')}; say ${name} is over`;
}

/** Waits until the page shows the end of the turn `name`. */
export const over = (opened, name, timeout) =>
  opened
    .locator('.md', { hasText: `${name} is over` })
    .or(opened.locator('.long', { hasText: `${name} is over` }))
    .first()
    .waitFor({ timeout });

/** The number of items that the page keeps, in all its conversations. */
export async function kept(opened) {
  const debug = await opened.context().newCDPSession(opened);
  try {
    const expression = "import('/page/app/items.js').then((module) => module.Items.prototype)";
    const { result } = await debug.send('Runtime.evaluate', { expression, awaitPromise: true });
    const { objects } = await debug.send('Runtime.queryObjects', { prototypeObjectId: result.objectId });
    const sum = 'function () { return this.reduce((all, one) => all + one.list.length, 0); }';
    const call = { objectId: objects.objectId, returnByValue: true, functionDeclaration: sum };
    return (await debug.send('Runtime.callFunctionOn', call)).result.value;
  } finally {
    await debug.detach();
  }
}

// The page's pure parts, without a browser: text, frames of a stream, items of a conversation, differences, spans of time.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Frames } from '../../../manager/page/app/api.js';
import { compare, parse, rowsOf } from '../../../manager/page/app/diff.js';
import { Items, hidden } from '../../../manager/page/app/items.js';
import { cut, line, output, plain, size, span } from '../../../manager/page/app/text.js';
import { LastLines, command, tool } from '../../../manager/page/app/told.js';
import { optionName } from '../../../manager/page/app/tool.js';
import { spans } from '../../../manager/page/app/timeline.js';

/** Numbers from 0 up to `below`, the same in each run. */
function dice(seed) {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296) * below);
  };
}

test('no character that hides or reorders text is left', () => {
  for (const code of [
    0, 8, 0xb, 0x1b, 0x7f, 0x9b, 0xad, 0x61c, 0x200b, 0x200e, 0x200f, 0x2028, 0x202a, 0x202e, 0x2066, 0x2069, 0xfeff,
    0xe0041, 0x2800, 0x1bca0, 0x1bca3, 0xfff0, 0xfff8,
  ]) {
    const shown = `\\u{${code.toString(16)}}`;
    assert.equal(plain(`a${String.fromCodePoint(code)}b`), `a${shown}b`);
    assert.equal(line(`a${String.fromCodePoint(code)}b`), `a${shown}b`);
  }
  assert.equal(plain('a\r\nb\rc\td é 👩‍💻'), 'a\nb\nc\td é 👩‍💻');
  assert.equal(line('a\nb'), 'a ⏎ b');
  // Colours are left out. Every other sequence can hide what stands in it, or what stood before it.
  assert.equal(output('\u001b[1;31mred\u001b[38:2::1:2:3mred\u001b[0m'), 'redred');
  assert.equal(output('a\u001b]8;;http://x\u0007b\u001b[2K'), 'a\\u{1b}]8;;http://x\\u{7}b\\u{1b}[2K');
  assert.match(output("/*\u001b]*/fetch('//x'+key)/*\u0007*/ok()"), /fetch\('\/\/x'\+key\)/);
  assert.equal(output('\u001b[31'), '\\u{1b}[31');
  for (const none of [undefined, null, 7, {}, ['a']]) assert.equal(plain(none), '');
  assert.equal(cut('ab👩', 3), 'ab…');
  assert.deepEqual([size(0), size(999), size(1024), size(8 << 20)], ['0 B', '999 B', '1.0 KiB', '8.0 MiB']);
  assert.deepEqual([span(400), span(61_000), span(7_200_000), span(90_000_000)], ['0 s', '1 min 1 s', '2 h', '1 d']);
});

test('frames are the same however the stream is cut', () => {
  const text = ':\n\nid: 1\nevent: a\ndata: {"x":1}\n\nevent: gap\ndata: {"y": "é👩"}\n\nid: 2\nevent: b\ndata: {}\n\n:\n\n';
  const whole = new Frames().feed(text);
  assert.deepEqual(
    whole.map((one) => [one.id, one.event, one.data]),
    [
      ['1', 'a', '{"x":1}'],
      ['', 'gap', '{"y": "é👩"}'],
      ['2', 'b', '{}'],
    ],
  );
  for (let first = 0; first <= text.length; first += 1) {
    for (const second of [first, first + 1, first + 7]) {
      const frames = new Frames();
      const pieces = [text.slice(0, first), text.slice(first, second), text.slice(second)].filter((piece) => piece !== '');
      assert.deepEqual(
        pieces.flatMap((piece) => frames.feed(piece)),
        whole,
        `cut at ${first} and ${second}`,
      );
    }
  }
});

/** A conversation of any shape: `count` events. */
function story(seed, count) {
  const roll = dice(seed);
  const events = [];
  let prompt = 'prompt-0';
  const open = [];
  const asked = [];
  const add = (type, data) =>
    events.push({
      id: events.length + 1,
      at: new Date(1e12 + events.length * 1000).toISOString(),
      type,
      data: { prompt_id: prompt, ...data },
    });
  while (events.length < count) {
    switch (roll(12)) {
      case 0:
        prompt = `prompt-${events.length}`;
        add('prompt.accepted', { text: `ask ${events.length}` });
        break;
      case 1:
      case 2:
      case 3:
      case 4:
        add('message.chunk', { stream: 'stdout', text: `w${events.length} ` });
        break;
      case 5:
        add('thought.chunk', { text: `t${events.length} ` });
        break;
      case 6:
      case 7: {
        const id = `call-${events.length}`;
        open.push([prompt, id]);
        add('tool_call.started', { tool_call_id: id, title: id, payload: { kind: 'read', status: 'pending' } });
        break;
      }
      case 8:
        if (open.length) {
          const [of, id] = open[roll(open.length)];
          add('tool_call.updated', {
            prompt_id: of,
            tool_call_id: id,
            payload: {
              status: ['in_progress', 'completed'][roll(2)],
              content: [{ type: 'content', content: { type: 'text', text: `${events.length}` } }],
            },
          });
        }
        break;
      case 9: {
        const id = `permission-${events.length + 1}`;
        asked.push(id);
        add('permission.requested', {
          permission_id: id,
          tool_call_id: 'x',
          title: id,
          options: [{ id: 'y', name: 'Yes', kind: 'allow_once' }],
          payload: {},
        });
        break;
      }
      case 10:
        if (asked.length)
          add('permission.resolved', { permission_id: asked.splice(roll(asked.length), 1)[0], option_id: 'y', by: 'user' });
        break;
      default:
        if (open.length) {
          const [of, id] = open.splice(roll(open.length), 1)[0];
          add('tool_call.interrupted', { prompt_id: of, tool_call_id: id });
        }
    }
  }
  return events;
}

const made = (events) => {
  const items = new Items();
  for (const event of events) items.take(event);
  return items;
};
const seen = (items) =>
  items.list.map((item) => [item.kind, item.key, item.text, item.title, item.status, item.how, item.parts?.[0]?.text]);

test('a conversation that is read in parts is the one that is read at once', () => {
  for (let seed = 1; seed <= 60; seed += 1) {
    const events = story(seed, 80);
    const whole = seen(made(events)).filter(([kind]) => kind !== 'end');
    const roll = dice(seed + 1000);
    const cuts = [roll(80), roll(80)].sort((a, b) => a - b);
    const last = made(events.slice(cuts[1]));
    last.before(made(events.slice(cuts[0], cuts[1])));
    last.before(made(events.slice(0, cuts[0])));
    const parts = seen(last);
    // A text that was cut at a seam has the name of its later part.
    const nameless = (list) =>
      list.map(([kind, key, ...rest]) =>
        kind === 'message' || kind === 'thought' ? [kind, ...rest] : [kind, key, ...rest],
      );
    assert.deepEqual(nameless(parts), nameless(whole), `seed ${seed}, cut at ${cuts}`);
  }
});

test('items that went at one end come back as they were', () => {
  for (let seed = 1; seed <= 60; seed += 1) {
    const events = story(seed, 80);
    const whole = seen(made(events));
    const items = made(events.slice(0, 50));
    const first = items.dropOldest(Math.min(10, items.list.length - 1));
    for (const event of events.slice(50)) items.take(event);
    items.before(made(events.filter((event) => event.id < first)));
    assert.deepEqual(seen(items), whole, `seed ${seed}`);

    const again = made(events);
    const last = again.dropNewest(Math.min(5, again.list.length - 1));
    for (const event of events.filter((one) => one.id > last)) again.take(event);
    assert.deepEqual(seen(again), whole, `newest, seed ${seed}`);
  }
});

test('a text of any length is kept small', () => {
  const items = new Items();
  for (let id = 1; id <= 40; id += 1)
    items.take({
      id,
      at: '',
      type: 'message.chunk',
      data: { prompt_id: 'p', stream: 'stdout', text: `${id}`.padEnd(100_000, 'x') },
    });
  assert.ok(items.list[0].text.length <= 2 << 20, `${items.list[0].text.length}`);
  assert.match(items.list[0].text, /characters are left out here/);
  assert.ok(items.list[0].text.includes('40xxx'));
});

test('turns from before a session are one item, for forks and for conversations from elsewhere', () => {
  const told = [
    { prompt: 'one', reply: 'first' },
    { prompt: 'two', reply: '' },
  ];
  const events = [
    ['session.created', { agent: 'x', told }],
    ['agent.updated', { payload: { sessionUpdate: 'conversation_loaded', turns: told } }],
  ];
  for (const [type, data] of events) {
    const items = new Items();
    assert.equal(items.take({ id: 1, at: '', type, data }), true);
    assert.equal(items.list.length, 1);
    assert.deepEqual([items.list[0].kind, items.list[0].count], ['told', 2]);
    assert.equal(items.list[0].text, '> one\n\nfirst\n\n> two\n\n');
  }
  for (const data of [{}, { told: [] }, { told: 'x' }, { told: {} }]) {
    const items = new Items();
    assert.equal(items.take({ id: 1, at: '', type: 'session.created', data }), false);
  }
  const odd = new Items();
  odd.take({ id: 1, at: '', type: 'session.created', data: { told: [null, 7, { prompt: {} }] } });
  assert.equal(odd.list[0].text, '> \n\n\n\n> \n\n\n\n> \n\n');
});

test('a command is shown as a shell would need it', () => {
  const table = new URL('../../../protocol/src/command/cases.json', import.meta.url);
  const cases = JSON.parse(readFileSync(table, 'utf8'));
  assert.ok(cases.length > 10);
  for (const [input, wanted] of cases) assert.equal(command(input), wanted ?? undefined, JSON.stringify(input));
});

test('a difference leads from the old text to the new one', () => {
  const roll = dice(7);
  for (let round = 0; round < 200; round += 1) {
    const some = () => Array.from({ length: roll(12) }, () => 'abcd'[roll(4)]).join('\n');
    const [old, now] = [some(), some()];
    const rows = compare(old, now);
    const count = (sign) => rows.filter((row) => row.sign === sign).length;
    const lines = (text) => (text === '' ? 0 : text.split('\n').length);
    assert.equal(count('+') - count('-'), lines(now) - lines(old));
    const added = rows.filter((row) => row.sign === '+').map((row) => row.text);
    for (const text of added) assert.ok(now.split('\n').includes(text));
    if (old === now) assert.equal(rows.filter((row) => row.sign !== '@').length, 0);
  }
});

test('lines of a file cannot pretend to be another file of a difference', () => {
  const files = parse(
    'diff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/x\n@@ -1,2 +1,3 @@\n-diff --git a/evil b/evil\n--- a/evil\n+++ b/evil\n+@@ -1 +1 @@\n \\ No\n' +
      'diff --git a/gone b/gone\ndeleted file mode 100644\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n',
  );
  assert.deepEqual(
    files.map((file) => file.path),
    ['x', 'gone'],
  );
  assert.deepEqual(files[0].rows.map((row) => row.sign).join(''), '@--++ ');
});

test('turns, waits and restarts of a life are spans of time', () => {
  const at = (second) => new Date(1e12 + second * 1000).toISOString();
  const event = (second, type, data = {}) => ({ at: at(second), type, data });
  const { turns, waits, runs, deaths } = spans(
    [
      event(0, 'session.started'),
      event(1, 'prompt.accepted', { prompt_id: 'p', text: 'do' }),
      event(1, 'turn.started', { prompt_id: 'p' }),
      event(2, 'permission.requested', { permission_id: 'q', title: 'may I' }),
      event(5, 'permission.resolved', { permission_id: 'q' }),
      event(6, 'turn.interrupted', {}),
      event(6, 'session.restarting', { reason: 'exit' }),
      event(7, 'session.started'),
    ],
    1e12 + 10_000,
  );
  assert.deepEqual(
    turns.map((one) => [one.begin - 1e12, one.end - 1e12, one.text, one.how]),
    [[1_000, 6_000, 'do', 'interrupted']],
  );
  assert.deepEqual(
    waits.map((one) => [one.begin - 1e12, one.end - 1e12]),
    [[2_000, 5_000]],
  );
  assert.deepEqual(
    runs.map((one) => [one.begin - 1e12, one.end - 1e12]),
    [
      [0, 6_000],
      [7_000, 10_000],
    ],
  );
  assert.equal(deaths.length, 1);
});

test('no event of any form ends a conversation', () => {
  const roll = dice(99);
  const odd = (depth) => {
    const all = [null, 7, '', 'x', true, [], {}, -1, 1e300];
    const at = roll(depth > 0 ? all.length + 2 : all.length);
    if (at < all.length) return all[at];
    const some = Array.from({ length: roll(4) }, () => odd(depth - 1));
    if (at === all.length) return some;
    const names = [
      'text',
      'type',
      'content',
      'entries',
      'toolCall',
      'title',
      'kind',
      'rawInput',
      'command',
      'options',
      'sessionUpdate',
      '__proto__',
    ];
    return Object.fromEntries(some.map((value) => [names[roll(names.length)], value]));
  };
  const types = [
    'session.restarting',
    'session.restarted',
    'session.failed',
    'session.stalled',
    'setting.changed',
    'subagent.started',
    'system.message',
    'prompt.accepted',
    'prompt.edited',
    'prompt.removed',
    'message.chunk',
    'thought.chunk',
    'tool_call.started',
    'tool_call.updated',
    'tool_call.interrupted',
    'plan.updated',
    'permission.requested',
    'permission.resolved',
    'permission.expired',
    'call.requested',
    'call.answered',
    'turn.started',
    'turn.completed',
    'turn.interrupted',
    'agent.updated',
    'never.heard.of',
  ];
  const warn = console.warn;
  const warned = [];
  console.warn = (text) => warned.push(text);
  try {
    const items = new Items();
    for (let id = 1; id <= 20_000; id += 1) {
      const data = {};
      for (const name of [
        'text',
        'payload',
        'prompt_id',
        'tool_call_id',
        'permission_id',
        'options',
        'attachments',
        'title',
        'reason',
        'option_id',
        'call_id',
        'method',
        'stop_reason',
        'restore',
        'step',
      ]) {
        if (roll(2)) data[name] = odd(3);
      }
      items.take({ id, at: odd(0), type: types[roll(types.length)], data: roll(20) ? data : odd(1) });
    }
    assert.ok(items.list.length > 1_000);
    assert.equal({}.text, undefined);
  } finally {
    console.warn = warn;
  }
  assert.deepEqual(warned.slice(0, 5), []);
});

test('a message that comes in many pieces costs as much as in few', () => {
  const items = new Items();
  const chunk = (id, text) => items.take({ id, at: '', type: 'message.chunk', data: { stream: 'stdout', text } });
  for (let id = 1; id <= 3; id += 1) chunk(id, String(id).repeat(1 << 20));
  const begun = performance.now();
  for (let id = 4; id <= 5_000; id += 1) chunk(id, 'x');
  assert.ok(performance.now() - begun < 2_000, `${performance.now() - begun} ms`);
  assert.ok(items.list[0].text.endsWith('3xx'.padEnd(4_998, 'x')));
});

test('a text says how much it has lost, in however many steps and parts it lost it', () => {
  const event = (id) => ({ id, at: '', type: 'message.chunk', data: { stream: 'stdout', text: 'abcdefgh'.repeat(1 << 15) } });
  const all = Array.from({ length: 40 }, (_, at) => event(at + 1));
  const length = 40 * (1 << 18);
  const right = (text) => {
    const marks = [...text.matchAll(/\n\[… (\d+) characters are left out here …\]\n/g)];
    assert.equal(marks.length, 1);
    assert.equal(text.length - marks[0][0].length + Number(marks[0][1]), length);
  };
  right(made(all).list[0].text);
  for (const at of [1, 3, 13, 35, 39]) {
    const late = made(all.slice(at));
    late.before(made(all.slice(0, at)));
    right(late.list[0].text);
  }
});

test('items are bounded by what they weigh, pictures and differences too', () => {
  const heavy = {
    picture: (id) => ({
      type: 'message.chunk',
      data: { payload: { content: { type: 'image', mimeType: 'image/png', data: 'A'.repeat(1 << 20) } }, id },
    }),
    difference: (id) => ({
      type: 'tool_call.started',
      data: { tool_call_id: `t${id}`, payload: { content: [{ type: 'diff', newText: 'x'.repeat(200_000) }] } },
    }),
    text: (id) => ({ type: 'message.chunk', data: { prompt_id: `p${id}`, text: 'x'.repeat(400_000) } }),
  };
  for (const [name, make] of Object.entries(heavy)) {
    const items = made(Array.from({ length: 60 }, (_, at) => ({ id: at + 1, at: '', ...make(at) })));
    assert.equal(items.list.length, 60, name);
    assert.equal(items.tooHeavy(1 << 30), 0, name);
    const [old, late] = [items.tooHeavy(20 << 20), items.tooHeavy(20 << 20, true)];
    assert.ok(old >= 20 && old <= 50 && late === old, `${name} ${old} ${late}`);
    items.dropOldest(old);
    assert.equal(items.tooHeavy(20 << 20), 0, name);
  }
});

test('a difference is compared once', () => {
  const part = { kind: 'diff', old: 'a\n', now: 'b\n' };
  assert.equal(rowsOf(part), rowsOf(part));
});

test('nothing of what a person decides on is left out', () => {
  const content = Array.from({ length: 120 }, (_, at) => ({ type: 'content', content: { type: 'text', text: `part ${at}` } }));
  content.push({ type: 'diff', path: 'a', oldText: '', newText: 'x'.repeat(1 << 20) });
  content.push({ type: 'content', content: { type: 'resource', resource: { text: 'inside' } } });
  const locations = Array.from({ length: 120 }, (_, at) => ({ path: `/p${at}` }));
  const asked = tool({ content, locations, rawInput: { long: 'y'.repeat(1 << 20) } }, { whole: true });
  assert.equal(asked.parts.length, 122);
  assert.equal(asked.parts[120].now.length, 1 << 20);
  assert.match(asked.parts[121].text, /inside/);
  assert.equal(asked.paths.length, 120);
  assert.ok(asked.input.length > 1 << 20);
  assert.equal(tool({ rawInput: 'rm -rf /' }, { whole: true }).input, '"rm -rf /"');
  // Elsewhere the rest is counted.
  assert.deepEqual(tool({ content }).parts.at(-1), { kind: 'more', count: 72 });
});

test('an option is called by the word for its kind, whatever the agent calls it', () => {
  const name = (kind) => optionName({ kind, name: 'Deny' });
  assert.equal(name('allow_once'), 'Allow once: Deny');
  assert.equal(name('allow_always'), 'Always allow: Deny');
  assert.equal(name('reject_once'), 'Deny: Deny');
  assert.equal(name('reject_always'), 'Always deny: Deny');
  for (const kind of ['constructor', '__proto__', undefined, 7]) assert.equal(name(kind), 'Of no kind: Deny');
});

test('the last line of a session has words of one line of one turn', () => {
  const lines = new LastLines();
  const take = (type, text) => lines.take({ type, session: 'a', data: text === undefined ? {} : { stream: 'stdout', text } });
  const said = (text) => {
    take('message.chunk', text);
    return lines.get('a');
  };
  lines.set('a', 'read before, ');
  assert.equal(said('and goes on'), 'read before, and goes on');
  take('turn.completed');
  assert.equal(lines.get('a'), 'read before, and goes on');
  assert.equal(said('Se'), 'Se');
  assert.equal(said('cond\n'), 'Second');
  assert.equal(said('\n \n'), 'Second');
  assert.equal(said('third'), 'third');
  take('tool_call.started');
  assert.equal(said('\n'), 'third');
  assert.equal(said('fourth'), 'fourth');
  lines.take({ type: 'message.chunk', session: 'a', data: { stream: 'stderr', text: 'noise' } });
  assert.equal(lines.get('a'), 'fourth');
  assert.equal(said('x'.repeat(300)).length, 200);
});

test('a prompt that waited stands below the answers of earlier ones, however the conversation is read', () => {
  const event = (type, prompt_id, more = {}) => ({ type, at: '', data: { prompt_id, ...more } });
  const says = (prompt, text) => event('message.chunk', prompt, { stream: 'stdout', text });
  const events = [
    event('prompt.accepted', 'a', { text: 'first' }),
    event('turn.started', 'a'),
    says('a', 'answer 1'),
    event('prompt.accepted', 'b', { text: 'second' }),
    event('prompt.accepted', 'c', { text: 'third' }),
    event('tool_call.started', 'a', { tool_call_id: 't', title: 'tool' }),
    event('turn.completed', 'a', { stop_reason: 'end_turn' }),
    event('turn.started', 'b'),
    says('b', 'answer 2'),
    event('turn.interrupted', 'b', { will_retry: true }),
    event('turn.started', 'b'),
    event('turn.completed', 'b', { stop_reason: 'end_turn' }),
    event('turn.started', 'c'),
    says('c', 'answer 3'),
    event('turn.completed', 'c', { stop_reason: 'end_turn' }),
  ].map((one, at) => ({ ...one, id: at + 1 }));
  const shown = (items, busy = false) => items.list.filter((item) => !hidden(item, busy)).map((item) => item.text ?? item.kind);
  const right = ['first', 'answer 1', 'tool', 'end', 'second', 'answer 2', 'end', 'end', 'third', 'answer 3', 'end'];
  assert.deepEqual(shown(made(events)), right);
  assert.deepEqual(shown(made(events.slice(0, 6)), true), ['first', 'answer 1', 'tool']);
  assert.deepEqual(shown(made(events.slice(0, 6))), ['first', 'answer 1', 'second', 'third', 'tool']);
  for (let to = 0; to <= events.length; to += 1) {
    for (let from = 0; from <= to; from += 1) {
      const items = made(events.slice(to));
      items.before(made(events.slice(from, to)));
      items.before(made(events.slice(0, from)));
    assert.deepEqual(shown(items), right, `cut at ${from} and ${to}`);
      const order = items.list.map((item) => item.from);
      assert.deepEqual(order, [...order].sort((a, b) => a - b), `cut at ${from} and ${to}`);
    }
    const again = made(events);
    const last = again.dropNewest(Math.min(to, again.list.length - 1) || 1);
    for (const one of events.filter(({ id }) => id > last)) again.take(one);
    assert.deepEqual(shown(again), right, `without the newest ${to}`);
  }
});

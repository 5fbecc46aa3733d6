// An agent for pictures: it speaks the Agent Client Protocol, and answers each prompt with the story that the prompt's
// words begin. The scripted agent of the tests cannot stand in a picture, because its prompts are scripts.

import { writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';

const send = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
const session = 'story';
const update = (one) => send({ method: 'session/update', params: { sessionId: session, update: one } });
const says = (text) => update({ sessionUpdate: 'agent_message_chunk', content: { type: 'text', text } });
const call = (toolCallId, kind, title, more) =>
  update({ sessionUpdate: 'tool_call', toolCallId, kind, title, status: 'completed', ...more });
const output = (text) => [{ type: 'content', content: { type: 'text', text } }];

const OLD =
  "pub fn parse(line: &str) -> Option<Entry> {\n    let (key, value) = line.split_once('=')?;\n    Some(Entry::new(key, value))\n}\n";
const NEW =
  "pub fn parse(line: &str) -> Option<Entry> {\n    let (key, value) = line.split_once('=')?;\n    Some(Entry::new(key.trim(), value.trim()))\n}\n";

let next = 100;
const asked = new Map();

async function permission(toolCall) {
  next += 1;
  const id = next;
  const options = [
    { optionId: 'yes', name: 'Allow', kind: 'allow_once' },
    { optionId: 'always', name: 'cargo publish in this directory', kind: 'allow_always' },
    { optionId: 'no', name: 'Deny', kind: 'reject_once' },
  ];
  send({ id, method: 'session/request_permission', params: { sessionId: session, toolCall, options } });
  return new Promise((done) => {
    asked.set(id, done);
  });
}

const STORIES = [
  [
    'Values with spaces',
    async () => {
      update({
        sessionUpdate: 'agent_thought_chunk',
        content: { type: 'text', text: 'The parser keeps the spaces around the sign.' },
      });
      call('read', 'read', 'src/parser.rs', { locations: [{ path: 'src/parser.rs' }] });
      call('test', 'execute', 'cargo test parser', {
        rawInput: { command: 'cargo test parser' },
        content: output('running 12 tests\n11 passed; 1 failed'),
      });
      call('edit', 'edit', 'src/parser.rs', {
        content: [{ type: 'diff', path: 'src/parser.rs', oldText: OLD, newText: NEW }],
      });
      call('again', 'execute', 'cargo test parser', {
        rawInput: { command: 'cargo test parser' },
        content: output('running 12 tests\n12 passed'),
      });
      says(
        'The parser kept the spaces around `=`, so `name = ada` gave the key `"name "`.\n\n- `parse` **trims** key and value now\n- all 12 tests of the parser pass\n',
      );
    },
  ],
  [
    'Publish 1.4',
    async () => {
      call('check', 'execute', 'cargo publish --dry-run', {
        rawInput: { command: 'cargo publish --dry-run' },
        content: output('Packaged 38 files'),
      });
      says('The package is complete, and the tests pass. I am ready to publish.');
      await permission({
        toolCallId: 'publish',
        title: 'Publish version 1.4.0',
        kind: 'execute',
        rawInput: { command: 'git push origin v1.4.0 && cargo publish --locked', cwd: '/srv/app' },
      });
    },
  ],
  [
    'find the slow test',
    async () => {
      says('The slow test is `retries`: it sleeps for a second.\n');
      await writeFile('retries.sh', 'wait_for retry\n');
      call('change', 'edit', 'retries.sh', {
        content: [{ type: 'diff', path: 'retries.sh', oldText: 'sleep 1\n', newText: 'wait_for retry\n' }],
      });
      const answer = await permission({
        toolCallId: 'try',
        title: 'Run the tests',
        kind: 'execute',
        rawInput: { command: 'sh retries.sh --all' },
      });
      says(answer.outcome.optionId === 'yes' ? 'The tests pass without the pause.' : 'I did not run the tests.');
    },
  ],
  [
    '',
    async () => {
      says('I am reading the handbook first, then the examples.');
      await new Promise(() => {});
    },
  ],
];

createInterface({ input: process.stdin }).on('line', async (line) => {
  const { id, method, params, result } = JSON.parse(line);
  if (!method) {
    asked.get(id)?.(result);
    return;
  }
  if (method === 'initialize')
    send({ id, result: { protocolVersion: 1, agentCapabilities: {}, agentInfo: { name: 'story', version: '1' } } });
  else if (method === 'session/new') send({ id, result: { sessionId: session } });
  else if (method === 'session/prompt') {
    const text = params.prompt.map((block) => block.text ?? '').join(' ');
    await STORIES.find(([words]) => text.includes(words))[1]();
    send({ id, result: { stopReason: 'end_turn' } });
  } else if (id !== undefined) send({ id, error: { code: -32601, message: 'unknown' } });
});

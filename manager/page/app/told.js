// What an agent told of a tool call, made small for a conversation, or whole for a person who decides on it.

import { string } from './text.js';

/** The longest text of a tool's content, and of each side of a difference. */
const LONGEST_PART = 256 * 1024;
/** The most parts of a tool call's content. */
const PARTS = 50;
const PICTURES = new Set(['image/png', 'image/jpeg', 'image/gif', 'image/webp']);

/** A copy that does not hold on to the longer text that it was cut from. */
export const copy = (text) => (text.length < 64 ? text : JSON.parse(JSON.stringify(text)));

function shortened(text, most) {
  if (text.length <= most) return text;
  const left = text.length - most;
  return copy(
    `${text.slice(0, most / 4)}\n[… ${left} characters are left out here …]\n${text.slice(text.length - (most * 3) / 4)}`,
  );
}

/** A picture of an ACP content block, as a blob; null if it is none that the page shows. */
export function picture(block) {
  if (block?.type !== 'image' || !PICTURES.has(block.mimeType) || string(block.data).length > 8 << 20) return null;
  try {
    const bytes = Uint8Array.from(atob(block.data), (character) => character.charCodeAt(0));
    return new Blob([bytes], { type: block.mimeType });
  } catch {
    return null;
  }
}

/** The command line in a tool's input; absent if the tool runs none. The rule is that of `protocol/src/command`. */
export function command(input) {
  const given = input?.command ?? input?.cmd;
  if (typeof given === 'string') return given || undefined;
  if (Array.isArray(given))
    return (
      given
        .map((part) => quoted(typeof part === 'string' ? part : JSON.stringify(part)))
        .join(' ') || undefined
    );
  return undefined;
}

/** A word of a command as a shell would need it, so that `["rm", "a b"]` does not look like `rm a b`. */
const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** The parts of a tool's content: `{kind: 'text'|'diff'|'picture'|'other'|'more', ...}`. With `whole` all is kept. */
function parts(content, whole) {
  if (!Array.isArray(content)) return [];
  const kept = whole ? content : content.slice(0, PARTS);
  const made = kept.map((one) => {
    if (one?.type === 'diff') {
      const old = string(one.oldText);
      const now = string(one.newText);
      const fits = old.length + now.length <= 2 * LONGEST_PART;
      return { kind: 'diff', path: string(one.path), old: fits || whole ? old : '', now: fits || whole ? now : '', fits };
    }
    const block = one?.type === 'content' ? one.content : one;
    if (block?.type === 'text') return { kind: 'text', text: whole ? string(block.text) : shortened(string(block.text), LONGEST_PART) };
    const blob = picture(block);
    if (blob) return { kind: 'picture', blob };
    const name = string(block?.type) || 'content';
    return whole ? { kind: 'other', name, text: JSON.stringify(one, null, 2) } : { kind: 'other', name };
  });
  if (kept.length < content.length) made.push({ kind: 'more', count: content.length - kept.length });
  return made;
}

/**
 * The part of a tool call that a person decides on or reads later: ACP's `ToolCall` or `ToolCallUpdate`. It is made
 * small, but with `whole` nothing is left out: a person decides on it.
 */
export function tool(told, { whole = false } = {}) {
  const made = {};
  if (!told || typeof told !== 'object') return made;
  if (typeof told.title === 'string') made.title = told.title;
  if (typeof told.kind === 'string') made.tool = told.kind;
  if (typeof told.status === 'string') made.status = told.status;
  if (Array.isArray(told.content)) made.parts = parts(told.content, whole);
  if (Array.isArray(told.locations))
    made.paths = told.locations
      .slice(0, whole ? Infinity : PARTS)
      .map((one) => string(one?.path))
      .filter(Boolean);
  if (told.rawInput !== undefined && told.rawInput !== null) {
    const line = command(told.rawInput);
    if (line !== undefined) made.command = line;
    if (typeof told.rawInput.cwd === 'string') made.cwd = told.rawInput.cwd;
    const input = JSON.stringify(told.rawInput, null, 2);
    made.input = whole ? input : shortened(input, 64 * 1024);
  }
  if (made.parts === undefined && told.rawOutput !== undefined) {
    const text = typeof told.rawOutput === 'string' ? told.rawOutput : JSON.stringify(told.rawOutput, null, 2);
    made.parts = [{ kind: 'text', text: whole ? text : shortened(text, LONGEST_PART) }];
  }
  return made;
}

/** Events after which an agent's next words begin a new line, though no line break came. */
const PARTS_WORDS = new Set(['turn.started', 'turn.completed', 'turn.interrupted', 'tool_call.started', 'session.restarted']);

/** The last line that each session's agent said. */
export class LastLines extends Map {
  #begins = new Set(); // Sessions whose next words begin a new line.

  clear() {
    super.clear();
    this.#begins.clear();
  }

  delete(session) {
    this.#begins.delete(session);
    return super.delete(session);
  }

  /** Takes a new event. Returns true if a line changed. */
  take({ type, session, data }) {
    if (PARTS_WORDS.has(type)) this.#begins.add(session);
    const text = type === 'message.chunk' && data.stream === 'stdout' ? string(data.text) : '';
    if (!text) return false;
    const before = this.#begins.has(session) ? '' : (this.get(session) ?? '');
    const rows = (before + text).split('\n');
    const line = rows.findLast((row) => row.trim());
    if (line === undefined) return false;
    this.set(session, line.slice(0, 200));
    if (rows.at(-1) === line) this.#begins.delete(session);
    else this.#begins.add(session);
    return true;
  }
}

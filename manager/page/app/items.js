// Events of a conversation become items, one for each thing that a person sees: a prompt, a message, a tool call, a
// permission. An item is kept small: long texts lose their middle, pictures become blobs, payloads are let go.

import { string } from './text.js';
import { copy, picture, tool } from './told.js';

/** The longest text of an item, in characters. A text of twice this length loses its middle, and has this length then. */
const LONGEST = 1 << 20;
/** The first characters of a text that are always kept. */
const HEAD = LONGEST / 4;
/** The most that items may weigh together, in bytes. The oldest go before. */
export const MOST_WEIGHT = 128 << 20;
/** The least number of items that are kept however heavy they are. */
const LEAST = 10;
/** The most that items weigh together that are kept though their place went, in bytes. */
const STRADDLING_WEIGHT = 32 << 20;
/** The most events that wait for the beginning of what they end. */
const LATE = 20_000;
const ENDS = new Set([
  'tool_call.interrupted',
  'permission.resolved',
  'permission.expired',
  'call.answered',
  'call.expired',
  'prompt.removed',
]);
const ENDED = new Set(['completed', 'failed', 'interrupted']);
/** The most items that are kept though their place in the list went. */
const STRADDLING = 2_000;

/** A value that has fields; anything else has none. */
const object = (value) => (value && typeof value === 'object' && !Array.isArray(value) ? value : {});

const lost = (count) => `\n[… ${count} characters are left out here …]\n`;

/** Adds to the text of an item. `gone` is the number of characters that the added text has lost before. */
function grow(item, text, gone = 0) {
  item.text += text;
  if (item.text.length <= 2 * LONGEST && !gone) return;
  const from = item.lost ? HEAD + lost(item.lost).length : HEAD;
  const to = Math.max(from, item.text.length - (LONGEST - HEAD));
  const marks = gone ? lost(gone).length : 0;
  item.lost = (item.lost ?? 0) + gone + to - from - marks;
  item.text = copy(item.text.slice(0, HEAD) + lost(item.lost) + item.text.slice(to));
}

/** The bytes that an item takes, roughly. A difference counts more: its rows are kept as well. */
export function weight(item) {
  let sum = 200 + 2 * ((item.text?.length ?? 0) + (item.input?.length ?? 0) + (item.command?.length ?? 0));
  sum += item.blob?.size ?? 0;
  for (const part of item.parts ?? [])
    sum += 100 + 2 * (part.text?.length ?? 0) + 6 * ((part.old?.length ?? 0) + (part.now?.length ?? 0)) + (part.blob?.size ?? 0);
  return sum;
}

/** Notes of the session's own life, as one short text each. */
const NOTES = {
  'session.restarting': (data) => `The process died (${string(data.reason)}). kennel starts another.`,
  'session.restarted': (data) =>
    `Restarted: ${
      {
        resumed: 'the agent goes on with its own session',
        loaded: 'the agent loaded its session',
        replayed: 'the agent was told of the turns before',
        fresh: 'the agent does not know the turns before',
      }[data.restore] ?? string(data.restore)
    }.`,
  'session.failed': (data) => `Failed: ${string(data.reason)}`,
  'session.stopped': () => 'Stopped.',
  'session.hibernated': () => 'Sleeps until the next prompt.',
  'session.woken': () => 'Woke up.',
  'session.oom_killed': () => 'Processes exceeded the memory limit and were killed.',
  'session.stalled': (data) =>
    ({
      noticed: 'The agent shows no sign of work.',
      resumed: 'The agent works again.',
      cancelled: 'The agent showed no sign of work; kennel cancelled the turn.',
    })[data.step] ?? 'The agent shows no sign of work.',
  'setting.changed': (data) => `Setting ${string(data.name)}: ${string(data.value)}`,
  'setting.refused': (data) => `The agent refused the setting ${string(data.name)}: ${string(data.reason)}`,
  'subagent.started': (data) => `Started sub-agent ${string(data.child)}: ${string(data.task)}`,
  'subagent.completed': (data) => `Sub-agent ${string(data.child)}: ${string(data.outcome)}`,
  'subagent.lost': (data) => `Sub-agent ${string(data.child)} was lost: ${string(data.reason)}`,
  'system.message': (data) => string(data.text),
};

/** Turns from before a session's own, which its agent knows: of a fork's origin, or of a conversation from outside kennel. */
function told(type, data) {
  const turns = type === 'session.created' ? data.told : object(data.payload).turns;
  const loaded = type === 'agent.updated' && !data.prompt_id && object(data.payload).sessionUpdate === 'conversation_loaded';
  const known = type === 'session.created' || loaded;
  if (!known || !Array.isArray(turns) || !turns.length) return undefined;
  const text = turns.map((turn) => `> ${string(turn?.prompt)}\n\n${string(turn?.reply)}`).join('\n\n');
  return { count: turns.length, text };
}

const isText = (item) => item?.kind === 'message' || item?.kind === 'thought';
const goOn = (a, b) => isText(a) && a.kind === b?.kind && a.prompt === b.prompt && a.stream === b.stream;

/** A list without some of its items. Texts that only these parted become one. */
function without(list, moved) {
  if (!moved.size) return list;
  const kept = [];
  let parted = false;
  for (const item of list) {
    if (moved.has(item)) {
      parted = true;
      continue;
    }
    const last = kept.at(-1);
    if (parted && goOn(last, item)) {
      grow(last, item.text, item.lost);
      last.to = item.to;
      last.version += 1;
    } else {
      kept.push(item);
    }
    parted = false;
  }
  return kept;
}

/** Says that an item is not drawn: a prompt that stands further below, or that waits in the queue of a busy session. */
export function hidden(item, busy) {
  return Boolean(item.moved || item.blank || (item.waits && busy && !item.removed));
}

/** Items of a run of events, in their order. */
export class Items {
  constructor() {
    this.list = [];
    this.tools = new Map();
    this.asked = new Map();
    /** Items that went, though later events than the first kept one changed them. They come back when their events do. */
    this.straddling = new Map();
    /** Events that end something whose beginning is not here. */
    this.late = [];
    /** The prompt whose turn runs after the newest event here, if that is known. */
    this.running = undefined;
    this.version = 0;
  }

  #add(item) {
    item.version = 0;
    this.list.push(item);
    return item;
  }

  #touch(item, event) {
    item.to = event.id;
    item.version += 1;
  }

  #said(event, kind, text, stream) {
    const prompt = event.data.prompt_id ?? 'none';
    let item = this.list.at(-1);
    if (item?.kind !== kind || item.prompt !== prompt || item.stream !== stream) {
      item = this.#add({ kind, key: `${kind}-${event.id}`, from: event.id, at: event.at, prompt, stream, text: '' });
    }
    grow(item, text);
    this.#touch(item, event);
    return item;
  }

  #picture(event, blob) {
    this.#touch(this.#add({ kind: 'picture', key: `picture-${event.id}`, from: event.id, at: event.at, blob }), event);
  }

  #tool(event, id, told) {
    const name = `${event.data.prompt_id ?? ''} ${id}`;
    let item = this.tools.get(name);
    if (!item) {
      item = this.#add({ kind: 'tool', key: `tool-${event.id}`, name, from: event.id, at: event.at, whole: false });
      this.tools.set(name, item);
    }
    Object.assign(item, tool(told));
    if (ENDED.has(item.status)) item.ended = event.at;
    this.#touch(item, event);
    return item;
  }

  /** Takes the next event. Returns true if it changed what is seen. */
  take(event) {
    const taken = this.#taken(event);
    if (taken) this.version += 1;
    else if (ENDS.has(event.type) && this.late.length < LATE) this.late.push(event);
    return taken;
  }

  /** An event of a form that the page does not know must not end the conversation. */
  #taken(event) {
    const data = event.data && typeof event.data === 'object' ? event.data : {};
    try {
      return this.#take({ ...event, data }, data);
    } catch (error) {
      console.warn(`event ${event.id} cannot be shown: ${error}`);
      return false;
    }
  }

  #take(event, data) {
    const note = NOTES[event.type];
    if (note) {
      this.#touch(
        this.#add({
          kind: 'note',
          key: `note-${event.id}`,
          type: event.type,
          from: event.id,
          at: event.at,
          text: note(data),
        }),
        event,
      );
      return true;
    }
    const before = told(event.type, data);
    // A worker that was killed before it was ready has told them twice.
    if (before && !this.list.some((item) => item.kind === 'told' || item.kind === 'prompt')) {
      const key = `told-${event.id}`;
      this.#touch(this.#add({ kind: 'told', key, from: event.id, at: event.at, ...before }), event);
      return true;
    }
    switch (event.type) {
      case 'prompt.accepted':
        this.#touch(
          this.#add({
            kind: 'prompt',
            key: `prompt-${event.id}`,
            from: event.id,
            at: event.at,
            prompt: data.prompt_id,
            text: string(data.text),
            attachments: Array.isArray(data.attachments) ? data.attachments : [],
            waits: this.running !== undefined,
          }),
          event,
        );
        return true;
      case 'prompt.edited':
        return this.#ofPrompt(event, (item) => {
          item.text = string(data.text);
        });
      case 'prompt.removed':
        return this.#ofPrompt(event, (item) => {
          item.removed = true;
        });
      case 'message.chunk': {
        const blob = picture(data.payload?.content);
        if (blob) this.#picture(event, blob);
        if (data.text || !blob) this.#said(event, 'message', string(data.text), data.stream);
        return true;
      }
      case 'thought.chunk':
        this.#said(event, 'thought', string(data.text));
        return true;
      case 'tool_call.started': {
        const item = this.#tool(event, data.tool_call_id, { title: data.title, ...object(data.payload) });
        item.whole = true;
        return true;
      }
      case 'tool_call.updated':
        this.#tool(event, data.tool_call_id, data.payload);
        return true;
      case 'tool_call.interrupted': {
        const name = `${data.prompt_id ?? ''} ${data.tool_call_id}`;
        if (this.tools.has(name)) this.#tool(event, data.tool_call_id, { status: 'interrupted' });
        return this.tools.has(name);
      }
      case 'plan.updated':
        return this.#plan(event, data);
      case 'permission.requested':
        return this.#permission(event, data);
      case 'permission.resolved':
        return this.#answered(event, data.permission_id, data.by === 'policy' ? 'by policy' : 'answered', data.option_id);
      case 'permission.expired':
        return this.#answered(event, data.permission_id, 'no answer', undefined);
      case 'call.requested':
        if (data.method !== 'elicitation/create') return false;
        this.#touch(
          this.#add({
            kind: 'form',
            key: `form-${event.id}`,
            from: event.id,
            at: event.at,
            call: data.call_id,
            text: string(data.payload?.message),
          }),
          event,
        );
        return true;
      case 'call.answered':
        return this.#form(event, data, 'answered');
      case 'call.expired':
        return this.#form(event, data, 'no answer');
      case 'turn.completed':
        return this.#ended(event, data, string(data.stop_reason));
      case 'turn.interrupted':
        return this.#ended(event, data, data.will_retry ? 'interrupted; kennel repeats it' : 'interrupted');
      case 'turn.started':
        return this.#began(event, data);
      case 'agent.updated': {
        const said = data.payload?.sessionUpdate === 'agent_message_chunk' ? string(data.payload?.content?.text) : '';
        if (said) this.#said(event, 'message', said, 'late');
        return Boolean(said);
      }
      default:
        return false;
    }
  }

  #ofPrompt(event, change) {
    const item = this.list.findLast((one) => one.kind === 'prompt' && one.prompt === event.data.prompt_id);
    if (item) {
      change(item);
      this.#touch(item, event);
    }
    return Boolean(item);
  }

  /** A prompt that waited stands where its turn began, below the answers of earlier prompts. */
  #began(event, data) {
    this.running = data.prompt_id;
    const item = this.list.findLast((one) => one.kind === 'prompt' && one.prompt === data.prompt_id);
    if (item && (item.began !== undefined || item === this.list.at(-1))) {
      Object.assign(item, { began: event.at, waits: false, moved: false });
      this.#touch(item, event);
      return true;
    }
    const { text, attachments } = item ?? { text: '', attachments: [] };
    if (item) {
      item.moved = true;
      this.#touch(item, event);
    }
    const key = `prompt-${event.id}`;
    const at = item?.at ?? event.at;
    const placed = { kind: 'prompt', key, from: event.id, at, prompt: data.prompt_id, text, attachments, began: event.at };
    this.#touch(this.#add({ ...placed, placed: true, blank: !item }), event);
    return true;
  }

  /** Gives prompts that stand where their turns began what earlier events tell of them. Adds to `moved` what is no item then. */
  #fill(older, moved) {
    for (const item of this.list) {
      if (!item.placed) continue;
      const early = older.list.findLast((one) => one.kind === 'prompt' && one.prompt === item.prompt);
      if (!early) continue;
      if (early.began !== undefined || (item.blank && early === older.list.at(-1) && item === this.list[0])) {
        Object.assign(early, { began: item.began, waits: false, to: item.to });
        moved.add(item);
      } else {
        if (item.blank) Object.assign(item, { text: early.text, attachments: early.attachments, at: early.at, blank: false });
        Object.assign(early, { moved: true, to: item.from });
        item.version += 1;
      }
      early.version += 1;
    }
  }

  #plan(event, data) {
    const entries = Array.isArray(data.payload?.entries) ? data.payload.entries.slice(0, 200) : [];
    let item = this.list.findLast((one) => one.kind === 'plan' && one.prompt === data.prompt_id);
    item ??= this.#add({ kind: 'plan', key: `plan-${event.id}`, from: event.id, at: event.at, prompt: data.prompt_id });
    item.entries = entries.map((one) => ({ text: string(one?.content), status: string(one?.status) }));
    this.#touch(item, event);
    return true;
  }

  #permission(event, data) {
    const item = this.#add({
      kind: 'permission',
      key: `permission-${event.id}`,
      from: event.id,
      at: event.at,
      id: data.permission_id,
      title: string(data.title),
      options: Array.isArray(data.options) ? data.options : [],
      called: `${data.prompt_id ?? ''} ${data.tool_call_id}`,
    });
    this.asked.set(data.permission_id, item);
    this.#touch(item, event);
    return true;
  }

  #answered(event, id, how, option) {
    const item = this.asked.get(id);
    if (!item) return false;
    item.how = how;
    item.chosen = item.options.find((one) => one?.id === option);
    this.#touch(item, event);
    return true;
  }

  #form(event, data, how) {
    const item = this.list.findLast((one) => one.kind === 'form' && one.call === data.call_id);
    if (item) {
      item.how = how;
      this.#touch(item, event);
    }
    return Boolean(item);
  }

  #ended(event, data, how) {
    if (this.running === data.prompt_id) this.running = undefined;
    const prompt = this.list.findLast((one) => one.kind === 'prompt' && one.prompt === data.prompt_id);
    const ms = prompt?.began ? Date.parse(event.at) - Date.parse(prompt.began) : undefined;
    this.#touch(this.#add({ kind: 'end', key: `end-${event.id}`, from: event.id, at: event.at, how, ms }), event);
    return true;
  }

  /** Puts the items of earlier events before these. What was cut at the seam becomes one again. */
  before(older) {
    const moved = new Set();
    const unknown = older.late;
    this.late = unknown.concat(this.late.filter((event) => !older.#taken(event)));
    for (const [name, early] of older.tools) {
      const late = this.tools.get(name);
      if (late && !late.whole) {
        for (const field of ['title', 'tool', 'status', 'parts', 'paths', 'command', 'cwd', 'input', 'ended']) {
          if (late[field] !== undefined) early[field] = late[field];
        }
        early.to = late.to;
        early.version += 1;
        moved.add(late);
      }
      if (!late || !late.whole) this.tools.set(name, early);
    }
    for (const [id, item] of older.asked) if (!this.asked.has(id)) this.asked.set(id, item);
    if (this.straddling.size) {
      older.list.forEach((item, at) => {
        const later = this.straddling.get(item.key);
        if (!later) return;
        older.list[at] = later;
        this.straddling.delete(item.key);
        if (later.kind === 'tool') this.tools.set(later.name, later);
        if (later.kind === 'permission') this.asked.set(later.id, later);
      });
    }
    this.#fill(older, moved);
    this.list = without(this.list, moved);
    const [first] = this.list;
    const last = older.list.at(-1);
    if (goOn(last, first)) {
      grow(last, first.text, first.lost);
      const { text, lost: gone, from, at } = last;
      Object.assign(first, { text, lost: gone, from, at, version: first.version + 1 });
      older.list.pop();
    }
    this.list = older.list.concat(this.list);
    this.version += 1;
    return older.list.length;
  }

  /** The number of items that have to go so that the others weigh at most `most`: of the oldest, or of the newest. */
  tooHeavy(most, newest = false) {
    const weights = this.list.map((item) => {
      if (item.weighed !== item.version) Object.assign(item, { weighed: item.version, weight: weight(item) });
      return item.weight;
    });
    let sum = weights.reduce((all, one) => all + one, 0);
    let count = 0;
    while (sum > most && count < weights.length - LEAST) {
      sum -= newest ? weights[weights.length - 1 - count] : weights[count];
      count += 1;
    }
    return count;
  }

  /** Lets the oldest items go. Returns the id of the first event that is still here. */
  dropOldest(count) {
    const gone = this.list.splice(0, count);
    const first = this.list[0].from;
    const kept = (item) =>
      item.to >= first || (item.kind === 'tool' && !ENDED.has(item.status)) || (item.kind === 'permission' && !item.how);
    let sum = [...this.straddling.values()].reduce((all, item) => all + weight(item), 0);
    for (const item of gone) {
      if (this.straddling.size >= STRADDLING || !kept(item)) continue;
      sum += weight(item);
      if (sum <= STRADDLING_WEIGHT) this.straddling.set(item.key, item);
    }
    // An open call or permission is still known by its name, so that its end finds it.
    this.#forget(gone.filter((item) => !this.straddling.has(item.key)));
    return first;
  }

  /** Lets the newest items go. Returns the id of the last event of those that are still here. */
  dropNewest(count) {
    const gone = this.list.splice(this.list.length - count, count);
    this.#forget(gone);
    return gone[0].from - 1;
  }

  #forget(items) {
    for (const item of items) {
      if (item.kind === 'tool' && this.tools.get(item.name) === item) this.tools.delete(item.name);
      if (item.kind === 'permission') this.asked.delete(item.id);
    }
    this.version += 1;
  }
}

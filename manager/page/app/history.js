// The part of a session's events that the page has: a run without gaps, at first the newest. It grows at both ends and
// is bounded.

import { events, get, path } from './api.js';
import { Items, MOST_WEIGHT } from './items.js';

/** The number of a session's events that one reading aims at. */
const WANT = 250;
/** The span of event ids that the first reading looks at. Other sessions have ids in it, too. */
const FIRST_SPAN = 800;
/** The most bytes of events that one reading keeps. */
const MOST_BYTES = 8 << 20;
/** The most items that are kept. */
export const MOST_ITEMS = 3_000;
/** The most new events that wait while the run is read up to them. */
const MOST_WAITING = 20_000;
/** The number of items that go at once when there are too many. */
const DROP = 1_000;

/**
 * Reads a session's events after `after` up to `until`. The newest `MOST_BYTES` of them are kept; with `most`, the
 * first `most` events. An event for which `ends` holds is the last one that is looked at. Returns `{list, cut}`; `cut`
 * says that older ones were left out.
 */
export async function read(session, { after, until = Infinity, most = Infinity, keep = () => true, ends = () => false, signal }) {
  const list = [];
  const sizes = [];
  let bytes = 0;
  let cut = false;
  let ended = true;
  await events(path(`/v1/sessions/${encodeURIComponent(session)}/events`, { after, follow: false }), {
    signal,
    take: (frames) => {
      for (const frame of frames) {
        if (!frame.id) continue;
        if (Number(frame.id) > until) {
          ended = false;
          return true;
        }
        const event = JSON.parse(frame.data);
        if (ends(event)) return true;
        if (!keep(event)) continue;
        list.push(event);
        sizes.push(frame.data.length);
        bytes += frame.data.length;
        while (most === Infinity && bytes > MOST_BYTES && list.length > 1) {
          bytes -= sizes.shift();
          list.shift();
          cut = true;
        }
        if (list.length >= most || (most !== Infinity && bytes > MOST_BYTES)) {
          ended = false;
          return true;
        }
      }
      return false;
    },
  });
  return { list, cut, ended, bytes };
}

export class History {
  constructor(session, changed) {
    this.session = session;
    this.changed = changed;
    this.abort = new AbortController();
    this.#clear();
  }

  #clear() {
    this.items = new Items();
    this.low = undefined; // The first event id of the run.
    this.high = undefined; // The last one.
    this.whole = false; // The run begins with the session's first event.
    this.live = false; // The run ends with the newest event.
    this.span = FIRST_SPAN;
    this.waiting = null; // New events that came while the run was read up to them.
    this.busy = null;
    this.problem = null;
  }

  close() {
    this.abort.abort();
  }

  /** Reads the newest events; with `at`, those around that event. */
  async open(at) {
    this.abort.abort();
    this.abort = new AbortController();
    const { signal } = this.abort;
    this.#clear();
    this.waiting = [];
    // Until the run has its first part, nobody else may read a part of it.
    this.opening = true;
    this.changed();
    try {
      const { last_event_id: head } = await get('/v1/manager', { signal });
      const start = at ? Math.min(at, head) : head;
      this.low = start + 1;
      this.high = start;
      await this.#older(signal);
      if (at) await this.#newer(signal);
      else this.#reachedHead();
    } catch (error) {
      if (!signal.aborted) this.problem = error;
    }
    if (signal.aborted) return;
    this.opening = false;
    this.changed();
  }

  #reachedHead() {
    const late = this.waiting;
    this.waiting = null;
    if (!late) return;
    this.live = true;
    for (const event of late) this.#take(event);
  }

  #take(event) {
    if (event.id <= this.high) return;
    this.high = event.id;
    this.items.take(event);
  }

  /** Takes new events of the live stream. A run that ends earlier than the newest event leaves them. */
  follow(list) {
    if (!this.live) {
      if (!this.waiting) return;
      this.waiting.push(...list);
      if (this.waiting.length > MOST_WAITING) this.waiting = null;
      return;
    }
    const before = this.items.version;
    for (const event of list) this.#take(event);
    if (this.items.version !== before) this.changed();
  }

  /** Lets old items go while a person follows the end. Returns their number. */
  trim() {
    const count = this.#tooMany();
    if (!count) return 0;
    this.low = this.items.dropOldest(count);
    this.whole = false;
    return count;
  }

  /** The number of the oldest items that have to go. */
  #tooMany() {
    return Math.max(this.items.list.length > MOST_ITEMS ? DROP : 0, this.items.tooHeavy(MOST_WEIGHT));
  }

  async #guarded(run) {
    if (this.busy) return this.busy;
    const { signal } = this.abort;
    this.busy = run(signal)
      .then(
        (value) => {
          this.problem = null;
          return value;
        },
        (error) => {
          if (!signal.aborted) this.problem = error;
          return 0;
        },
      )
      .finally(() => {
        if (!signal.aborted) {
          this.busy = null;
          this.changed();
        }
      });
    this.changed();
    return this.busy;
  }

  /** Reads earlier events. Returns the number of items that came before the others. */
  older() {
    return this.opening || this.whole || this.low === undefined ? 0 : this.#guarded((signal) => this.#older(signal));
  }

  /** Reads later events, if the run does not end with the newest. */
  newer() {
    return this.opening || this.live || this.high === undefined ? 0 : this.#guarded((signal) => this.#newer(signal));
  }

  async #older(signal) {
    let { span } = this;
    for (;;) {
      const until = this.low - 1;
      const after = Math.max(0, until - span);
      const { list, cut, bytes } = await read(this.session, { after, until, signal });
      signal.throwIfAborted();
      if (list.length < WANT && after > 0 && !cut && bytes < MOST_BYTES / 4) {
        span *= 4;
        continue;
      }
      this.span = cut || bytes > MOST_BYTES / 2 ? Math.max(50, Math.floor(span / 4)) : Math.min(span, 1 << 30);
      const older = new Items();
      for (const event of list) older.take(event);
      this.low = cut ? list[0].id : after + 1;
      this.whole = after === 0 && !cut;
      const count = this.items.before(older);
      const many = this.items.list.length - MOST_ITEMS;
      const over = Math.max(many > DROP ? many : 0, this.items.tooHeavy(MOST_WEIGHT, true));
      if (over) {
        this.high = this.items.dropNewest(over);
        this.live = false;
      }
      // A stretch without anything to see is read past.
      if (count > 0 || this.whole) return count;
    }
  }

  async #newer(signal) {
    // Before the reading begins: what comes from now on follows it.
    this.waiting ??= [];
    const { list, ended } = await read(this.session, { after: this.high, most: WANT * 2, signal });
    signal.throwIfAborted();
    for (const event of list) this.#take(event);
    const dropped = this.#tooMany();
    if (dropped) {
      this.low = this.items.dropOldest(dropped);
      this.whole = false;
    }
    if (ended) this.#reachedHead();
    else this.waiting = null;
    return -dropped;
  }
}

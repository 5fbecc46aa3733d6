// The stream of all events, over every cut: it goes on after the last event that was seen, so nothing is missed or repeated.

import { Problem, events, get } from './api.js';

/** Waits between tries, in milliseconds. The last one repeats. */
const WAITS = [300, 600, 1_200, 2_500, 5_000];
/** A hidden page closes the stream after this time, in milliseconds. */
const HIDDEN = 120_000;
/** With more new events than this after a pause, the page reads everything anew instead of catching up. */
const MOST_MISSED = 20_000;
/** The daemon sends a sign of life every 15 s. After this silence the connection counts as dead, in milliseconds. */
const SILENCE = 40_000;

/** `handlers`: `events(list)`, `state(connected)`, `again()` after a cut that cannot be caught up, `refused(problem)`. */
export class Live {
  constructor(url, handlers) {
    this.url = url;
    this.handlers = handlers;
    this.cursor = 0;
    this.tries = 0;
    this.running = false;
    this.wake = () => {};
    this.onVisible = () => this.#visible();
    this.onOnline = () => this.wake();
    this.onOffline = () => this.abort?.abort();
  }

  /** Begins after this event. */
  start(cursor) {
    this.cursor = cursor;
    if (this.running) return;
    this.running = true;
    document.addEventListener('visibilitychange', this.onVisible);
    addEventListener('online', this.onOnline);
    addEventListener('offline', this.onOffline);
    this.#run();
  }

  stop() {
    this.running = false;
    document.removeEventListener('visibilitychange', this.onVisible);
    removeEventListener('online', this.onOnline);
    removeEventListener('offline', this.onOffline);
    clearTimeout(this.hideTimer);
    this.abort?.abort();
    this.wake();
  }

  #visible() {
    clearTimeout(this.hideTimer);
    if (document.hidden) {
      this.hideTimer = setTimeout(() => {
        this.asleep = true;
        this.abort?.abort();
      }, HIDDEN);
    } else {
      this.asleep = false;
      this.wake();
    }
  }

  async #pause(ms) {
    await new Promise((done) => {
      const timer = ms === undefined ? undefined : setTimeout(done, ms);
      this.wake = () => {
        clearTimeout(timer);
        done();
      };
    });
  }

  async #run() {
    while (this.running) {
      if (this.asleep) await this.#pause();
      if (!this.running) return;
      try {
        await this.#once();
      } catch (error) {
        if (!this.running) return;
        if (error instanceof Problem && (error.status === 401 || error.status === 403)) {
          this.running = false;
          this.handlers.refused(error);
          return;
        }
        if (error instanceof Problem && error.code === 'invalid_cursor') {
          this.#again();
        }
      }
      if (this.asleep) continue;
      this.handlers.state(false);
      const wait = WAITS[Math.min(this.tries, WAITS.length - 1)];
      this.tries += 1;
      await this.#pause(wait * (0.75 + Math.random() / 2));
    }
  }

  #again() {
    this.cursor = undefined;
    this.handlers.again();
  }

  async #once() {
    const { last_event_id: head } = await get('/v1/manager');
    if (!this.running) return;
    if (this.cursor === undefined || head < this.cursor || head - this.cursor > MOST_MISSED) {
      const first = this.cursor === undefined;
      this.cursor = head;
      if (!first) this.handlers.again();
    }
    this.abort = new AbortController();
    let heard = Date.now();
    const guard = setInterval(() => {
      if (Date.now() - heard > SILENCE) this.abort.abort();
    }, 5_000);
    try {
      await events(this.url, {
        signal: this.abort.signal,
        lastId: String(this.cursor),
        opened: () => {
          this.tries = 0;
          this.handlers.state(true);
        },
        take: (frames) => {
          heard = Date.now();
          this.#take(frames);
        },
      });
    } finally {
      clearInterval(guard);
    }
  }

  #take(frames) {
    const list = [];
    for (const frame of frames) {
      if (frame.event === 'gap') {
        this.handlers.again();
        continue;
      }
      if (!frame.id) continue;
      const event = JSON.parse(frame.data);
      if (event.id <= this.cursor) continue;
      this.cursor = event.id;
      list.push(event);
    }
    if (list.length) this.handlers.events(list);
  }
}

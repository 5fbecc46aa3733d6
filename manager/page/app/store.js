// All that the page knows: log-in, connection, sessions. Views read it, and redraw when it says so, at most once a frame.

import { get, knowsProof, onLogOut, path, Problem } from './api.js';
import { Live } from './live.js';
import { LastLines } from './told.js';

/** Events that change nothing of a session's row. */
const SILENT = new Set([
  'message.chunk',
  'thought.chunk',
  'tool_call.started',
  'tool_call.updated',
  'agent.updated',
  'plan.updated',
]);
/** The pause between two looks at changed sessions, in milliseconds. */
const PAUSE = 250;
/** With more changed sessions than this the whole list is read. */
const MOST_SINGLE = 8;
/** The time between two looks without a stream of all events, in milliseconds. */
const POLL = 4_000;
/** The time between two looks at memory and processor, in milliseconds. */
const LOAD = 10_000;

class Store {
  constructor() {
    this.phase = 'starting'; // starting, login, ready
    this.loginNote = '';
    this.me = null;
    this.connected = true;
    this.trouble = ''; // A refusal that keeps the page from beginning.
    this.sessions = new Map();
    this.listed = false;
    this.list = { filter: '', open: false, top: 0 }; // The list as a person has left it.
    this.lines = new LastLines();
    this.loads = new Map();
    this.route = { view: 'list' };
    this.next = null;
    this.views = new Set();
    this.listeners = new Set(); // Functions that get each batch of events.
    this.resets = new Set(); // Functions that run when events were missed.
    this.changed = new Set();
    this.mark = 0; // Grows with each change of a session's row.
    onLogOut(
      () =>
        this.phase === 'ready' &&
        this.toLogin('You are logged out. The key of this page has ended, or kennel does not know it.'),
    );
  }

  // Redrawing.
  watch(view) {
    this.views.add(view);
    return () => this.views.delete(view);
  }

  redraw() {
    if (this.next !== null) return;
    const run = () => {
      this.next = null;
      for (const view of this.views) view();
    };
    this.next = document.hidden ? setTimeout(run, 500) : requestAnimationFrame(run);
  }

  // Rights.
  get role() {
    return this.me?.role ?? this.me?.key?.role ?? 'admin';
  }
  get mayDrive() {
    return this.role !== 'viewer';
  }
  get mayRemove() {
    return this.role === 'admin';
  }

  toLogin(note = '') {
    this.stop();
    Object.assign(this, { phase: 'login', loginNote: note, me: null, listed: false });
    this.sessions.clear();
    this.lines.clear();
    this.loads.clear();
    this.redraw();
  }

  /** Learns who the page is, and begins to follow. */
  async begin() {
    if (!knowsProof()) {
      this.toLogin(this.loginNote);
      return;
    }
    try {
      // At once: a phone far away waits for one answer, not for three. The list is newer than the event that the stream
      // follows.
      const [me, [manager, list]] = await Promise.all([get('/v1/web/me'), this.#first()]);
      this.me = me;
      this.manager = manager;
      this.#takeList(list);
      this.phase = 'ready';
      this.connected = true;
      this.live = new Live('/v1/events', {
        events: (list) => this.#events(list),
        state: (connected) => this.#connection(connected),
        again: () => this.#again(),
        refused: (problem) => this.#withoutStream(problem),
      });
      this.live.start(manager.last_event_id);
      this.#readLines();
      this.#readLoads();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.status === 401 || error.status === 403) {
        this.toLogin(this.loginNote);
        return;
      }
      this.connected = false;
      this.trouble = error.status ? error.message : '';
      this.redraw();
      this.retry = setTimeout(() => this.begin(), 1_500);
    }
    this.redraw();
  }

  stop() {
    this.live?.stop();
    this.live = null;
    for (const timer of [this.retry, this.poll, this.loadTimer, this.dirtyTimer]) clearTimeout(timer);
    this.poll = undefined;
    this.changed.clear();
  }

  #connection(connected) {
    if (connected === this.connected) return;
    this.connected = connected;
    this.redraw();
    // A daemon that began anew may know other states than those of its last event.
    if (connected) this.#dirtyAll();
  }

  #again() {
    this.#dirtyAll();
    for (const reset of this.resets) reset();
  }

  /** A key of some sessions has no stream of all: the list is looked at now and then. */
  #withoutStream(problem) {
    if (problem.status === 401) return;
    this.connected = true;
    const look = async () => {
      if (!document.hidden) await this.readList().catch(() => {});
      this.poll = setTimeout(look, POLL);
    };
    this.poll = setTimeout(look, POLL);
    for (const reset of this.resets) reset();
    this.redraw();
  }

  /** The page has no stream of all sessions; a session that is open has one of its own. */
  get withoutStream() {
    return this.poll !== undefined;
  }

  #events(list) {
    for (const event of list) {
      if (this.lines.take(event)) this.redraw();
      if (event.type === 'manager.started') this.#dirtyAll();
      if (event.type === 'session.deleted') {
        this.sessions.delete(event.session);
        this.lines.delete(event.session);
        this.mark += 1;
        this.redraw();
        continue;
      }
      if (event.session && !SILENT.has(event.type)) this.changed.add(event.session);
    }
    for (const listener of this.listeners) listener(list);
    this.#soon();
  }

  #dirtyAll() {
    this.all = true;
    this.#soon();
  }

  #soon() {
    if (this.dirtyTimer || (!this.changed.size && !this.all)) return;
    this.dirtyTimer = setTimeout(() => this.#look(), PAUSE);
  }

  async #look() {
    const ids = [...this.changed];
    const all = this.all || ids.length > MOST_SINGLE;
    this.changed.clear();
    this.all = false;
    try {
      if (all) await this.readList();
      else await Promise.all(ids.map((id) => this.readOne(id)));
    } catch (error) {
      if (error.status === 0) this.all = true;
    }
    this.dirtyTimer = undefined;
    this.redraw();
    if (!this.all) this.#soon();
  }

  /** The newest event, and then the list: what happens between both is in the stream. */
  async #first() {
    const manager = get('/v1/manager');
    const list = manager.then(() => get('/v1/sessions'));
    return Promise.all([manager, list]);
  }

  async readList() {
    this.#takeList(await get('/v1/sessions'));
  }

  #takeList(list) {
    this.sessions = new Map(list.map((session) => [session.id, session]));
    this.listed = true;
    this.mark += 1;
    this.redraw();
  }

  async readOne(id) {
    try {
      this.sessions.set(id, await get(`/v1/sessions/${encodeURIComponent(id)}`));
    } catch (error) {
      if (error.status === 404) this.sessions.delete(id);
      else throw error;
    }
    this.mark += 1;
    this.redraw();
  }

  /** Reads what agents said before the page was opened. What has been heard since is newer. */
  async #readLines() {
    for (const said of await get('/v1/last-lines').catch(() => [])) {
      if (!this.lines.has(said.session_id)) this.lines.set(said.session_id, said.line);
    }
    this.redraw();
  }

  #readLoads() {
    const look = async () => {
      if (!document.hidden && this.connected) {
        const list = await get('/v1/load').catch(() => []);
        this.loads = new Map(list.map((load) => [load.session_id, load]));
        this.redraw();
      }
      this.loadTimer = setTimeout(look, LOAD);
    };
    look();
  }

  /** Finds a session by its id or name. */
  session(id) {
    return this.sessions.get(id);
  }

  // Where the page is.
  go(route, replace = false) {
    const hash = link(route);
    if (replace) history.replaceState(null, '', hash);
    else if (location.hash !== hash) history.pushState(null, '', hash);
    this.readRoute();
  }

  readRoute() {
    const [where, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
    const [view, id, tab = 'talk', ...rest] = where.split('/').map((part) => {
      try {
        return decodeURIComponent(part);
      } catch {
        return '';
      }
    });
    const given = new URLSearchParams(query);
    if (view === 's' && id) {
      this.route = { view: 'session', id, tab, path: rest.join('/'), at: Number(given.get('at')) || undefined };
    } else if (view === 'search' || view === 'new' || view === 'settings') {
      this.route = { view, q: given.get('q') ?? '' };
    } else {
      this.route = { view: 'list' };
    }
    this.redraw();
  }
}

/** The address of a view. */
export function link({ view, id, tab, path: file, at, q }) {
  if (view === 'session') {
    const parts = ['s', id, ...(tab && (tab !== 'talk' || file) ? [tab] : []), ...(file ? file.split('/') : [])];
    return path(`#/${parts.map(encodeURIComponent).join('/')}`, { at });
  }
  if (view === 'list') return '#/';
  return path(`#/${view}`, { q });
}

export const store = new Store();

let last = '';
let wait;
/** Tells something to screen readers, at most once in two seconds, and not twice in a row. */
export function announce(text) {
  if (text === last) return;
  last = text;
  clearTimeout(wait);
  wait = setTimeout(() => {
    const place = document.getElementById('said');
    if (place) place.textContent = text;
    wait = setTimeout(() => {
      if (place) place.textContent = '';
      last = '';
    }, 8_000);
  }, 300);
}

// The list of sessions: first those that need somebody, then those that work, then the others. Within a group the order
// is that of creation, so a session does not jump when it says something. While somebody points at the list, no row
// moves.

import { Component, useEffect, useLayoutEffect, useMemo, useRef, useState } from '../lib/preact.js';
import { html } from './html.js';
import { Icon } from './parts.js';
import { link, store } from './store.js';
import { age, base, cut, line, size } from './text.js';

/** Rows stay where they are for so long after a finger or a mouse moved over them, in milliseconds. */
const STILL = 1_500;
/** A tap so soon after rows moved is not taken: it was meant for the row before. In milliseconds. */
const TOO_SOON = 350;

const WORKING = new Set(['running', 'starting', 'restarting', 'adopting', 'stopping']);
export const WORDS = {
  starting: 'Starting',
  idle: 'Idle',
  running: 'Working',
  requires_action: 'Waiting',
  adopting: 'Reconnecting',
  stopping: 'Stopping',
  restarting: 'Restarting',
  hibernated: 'Asleep',
  stopped: 'Stopped',
  failed: 'Failed',
};
const NEEDS = { permission: 'Permission', form: 'Question', interrupted: 'Interrupted', failed: 'Failed' };

/** The name of a session for people. */
export function called(session) {
  return line(session.title) || line(session.name) || session.id;
}

/** The group of a session: needs, working, quiet or ended. */
export function group(session) {
  if (session.needs?.length) return 'needs';
  if (WORKING.has(session.status) || session.status === 'requires_action') return 'working';
  if (session.status === 'stopped' || session.status === 'failed') return 'ended';
  return 'quiet';
}

const GROUPS = [
  ['needs', 'Needs you'],
  ['working', 'Working'],
  ['quiet', 'Quiet'],
  ['ended', 'Ended'],
];

/** Ids by group. The longest waiting first among those that need somebody; else the newest first. */
export function arranged(sessions) {
  const groups = { needs: [], working: [], quiet: [], ended: [] };
  for (const session of sessions) groups[group(session)].push(session);
  const since = (session) => session.needs[0].since ?? session.created_at;
  const later = (a, b) =>
    a.created_at === b.created_at ? b.id.localeCompare(a.id, 'en', { numeric: true }) : a.created_at > b.created_at ? -1 : 1;
  groups.needs.sort((a, b) => (since(a) === since(b) ? later(b, a) : since(a) < since(b) ? -1 : 1));
  for (const name of ['working', 'quiet', 'ended']) groups[name].sort(later);
  return GROUPS.map(([name, title]) => ({ name, title, ids: groups[name].map((session) => session.id) }));
}

const same = (a, b) =>
  a.every((one, at) => one.ids.length === b[at].ids.length && one.ids.every((id, row) => id === b[at].ids[row]));

class Row extends Component {
  shouldComponentUpdate(next) {
    return ['session', 'said', 'memory', 'chosen', 'minute'].some((name) => next[name] !== this.props[name]);
  }

  render() {
    const { session, said, memory, chosen } = this.props;
    const need = session.needs?.[0];
    const more = (session.needs?.length ?? 0) - 1;
    const state = need ? 'needs' : session.status;
    const second = need ? line(need.text) : line(said || session.first_prompt || 'No messages yet');
    const when = need ? need.since : (session.last_message_at ?? session.created_at);
    const deaths = session.restarts?.in_window ?? 0;
    return html`<li class="row" data-id=${session.id}>
      <a class="row-link" href=${link({ view: 'session', id: session.id })} aria-current=${chosen ? 'page' : undefined}>
        <span class=${`dot is-${state}`} aria-hidden="true"></span>
        <span class="row-name">${cut(called(session), 120)}</span>
        <span class="row-age">${age(when)}</span>
        <span class=${`row-said ${need ? 'is-need' : ''}`}>${need ? html`<b>${NEEDS[need.kind] ?? 'Needs you'}</b> ` : null}${cut(second, 200)}</span>
        <span class="row-facts">
          <span class=${`word is-${state}`}>${need ? (more > 0 ? `${more} more` : 'Answer') : (WORDS[session.status] ?? session.status)}</span>
          <span>${line(session.agent)}</span>
          <span class="row-dir">${line(base(session.workdir))}</span>
          ${session.queue_length ? html`<span>${session.queue_length} queued</span>` : null}
          ${deaths ? html`<span class="warn">${deaths} ${deaths === 1 ? 'restart' : 'restarts'}</span>` : null}
          ${memory ? html`<span>${size(memory)}</span>` : null}
        </span>
      </a>
    </li>`;
  }
}

/** Keeps the order while somebody points at the list. Returns `[order, held, release]`. */
function useStill(wanted, place) {
  const shown = useRef(null);
  const touched = useRef(0);
  const down = useRef(false);
  const moved = useRef(0);
  const asked = useRef(false);
  const [, redraw] = useState(0);
  useEffect(() => {
    const node = place.current;
    let timer;
    const later = () => {
      clearTimeout(timer);
      timer = setTimeout(() => redraw((n) => n + 1), STILL + 20);
    };
    const touch = () => {
      touched.current = Date.now();
      later();
    };
    const press = () => {
      down.current = true;
      touch();
    };
    const release = () => {
      down.current = false;
      touch();
    };
    const click = (event) => {
      if (Date.now() - moved.current < TOO_SOON && event.detail > 0) {
        event.preventDefault();
        event.stopPropagation();
      }
    };
    const leave = (event) => {
      if (event.pointerType === 'mouse') {
        down.current = false;
        touched.current = 0;
        redraw((n) => n + 1);
      }
    };
    const heard = {
      pointerdown: press,
      pointerup: release,
      pointercancel: release,
      pointermove: touch,
      pointerleave: leave,
      wheel: touch,
      touchmove: touch,
    };
    for (const [name, run] of Object.entries(heard)) node.addEventListener(name, run, { passive: true });
    node.addEventListener('click', click, true);
    return () => {
      clearTimeout(timer);
      for (const [name, run] of Object.entries(heard)) node.removeEventListener(name, run);
      node.removeEventListener('click', click, true);
    };
  }, []);
  const busy = down.current || Date.now() - touched.current < STILL;
  if (!shown.current || !busy) {
    // What a person asked for, by the filter or the button, surprises nobody.
    if (shown.current && !asked.current && !same(shown.current, wanted)) moved.current = Date.now();
    asked.current = false;
    shown.current = wanted;
  }
  const held = shown.current !== wanted && !same(shown.current, wanted);
  return [
    shown.current,
    held,
    () => {
      touched.current = 0;
      down.current = false;
      asked.current = true;
      redraw((n) => n + 1);
    },
  ];
}

function matches(session, words) {
  if (!words.length) return true;
  const labels = Object.entries(session.labels ?? {})
    .map(([name, value]) => `${name}=${value}`)
    .join(' ');
  const text = [
    session.id,
    session.name,
    session.title,
    session.agent,
    session.workdir,
    session.first_prompt,
    session.status,
    labels,
  ]
    .filter(Boolean)
    .join('\n')
    .toLowerCase();
  return words.every((word) => text.includes(word));
}

/** The list, with its filter. `chosen` is the session that is open beside it. */
export function List({ chosen }) {
  const place = useRef(null);
  const { filter, open } = store.list;
  const change = (part) => {
    Object.assign(store.list, part);
    store.redraw();
  };
  // A person who comes back from a session finds the list as it was.
  useLayoutEffect(() => {
    const node = place.current;
    node.scrollTop = store.list.top;
    const heard = () => {
      store.list.top = node.scrollTop;
    };
    node.addEventListener('scroll', heard, { passive: true });
    return () => node.removeEventListener('scroll', heard);
  }, [store.listed]);
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const all = [...store.sessions.values()];
  const wanted = useMemo(() => arranged(all.filter((session) => matches(session, words))), [filter, store.mark]);
  const [order, held, release] = useStill(wanted, place);
  const minute = Math.floor(Date.now() / 60_000);
  const count = order.reduce((sum, one) => sum + one.ids.length, 0);
  return html`<section class="list" ref=${place} aria-label="Sessions">
    <div class="filter"><label class="unseen" for="filter">Filter the list</label>
      <input id="filter" type="search" placeholder="Filter" value=${filter} autocomplete="off" spellcheck="false"
        onInput=${(event) => {
          change({ filter: event.target.value });
          release();
        }} /></div>
    ${held ? html`<button class="moved" onClick=${release}>The order has changed: show it</button>` : null}
    ${order.map(({ name, title, ids }) => {
      const sessions = ids.map((id) => store.sessions.get(id)).filter(Boolean);
      if (!sessions.length) return null;
      const shut = name === 'ended' && !open && !words.length && count > sessions.length;
      return html`<section key=${name} class=${`group is-${name}`}>
        <h2>${
          name === 'ended' && count > sessions.length && !words.length
            ? html`<button class="fold" aria-expanded=${String(!shut)} onClick=${() => change({ open: shut })}>
              ${title} <span class="dim">${sessions.length}</span> <${Icon} name="down" /></button>`
            : html`${title} <span class="dim">${sessions.length}</span>`
        }</h2>
        ${
          shut
            ? null
            : html`<ul>${sessions.map(
                (session) => html`<${Row} key=${session.id} session=${session} chosen=${session.id === chosen}
          said=${store.lines.get(session.id)} memory=${store.loads.get(session.id)?.memory_bytes} minute=${minute} />`,
              )}</ul>`
        }
      </section>`;
    })}
    ${
      store.listed && !count
        ? html`<div class="empty">
      ${
        words.length
          ? html`<p>No session matches.</p>`
          : html`<p>There are no sessions yet.</p>
        <p class="dim">Start one here, or in a terminal: <code>kennel start --agent NAME</code></p>`
      }</div>`
        : null
    }
    ${store.listed ? null : html`<div class="empty dim" role="status">Loading…</div>`}
  </section>`;
}

// A session's time as a picture: when turns ran, when it waited for somebody, when its process died. The table below
// has the same.

import { get } from './api.js';
import { read } from './history.js';
import { html } from './html.js';
import { Failure, useRead } from './parts.js';
import { clock, cut, line, span, string } from './text.js';

/** The span of event ids that is looked at, at most. */
const MOST_IDS = 200_000;
/** The number of a session's events of its life that is enough. */
const ENOUGH = 400;
const KEPT = /^(turn|session|permission|call|prompt\.accepted)/;
const WIDTH = 1_000;

/** Reads the newest events of a session's life, without what was said. */
async function life(session, signal) {
  const { last_event_id: head } = await get('/v1/manager', { signal });
  for (let back = 5_000; ; back *= 6) {
    const after = Math.max(0, head - back);
    const { list, cut: left } = await read(session, { after, until: head, signal, keep: (event) => KEPT.test(event.type) });
    if (list.length >= ENOUGH || after === 0 || back >= MOST_IDS || left) return { list, whole: after === 0 && !left };
  }
}

/** Spans and points of a list of events: `{turns, waits, runs, deaths, begin, end}`; times in milliseconds. */
export function spans(list, now) {
  const turns = [];
  const waits = [];
  const runs = [];
  const deaths = [];
  const prompts = new Map();
  const asked = new Map();
  let turn = null;
  let run = null;
  const begin = list.length ? Date.parse(list[0].at) : now;
  const closeTurn = (at, how) => {
    if (turn) {
      turn.end = at;
      turn.how = how;
      turns.push(turn);
      turn = null;
    }
  };
  const closeRun = (at, how) => {
    if (run) {
      run.end = at;
      run.how = how;
      runs.push(run);
      run = null;
    }
  };
  const closeWaits = (at) => {
    for (const one of asked.values()) {
      one.end = at;
      waits.push(one);
    }
    asked.clear();
  };
  for (const event of list) {
    const at = Date.parse(event.at);
    const data = event.data ?? {};
    switch (event.type) {
      case 'prompt.accepted':
        prompts.set(data.prompt_id, string(data.text));
        break;
      case 'turn.started':
        closeTurn(at, 'ended');
        turn = { begin: at, text: prompts.get(data.prompt_id) ?? '' };
        break;
      case 'turn.completed':
        turn ??= { begin, text: '' };
        closeTurn(at, string(data.stop_reason));
        closeWaits(at);
        break;
      case 'turn.interrupted':
        turn ??= { begin, text: '' };
        closeTurn(at, 'interrupted');
        closeWaits(at);
        break;
      case 'permission.requested':
        asked.set(data.permission_id, { begin: at, text: string(data.title) });
        break;
      case 'call.requested':
        if (data.method === 'elicitation/create')
          asked.set(data.call_id, { begin: at, text: string(data.payload?.message) });
        break;
      case 'permission.resolved':
      case 'permission.expired':
      case 'call.answered':
      case 'call.expired': {
        const id = data.permission_id ?? data.call_id;
        const one = asked.get(id);
        if (one) {
          asked.delete(id);
          one.end = at;
          waits.push(one);
        }
        break;
      }
      case 'session.started':
        closeRun(at, '');
        run = { begin: at };
        break;
      case 'session.adopted':
        run ??= { begin: at };
        break;
      case 'session.restarting':
        closeRun(at, 'died');
        deaths.push({ at, text: string(data.reason) });
        break;
      case 'session.failed':
        closeRun(at, 'failed');
        deaths.push({ at, text: string(data.reason) });
        break;
      case 'session.stopped':
        closeRun(at, 'stopped');
        break;
      case 'session.hibernated':
        closeRun(at, 'slept');
        break;
      default:
        break;
    }
  }
  if (turn) {
    turn.open = true;
    closeTurn(now, 'runs');
  }
  if (run) {
    run.open = true;
    closeRun(now, 'runs');
  }
  closeWaits(now);
  return { turns, waits, runs, deaths, begin, end: now };
}

const sum = (list) => list.reduce((all, one) => all + Math.max(0, one.end - one.begin), 0);

/** Round steps for the axis, in milliseconds. */
const STEPS = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400, 172_800, 604_800].map(
  (seconds) => seconds * 1_000,
);

function Picture({ times }) {
  const { begin, end } = times;
  const long = Math.max(1_000, end - begin);
  const x = (at) => Math.round(((at - begin) / long) * WIDTH * 10) / 10;
  const wide = (one) => Math.max(2, x(one.end) - x(one.begin));
  const step = STEPS.find((one) => long / one <= 5) ?? STEPS.at(-1);
  const marks = [];
  for (let at = Math.ceil(begin / step) * step; at <= end && marks.length < 8; at += step) marks.push(at);
  const bars = (list, y, kind) =>
    list.map(
      (one, at) =>
        html`<rect key=${`${kind}${at}`} class=${`bar is-${kind}`} x=${x(one.begin)} y=${y} width=${wide(one)} height="18" rx="3" />`,
    );
  return html`<svg class="timeline" viewBox=${`0 0 ${WIDTH} 132`} preserveAspectRatio="none" aria-hidden="true">
    ${marks.map((at) => html`<line key=${at} class="grid" x1=${x(at)} x2=${x(at)} y1="0" y2="132" />`)}
    ${bars(times.turns, 12, 'turn')}${bars(times.waits, 54, 'wait')}${bars(times.runs, 96, 'run')}
    ${times.deaths.map((one, at) => html`<rect key=${`d${at}`} class="bar is-death" x=${Math.max(0, x(one.at) - 2)} y="90" width="5" height="30" />`)}
  </svg>
  <div class="axis" aria-hidden="true">${[begin, (begin + end) / 2, end].map((at) => html`<span key=${at}>${clock(at, long < 600_000)}</span>`)}</div>`;
}

export function Timeline({ session }) {
  const [found, problem, again] = useRead(
    (signal) => life(session.id, signal),
    [session.id, session.turn_count, session.incarnation, session.status],
  );
  const times = found ? spans(found.list, Date.now()) : null;
  const newest = times
    ? [
        ...times.turns.map((one) => ({ ...one, word: 'Turn', at: one.begin })),
        ...times.waits.map((one) => ({ ...one, word: 'Waited', at: one.begin })),
        ...times.deaths.map((one) => ({ ...one, word: 'Restart', begin: one.at, end: one.at })),
      ]
        .sort((a, b) => b.at - a.at)
        .slice(0, 60)
    : [];
  return html`<div class="scroller page" tabindex="0" role="region" aria-label="Timeline">
    <${Failure} problem=${problem} again=${again} />
    ${!found && !problem ? html`<p class="empty dim">Loading…</p>` : null}
    ${
      times
        ? html`
      <dl class="figures"><div><dt><i class="key is-turn"></i>Turns</dt><dd>${times.turns.length}<small>${span(sum(times.turns))}</small></dd></div>
        <div><dt><i class="key is-wait"></i>Waiting for you</dt><dd>${times.waits.length}<small>${span(sum(times.waits))}</small></dd></div>
        <div><dt><i class="key is-death"></i>Restarts</dt><dd>${times.deaths.length}</dd></div></dl>
      <figure class="plot"><div class="lanes"><span>Turns</span><span>Waiting</span><span>Process</span></div><div class="plot-area"><${Picture} times=${times} /></div>
        <figcaption class="dim">${found.whole ? 'Since the session began' : `The newest part, since ${clock(times.begin)}`}.</figcaption></figure>
      ${
        newest.length
          ? html`<table class="times"><caption class="unseen">Turns, waits and restarts, the newest first</caption>
        <thead><tr><th scope="col">When</th><th scope="col">Event</th><th scope="col">Took</th></tr></thead>
        <tbody>${newest.map(
          (
            one,
            at,
          ) => html`<tr key=${at}><td>${clock(one.at)}</td><td dir="auto"><b>${one.word}</b> ${cut(line(one.text), 120)}</td>
          <td>${one.word === 'Restart' ? '' : one.open ? 'still' : span(one.end - one.begin)}</td></tr>`,
        )}</tbody></table>`
          : html`<p class="empty dim">Nothing has happened yet.</p>`
      }`
        : null
    }
  </div>`;
}

// One session: its head, its tabs, and what can be done with it.

import { Component, useEffect, useRef, useState } from '../lib/preact.js';
import { request } from './api.js';
import { Conversation } from './conversation.js';
import { Files, Changes } from './files.js';
import { html } from './html.js';
import { called, WORDS } from './list.js';
import { Failure, Icon, useFocus, useTask } from './parts.js';
import { Needs } from './permission.js';
import { Prompt } from './prompt.js';
import { Settings } from './settings.js';
import { announce, link, store } from './store.js';
import { age, base, clock, line, output, size } from './text.js';
import { Timeline } from './timeline.js';

const TABS = [
  ['talk', 'Talk'],
  ['changes', 'Changes'],
  ['files', 'Files'],
  ['timeline', 'Timeline'],
  ['about', 'About'],
];

/** A menu of buttons that closes by Escape, by a choice, and by a tap elsewhere. */
function Menu({ children, label }) {
  const [open, setOpen] = useState(false);
  const place = useRef(null);
  const button = useRef(null);
  useEffect(() => {
    if (!open) return undefined;
    place.current.querySelector('.menu button:not([disabled])')?.focus();
    const outside = (event) => {
      if (!place.current.contains(event.target)) setOpen(false);
    };
    const escape = (event) => {
      if (event.key === 'Escape') {
        setOpen(false);
        button.current.focus();
      }
    };
    document.addEventListener('pointerdown', outside);
    document.addEventListener('keydown', escape);
    return () => {
      document.removeEventListener('pointerdown', outside);
      document.removeEventListener('keydown', escape);
    };
  }, [open]);
  return html`<div class="menu-place" ref=${place}>
    <button ref=${button} class="round" aria-label=${label} aria-expanded=${String(open)} onClick=${() => setOpen(!open)}><${Icon} name="more" /></button>
    ${open ? html`<div class="menu" onClick=${() => setOpen(false)}>${children}</div>` : null}
  </div>`;
}

function Actions({ session, setSure, rename }) {
  const at = `/v1/sessions/${encodeURIComponent(session.id)}`;
  const run = useTask(async (method, where, said) => {
    await request(method, where);
    announce(said);
    store.changed.add(session.id);
    await store.readOne(session.id);
  });
  const ended = session.status === 'stopped' || session.status === 'failed';
  return html`<${Menu} label="More about this session">
      <button onClick=${rename}>Change the title</button>
      ${
        session.pinned
          ? html`<button onClick=${() => run.run('POST', `${at}/unpin`, 'The session may sleep.')}>Let it sleep when idle</button>`
          : html`<button onClick=${() => run.run('POST', `${at}/pin`, 'The session stays awake.')}>Keep it awake</button>`
      }
      <button onClick=${() => setSure({ text: 'Restart the process of this session? A turn that runs is cut off.', word: 'Restart', run: () => request('POST', `${at}/restart`) })}>Restart</button>
      ${ended ? null : html`<button onClick=${() => setSure({ text: 'Stop this session and its sub-agents? Waiting prompts are dropped.', word: 'Stop', run: () => request('POST', `${at}/stop`) })}>Stop</button>`}
      ${
        ended && store.mayRemove
          ? html`<button class="warn" onClick=${() =>
              setSure({
                text: 'Remove this session and all its records? This cannot be undone.',
                word: 'Remove',
                run: async () => {
                  await request('DELETE', at);
                  store.sessions.delete(session.id);
                  store.go({ view: 'list' }, true);
                },
              })}>Remove</button>`
          : null
      }
    ${run.problem ? html`<${Failure} problem=${run.problem} />` : null}
  </${Menu}>`;
}

function Sure({ sure, close }) {
  const task = useTask(async () => {
    await sure.run();
    announce(`${sure.word}: done.`);
    close();
  });
  const place = useRef(null);
  useEffect(() => {
    place.current.showModal();
  }, []);
  return html`<dialog ref=${place} class="sure" aria-label=${sure.word} onCancel=${close} onClose=${close}>
    <p>${sure.text}</p><${Failure} problem=${task.problem} />
    <div class="answers"><button class="big deny" onClick=${close}>Leave it</button>
      <button class="big main" disabled=${task.busy} onClick=${() => task.run()}>${sure.word}</button></div>
  </dialog>`;
}

function Rename({ session, close }) {
  const [title, setTitle] = useState(session.title ?? '');
  const place = useFocus([]);
  const save = useTask(async () => {
    await request('PATCH', `/v1/sessions/${encodeURIComponent(session.id)}`, { body: { title } });
    await store.readOne(session.id);
    close();
  });
  return html`<form class="rename" onSubmit=${(event) => {
    event.preventDefault();
    save.run();
  }}>
    <label for="title">Title</label><input id="title" ref=${place} value=${title} maxlength="200" onInput=${(event) => setTitle(event.target.value)} />
    <div class="line-up"><button type="button" class="small" onClick=${close}>Leave it</button><button class="small main" disabled=${save.busy}>Save</button></div>
    <${Failure} problem=${save.problem} />
  </form>`;
}

function About({ session }) {
  const load = store.loads.get(session.id);
  const labels = Object.entries(session.labels ?? {});
  const rows = [
    ['Id', session.id],
    ['Name', line(session.name)],
    ['Agent', line(session.agent)],
    ['Model', line(session.agent_model ?? session.model ?? '')],
    ['Directory', line(session.workdir)],
    ['State', WORDS[session.status] ?? session.status],
    ['Made', `${clock(session.created_at)} (${age(session.created_at)})`],
    ['Turns', session.turn_count],
    ['Messages', session.message_count],
    [
      'Memory',
      load
        ? `${size(load.memory_bytes)} in ${load.processes} ${load.processes === 1 ? 'process' : 'processes'}`
        : 'no process runs',
    ],
    ['Processor', load ? `${(load.cpu_ms / 1000).toFixed(1)} s` : ''],
    ['Memory limit', session.limits?.memory_bytes ? size(session.limits.memory_bytes) : ''],
    [
      'Restarts',
      `${session.restarts?.in_window ?? 0} of ${session.restarts?.intensity ?? '?'} in ${Math.round((session.restarts?.period_ms ?? 0) / 1000)} s`,
    ],
    ['Last restart', output(session.restarts?.last_reason ?? '')],
    ['Process', session.pid ?? ''],
    ['Incarnation', session.incarnation],
    ['Sandbox', session.sandbox ? line(session.sandbox.by ?? 'yes') : 'none'],
    ['Tokens', session.usage ? `${session.usage.input_tokens} read, ${session.usage.output_tokens} written` : ''],
    ['Cost', session.usage?.cost_usd != null ? `$${session.usage.cost_usd.toFixed(2)}` : ''],
    ['Labels', labels.map(([name, value]) => line(`${name}=${value}`)).join(', ')],
    ['Parent', session.parent ?? ''],
    ['Goes on with', session.conversation ? `${line(session.conversation)}, begun outside kennel` : ''],
    [
      'Forked from',
      session.forked_from ? `${line(session.forked_from.session_id)}, turn ${session.forked_from.turn}` : '',
    ],
  ].filter(([, value]) => value !== '' && value !== undefined && value !== null);
  return html`<div class="scroller page" tabindex="0" role="region" aria-label="About this session">
    <${Settings} session=${session} />
    <dl class="facts">${rows.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd dir="auto">${value}</dd></div>`)}</dl></div>`;
}

/** The next session that needs somebody, apart from this one. */
function next(id) {
  return [...store.sessions.values()]
    .filter((one) => one.needs?.length && one.id !== id)
    .sort((a, b) => (a.needs[0].since < b.needs[0].since ? -1 : 1))[0];
}

export class Session extends Component {
  constructor(props) {
    super(props);
    this.state = { sure: null, renaming: false };
  }

  render({ id, tab, path: file, at }, { sure, renaming }) {
    const session = store.session(id);
    if (!session) {
      return html`<main tabindex="-1" class="session"><header class="head"><a class="round back" href="#/" aria-label="All sessions"><${Icon} name="back" /></a><h1>${line(id)}</h1></header>
        <p class="empty dim" role="status">${store.listed ? 'There is no such session. It may have been removed.' : 'Loading…'}</p></main>`;
    }
    const load = store.loads.get(id);
    const deaths = session.restarts?.in_window ?? 0;
    const other = next(id);
    const state = session.needs?.length ? 'needs' : session.status;
    return html`<main tabindex="-1" class="session" key=${id}>
      <header class="head">
        <a class="round back" href="#/" aria-label="All sessions"><${Icon} name="back" /></a>
        <div class="head-text"><h1 dir="auto">${called(session)}</h1>
          <p class="head-facts"><span class=${`word is-${state}`}>${session.needs?.length ? 'Needs you' : (WORDS[session.status] ?? session.status)}</span>
            <span>${line(session.agent)}</span><span class="head-dir" dir="ltr">${line(base(session.workdir))}</span>
            ${load ? html`<span title="Memory of its processes">${size(load.memory_bytes)}</span>` : null}
            ${deaths ? html`<span class="warn">${deaths} ${deaths === 1 ? 'restart' : 'restarts'}</span>` : null}</p></div>
        ${store.mayDrive ? html`<${Actions} session=${session} setSure=${(one) => this.setState({ sure: one })} rename=${() => this.setState({ renaming: true })} />` : null}
      </header>
      ${renaming ? html`<${Rename} session=${session} close=${() => this.setState({ renaming: false })} />` : null}
      <nav class="tabs" aria-label="Parts of the session">${TABS.map(
        ([name, word]) => html`<a key=${name} href=${link({ view: 'session', id, tab: name })}
        aria-current=${tab === name ? 'page' : undefined}>${word}</a>`,
      )}</nav>
      ${
        tab === 'talk'
          ? html`
        ${session.waits_for || session.start_notice ? html`<p class="notice">${output(session.waits_for ?? session.start_notice)}</p>` : null}
        <${Conversation} key=${id} id=${id} at=${at} session=${session} />
        <${Needs} session=${session} />
        ${other && !session.needs?.length ? html`<a class="next" href=${link({ view: 'session', id: other.id })}><${Icon} name="bell" /> <span>${called(other)} needs you</span></a>` : null}
        <${Prompt} session=${session} />`
          : null
      }
      ${tab === 'changes' ? html`<${Changes} session=${session} />` : null}
      ${tab === 'files' ? html`<${Files} session=${session} path=${file} />` : null}
      ${tab === 'timeline' ? html`<${Timeline} session=${session} />` : null}
      ${tab === 'about' ? html`<${About} session=${session} />` : null}
      ${sure ? html`<${Sure} sure=${sure} close=${() => this.setState({ sure: null })} />` : null}
    </main>`;
  }
}

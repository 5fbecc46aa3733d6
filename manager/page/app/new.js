// A new session: agent, directory, title and first prompt.

import { useRef, useState } from '../lib/preact.js';
import { get, post, word } from './api.js';
import { html } from './html.js';
import { Failure, Icon, useRead, useTask } from './parts.js';
import { store } from './store.js';
import { line } from './text.js';

export function New() {
  const [agents, problem, again] = useRead((signal) => get('/v1/agents', { signal }), []);
  const [agent, setAgent] = useState('');
  const [workdir, setWorkdir] = useState('');
  const [title, setTitle] = useState('');
  const [text, setText] = useState('');
  const key = useRef(word());
  const home = store.manager?.home ?? '';
  const dirs = [...new Set([...store.sessions.values()].map((session) => session.workdir))].slice(0, 50);
  const start = useTask(async () => {
    const path = workdir.startsWith('~/')
      ? `${home}${workdir.slice(1)}`
      : workdir.startsWith('/') || !workdir
        ? workdir
        : `${home}/${workdir}`;
    const opts = Object.fromEntries(
      Object.entries({ agent, workdir: path, title: title.trim() }).filter(([, value]) => value),
    );
    const session = await post('/v1/sessions', opts, { headers: { 'Idempotency-Key': key.current } });
    store.sessions.set(session.id, session);
    if (text.trim())
      await post(
        `/v1/sessions/${encodeURIComponent(session.id)}/prompts`,
        { text },
        { headers: { 'Idempotency-Key': key.current } },
      );
    store.go({ view: 'session', id: session.id }, true);
  });
  const changed = (set) => (event) => {
    set(event.target.value);
    key.current = word();
  };
  const here = (agents ?? []).filter((one) => one.path !== null || one.kind === 'shell');
  return html`<main tabindex="-1" class="session"><header class="head"><a class="round back" href="#/" aria-label="All sessions"><${Icon} name="back" /></a><h1>New session</h1></header>
    <div class="scroller page" tabindex="0" role="region" aria-label="New session">
      <${Failure} problem=${problem} again=${again} />
      <form class="stack" onSubmit=${(event) => {
        event.preventDefault();
        start.run();
      }}>
        <div class="field"><label for="agent">Agent</label><select id="agent" value=${agent} onChange=${changed(setAgent)}>
          <option value="">The configured one</option>${here.map((one) => html`<option key=${one.name} value=${one.name}>${line(one.name)}</option>`)}</select></div>
        <div class="field"><label for="dir">Directory</label><input id="dir" list="dirs" value=${workdir} placeholder=${home || 'The home directory'} autocomplete="off" spellcheck="false" onInput=${changed(setWorkdir)} />
          <datalist id="dirs">${dirs.map((dir) => html`<option key=${dir} value=${dir}></option>`)}</datalist></div>
        <div class="field"><label for="new-title">Title <span class="dim">(optional)</span></label><input id="new-title" value=${title} maxlength="200" onInput=${changed(setTitle)} /></div>
        <div class="field"><label for="first">First prompt <span class="dim">(optional)</span></label><textarea id="first" rows="4" value=${text} onInput=${changed(setText)}></textarea></div>
        <${Failure} problem=${start.problem} />
        <button class="big main" disabled=${start.busy}>Start</button>
      </form></div></main>`;
}

// Search in all conversations.

import { useState } from '../lib/preact.js';
import { get, path } from './api.js';
import { html } from './html.js';
import { Failure, Icon, useFocus, useRead } from './parts.js';
import { link, store } from './store.js';
import { clock, cut, line } from './text.js';

const KINDS = {
  title: 'Title',
  prompt: 'Prompt',
  message: 'Agent',
  stderr: 'Error output',
  thought: 'Thought',
  tool: 'Tool',
};

/** A snippet with its matches marked. Positions are in code points. */
function Snippet({ hit }) {
  const characters = [...hit.snippet];
  const pieces = [];
  let from = 0;
  for (const { start, end } of hit.matches.slice(0, 50)) {
    if (start < from) continue;
    pieces.push(
      line(characters.slice(from, start).join('')),
      html`<mark>${line(characters.slice(start, end).join(''))}</mark>`,
    );
    from = end;
  }
  pieces.push(line(characters.slice(from).join('')));
  return html`<span class="snippet" dir="auto">${pieces}</span>`;
}

export function Search({ q }) {
  const [text, setText] = useState(q);
  const place = useFocus([]);
  const [found, problem] = useRead(
    (signal) => (q ? get(path('/v1/search', { q, limit: 100 }), { signal }) : Promise.resolve(null)),
    [q],
  );
  const sessions = new Map((found?.sessions ?? []).map((one) => [one.id, one]));
  const submit = (event) => {
    event.preventDefault();
    store.go({ view: 'search', q: text.trim() });
  };
  return html`<main tabindex="-1" class="session"><header class="head"><a class="round back" href="#/" aria-label="All sessions"><${Icon} name="back" /></a><h1>Search</h1></header>
    <form class="search-row" role="search" onSubmit=${submit}><label class="unseen" for="q">Words</label>
      <input id="q" ref=${place} type="search" value=${text} maxlength="1000" placeholder="Words, &quot;a phrase&quot;, begin*" autocomplete="off" onInput=${(event) => setText(event.target.value)} />
      <button class="main small">Search</button></form>
    <div class="scroller page" tabindex="0" role="region" aria-label="Results">
      <${Failure} problem=${problem} />
      ${q && !found && !problem ? html`<p class="empty dim" role="status">Searching…</p>` : null}
      ${
        found
          ? html`<p class="dim" role="status">${found.hits.length ? `${found.hits.length}${found.more ? ' or more' : ''} found` : 'Nothing was found.'}${found.note ? ` ${line(found.note)}` : ''}</p>
        <ol class="hits">${found.hits.map((hit) => {
          const session = sessions.get(hit.session);
          return html`<li key=${`${hit.session}-${hit.event}-${hit.kind}`}><a class="hit" href=${link({ view: 'session', id: hit.session, at: hit.event })}>
            <span class="hit-head"><b dir="auto">${cut(line(session?.title) || line(session?.name) || hit.session, 100)}</b> <span class="dim">${KINDS[hit.kind] ?? hit.kind} · ${clock(hit.at)}</span></span>
            <${Snippet} hit=${hit} /></a></li>`;
        })}</ol>`
          : null
      }
      ${q ? null : html`<p class="empty dim">Finds titles, prompts, answers, thoughts and tools of all sessions.</p>`}
    </div></main>`;
}

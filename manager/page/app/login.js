// The log-in: by the ticket of a link, or by a key.

import { useState } from '../lib/preact.js';
import { logIn } from './api.js';
import { html } from './html.js';
import { Failure, useFocus, useTask } from './parts.js';
import { store } from './store.js';

/** The form of a ticket: 16 bytes in base64url. Any site can send a tab to another text, which must not be tried. */
const TICKET = /^[A-Za-z0-9_-]{21}[AQgw]$/;

/** Takes the ticket out of the address bar before anything else can read it. Returns it, or an empty text. */
export function ticket() {
  const hash = location.hash.slice(1);
  if (!hash || hash.startsWith('/')) return '';
  history.replaceState(null, '', '/#/');
  return TICKET.test(hash) ? hash : '';
}

export function Login() {
  const [key, setKey] = useState('');
  const place = useFocus([]);
  const enter = useTask(async () => {
    await logIn({ key: key.trim() });
    store.loginNote = '';
    setKey('');
    store.phase = 'starting';
    await store.begin();
  });
  return html`<main class="login"><img class="mark" src="/page/icon.svg" alt="" width="56" height="56" /><h1>kennel</h1>
    ${store.loginNote ? html`<p role="status">${store.loginNote}</p>` : null}
    <p>Open the page with <code>kennel web</code>, or log in with a key.</p>
    <form class="stack" onSubmit=${(event) => {
      event.preventDefault();
      enter.run();
    }}>
      <div class="field"><label for="key">Key</label><input id="key" ref=${place} type="password" required value=${key} autocomplete="current-password" autocapitalize="off" spellcheck="false" placeholder="kk_…" onInput=${(event) => setKey(event.target.value)} /></div>
      <${Failure} problem=${enter.problem} />
      <button class="big main" disabled=${enter.busy || !key.trim()}>Log in</button>
    </form>
    <p class="dim">A key is made by <code>kennel key create NAME</code>.</p></main>`;
}

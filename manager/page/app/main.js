// The page: log-in, then list and session, beside each other where there is room.

import { Component, render, useEffect, useRef } from '../lib/preact.js';
import { logIn, logOut } from './api.js';
import { html } from './html.js';
import { called, List } from './list.js';
import { Login, ticket } from './login.js';
import { New } from './new.js';
import { Icon, useWide } from './parts.js';
import { Search } from './search.js';
import { Session } from './session.js';
import { announce, store } from './store.js';
import { clock, line } from './text.js';

function Head() {
  const count = [...store.sessions.values()].filter((session) => session.needs?.length).length;
  return html`<header class="top"><h1><a href="#/">kennel</a>${count ? html` <span class="badge"><span class="unseen">, </span>${count}<span class="unseen"> need you</span></span>` : null}</h1>
    <a class="round" href="#/search" aria-label="Search"><${Icon} name="search" /></a>
    <a class="round" href="#/settings" aria-label="This page"><${Icon} name="gear" /></a>
    ${store.mayDrive ? html`<a class="round main" href="#/new" aria-label="New session"><${Icon} name="plus" /></a>` : null}</header>`;
}

function Settings() {
  const key = store.me?.key ?? store.me ?? {};
  const leave = async () => {
    await logOut().catch(() => {});
    store.toLogin('You are logged out.');
  };
  return html`<main tabindex="-1" class="session"><header class="head"><a class="round back" href="#/" aria-label="All sessions"><${Icon} name="back" /></a><h1>This page</h1></header>
    <div class="scroller page" tabindex="0" role="region" aria-label="This page"><dl class="facts">
      <div><dt>Key</dt><dd dir="auto">${line(key.name ?? '')} <span class="dim">${line(key.id ?? '')}</span></dd></div>
      <div><dt>Role</dt><dd>${line(store.role)}</dd></div>
      ${key.expires_at ? html`<div><dt>Ends</dt><dd>${clock(key.expires_at)}</dd></div>` : null}
      <div><dt>Daemon</dt><dd>${line(store.manager?.version ?? '')}</dd></div></dl>
      <p class="dim">Your browser's menu installs this page as an app.</p>
      <button class="big deny" onClick=${leave}>Log out</button></div></main>`;
}

/** Tells screen readers which sessions begin to need somebody, and nothing else of the list. */
function useCalls() {
  const known = useRef(null);
  useEffect(() => {
    if (!store.listed) return;
    const now = new Set(
      [...store.sessions.values()].flatMap((session) =>
        (session.needs ?? []).map((need) => `${session.id} ${need.id ?? need.kind}`),
      ),
    );
    if (known.current) {
      const added = [...now].filter((one) => !known.current.has(one)).map((one) => store.sessions.get(one.split(' ')[0]));
      if (added.length === 1) announce(`${called(added[0])} needs you.`);
      else if (added.length > 1) announce(`${added.length} sessions need you.`);
    }
    known.current = now;
  });
  const count = [...store.sessions.values()].filter((session) => session.needs?.length).length;
  useEffect(() => {
    document.title = count ? `(${count}) kennel` : 'kennel';
  }, [count]);
}

/** Moves the focus with a person who goes to another view on a small screen, where the view before is gone. */
function useMoves(wide) {
  const before = useRef(null);
  const { view, id } = store.route;
  useEffect(() => {
    const last = before.current;
    before.current = { view, id };
    if (!last || wide || document.activeElement?.matches('input, textarea')) return;
    const row = view === 'list' && last.id ? document.querySelector(`[data-id="${CSS.escape(last.id)}"] a`) : null;
    (row ?? document.querySelector('main'))?.focus({ preventScroll: true });
  }, [view, id]);
}

function View({ wide }) {
  const { route } = store;
  if (route.view === 'session') return html`<${Session} ...${route} wide=${wide} />`;
  if (route.view === 'search') return html`<${Search} key=${route.q} q=${route.q} />`;
  if (route.view === 'new' && store.mayDrive) return html`<${New} />`;
  if (route.view === 'settings') return html`<${Settings} />`;
  return wide ? html`<main class="session nothing"><p class="dim">Choose a session.</p></main>` : null;
}

function Page() {
  const wide = useWide();
  useCalls();
  useMoves(wide);
  const alone = store.route.view !== 'list' && !wide;
  return html`<div class=${`page-frame ${wide ? 'is-wide' : ''}`}>
    <nav aria-label="Shortcuts"><a class="skip" href=${location.hash || '#/'} onClick=${(event) => {
      event.preventDefault();
      document.querySelector('main, .list')?.querySelector('a, button, textarea, input')?.focus();
    }}>Skip to the content</a></nav>
    ${store.connected ? null : html`<p class="offline" role="alert"><span class="pulse" aria-hidden="true"></span> No connection to kennel. Trying again…</p>`}
    <div class="panes">
      ${alone ? null : html`<${wide ? 'aside' : 'main'} class="side" tabindex="-1"><${Head} /><${List} chosen=${store.route.id} /></${wide ? 'aside' : 'main'}>`}
      <${View} wide=${wide} />
    </div></div>`;
}

class Root extends Component {
  componentDidMount() {
    this.stop = store.watch(() => this.setState({}));
  }
  componentWillUnmount() {
    this.stop();
  }

  componentDidCatch(error) {
    console.error(error);
    this.setState({ broken: true });
  }

  render(_, { broken }) {
    if (broken)
      return html`<main class="login" role="alert"><p>The page has failed. Nothing was lost: sessions go on.</p>
      <button class="big main" onClick=${() => location.replace('/')}>Load it again</button></main>`;
    if (store.phase === 'login') return html`<${Login} />`;
    if (store.phase === 'ready') return html`<${Page} />`;
    return html`<main class="login" role="status">${store.connected ? html`<p class="dim">Loading…</p>` : html`<p>${store.trouble ? line(store.trouble) : 'No connection to kennel.'} Trying again…</p>`}</main>`;
  }
}

async function start() {
  const secret = ticket();
  store.readRoute();
  addEventListener('popstate', () => store.readRoute());
  addEventListener('hashchange', () => {
    // A new link in a tab that is open already.
    const late = ticket();
    if (late) enter(late);
    else store.readRoute();
  });
  render(html`<${Root} />`, document.getElementById('page'));
  // Ages grow while nothing happens.
  setInterval(() => {
    if (!document.hidden) store.redraw();
  }, 30_000);
  if (secret) await enter(secret);
  else await store.begin();
}

async function enter(secret) {
  store.stop();
  try {
    await logIn({ ticket: secret });
    store.loginNote = '';
  } catch (problem) {
    store.loginNote =
      problem.status === 0
        ? 'No connection to kennel: open the link again.'
        : `The link does not work: ${line(problem.message)}`;
  }
  await store.begin();
}

start();

// Requests to the daemon. Every request goes through `request` or `events`: both send the log-in's proof.

const PROOF = 'kennel.proof';
/** The longest event that the page reads, in characters. The journal stores payloads of up to 8 MiB. */
const LONGEST_EVENT = 32 * 1024 * 1024;

/** A refusal of the daemon, or the lack of an answer (`status` 0). */
export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail || 'The daemon does not answer.');
    this.status = status;
    this.code = body?.code || (status ? `http_${status}` : 'offline');
    this.hint = body?.hint || '';
  }
}

let loggedOut = () => {};
/** Sets the function that runs when the daemon does not know the page any more. */
export function onLogOut(run) {
  loggedOut = run;
}

function proof() {
  try {
    return localStorage.getItem(PROOF) || '';
  } catch {
    return '';
  }
}

function keep(text) {
  try {
    if (text) localStorage.setItem(PROOF, text);
    else localStorage.removeItem(PROOF);
  } catch {
    /* Storage is off. */
  }
}

/** A path with its query. Absent parameters are left out. */
export function path(base, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  return given.length ? `${base}?${new URLSearchParams(given)}` : base;
}

/** A random word for `Idempotency-Key` and the like. */
export function word() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** The question whether the daemon knows the page, while it is asked: one for all that were refused. */
let asking = null;

/** Returns true if the daemon says again that it does not know this proof. One refusal may have been of a proxy. */
async function unknown(own) {
  if (proof() !== own) return false;
  if (asking?.own === own) return (await asking.answer) && proof() === own;
  const answer = fetch('/v1/web/me', {
    headers: own ? { 'Kennel-Page': own } : {},
    credentials: 'same-origin',
    cache: 'no-store',
    redirect: 'error',
    referrerPolicy: 'no-referrer',
  }).then(
    ({ status }) => status === 401,
    () => false,
  );
  const mine = { own, answer };
  asking = mine;
  const confirmed = await answer;
  if (asking === mine) asking = null;
  return confirmed && proof() === own;
}

async function send(method, url, { body, headers = {}, signal } = {}) {
  const all = { ...headers };
  const own = proof();
  if (own) all['Kennel-Page'] = own;
  if (body !== undefined) all['Content-Type'] = 'application/json';
  let answer;
  try {
    answer = await fetch(url, {
      method,
      headers: all,
      signal,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: 'same-origin',
      cache: 'no-store',
      redirect: 'error',
      referrerPolicy: 'no-referrer',
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0);
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  const problem = new Problem(answer.status, told);
  // A proof that does not count would be counted as a wrong key, each time.
  if (answer.status === 401 && !url.startsWith('/v1/web/login')) {
    if (!(await unknown(own))) throw new Problem(0, { code: 'unsure', detail: 'kennel refused this once. Try again.' });
    keep('');
    loggedOut(problem);
  }
  throw problem;
}

/** Asks the daemon, and returns the answer's JSON; null without one. */
export async function request(method, url, options) {
  const answer = await send(method, url, options);
  if (answer.status === 204) return null;
  try {
    const text = await answer.text();
    return text ? JSON.parse(text) : null;
  } catch (error) {
    if (options?.signal?.aborted) throw error;
    throw new Problem(0);
  }
}

export const get = (url, options) => request('GET', url, options);
export const post = (url, body, options) => request('POST', url, { ...options, body });

/** Returns true if the page has logged in and not been refused since. */
export const knowsProof = () => proof() !== '';

/** Logs in with `{ticket}` or `{key}`, and keeps the proof. */
export async function logIn(secret) {
  const answer = await post('/v1/web/login', secret);
  keep(answer?.proof);
  return answer;
}

/** Logs out. The proof is gone even if the daemon does not answer. */
export async function logOut() {
  try {
    await request('POST', '/v1/web/logout');
  } finally {
    keep('');
  }
}

/** Splits a stream of server-sent events into frames. A frame may come in any number of pieces. */
export class Frames {
  #pieces = [];
  #length = 0;
  #last = '';

  /** Returns the frames that are whole with this piece: `{event, id, data}`. */
  feed(text) {
    const frames = [];
    let from = 0;
    if (this.#last === '\n' && text[0] === '\n') {
      frames.push(this.#end(''));
      from = 1;
    }
    for (let end = text.indexOf('\n\n', from); end >= 0; end = text.indexOf('\n\n', from)) {
      frames.push(this.#end(text.slice(from, end)));
      from = end + 2;
    }
    const rest = text.slice(from);
    if (rest) {
      this.#pieces.push(rest);
      this.#length += rest.length;
      this.#last = rest.at(-1);
    }
    if (this.#length > LONGEST_EVENT) throw new Problem(0, { code: 'event_too_long', detail: 'An event is too long.' });
    return frames.filter(Boolean);
  }

  #end(last) {
    const text = this.#pieces.join('') + last;
    this.#pieces = [];
    this.#length = 0;
    this.#last = '';
    const frame = { event: '', id: '', data: '' };
    for (const row of text.split('\n')) {
      const colon = row.indexOf(':');
      const name = row.slice(0, colon);
      if (colon > 0 && name in frame) frame[name] = row.slice(row[colon + 1] === ' ' ? colon + 2 : colon + 1);
    }
    return frame.data ? frame : null;
  }
}

/**
 * Reads a stream of events. `take` gets the frames of each piece that arrives, and returns true to end the reading.
 * Returns when the stream ends.
 */
export async function events(url, { signal, lastId, take, headers = {}, opened }) {
  // A signal of its own: the caller's would hold on to each stream that it ever ended, and aborting ends the download
  // as well.
  const own = new AbortController();
  const end = () => own.abort();
  if (signal?.aborted) end();
  signal?.addEventListener('abort', end);
  try {
    const given = lastId === undefined ? headers : { ...headers, 'Last-Event-ID': lastId };
    const answer = await send('GET', url, { signal: own.signal, headers: given });
    opened?.();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const frames = new Frames();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      if (take(frames.feed(value)) === true) return;
    }
  } catch (error) {
    if (signal?.aborted || error instanceof Problem) throw error;
    throw new Problem(0);
  } finally {
    signal?.removeEventListener('abort', end);
    end();
  }
}

// Small pieces that several views use.

import { Component, useEffect, useRef, useState } from '../lib/preact.js';
import { html } from './html.js';
import { output, plain, size, whole } from './text.js';

const PATHS = {
  back: 'M15 5l-7 7 7 7',
  search: 'M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM20 20l-4-4',
  plus: 'M12 5v14M5 12h14',
  more: 'M6 12h.01M12 12h.01M18 12h.01',
  send: 'M12 19V5M6 11l6-6 6 6',
  stop: 'M8 8h8v8H8z',
  clip: 'M20 11l-8 8a5 5 0 0 1-7-7l8-8a3.5 3.5 0 0 1 5 5l-8 8a2 2 0 0 1-3-3l7-7',
  close: 'M6 6l12 12M18 6L6 18',
  check: 'M5 13l4 4L19 7',
  down: 'M6 9l6 6 6-6',
  folder: 'M3 7h6l2 2h10v10H3z',
  file: 'M6 3h8l4 4v14H6z',
  tool: 'M14 6a4 4 0 0 1 5 5l-9 9-4-4 9-9a4 4 0 0 1-1-1z',
  edit: 'M4 20h4L19 9l-4-4L4 16z',
  end: 'M12 5v14M6 13l6 6 6-6',
  gear: 'M4 7h10M18 7h2M4 17h2M10 17h10M14 4v6M6 14v6',
  bell: 'M12 4a6 6 0 0 1 6 6v4l2 3H4l2-3v-4a6 6 0 0 1 6-6zM10 20h4',
};

/** A picture of a word; hidden from screen readers, which read the word. */
export function Icon({ name }) {
  return html`<svg class=${`icon is-${name}`} viewBox="0 0 24 24" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;
}

/** A text that may be long: its first part, a button for more, and with `tail` its last characters. */
export function Long({ text, most = 6_000, step = 60_000, clean = output, label = 'text', tail = 0 }) {
  const [end, setEnd] = useState(most);
  const all = text.length <= end + tail + 500;
  const part = clean(all ? text : text.slice(0, whole(text, end)));
  return html`<div class="long">
    <pre class="raw" dir="ltr">${part}</pre>
    ${
      all
        ? null
        : html`<button class="small" onClick=${() => setEnd(end + step)}>
      Show more of this ${label} <span class="dim">(${size(end)} of ${size(text.length)})</span></button>`
    }
    ${all || !tail ? null : html`<pre class="raw" dir="ltr">…${clean(text.slice(whole(text, text.length - tail)))}</pre>`}
  </div>`;
}

/** A picture of an agent. Its address lives as long as the element. */
export class Picture extends Component {
  constructor(props) {
    super(props);
    this.url = URL.createObjectURL(props.blob);
  }
  componentWillUnmount() {
    URL.revokeObjectURL(this.url);
  }
  render() {
    return html`<img class="picture" src=${this.url} alt=${this.props.alt ?? 'Picture of the agent'} />`;
  }
}

/** A refusal or failure, in the daemon's words. */
export function Failure({ problem, again }) {
  if (!problem) return null;
  return html`<div class="failure" role="alert">
    <p>${plain(problem.message)}</p>
    ${problem.hint ? html`<p class="dim">${plain(problem.hint)}</p>` : null}
    ${again ? html`<button class="small" onClick=${again}>Try again</button>` : null}
  </div>`;
}

/** Runs something that may fail, once at a time. Returns `{run, busy, problem}`. */
export function useTask(task) {
  const [state, set] = useState({ busy: false, problem: null });
  const alive = useRef(true);
  const busy = useRef(false);
  useEffect(
    () => () => {
      alive.current = false;
    },
    [],
  );
  const run = async (...args) => {
    if (busy.current) return undefined;
    busy.current = true;
    set({ busy: true, problem: null });
    try {
      const value = await task(...args);
      busy.current = false;
      if (alive.current) set({ busy: false, problem: null });
      return value;
    } catch (problem) {
      busy.current = false;
      if (alive.current) set({ busy: false, problem });
      return undefined;
    }
  };
  return { run, busy: state.busy, problem: state.problem, clear: () => set({ busy: false, problem: null }) };
}

/** A value that is read from the daemon each time `keys` change. Returns `[value, problem, again]`. */
export function useRead(read, keys) {
  const [state, set] = useState({ value: undefined, problem: null });
  const [times, again] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    read(abort.signal).then(
      (value) => {
        if (!abort.signal.aborted) set({ value, problem: null });
      },
      (problem) => {
        if (!abort.signal.aborted) set({ value: undefined, problem });
      },
    );
    return () => abort.abort();
  }, [...keys, times]);
  return [state.value, state.problem, () => again(times + 1)];
}

/** Returns true on a screen that is wide enough for list and session beside each other. */
export function useWide() {
  const [wide, set] = useState(matchMedia('(min-width: 900px)').matches);
  useEffect(() => {
    const query = matchMedia('(min-width: 900px)');
    const heard = () => set(query.matches);
    query.addEventListener('change', heard);
    return () => query.removeEventListener('change', heard);
  }, []);
  return wide;
}

/** Moves the focus to an element when the view is shown. */
export function useFocus(keys) {
  const place = useRef(null);
  useEffect(() => {
    place.current?.focus({ preventScroll: true });
  }, keys);
  return place;
}

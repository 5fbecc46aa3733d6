// Tool calls, as a line that opens, and what they asked for and gave back.

import { Component, useEffect, useRef, useState } from '../lib/preact.js';
import { Change, counted, Count, rowsOf } from './diff.js';
import { html } from './html.js';
import { Long, Picture } from './parts.js';
import { cut, line, output, plain, span } from './text.js';

const STATES = { pending: 'waits', in_progress: 'runs', completed: 'done', failed: 'failed', interrupted: 'interrupted' };
const KINDS = {
  read: 'Read',
  edit: 'Edit',
  delete: 'Delete',
  move: 'Move',
  search: 'Search',
  execute: 'Run',
  think: 'Think',
  fetch: 'Fetch',
};

/** kennel's own words for the kinds of an option. */
const ANSWERS = new Map([
  ['allow_once', 'Allow once'],
  ['allow_always', 'Always allow'],
  ['reject_once', 'Deny'],
  ['reject_always', 'Always deny'],
]);

/** An option as it is called: kennel's word for its kind stands before the agent's name, which may say anything. */
export function optionName(option, most = 256) {
  return `${ANSWERS.get(option?.kind) ?? 'Of no kind'}: ${cut(line(option?.name), most)}`;
}

/** The height of the answers, in pixels, which stand before the end of a card. */
const ANSWERS_HEIGHT = 72;

/** The exact command of a call. Every character is there: nothing is cut, hidden or reordered. */
export function Command({ text, cwd }) {
  const end = useRef(null);
  const [seen, setSeen] = useState(true);
  useEffect(() => {
    const root = end.current.closest('.needs');
    const watch = new IntersectionObserver((all) => setSeen(all.at(-1).isIntersecting), {
      root,
      rootMargin: root ? `0px 0px -${ANSWERS_HEIGHT}px 0px` : '0px',
    });
    watch.observe(end.current);
    return () => watch.disconnect();
  }, []);
  const shown = plain(text);
  const count = shown.split('\n').length;
  return html`<div class="command"><div class="command-head"><span>Command${cwd ? html` <span class="dim">in <span dir="ltr">${line(cwd)}</span></span>` : null}</span>
    <span class="command-length">${count > 1 ? `${count} lines` : ''} <b class=${seen ? 'is-away' : ''}>its end is out of sight</b></span></div>
    <pre dir="ltr" tabindex="0" role="group" aria-label="Command">${shown}<span class="command-end" ref=${end}></span></pre></div>`;
}

/** Parts of a call's content that are shown at first. */
const FIRST_PARTS = 20;

/** The parts of a call's content. `clean` is what texts of it pass. */
export function Parts({ parts, clean = output }) {
  const [end, setEnd] = useState(FIRST_PARTS);
  const all = parts ?? [];
  const left = all.length - end;
  return html`${all.slice(0, end).map((part, at) => {
    if (part.kind === 'diff') return html`<${Change} key=${at} part=${part} />`;
    if (part.kind === 'picture') return html`<${Picture} key=${at} blob=${part.blob} />`;
    if (part.kind === 'text') return html`<${Long} key=${at} text=${part.text} clean=${clean} label="output" most=${4_000} />`;
    if (part.kind === 'more') return html`<p key=${at} class="dim">${part.count} more parts are not kept.</p>`;
    return html`<p key=${at} class="dim">[${line(part.name)}]</p>${part.text ? html`<${Long} text=${part.text} clean=${plain} label="part" most=${1_000} />` : null}`;
  })}
  ${left > 0 ? html`<button class="small" onClick=${() => setEnd(end + 50)}>Show more parts <span class="dim">(${left} of ${all.length} are not shown yet)</span></button>` : null}`;
}

/** Paths of a call. */
function Paths({ paths }) {
  const [end, setEnd] = useState(FIRST_PARTS);
  return html`<ul class="paths" dir="ltr">${paths.slice(0, end).map((path, at) => html`<li key=${at}>${line(path)}</li>`)}</ul>
    ${paths.length > end ? html`<button class="small" onClick=${() => setEnd(end + 200)}>Show more paths <span class="dim">(${paths.length - end} of ${paths.length} are not shown yet)</span></button>` : null}`;
}

/** The number of changed lines of a call; null if it changes none. Computed once for each list of parts. */
const counts = new WeakMap();
function changes(parts) {
  if (!parts?.some((part) => part.kind === 'diff')) return null;
  let sum = counts.get(parts);
  if (!sum) {
    sum = { added: 0, removed: 0 };
    for (const part of parts) {
      if (part.kind !== 'diff') continue;
      const { added, removed } = counted(rowsOf(part));
      sum.added += added;
      sum.removed += removed;
    }
    counts.set(parts, sum);
  }
  return sum;
}

export class Tool extends Component {
  constructor(props) {
    super(props);
    this.state = { open: props.open ?? false };
  }

  shouldComponentUpdate(next, state) {
    return next.version !== this.props.version || next.item !== this.props.item || state.open !== this.state.open;
  }

  render() {
    const { item } = this.props;
    const { open } = this.state;
    const state = item.status ?? 'in_progress';
    const title = line(item.title) || line(item.command) || 'Tool';
    const changed = changes(item.parts);
    const ms = item.ended ? Date.parse(item.ended) - Date.parse(item.at) : 0;
    return html`<div class=${`tool is-${STATES[state] ? state : 'other'}`}>
      <button class="tool-head" aria-expanded=${String(open)} onClick=${() => this.setState({ open: !open })}>
        <span class="tool-kind">${KINDS[item.tool] ?? 'Tool'}</span>
        <span class="tool-title" dir="ltr">${cut(title, 300)}</span>
        ${changed ? html`<${Count} ...${changed} />` : null}
        <span class="tool-state">${STATES[state] ?? line(state)}${ms >= 1_000 ? ` · ${span(ms)}` : ''}</span>
      </button>
      ${open ? html`<div class="tool-body">${body(item)}</div>` : null}
    </div>`;
  }
}

function body(item) {
  const nothing = !item.command && !item.parts?.length && !item.paths?.length && !item.input;
  return html`
    ${item.command ? html`<${Command} text=${item.command} cwd=${item.cwd} />` : null}
    ${!item.command && item.input && !item.parts?.some((part) => part.kind === 'diff') ? html`<${Long} text=${item.input} label="input" most=${2_000} />` : null}
    ${item.paths?.length ? html`<${Paths} paths=${item.paths} />` : null}
    <${Parts} parts=${item.parts} />
    ${nothing ? html`<p class="dim">The agent tells nothing more of it.</p>` : null}`;
}

/** The things that a permission is about: command, change, paths, or the whole input if it is none of them. */
export function Asked({ ask }) {
  const diffs = new Set(ask.parts?.filter((part) => part.kind === 'diff').map((part) => part.path));
  const paths = ask.paths?.filter((path) => !diffs.has(path)) ?? [];
  return html`
    ${ask.command ? html`<${Command} text=${ask.command} cwd=${ask.cwd} />` : null}
    <${Parts} parts=${ask.parts} clean=${plain} />
    ${paths.length ? html`<${Paths} paths=${paths} />` : null}
    ${
      ask.input
        ? html`<details class="all" open=${!ask.command && !diffs.size}><summary>All that the agent tells of it</summary>
      <${Long} text=${ask.input} clean=${plain} label="input" most=${20_000} /></details>`
        : null
    }`;
}

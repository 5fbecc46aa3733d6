// The conversation. However long it is, a bounded number of items is in the page: scrolling moves that window, and
// `history.js` reads further events when the window reaches an end.

import { Component } from '../lib/preact.js';
import { get } from './api.js';
import { History } from './history.js';
import { html } from './html.js';
import { hidden } from './items.js';
import { Live } from './live.js';
import { Markdown } from './markdown.js';
import { Failure, Icon, Long, Picture } from './parts.js';
import { store } from './store.js';
import { clock, cut, line, output, size, span } from './text.js';
import { optionName, Tool } from './tool.js';

/** Items that are in the page at first, that one step adds, and that are there at most. */
const FIRST = 40;
const STEP = 30;
const MOST = 120;
/** So near to an end, in pixels, the window moves. */
const NEAR = 900;
/** So near to the end, in pixels, the page follows new text. */
const AT_END = 64;
/** A message is drawn anew at most this often while it grows, in milliseconds. */
const PACE = 120;

class Item extends Component {
  /** An item that cannot be drawn must not take the others with it. */
  componentDidCatch(error) {
    console.warn(`an item cannot be drawn: ${error}`);
    this.setState({ broken: true });
  }

  shouldComponentUpdate(next, state) {
    return (
      state.broken !== this.state.broken ||
      next.item !== this.props.item ||
      next.version !== this.props.version ||
      next.found !== this.props.found
    );
  }

  render() {
    const { item, version } = this.props;
    return html`<li class=${`item is-${item.kind}`} data-key=${item.key} data-from=${item.from}>${this.state.broken ? html`<p class="note">The page cannot show this part.</p>` : this.inner(item, version)}</li>`;
  }

  inner(item, version) {
    switch (item.kind) {
      case 'prompt':
        return html`<div class=${`said ${item.removed ? 'is-removed' : ''}`}>
        <div class="unseen">You, ${clock(item.at)}:</div>
        <${Long} text=${item.text} label="prompt" clean=${output} most=${3_000} />
        ${item.attachments.length ? html`<ul class="chips">${item.attachments.map((one, at) => html`<li key=${at}><${Icon} name="clip" /> <span>${cut(line(one?.name), 60)}</span> <span class="dim">${size(one?.size)}</span></li>`)}</ul>` : null}
        ${item.removed ? html`<p class="dim">Removed from the queue.</p>` : null}
        <time class="when">${clock(item.at)}</time></div>`;
      case 'message':
        return item.stream === 'stderr'
          ? html`<${Long} text=${item.text} label="error output" tail=${2_000} />`
          : item.text.length > 40_000
            ? html`<${Long} text=${item.text} label="message" most=${8_000} tail=${4_000} />`
            : html`<${Markdown} text=${item.text} />`;
      case 'thought':
        return html`<details class="thought"><summary>Thought</summary><${Long} text=${item.text} label="thought" /></details>`;
      case 'told':
        return html`<details class="thought"><summary>${item.count === 1 ? '1 turn' : `${item.count} turns`} from before, which the agent knows</summary><${Long} text=${item.text} label="turns" /></details>`;
      case 'tool':
        return html`<${Tool} item=${item} version=${version} />`;
      case 'picture':
        return html`<${Picture} blob=${item.blob} />`;
      case 'plan':
        return html`<div class="plan"><h2>Plan</h2><ol>${item.entries.map(
          (
            entry,
            at,
          ) => html`<li key=${at} class=${`is-${entry.status === 'completed' ? 'done' : entry.status === 'in_progress' ? 'now' : 'later'}`}>
        ${entry.status === 'completed' ? html`<span class="unseen">Done: </span>` : entry.status === 'in_progress' ? html`<span class="unseen">Now: </span>` : null}${cut(line(entry.text), 400)}</li>`,
        )}</ol></div>`;
      case 'permission':
        return html`<p class="note"><b>Asked:</b> <span dir="auto">${cut(line(item.title), 300)}</span> ${item.how ? html`<span class="dim">${item.how}${item.chosen ? `: ${optionName(item.chosen, 80)}` : ''}</span>` : html`<span class="word is-needs">waits</span>`}</p>`;
      case 'form':
        return html`<p class="note"><b>Question:</b> <span dir="auto">${cut(line(item.text), 300)}</span> <span class="dim">${item.how ?? 'waits'}</span></p>`;
      case 'end':
        return html`<p class="end">${END[item.how] ?? line(item.how)}${item.ms >= 1_000 ? ` after ${span(item.ms)}` : ''} · <time>${clock(item.at)}</time></p>`;
      default:
        return html`<p class=${`note ${/failed|restarting|oom|lost|stalled/.test(item.type) ? 'warn' : ''}`}>${cut(output(item.text), 2_000)} <time class="dim">${clock(item.at)}</time></p>`;
    }
  }
}

const END = {
  end_turn: 'Finished',
  cancelled: 'Stopped',
  error: 'Ended with an error',
  timeout: 'Ended: it took too long',
  refusal: 'The model refused',
  max_tokens: 'Ended: no tokens left',
  interrupted: 'Interrupted by a crash',
};

export class Conversation extends Component {
  constructor(props) {
    super(props);
    this.state = { tick: 0 };
    this.start = 0; // The window: items from `start` up to `end`.
    this.end = 0;
    this.follow = !props.at;
    this.unread = 0;
    this.last = 0;
    this.onEvents = (list) => {
      const own = list.filter((event) => event.session === this.props.id);
      if (own.length) this.history.follow(own);
    };
    this.onReset = () => this.open();
  }

  componentDidMount() {
    this.history = new History(this.props.id, () => this.soon());
    store.listeners.add(this.onEvents);
    store.resets.add(this.onReset);
    this.open(this.props.at);
  }

  componentWillUnmount() {
    store.listeners.delete(this.onEvents);
    store.resets.delete(this.onReset);
    this.history.close();
    this.own?.stop();
    clearTimeout(this.timer);
  }

  componentDidUpdate(before) {
    if (before.at !== this.props.at && this.props.at) this.open(this.props.at);
    this.settle();
  }

  async open(at) {
    this.follow = !at;
    this.start = 0;
    this.end = 0;
    this.sought = at;
    this.watchAlone();
    await this.history.open(at);
    const list = this.history.items.list;
    if (at) {
      const found = Math.max(
        0,
        list.findLastIndex((item) => item.from <= at),
      );
      this.start = Math.max(0, found - STEP);
      this.end = Math.min(list.length, found + STEP);
    } else {
      this.end = list.length;
      this.start = Math.max(0, this.end - FIRST);
    }
    this.soon();
  }

  /** A key of some sessions has no stream of all: the conversation follows its own. */
  async watchAlone() {
    if (!store.withoutStream || this.own) return;
    this.own = new Live(`/v1/sessions/${encodeURIComponent(this.props.id)}/events`, {
      events: (list) => {
        this.history.follow(list);
        store.changed.add(this.props.id);
        store.readOne(this.props.id).catch(() => {});
      },
      state: (connected) => {
        store.connected = connected;
        store.redraw();
      },
      again: this.onReset,
      refused: () => {},
    });
    const { last_event_id: head } = await get('/v1/manager');
    this.own.start(head);
  }

  /** Draws anew, soon, and not more often than a person can follow. */
  soon() {
    if (this.timer) return;
    const wait = Math.max(0, PACE - (Date.now() - this.last));
    this.timer = setTimeout(() => {
      this.timer = undefined;
      this.last = Date.now();
      this.grow();
      this.setState({ tick: this.state.tick + 1 });
    }, wait);
  }

  /** Adjusts the window to items that came or went at its ends. */
  grow() {
    const { history } = this;
    const list = history.items.list;
    if (this.follow && history.live) {
      history.trim();
      this.end = list.length;
      this.start = Math.max(0, Math.min(this.start, this.end - 1), this.end - MOST);
      if (this.end - this.start < FIRST) this.start = Math.max(0, this.end - FIRST);
      this.unread = 0;
    } else {
      this.end = Math.min(Math.max(this.end, Math.min(list.length, this.start + FIRST)), list.length);
      this.start = Math.min(this.start, this.end);
    }
  }

  /** Remembers where an item stands, and puts it there again after the next drawing. */
  hold() {
    const place = this.scroller;
    if (!place) return;
    const top = place.getBoundingClientRect().top;
    const first = [...place.querySelectorAll('.item')].find((node) => node.getBoundingClientRect().bottom > top);
    this.held = first ? { key: first.dataset.key, y: first.getBoundingClientRect().top } : null;
  }

  settle() {
    const place = this.scroller;
    if (!place) return;
    if (this.sought) {
      const nodes = [...place.querySelectorAll('.item')];
      const found = nodes.findLast((node) => Number(node.dataset.from) <= this.sought) ?? nodes[0];
      if (found) {
        found.scrollIntoView({ block: 'center' });
        found.classList.add('is-found');
        this.sought = undefined;
      }
    } else if (this.follow) {
      place.scrollTop = place.scrollHeight;
    } else if (this.held) {
      const node = place.querySelector(`[data-key="${this.held.key}"]`);
      if (node) place.scrollTop += node.getBoundingClientRect().top - this.held.y;
    }
    this.held = null;
  }

  async onScroll() {
    const place = this.scroller;
    if (!place || this.moving) return;
    const left = place.scrollHeight - place.scrollTop - place.clientHeight;
    const { history } = this;
    const { list } = history.items;
    // What came since the last drawing is no sign that the person left the end.
    const follow = left <= AT_END && (this.follow || (this.end >= list.length && history.live));
    if (follow !== this.follow) {
      this.follow = follow;
      this.soon();
    }
    const full = this.follow && this.end - this.start >= MOST;
    if (place.scrollTop < NEAR && !full && (this.start > 0 || !history.whole)) await this.up();
    else if (left < NEAR && (this.end < list.length || !history.live)) await this.down();
  }

  async up() {
    this.moving = true;
    try {
      if (this.start < STEP && !this.history.whole && !this.history.problem) {
        const before = this.history.items.list.length;
        const added = await this.history.older();
        // Items that joined at the seam, or went at the other end, change the count as well.
        const list = this.history.items.list;
        const shift = Math.max(0, Math.min(added, list.length));
        this.start = Math.min(this.start + shift, list.length);
        this.end = Math.min(this.end + shift, list.length);
        if (list.length === before && !added) return;
      }
      this.hold();
      this.start = Math.max(0, this.start - STEP);
      if (this.end - this.start > MOST) this.end = this.start + MOST;
      this.redrawHeld();
    } finally {
      this.moving = false;
    }
  }

  async down() {
    this.moving = true;
    try {
      if (this.end + STEP > this.history.items.list.length && !this.history.live && !this.history.problem) {
        const shift = await this.history.newer();
        this.start = Math.max(0, this.start + shift);
        this.end = Math.max(this.start, this.end + shift);
      }
      this.hold();
      this.end = Math.min(this.history.items.list.length, this.end + STEP);
      if (this.end - this.start > MOST) this.start = this.end - MOST;
      this.redrawHeld();
    } finally {
      this.moving = false;
    }
  }

  redrawHeld() {
    this.setState({ tick: this.state.tick + 1 });
  }

  toEnd() {
    if (!this.history.live) {
      this.open();
      return;
    }
    this.follow = true;
    this.start = this.history.items.list.length;
    this.soon();
  }

  render({ session }) {
    const { history } = this;
    const list = history?.items.list ?? [];
    const busy = session && (session.queue_length > 0 || ['running', 'requires_action'].includes(session.status));
    const shown = list.slice(this.start, this.end).filter((item) => !hidden(item, busy));
    const empty = history && !history.busy && !list.length && history.whole;
    return html`<div class="talk">
      <div class="scroller" ref=${(node) => {
        this.scroller = node;
      }} tabindex="0" role="region" aria-label="Conversation" onScroll=${() => this.onScroll()}>
        ${
          history?.problem
            ? html`<${Failure} problem=${history.problem} again=${() => {
                history.problem = null;
                if (list.length) this.up();
                else this.open();
              }} />`
            : null
        }
        ${this.start > 0 || (history && !history.whole && list.length) ? html`<button class="earlier small" onClick=${() => this.up()}>Earlier</button>` : null}
        ${!list.length && !empty && !history?.problem ? html`<p class="empty dim">Loading…</p>` : null}
        ${empty ? html`<p class="empty dim">Nothing was said yet.</p>` : null}
        <ol class="items">${shown.map((item) => html`<${Item} key=${item.key} item=${item} version=${item.version} />`)}</ol>
        ${this.follow && session?.status === 'running' ? html`<p class="working"><span class="pulse" aria-hidden="true"></span> Working</p>` : null}
      </div>
      ${this.follow ? null : html`<button class="to-end" onClick=${() => this.toEnd()}><${Icon} name="end" /> Newest</button>`}
    </div>`;
  }
}

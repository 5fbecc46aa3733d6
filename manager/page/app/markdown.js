// Markdown of agents: marked makes HTML of it, DOMPurify takes out all that is not plain text structure, and the page
// inserts nodes, never a string. No picture is fetched from elsewhere; links lead to http and https only, and tell
// nobody where they were followed.

import { marked } from '../lib/marked.js';
import '../lib/purify.js';
import { Component } from '../lib/preact.js';
import { html } from './html.js';
import { plain } from './text.js';

const purify = globalThis.DOMPurify;
/** A longer text is shown as it is: a person reads no formatting of it, and parsing would hold up the page. */
export const LONGEST = 48 * 1024;

const RULES = {
  ALLOWED_TAGS: [
    'p',
    'br',
    'strong',
    'em',
    'del',
    'code',
    'pre',
    'ul',
    'ol',
    'li',
    'blockquote',
    'h1',
    'h2',
    'h3',
    'h4',
    'h5',
    'h6',
    'table',
    'thead',
    'tbody',
    'tr',
    'th',
    'td',
    'a',
    'hr',
  ],
  ALLOWED_ATTR: ['href', 'start'],
  ALLOWED_URI_REGEXP: /^https?:\/\//i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

const escaped = (text) => text.replace(/[&<>"']/g, (one) => `&#${one.charCodeAt(0)};`);

marked.use({
  gfm: true,
  renderer: {
    // HTML in a message is text: an agent that writes `<b>` means these characters.
    html: ({ text }) => escaped(text),
    image: ({ text, href }) => `<em>[picture: ${escaped(text || href || '')}]</em>`,
    checkbox: ({ checked }) => (checked ? '☑ ' : '☐ '),
  },
});

purify.addHook('afterSanitizeAttributes', (node) => {
  if (node.tagName !== 'A') return;
  if (!node.hasAttribute('href')) return;
  node.setAttribute('target', '_blank');
  node.setAttribute('rel', 'noopener noreferrer');
  // A text that looks like one address must not lead to another unseen.
  node.setAttribute('title', node.getAttribute('href'));
});

/** The nodes of a text in Markdown. */
export function nodes(text) {
  return purify.sanitize(marked.parse(text, { async: false }), RULES);
}

/** A text in Markdown. */
export class Markdown extends Component {
  shouldComponentUpdate(next) {
    return next.text !== this.props.text;
  }
  componentDidMount() {
    this.fill();
  }
  componentDidUpdate() {
    this.fill();
  }

  fill() {
    const text = plain(this.props.text);
    if (text.length > LONGEST) {
      this.base.textContent = text;
      return;
    }
    try {
      this.base.replaceChildren(nodes(text));
    } catch {
      this.base.textContent = text;
    }
  }

  render() {
    return html`<div class="md" dir="auto"></div>`;
  }
}

// Files of a session's working directory, and what changed there since the session was created.

import { Component, useEffect, useState } from '../lib/preact.js';
import { get, path } from './api.js';
import { Count, parse, Rows } from './diff.js';
import { html } from './html.js';
import { Failure, Icon, Picture, useRead } from './parts.js';
import { link } from './store.js';
import { age, base, line, plain, size } from './text.js';

const PICTURES = { png: 'image/png', jpg: 'image/jpeg', jpeg: 'image/jpeg', gif: 'image/gif', webp: 'image/webp' };
/** The largest picture that is shown, in bytes. */
const LARGEST = 8 << 20;

const at = (session, what) => `/v1/sessions/${encodeURIComponent(session.id)}/files${what}`;

/** Bytes of a text in base64. */
function bytes(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** The path as links, each to a directory above. */
function Crumbs({ session, path: file }) {
  const parts = file ? file.split('/') : [];
  return html`<nav class="crumbs" aria-label="Path"><a href=${link({ view: 'session', id: session.id, tab: 'files' })}>${line(base(session.workdir))}</a>
    ${parts.map(
      (
        part,
        index,
      ) => html`<span key=${index} aria-hidden="true">/</span><a href=${link({ view: 'session', id: session.id, tab: 'files', path: parts.slice(0, index + 1).join('/') })}
      aria-current=${index === parts.length - 1 ? 'page' : undefined}>${line(part)}</a>`,
    )}</nav>`;
}

function Entries({ session, path: file, list, more, next }) {
  const child = (name) => (file ? `${file}/${name}` : name);
  if (!list.length) return html`<p class="empty dim">The directory is empty.</p>`;
  return html`<ul class="files">${list.map((entry) => {
    const inner = html`<${Icon} name=${entry.kind === 'directory' ? 'folder' : 'file'} /> <span class="file-name" dir="ltr">${line(entry.name)}${entry.kind === 'directory' ? '/' : ''}</span>
      <span class="dim file-size">${entry.kind === 'file' || entry.kind === 'regular' ? size(entry.size) : entry.kind === 'directory' ? '' : line(entry.kind)}</span><span class="dim file-age">${age(entry.modified_at)}</span>`;
    // A name that is not UTF-8 has no path that a link could carry.
    return html`<li key=${entry.name_base64 ?? entry.name}>${
      entry.name_base64
        ? html`<span class="file-link">${inner}</span>`
        : html`<a class="file-link" href=${link({ view: 'session', id: session.id, tab: 'files', path: child(entry.name) })}>${inner}</a>`
    }</li>`;
  })}</ul>${more ? html`<button class="small" onClick=${next}>More entries</button>` : null}`;
}

class Content extends Component {
  constructor(props) {
    super(props);
    this.state = { pieces: [props.first] };
  }

  async more() {
    const { session, path: file } = this.props;
    const last = this.state.pieces.at(-1);
    try {
      const piece = await get(path(at(session, '/content'), { path: file, offset: last.offset + last.length }));
      this.setState({ pieces: [...this.state.pieces, piece], problem: null });
    } catch (problem) {
      this.setState({ problem });
    }
  }

  render({ path: file, session }, { pieces, problem }) {
    const last = pieces.at(-1);
    const type = PICTURES[file.slice(file.lastIndexOf('.') + 1).toLowerCase()];
    if (pieces[0].binary && type && pieces[0].size <= LARGEST)
      return html`<${Shown} session=${session} path=${file} type=${type} first=${pieces[0]} />`;
    const left = last.size - last.offset - last.length;
    return html`<p class="dim">${size(last.size)}, changed ${age(last.modified_at)}</p>
      ${pieces.map((piece, index) =>
        piece.text !== undefined
          ? html`<pre key=${index} class="raw file-text" dir="ltr">${plain(piece.text)}</pre>`
          : piece.binary
            ? html`<p key=${index} class="dim">${piece.length ? `${size(piece.length)} that are no text.` : 'The file is empty.'}</p>`
            : html`<pre key=${index} class="raw file-text" dir="ltr">${plain(new TextDecoder().decode(bytes(piece.base64 ?? '')))}</pre>`,
      )}
      <${Failure} problem=${problem} />
      ${left > 0 && last.length > 0 ? html`<button class="small" onClick=${() => this.more()}>Show more <span class="dim">(${size(left)} left)</span></button>` : null}`;
  }
}

/** A picture file, read piece by piece. */
function Shown({ session, path: file, type, first }) {
  const [blob, problem] = useRead(
    async (signal) => {
      const all = [bytes(first.base64)];
      for (let read = first.length; read < first.size;) {
        const piece = await get(path(at(session, '/content'), { path: file, offset: read }), { signal });
        if (!piece.length) break;
        all.push(piece.base64 === undefined ? new TextEncoder().encode(piece.text) : bytes(piece.base64));
        read += piece.length;
      }
      return new Blob(all, { type });
    },
    [session.id, file, first],
  );
  if (problem) return html`<${Failure} problem=${problem} />`;
  return blob
    ? html`<${Picture} blob=${blob} alt=${`The picture ${line(file)}`} />`
    : html`<p class="dim">Loading the picture…</p>`;
}

export function Files({ session, path: file }) {
  const [entries, setEntries] = useState([]);
  const [found, problem, again] = useRead(
    async (signal) => {
      if (!file) return { list: await get(at(session, ''), { signal }) };
      try {
        return { first: await get(path(at(session, '/content'), { path: file }), { signal }) };
      } catch (error) {
        // A directory has no content; the list of a file would be the file alone.
        if (error.code !== 'wrong_file_kind') throw error;
        return { list: await get(path(at(session, ''), { path: file }), { signal }) };
      }
    },
    [session.id, file],
  );
  useEffect(() => setEntries([]), [session.id, file]);
  const all = [...(found?.list?.entries ?? []), ...entries.flatMap((one) => one.entries)];
  const more = (entries.at(-1) ?? found?.list)?.more;
  const next = async () => {
    const last = all.at(-1);
    const after = last.name_base64 ? { after_base64: last.name_base64 } : { after: last.name };
    setEntries([...entries, await get(path(at(session, ''), { path: file, ...after }))]);
  };
  return html`<div class="scroller page" tabindex="0" role="region" aria-label="Files">
    <${Crumbs} session=${session} path=${file} />
    <${Failure} problem=${problem} again=${again} />
    ${!found && !problem ? html`<p class="empty dim">Loading…</p>` : null}
    ${found?.list ? html`<${Entries} session=${session} path=${file} list=${all} more=${more} next=${next} />` : null}
    ${found?.first ? html`<${Content} key=${file} session=${session} path=${file} first=${found.first} />` : null}
  </div>`;
}

/** The changes of the working directory since the session was created. */
export function Changes({ session }) {
  const [found, problem, again] = useRead(
    (signal) => get(at(session, '/diff'), { signal }),
    [session.id, session.turn_count, session.status === 'running'],
  );
  const files = found ? parse(found.diff) : [];
  const names = found?.files ?? [];
  const added = names.reduce((sum, one) => sum + (one.added ?? 0), 0);
  const removed = names.reduce((sum, one) => sum + (one.removed ?? 0), 0);
  const nothing = problem?.code === 'no_start_commit';
  return html`<div class="scroller page" tabindex="0" role="region" aria-label="Changes">
    ${nothing ? html`<p class="empty dim">The directory was no git repository when the session was made, so there is nothing to compare with.</p>` : html`<${Failure} problem=${problem} again=${again} />`}
    ${!found && !problem ? html`<p class="empty dim">Loading…</p>` : null}
    ${
      found
        ? html`<div class="sum"><h2>${names.length === 1 ? '1 file' : `${names.length} files`} <${Count} added=${added} removed=${removed} /></h2>
      <span class="dim">since <code>${found.commit.slice(0, 8)}</code></span> <button class="small" onClick=${again}>Refresh</button></div>
      ${names.length ? null : html`<p class="empty dim">Nothing changed.</p>`}
      ${names.map((name) => {
        const file = files.find((one) => one.path === name.path);
        const binary = file?.notes.some((note) => note.startsWith('Binary'));
        return html`<details class="file-diff" key=${name.path} open=${names.length <= 5}><summary><span class="path" dir="ltr">${line(name.path)}</span>
          ${name.added === null ? html`<span class="dim">${binary ? 'no text' : 'not counted'}</span>` : html`<${Count} added=${name.added} removed=${name.removed} />`}</summary>
          ${file?.rows.length ? html`<${Rows} rows=${file.rows} label=${`Change of ${line(name.path)}`} />` : html`<p class="dim">${binary ? 'The file is no text.' : name.added === null && !found.cut ? 'The file is too large to show its lines here.' : 'No lines to show.'}</p>`}
        </details>`;
      })}
      ${found.cut || found.more ? html`<p class="notice">There are more changes than one answer holds. In a terminal: <code>kennel diff ${session.id} PATH</code></p>` : null}`
        : null
    }
  </div>`;
}

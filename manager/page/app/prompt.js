// The prompt box: text, attachments, and what waits in the queue.

import { useEffect, useLayoutEffect, useRef, useState } from '../lib/preact.js';
import { get, path, post, request, word } from './api.js';
import { html } from './html.js';
import { Failure, Icon, useRead, useTask } from './parts.js';
import { announce, store } from './store.js';
import { cut, line, output, size } from './text.js';

/** The API's bounds of attachments. */
const MOST_FILES = 16;
const MOST_BYTES = 8 * 1024 * 1024;

const drafts = {
  read: (id) => {
    try {
      return sessionStorage.getItem(`kennel.draft.${id}`) ?? '';
    } catch {
      return '';
    }
  },
  keep: (id, text) => {
    try {
      if (text) sessionStorage.setItem(`kennel.draft.${id}`, text);
      else sessionStorage.removeItem(`kennel.draft.${id}`);
    } catch {
      /* Full, or off. */
    }
  },
};

/** A file as the API takes it: text as text, all else as base64. */
async function attachment(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const made = { name: line(file.name).slice(0, 200) || 'file' };
  if (file.type) made.mime_type = file.type;
  if (!file.type.startsWith('image/') && !bytes.includes(0)) {
    try {
      return { ...made, text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) };
    } catch {
      /* No text. */
    }
  }
  let binary = '';
  for (let at = 0; at < bytes.length; at += 32_768) binary += String.fromCharCode(...bytes.subarray(at, at + 32_768));
  return { ...made, data: btoa(binary) };
}

/** The waiting prompts of a session, with edit and remove. */
function Queue({ session }) {
  const count = session.queue_length;
  const [list, , again] = useRead(
    (signal) => (count ? get(`/v1/sessions/${encodeURIComponent(session.id)}/queue`, { signal }) : Promise.resolve([])),
    [session.id, count, session.running_prompt],
  );
  const [editing, setEditing] = useState(null);
  const change = useTask(async (run) => {
    await run();
    setEditing(null);
    again();
  });
  const waiting = (list ?? []).filter((one) => one.state === 'queued');
  if (!waiting.length) return null;
  const at = (prompt) => `/v1/sessions/${encodeURIComponent(session.id)}/queue/${encodeURIComponent(prompt)}`;
  return html`<details class="queue"><summary>${waiting.length} waiting ${waiting.length === 1 ? 'prompt' : 'prompts'}</summary>
    <${Failure} problem=${change.problem} />
    <ol>${waiting.map(
      (one) => html`<li key=${one.prompt_id}>
      ${
        editing?.id === one.prompt_id
          ? html`
        <label class="unseen" for="edit">Text of the waiting prompt</label>
        <textarea id="edit" value=${editing.text} onInput=${(event) => setEditing({ ...editing, text: event.target.value })}></textarea>
        <div class="line-up"><button class="small" onClick=${() => setEditing(null)}>Leave it</button>
          <button class="small main" disabled=${change.busy || !editing.text.trim()} onClick=${() => change.run(() => request('PATCH', at(one.prompt_id), { body: { text: editing.text } }))}>Save</button></div>`
          : html`<span class="queue-text" dir="auto">${cut(output(one.text), 400)}</span>
        ${
          store.mayDrive
            ? html`<span class="line-up">
          <button class="round" aria-label="Edit this waiting prompt" onClick=${() => setEditing({ id: one.prompt_id, text: one.text })}><${Icon} name="edit" /></button>
          <button class="round" aria-label="Remove this waiting prompt" disabled=${change.busy} onClick=${() => change.run(() => request('DELETE', at(one.prompt_id)))}><${Icon} name="close" /></button></span>`
            : null
        }`
      }
    </li>`,
    )}</ol></details>`;
}

export function Prompt({ session }) {
  const [text, setText] = useState(() => drafts.read(session.id));
  const [files, setFiles] = useState([]);
  const [note, setNote] = useState('');
  const box = useRef(null);
  const picker = useRef(null);
  const key = useRef(null);
  const now = useRef('');
  now.current = text;
  const busy = session.status === 'running' || session.status === 'requires_action';
  const ended = session.status === 'stopped' || session.status === 'failed';

  useEffect(() => {
    setText(drafts.read(session.id));
    setFiles([]);
    setNote('');
    key.current = null;
    send.clear();
  }, [session.id]);
  useLayoutEffect(() => {
    const area = box.current;
    if (!area) return;
    area.style.height = 'auto';
    area.style.height = `${Math.min(area.scrollHeight + 2, 220)}px`;
  }, [text]);

  const write = (next) => {
    setText(next);
    drafts.keep(session.id, next);
    key.current = null;
  };
  const add = (list) => {
    const all = [...files, ...list];
    const bytes = all.reduce((sum, file) => sum + file.size, 0);
    if (all.length > MOST_FILES || bytes > MOST_BYTES) {
      setNote(`A prompt has at most ${MOST_FILES} attachments of ${size(MOST_BYTES)} together. Nothing was added.`);
      return;
    }
    setNote('');
    setFiles(all);
    key.current = null;
  };

  const send = useTask(async (whenBusy) => {
    if (ended) await request('PUT', path(`/v1/sessions/${encodeURIComponent(session.id)}`), {});
    // The same word until the daemon has answered: a prompt whose answer was lost is not accepted twice.
    const sent = { text, files, key: key.current ?? word() };
    const body = { text, when_busy: whenBusy };
    if (files.length) body.attachments = await Promise.all(files.map(attachment));
    // The box is free for the next prompt at once. The draft stays until this one is accepted.
    setText('');
    setFiles([]);
    key.current = null;
    try {
      const accepted = await post(`/v1/sessions/${encodeURIComponent(session.id)}/prompts`, body, {
        headers: { 'Idempotency-Key': sent.key },
      });
      drafts.keep(session.id, now.current);
      announce(accepted.disposition === 'queued' ? 'The prompt waits in the queue.' : 'The prompt was sent.');
    } catch (problem) {
      const more = now.current;
      write(more ? `${sent.text}\n${more}` : sent.text);
      setFiles(sent.files);
      if (!more) key.current = sent.key;
      throw problem;
    }
    store.changed.add(session.id);
    box.current?.focus();
  });
  const stop = useTask(async () => {
    await request('POST', path(`/v1/sessions/${encodeURIComponent(session.id)}/abort`, { prompt: session.running_prompt }));
    announce('The turn was stopped.');
  });

  if (!store.mayDrive)
    return html`<div class="prompt"><${Queue} session=${session} /><p class="dim">Your key only reads.</p></div>`;
  const may = text.trim() && !send.busy;
  const submit = (event) => {
    event?.preventDefault();
    if (may) send.run('queue');
  };
  const keys = (event) => {
    if (event.key !== 'Enter' || event.isComposing) return;
    // On a touch screen, Enter makes a new line: the button is next to the thumb.
    const fine = matchMedia('(pointer: fine)').matches;
    if (event.ctrlKey || event.metaKey || (fine && !event.shiftKey)) {
      event.preventDefault();
      submit();
    }
  };
  return html`<div class="prompt">
    <${Queue} session=${session} />
    ${send.problem || stop.problem ? html`<${Failure} problem=${send.problem ?? stop.problem} />` : null}
    ${note ? html`<p class="failure" role="alert">${note}</p>` : null}
    ${
      files.length
        ? html`<ul class="chips" aria-label="Attachments">${files.map(
            (
              file,
              at,
            ) => html`<li key=${at}><span>${cut(line(file.name), 40)}</span> <span class="dim">${size(file.size)}</span>
      <button class="round" aria-label=${`Remove ${line(file.name)}`} onClick=${() => {
        setFiles(files.filter((one) => one !== file));
        key.current = null;
      }}><${Icon} name="close" /></button></li>`,
          )}</ul>`
        : null
    }
    <form class="prompt-row" onSubmit=${submit}>
      <input ref=${picker} class="unseen" type="file" multiple tabindex="-1" aria-hidden="true" onChange=${(event) => {
        add([...event.target.files]);
        event.target.value = '';
      }} />
      <button type="button" class="round" aria-label="Attach files" onClick=${() => picker.current.click()}><${Icon} name="clip" /></button>
      <label class="unseen" for="prompt">Prompt</label>
      <textarea id="prompt" ref=${box} rows="1" value=${text} placeholder=${ended ? 'A prompt starts the session again' : busy ? 'Next prompt' : 'Prompt'}
        onInput=${(event) => write(event.target.value)} onKeyDown=${keys}
        onPaste=${(event) => {
          const list = [...event.clipboardData.files];
          if (list.length) {
            event.preventDefault();
            add(list);
          }
        }}></textarea>
      ${busy && text.trim() ? html`<button type="button" class="small" disabled=${!may} onClick=${() => send.run('interrupt')}>Interrupt</button>` : null}
      ${
        busy && !text.trim()
          ? html`<button type="button" class="round stop" aria-label="Stop the turn" disabled=${stop.busy} onClick=${() => stop.run()}><${Icon} name="stop" /></button>`
          : html`<button class="round main" aria-label=${busy ? 'Queue the prompt' : 'Send the prompt'} disabled=${!may}><${Icon} name="send" /></button>`
      }
    </form>
  </div>`;
}

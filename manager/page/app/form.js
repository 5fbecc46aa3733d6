// A form that an agent wants filled in (ACP's `elicitation/create`). Only the driver may answer, so the page drives for
// as long as the answer takes.

import { useState } from '../lib/preact.js';
import { events, get, path, post, request } from './api.js';
import { html } from './html.js';
import { Failure, Long, useRead, useTask } from './parts.js';
import { announce, store } from './store.js';
import { age, cut, line, plain, string } from './text.js';

/** The most fields that a form shows. A form with more is not sent: nobody has seen the others. */
export const FIELDS = 64;
/** The longest wait for the seat of the driver, in milliseconds. */
const SEAT = 10_000;

/** The fields of a schema: `{name, title, about, kind, choices, required, ...}`. */
export function fields(schema) {
  const required = Array.isArray(schema?.required) ? schema.required : [];
  return Object.entries(schema?.properties ?? {})
    .slice(0, FIELDS)
    .map(([name, property]) => {
      const several = property?.type === 'array';
      const of = several ? property.items : property;
      const named = of?.oneOf ?? of?.anyOf;
      const choices = Array.isArray(named)
        ? named.map((one) => ({ value: one?.const, title: string(one?.title) || String(one?.const) }))
        : Array.isArray(of?.enum)
          ? of.enum.map((value, at) => ({ value, title: string(of.enumNames?.[at]) || String(value) }))
          : [];
      const kind = choices.length
        ? several
          ? 'several'
          : 'choice'
        : ({ string: 'text', number: 'number', integer: 'integer', boolean: 'switch' }[property?.type] ?? 'unknown');
      return {
        name,
        kind,
        choices,
        required: required.includes(name),
        title: string(property?.title) || name,
        about: string(property?.description),
        start: property?.default,
        least: property?.minimum,
        most: property?.maximum,
        short: property?.minLength,
        long: property?.maxLength,
      };
    });
}

/** The value of a field as the person gave it; undefined leaves it out. */
function value(field, given) {
  switch (field.kind) {
    case 'switch':
      return Boolean(given ?? field.start ?? false);
    case 'several':
      return given ?? field.start ?? [];
    case 'number':
    case 'integer':
      return given === undefined || given === '' ? field.start : Number(given);
    default:
      return given === undefined || given === '' ? field.start : given;
  }
}

/** Runs something as the driver of a session, who offers to ask a person. */
async function asDriver(session, takeover, run) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), SEAT);
  try {
    const client = await new Promise((found, failed) => {
      events(
        path(`/v1/sessions/${encodeURIComponent(session)}/attach`, {
          role: 'driver',
          takeover: takeover || undefined,
          name: 'web page',
          offers: 'elicitation',
        }),
        {
          signal: abort.signal,
          take: (frames) => {
            for (const frame of frames) if (frame.event === 'attached') found(JSON.parse(frame.data).client_id);
          },
        },
      ).catch(failed);
    });
    clearTimeout(timer);
    try {
      return await run(client);
    } finally {
      await request('DELETE', `/v1/sessions/${encodeURIComponent(session)}/attach`, {
        headers: { 'Kennel-Client': String(client) },
      }).catch(() => {});
    }
  } finally {
    clearTimeout(timer);
    abort.abort();
  }
}

function Field({ field, given, set, id }) {
  const about = field.about ? html`<small class="dim">${line(field.about)}</small>` : null;
  const title = html`${cut(line(field.title), 200)}${field.required ? null : html` <span class="dim">(optional)</span>`}`;
  if (field.kind === 'switch') {
    return html`<label class="check"><input type="checkbox" checked=${value(field, given)} onChange=${(event) => set(event.target.checked)} /> <span>${title}</span> ${about}</label>`;
  }
  if (field.kind === 'several') {
    const now = value(field, given);
    return html`<fieldset><legend>${title}</legend>${about}${field.choices.map(
      (choice) => html`<label class="check" key=${String(choice.value)}>
      <input type="checkbox" checked=${now.includes(choice.value)} onChange=${(event) => set(event.target.checked ? [...now, choice.value] : now.filter((one) => one !== choice.value))} />
      <span>${line(choice.title)}</span></label>`,
    )}</fieldset>`;
  }
  if (field.kind === 'unknown')
    return html`<p class="dim">${line(field.title)}: a kind of field that the page does not know.</p>`;
  const now = given ?? (field.start === undefined ? '' : String(field.start));
  return html`<div class="field"><label for=${id}>${title}</label>${about}
    ${
      field.kind === 'choice'
        ? html`<select id=${id} required=${field.required} value=${now} onChange=${(event) => set(event.target.value)}>
        <option value="">Choose…</option>
        ${field.choices.map((choice) => html`<option key=${String(choice.value)} value=${String(choice.value)}>${line(choice.title)}</option>`)}</select>`
        : html`<input id=${id} type=${field.kind === 'text' ? 'text' : 'number'} step=${field.kind === 'integer' ? 1 : 'any'} required=${field.required}
        min=${field.least} max=${field.most} minlength=${field.short} maxlength=${field.long} value=${now} onInput=${(event) => set(event.target.value)} />`
    }</div>`;
}

export function Form({ session, need }) {
  const [calls, problem, again] = useRead(
    (signal) => get(`/v1/sessions/${encodeURIComponent(session.id)}/calls`, { signal }),
    [session.id, need.id],
  );
  const call = calls?.find((one) => one.call_id === need.id);
  const [given, setGiven] = useState({});
  const [driven, setDriven] = useState(false);
  const answer = useTask(async (result) => {
    try {
      await asDriver(session.id, driven, (client) =>
        post(
          `/v1/sessions/${encodeURIComponent(session.id)}/calls/${encodeURIComponent(need.id)}`,
          { result },
          { headers: { 'Kennel-Client': String(client) } },
        ),
      );
    } catch (error) {
      if (error.code === 'driven') setDriven(true);
      throw error;
    }
    announce('The form is answered.');
    store.changed.add(session.id);
  });
  if (problem) return html`<article class="card"><${Failure} problem=${problem} again=${again} /></article>`;
  if (!call) return null;
  const all = fields(call.payload?.requestedSchema);
  const more = Object.keys(call.payload?.requestedSchema?.properties ?? {}).length - all.length;
  const message = string(call.payload?.message);
  const send = (event) => {
    event.preventDefault();
    if (more > 0) return;
    const content = {};
    for (const field of all) {
      const one = value(field, given[field.name]);
      if (one !== undefined && field.kind !== 'unknown') content[field.name] = one;
    }
    answer.run({ action: 'accept', content });
  };
  return html`<article class="card" aria-label="Question" data-need=${need.id}><form onSubmit=${send}>
    <header><span class="word is-needs">Question</span> <span class="dim">${age(need.since)}</span></header>
    <h2 class="card-title" dir="auto">${cut(plain(message), 1_000)}</h2>
    ${message.length > 1_000 ? html`<${Long} text=${message} clean=${plain} label="question" most=${4_000} />` : null}
    ${call.payload?.mode && call.payload.mode !== 'form' ? html`<p>The agent wants to open an address: <span class="path" dir="ltr">${line(call.payload.url)}</span></p>` : null}
    <div class="card-body">${all.map(
      (field, at) => html`<${Field} key=${field.name} id=${`${need.id}-${at}`} field=${field} given=${given[field.name]}
      set=${(one) => setGiven({ ...given, [field.name]: one })} />`,
    )}</div>
    ${more > 0 ? html`<p class="notice">${more} more ${more === 1 ? 'field is' : 'fields are'} not shown, so the page does not send this form. Decline it, or answer with another client.</p>` : null}
    <${Failure} problem=${answer.problem} />
    ${driven ? html`<p>Another client drives this session. The next try takes over from it.</p>` : null}
    ${
      store.mayDrive
        ? html`<footer class="answers">
      <button type="button" class="big deny" disabled=${answer.busy} onClick=${() => answer.run({ action: 'decline' })}>Decline</button>
      <button class="big allow" disabled=${answer.busy || more > 0}>${driven ? 'Take over and answer' : 'Answer'}</button>
    </footer>`
        : null
    }
  </form></article>`;
}

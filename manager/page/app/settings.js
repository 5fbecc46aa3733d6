// Settings of a session's agent: its mode and options, in the agent's own words.

import { get, request } from './api.js';
import { html } from './html.js';
import { Failure, useRead, useTask } from './parts.js';
import { announce, store } from './store.js';
import { cut, line, string } from './text.js';

/** The most choices that one setting shows. */
const CHOICES = 200;

/** The settings as `{name, title, value, choices: [{value, title}]}`. A mode that is an option as well is there once. */
export function settings(told) {
  const list = [];
  const options = Array.isArray(told?.config_options) ? told.config_options : [];
  const modes = told?.modes?.availableModes;
  if (Array.isArray(modes) && !options.some((one) => one?.id === 'mode' || one?.category === 'mode')) {
    list.push({
      name: 'mode',
      title: 'Mode',
      value: string(told.modes.currentModeId),
      choices: modes
        .slice(0, CHOICES)
        .map((one) => ({ value: string(one?.id), title: string(one?.name) || string(one?.id) })),
    });
  }
  for (const one of options.slice(0, 50)) {
    const on = one?.type === 'boolean';
    const choices = on
      ? [
          { value: 'true', title: 'On' },
          { value: 'false', title: 'Off' },
        ]
      : (Array.isArray(one?.options) ? one.options : [])
          .flatMap((choice) => (Array.isArray(choice?.options) ? choice.options : [choice]))
          .slice(0, CHOICES)
          .map((choice) => ({ value: string(choice?.value), title: string(choice?.name) || string(choice?.value) }));
    if (typeof one?.id === 'string' && choices.length)
      list.push({ name: one.id, title: string(one.name) || one.id, value: String(one.currentValue), choices });
  }
  return list;
}

function Setting({ session, setting, again }) {
  const set = useTask(async (value) => {
    await request('PUT', `/v1/sessions/${encodeURIComponent(session.id)}/settings/${encodeURIComponent(setting.name)}`, {
      body: { value },
    });
    announce(`${line(setting.title)} is set.`);
    again();
  });
  const id = `setting-${setting.name}`;
  const now = setting.choices.find((one) => one.value === setting.value);
  const title = cut(line(setting.title), 100);
  return html`<div class="field">${store.mayDrive ? html`<label for=${id}>${title}</label>` : html`<b>${title}</b>`}
    ${
      store.mayDrive
        ? html`<select id=${id} value=${setting.value} disabled=${set.busy} onChange=${(event) => set.run(event.target.value)}>
      ${now ? null : html`<option value=${setting.value}>${cut(line(setting.value), 100)}</option>`}
      ${setting.choices.map((one) => html`<option key=${one.value} value=${one.value}>${cut(line(one.title), 100)}</option>`)}</select>`
        : html`<span>${cut(line(now?.title ?? setting.value), 100)}</span>`
    }
    <${Failure} problem=${set.problem} /></div>`;
}

export function Settings({ session }) {
  const [told, problem, again] = useRead(
    (signal) => get(`/v1/sessions/${encodeURIComponent(session.id)}/settings`, { signal }),
    [session.id, session.status],
  );
  const list = settings(told);
  if (problem) return html`<${Failure} problem=${problem} again=${again} />`;
  if (!list.length) return null;
  return html`<section class="stack settings" aria-label="Settings of the agent"><h2>Settings of the agent</h2>
    ${list.map((setting) => html`<${Setting} key=${setting.name} session=${session} setting=${setting} again=${again} />`)}</section>`;
}

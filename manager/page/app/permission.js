// Cards of what a session needs from somebody: permissions, forms, interrupted prompts, failures.

import { useState } from '../lib/preact.js';
import { get, post } from './api.js';
import { read } from './history.js';
import { Form } from './form.js';
import { html } from './html.js';
import { Failure, Long, useRead, useTask } from './parts.js';
import { useStill } from './still.js';
import { tool } from './told.js';
import { Asked, optionName } from './tool.js';
import { announce, store } from './store.js';
import { age, cut, line, output, plain, string } from './text.js';

/** The number of events before a permission among which its tool call is looked for. */
const BACK = 2_000;

/** Reads a permission as the agent asked it, with what the call told before. */
async function asked(session, permission, signal) {
  const number = Number(String(permission).replace(/\D/g, ''));
  const { list } = await read(session, { after: number - 1, until: number, signal });
  const event = list.find((one) => one.type === 'permission.requested');
  if (!event) throw new Error('The request cannot be read. Answer it with the command line.');
  const id = event.data.tool_call_id;
  const told = tool(event.data.payload?.toolCall, { whole: true });
  if (told.command !== undefined || told.parts?.length || told.input) return { ask: told };
  const before = await read(session, {
    after: Math.max(0, number - BACK),
    until: number - 1,
    signal,
    keep: (one) => one.type.startsWith('tool_call.') && one.data.tool_call_id === id,
  });
  const all = before.list.reduce((sum, one) => Object.assign(sum, tool(one.data.payload, { whole: true })), {});
  return { ask: { ...all, ...told } };
}

/** Sorts the options: the plain yes and no, and the others in the agent's order. */
function sorted(options) {
  const allows = options.filter((one) => one.kind === 'allow_once');
  const denies = options.filter((one) => one.kind === 'reject_once');
  // With several of a kind their names make the difference, and none of them is "the" answer.
  const allow = allows.length === 1 ? allows[0] : undefined;
  const deny = denies.length === 1 ? denies[0] : undefined;
  return { allow, deny, others: options.filter((one) => one !== allow && one !== deny) };
}

export function Permission({ session, permission }) {
  const id = permission.permission_id;
  const [told, problem, again] = useRead((signal) => asked(session.id, id, signal), [session.id, id]);
  const [done, setDone] = useState('');
  const answer = useTask(async (option, name) => {
    await post(`/v1/sessions/${encodeURIComponent(session.id)}/permissions/${encodeURIComponent(id)}`, {
      answer: option === null ? 'cancel' : { option: option.id },
    });
    setDone(name);
    announce(`Answered: ${name}`);
    store.changed.add(session.id);
  });
  const { allow, deny, others } = sorted(permission.options);
  const refuses = others.some((one) => one.kind?.startsWith('reject'));
  // A long title must not push away what the permission is about.
  const says = told && (told.ask.command !== undefined || told.ask.parts?.length || told.ask.input);
  const shown = says ? 300 : 1_000;
  const off = answer.busy || done !== '' || !told;
  const settled = answer.problem?.code === 'permission_settled';
  return html`<article class="card is-permission" aria-label="Permission" data-need=${id}>
    <header><span class="word is-needs">Permission</span> <span class="dim">${age(permission.asked_at)}</span></header>
    <h2 class="card-title" dir="auto">${cut(line(permission.title), shown)}</h2>
    <div class="card-body">
      ${permission.title.length > shown ? html`<${Long} text=${permission.title} clean=${plain} label="title" most=${says ? 0 : 4_000} />` : null}
      ${told ? html`<${Asked} ask=${told.ask} />` : problem ? html`<${Failure} problem=${problem} again=${again} />` : html`<p class="dim">Loading the request…</p>`}
    </div>
    ${settled ? html`<p role="status">It was answered elsewhere meanwhile.</p>` : html`<${Failure} problem=${answer.problem} />`}
    ${done ? html`<p class="dim" role="status">Answered: ${done}</p>` : null}
    ${
      store.mayDrive
        ? html`
      ${
        others.length
          ? html`<div class="others">${others.map(
              (
                one,
              ) => html`<button key=${one.id} class="other" disabled=${off} onClick=${() => answer.run(one, optionName(one))}>${optionName(one)}</button>`,
            )}</div>`
          : null
      }
      ${
        deny || allow || !refuses
          ? html`<footer class="answers">
        ${
          deny
            ? html`<button class="big deny" disabled=${off} onClick=${() => answer.run(deny, 'Deny')}>${called(deny, 'Deny')}</button>`
            : refuses
              ? null
              : html`<button class="big deny" disabled=${off} onClick=${() => answer.run(null, 'Deny')}>Deny</button>`
        }
        ${allow ? html`<button class="big allow" disabled=${off} onClick=${() => answer.run(allow, 'Allow')}>${called(allow, 'Allow')}</button>` : null}
      </footer>`
          : null
      }`
        : html`<p class="dim">Your key only reads: somebody else must answer.</p>`
    }
  </article>`;
}

/** kennel's word for the plain yes or no; with the agent's name, where that says more. */
function called(option, ours) {
  const says = !/^(yes|no|allow|deny|reject|allow once|deny once|reject once)$/i.test(string(option.name).trim());
  return says ? html`${ours}<small>${optionName(option)}</small>` : ours;
}

/** Reads the whole text of a prompt, as it was when its turn began. */
async function promptText(session, prompt, signal) {
  const number = Number(String(prompt).replace(/\D/g, ''));
  const { list } = await read(session, {
    after: number - 1,
    signal,
    keep: (one) => one.data?.prompt_id === prompt && /^prompt\.(accepted|edited)$/.test(one.type),
    ends: (one) => one.data?.prompt_id === prompt && one.type === 'turn.started',
  });
  if (!list.length) throw new Error('The prompt cannot be read. Decide on it with the command line.');
  return string(list.at(-1).data.text);
}

function Interrupted({ session, need }) {
  const [text, problem, again] = useRead((signal) => promptText(session.id, need.id, signal), [session.id, need.id]);
  const resolve = useTask(async (action) => {
    await post(`/v1/prompts/${encodeURIComponent(need.id)}/resolve`, { action });
    announce(action === 'retry' ? 'The prompt runs again.' : 'The prompt was dropped.');
    store.changed.add(session.id);
  });
  return html`<article class="card" aria-label="Interrupted prompt" data-need=${need.id}>
    <header><span class="word is-needs">Interrupted</span> <span class="dim">${age(need.since)}</span></header>
    <p>A crash cut this prompt off. Its tools may have changed things already.</p>
    ${text === undefined ? html`<${Failure} problem=${problem} again=${again} />${problem ? null : html`<p class="dim">Loading the prompt…</p>`}` : html`<${Long} text=${text} clean=${plain} label="prompt" most=${1_500} />`}
    <${Failure} problem=${resolve.problem} />
    ${
      store.mayDrive
        ? html`<footer class="answers">
      <button class="big deny" disabled=${resolve.busy} onClick=${() => resolve.run('drop')}>Drop</button>
      <button class="big allow" disabled=${resolve.busy || text === undefined} onClick=${() => resolve.run('retry')}>Run again</button>
    </footer>`
        : null
    }
  </article>`;
}

function Failed({ session }) {
  const restart = useTask(async () => {
    await post(`/v1/sessions/${encodeURIComponent(session.id)}/restart`);
    store.changed.add(session.id);
  });
  const words = session.failure?.last_words ?? [];
  return html`<article class="card" aria-label="Failed session">
    <header><span class="word is-needs">Failed</span></header>
    <p>${output(session.failure?.reason ?? 'kennel gave the session up.')}</p>
    ${words.length ? html`<pre class="raw" dir="ltr">${cut(output(words.join('\n')), 4_000)}</pre>` : null}
    <${Failure} problem=${restart.problem} />
    ${store.mayDrive ? html`<footer class="answers"><button class="big allow" disabled=${restart.busy} onClick=${() => restart.run()}>Start again</button></footer>` : null}
  </article>`;
}

/** The cards of a session, the oldest need first. */
export function Needs({ session }) {
  const needs = session.needs ?? [];
  const wants = needs
    .filter((need) => need.kind === 'permission')
    .map((need) => need.id)
    .join(' ');
  const [list] = useRead(
    async (signal) => {
      if (!wants) return [];
      return get(`/v1/sessions/${encodeURIComponent(session.id)}/permissions`, { signal });
    },
    [session.id, wants],
  );
  const cards = needs.map((need) => {
    if (need.kind === 'permission') {
      const permission = list?.find((one) => one.permission_id === need.id);
      return permission ? html`<${Permission} key=${need.id} session=${session} permission=${permission} />` : null;
    }
    if (need.kind === 'form') return html`<${Form} key=${need.id} session=${session} need=${need} />`;
    if (need.kind === 'interrupted') return html`<${Interrupted} key=${need.id} session=${session} need=${need} />`;
    return html`<${Failed} key="failed" session=${session} />`;
  });
  if (!cards.length) return null;
  return html`<${Cards} cards=${cards} />`;
}

/** The panel of the cards. An answer counts only while the cards lie still. */
function Cards({ cards }) {
  const { panel, refuse } = useStill();
  return html`<section class="needs" aria-label="Needs you" ref=${panel} onClickCapture=${refuse}>${cards}</section>`;
}

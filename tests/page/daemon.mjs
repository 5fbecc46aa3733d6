// A daemon of a test: its own state directory, configuration and home, with the scripted agent. It ends with the test.

import { execFile } from 'node:child_process';
import { mkdtemp, mkdir, rm, writeFile, readFile } from 'node:fs/promises';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));
/** The directory of the built programs. */
export const programs = process.env.KENNEL_PROGRAMS ?? join(process.env.CARGO_TARGET_DIR ?? join(root, 'target'), 'debug');

export class Daemon {
  /** Starts a daemon whose agent is the scripted one, with its memory; or another. `more` is further configuration. */
  static async start({ name = 'scripted', command, more = '' } = {}) {
    const dir = await mkdtemp(join(tmpdir(), 'kennel-page-'));
    const daemon = new Daemon(dir);
    for (const part of ['state', 'config/kennel', 'work', 'memory', 'run'])
      await mkdir(join(dir, part), { recursive: true, mode: 0o700 });
    const scripted = [join(programs, 'acp-agent'), '--load', '--image', '--files', '--memory', join(dir, 'memory')];
    const words = (command ?? scripted).map((word) => JSON.stringify(word));
    await writeFile(
      join(dir, 'config/kennel/config.toml'),
      `[defaults]\nagent = "${name}"\n\n[agents.${name}]\nkind = "acp"\ncommand = [${words.join(', ')}]\n${more}`,
    );
    daemon.agent = name;
    await daemon.kennel('daemon', 'start');
    return daemon;
  }

  constructor(dir) {
    this.dir = dir;
    this.work = join(dir, 'work');
    this.env = {
      HOME: this.work,
      PATH: process.env.PATH,
      KENNEL_STATE_DIR: join(dir, 'state'),
      XDG_RUNTIME_DIR: join(dir, 'run'),
      XDG_CONFIG_HOME: join(dir, 'config'),
      LANG: 'C.UTF-8',
    };
  }

  /** Runs `kennel`, and returns its output. */
  async kennel(...args) {
    const { stdout } = await run(join(programs, 'kennel'), args, { env: this.env, cwd: this.work, maxBuffer: 64 << 20 });
    return stdout;
  }

  /** Runs `git` in the working directory. */
  async git(...args) {
    const who = {
      GIT_AUTHOR_NAME: 'a',
      GIT_AUTHOR_EMAIL: 'a@example.invalid',
      GIT_COMMITTER_NAME: 'a',
      GIT_COMMITTER_EMAIL: 'a@example.invalid',
    };
    await run('git', args, { cwd: this.work, env: { ...this.env, ...who } });
  }

  /** A link that logs a browser in. */
  async link(...args) {
    const stdout = await this.kennel('web', '--print', ...args);
    const link = stdout.split(/\s+/).find((word) => /^http:\/\/[\d.]+:\d+\/#/.test(word));
    if (!link) throw new Error(`no link in: ${stdout}`);
    return link;
  }

  /** Asks the API over the daemon's socket. */
  async api(method, path, body) {
    const socketPath = (await readFile(join(this.env.KENNEL_STATE_DIR, 'address'), 'utf8')).trim();
    const sent = body === undefined ? undefined : JSON.stringify(body);
    return new Promise((done, failed) => {
      const headers =
        sent === undefined ? {} : { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(sent) };
      const request = http.request({ socketPath, method, path, headers }, (answer) => {
        let text = '';
        answer.setEncoding('utf8');
        answer.on('data', (piece) => {
          text += piece;
        });
        answer.on('end', () => {
          if (answer.statusCode >= 400) failed(new Error(`${method} ${path}: ${answer.statusCode} ${text}`));
          else done(text ? JSON.parse(text) : null);
        });
      });
      request.on('error', failed);
      request.end(sent);
    });
  }

  /** Starts a session. Returns it. */
  session(opts = {}) {
    return this.api('POST', '/v1/sessions', { agent: this.agent, workdir: this.work, ...opts });
  }

  prompt(id, text, more = {}) {
    return this.api('POST', `/v1/sessions/${id}/prompts`, { text, ...more });
  }

  /** Waits until a session is in one of these states. */
  wait(id, until = 'idle', ms = 60_000) {
    return this.api('GET', `/v1/sessions/${id}/wait?until=${until}&timeout_ms=${ms}`);
  }

  /** Sends a prompt, and waits for the end of its turn. */
  async turn(id, text, ms) {
    await this.prompt(id, text);
    return this.wait(id, 'idle', ms);
  }

  /** Kills the daemon's process, as a crash would. */
  async crash() {
    const { pid } = JSON.parse(await this.kennel('daemon', 'status', '--json'));
    process.kill(pid, 'SIGKILL');
    for (let tries = 0; tries < 500; tries += 1) {
      const state = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
      if (!state || / Z /.test(state)) return;
      await new Promise((done) => {
        setTimeout(done, 10);
      });
    }
    throw new Error('the daemon did not die');
  }

  async end() {
    await this.kennel('daemon', 'stop').catch(() => {});
    await rm(this.dir, { recursive: true, force: true });
  }
}

/** A step of the scripted agent that sends any update: `update` is ACP's `session/update`. No `;` may be in it. */
export function update(update) {
  return `wire ${JSON.stringify({ jsonrpc: '2.0', method: 'session/update', params: { sessionId: '$S', update } }).replaceAll(';', '\\u003b')}`;
}

/** A step that asks for a permission, and one that waits for the answer. */
export function permission(toolCall, options, id = 71) {
  const choices = options ?? [
    { optionId: 'yes', name: 'Yes', kind: 'allow_once' },
    { optionId: 'always', name: 'Always', kind: 'allow_always' },
    { optionId: 'no', name: 'No', kind: 'reject_once' },
  ];
  const ask = {
    jsonrpc: '2.0',
    id,
    method: 'session/request_permission',
    params: { sessionId: '$S', toolCall, options: choices },
  };
  return `wire ${JSON.stringify(ask).replaceAll(';', '\\u003b')}; heard`;
}

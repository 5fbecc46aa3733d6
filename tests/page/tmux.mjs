// A real terminal: a tmux of its own.

import { execFile } from 'node:child_process';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { programs } from './daemon.mjs';
import { eventually } from './suite.mjs';

const run = promisify(execFile);

/** A command in a tmux server of its own. The programs are found by PATH, as a person finds them. */
export class Terminal {
  constructor(daemon, columns, rows, { name = 'tmux', dir = daemon.work } = {}) {
    Object.assign(this, { daemon, columns, rows, dir, socket: join(daemon.dir, name) });
    this.env = { ...daemon.env, PATH: `${programs}:${daemon.env.PATH}`, TERM: 'xterm-256color' };
  }

  async tmux(...words) {
    return (await run('tmux', ['-S', this.socket, ...words], { env: this.env, cwd: this.dir })).stdout;
  }

  async start(command) {
    await this.tmux('-f', '/dev/null', 'new-session', '-d', '-x', String(this.columns), '-y', String(this.rows), command);
    await this.tmux('set', '-g', 'status', 'off');
    this.pid = Number(await this.tmux('display', '-p', '#{pid}'));
  }

  /** Types a line, and presses Enter. */
  async type(line) {
    await this.tmux('send-keys', '-l', line);
    await this.tmux('send-keys', 'Enter');
  }

  screen() {
    return this.tmux('capture-pane', '-e', '-p');
  }

  /** Waits until the screen's text has something, and returns the text with wrapped lines joined. */
  shows(what) {
    return eventually(() => this.tmux('capture-pane', '-p', '-J'), (text) => what.test(text), `the terminal shows ${what}`);
  }

  /** Ends the server by its pid, and with it the terminal of all that runs in there. */
  async end() {
    if (!this.pid) return;
    const { pid } = this;
    this.pid = undefined;
    process.kill(pid, 'SIGTERM');
    const gone = () => access(`/proc/${pid}`).then(() => false, () => true);
    await eventually(gone, (left) => left, 'tmux ends');
  }
}

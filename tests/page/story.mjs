// The daemon of the pictures: sessions as somebody has them who runs agents all day. One needs an answer, one works.

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Daemon } from './daemon.mjs';

const agent = fileURLToPath(new URL('story-agent.mjs', import.meta.url));

/** Starts the daemon and its sessions. Returns it, with the sessions that have something to show. */
export async function story() {
  const daemon = await Daemon.start({ name: 'claude', command: [process.execPath, agent] });
  try {
    return { daemon, ...(await sessions(daemon)) };
  } catch (error) {
    await daemon.end();
    throw error;
  }
}

async function sessions(daemon) {
  const dirs = {};
  for (const name of ['app', 'handbook', 'site']) {
    dirs[name] = join(daemon.work, name);
    await mkdir(dirs[name], { recursive: true });
  }
  await writeFile(join(dirs.app, 'notes.md'), 'notes\n');
  const make = (name, title, dir) => daemon.session({ agent: undefined, name, title, workdir: dirs[dir] });
  const parser = await make('parser', 'Fix the parser', 'app');
  await daemon.turn(parser.id, 'Values with spaces around the sign are read wrongly. Please fix the parser.');
  const release = await make('release', 'Release 1.4', 'app');
  await daemon.prompt(release.id, 'Publish 1.4 when the checks pass.');
  const handbook = await make('handbook', 'Rewrite the handbook', 'handbook');
  await daemon.prompt(handbook.id, 'Rewrite the first chapter in plain English.');
  await make('colours', 'Colours of the site', 'site');
  await make('report', 'Weekly report', 'handbook');
  await make('upgrade', 'Upgrade the dependencies', 'app');
  await daemon.wait(release.id, 'requires_action');
  return { parser, release };
}

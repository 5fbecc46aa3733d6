// Compares each library file of the page with the package that its lock names. npm checks the packages against the
// lock's hashes.
//
//   node verify.mjs      exit status: 0 all are the same, 75 the registry does not answer, else something differs

import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Each file beside `package.json`, and its place in the packages. */
const FILES = {
  'preact.js': 'htm/preact/standalone.module.js',
  'htm.js': 'htm/dist/htm.module.js',
  'LICENSE-htm': 'htm/LICENSE',
  // The bundle of htm has Preact in it, but not its licence. The package is a dependency for that file alone.
  'LICENSE-preact': 'preact/LICENSE',
  'marked.js': 'marked/lib/marked.esm.js',
  'LICENSE-marked': 'marked/LICENSE',
  'purify.js': 'dompurify/dist/purify.min.js',
  'LICENSE-dompurify': 'dompurify/LICENSE',
};
const OWN = ['package.json', 'package-lock.json'];
const NOBODY =
  /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET_TIMEOUT|EIDLETIMEOUT|E5\d\d/;

const lib = fileURLToPath(new URL('../../manager/page/lib', import.meta.url));
const wrong = [];
for (const file of readdirSync(lib)) {
  if (!OWN.includes(file) && !(file in FILES)) wrong.push(`${file}: no package is named for it in tests/page/verify.mjs`);
}
const lock = JSON.parse(readFileSync(join(lib, 'package-lock.json'), 'utf8'));
for (const [name, one] of Object.entries(lock.packages)) {
  if (name && !one.integrity) wrong.push(`package-lock.json: ${name} has no hash`);
}

const dir = mkdtempSync(join(tmpdir(), 'kennel-page-lib-'));
try {
  for (const file of OWN) copyFileSync(join(lib, file), join(dir, file));
  try {
    execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--omit=optional'], {
      cwd: dir,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 240_000,
    });
  } catch (error) {
    const said = `${error.stdout ?? ''}${error.stderr ?? ''}`;
    process.stderr.write(said);
    if (error.code === 'ETIMEDOUT' || NOBODY.test(said)) {
      process.stderr.write('\n!!! THE LIBRARIES OF THE PAGE WERE NOT COMPARED: the registry does not answer\n');
      process.exitCode = 75;
    } else {
      wrong.push(`npm failed: ${error.message}`);
    }
  }
  if (process.exitCode !== 75) {
    for (const [file, from] of Object.entries(FILES)) {
      try {
        if (!readFileSync(join(lib, file)).equals(readFileSync(join(dir, 'node_modules', from))))
          wrong.push(`${file} differs from ${from}`);
      } catch (error) {
        wrong.push(`${file}: ${error.message}`);
      }
    }
  }
} finally {
  rmSync(dir, { recursive: true, force: true });
}
if (wrong.length) {
  process.stderr.write(`${wrong.join('\n')}\n`);
  process.exitCode = 1;
} else if (!process.exitCode) {
  process.stdout.write(`${Object.keys(FILES).length} library files are those of their packages\n`);
}

// Text of agents, files and other people. All of it passes one of these functions before a person sees it, so that no
// text can hide, reorder or forge what stands beside it. The rules are at least those of `manager/src/terminal_text.rs`.

/** Characters that control, are invisible, or turn the direction of writing. Tab and newline are not among them. */
const TRICKY = new RegExp(
  '[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b\\u200e\\u200f' +
    '\\u2028-\\u202e\\u2060-\\u206f\\u2800\\u3164\\ufeff\\uffa0\\ufff0-\\ufffb\\u{1bca0}-\\u{1bca3}\\u{1d173}-\\u{1d17a}\\u{e0000}-\\u{e0fff}]',
  'gu',
);
/** Sequences of terminals that set colours and nothing else. Every other sequence can hide text, and is shown. */
const COLOURS = /\u001b\[[0-9;:]{0,60}m/g;

const shown = (character) => `\\u{${character.codePointAt(0).toString(16)}}`;

/** Returns a string; anything else is empty. */
export const string = (value) => (typeof value === 'string' ? value : '');

/** Text of several lines. Tricky characters become visible escapes; a carriage return begins a new line. */
export function plain(value) {
  return string(value).replace(/\r\n?/g, '\n').replace(TRICKY, shown);
}

/** Text of one line: a title, a name, a path. Line breaks become a visible mark. */
export function line(value) {
  return plain(value).replace(/\n/g, ' ⏎ ');
}

/** Output of a program: colours are left out; the rest as `plain`. Texts that somebody decides on need `plain`. */
export function output(value) {
  return plain(string(value).replace(COLOURS, ''));
}

/** At most `most` characters of a text, with a mark for the cut. */
export function cut(text, most) {
  return text.length <= most ? text : `${text.slice(0, whole(text, most))}…`;
}

/** The nearest index at or before `at` that cuts no character in two. */
export function whole(text, at) {
  const code = text.charCodeAt(at - 1);
  return code >= 0xd800 && code < 0xdc00 ? at - 1 : at;
}

/** The last path component. */
export function base(path) {
  const text = string(path).replace(/\/+$/, '');
  return text.slice(text.lastIndexOf('/') + 1) || '/';
}

/** A size in bytes, for people. */
export function size(bytes) {
  if (!Number.isFinite(bytes)) return '';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) {
    bytes /= 1024;
    unit += 1;
  }
  return `${bytes < 10 && unit > 0 ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}

/** A span of time in milliseconds, for people. */
export function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds % 60 && minutes < 10 ? `${minutes} min ${seconds % 60} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.floor(hours / 24)} d`;
}

/** The age of a time, short. */
export function age(at, now = Date.now()) {
  const ms = now - Date.parse(at);
  if (!Number.isFinite(ms)) return '';
  if (ms < 60_000) return 'now';
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min`;
  if (ms < 86_400_000) return `${Math.floor(ms / 3_600_000)} h`;
  return `${Math.floor(ms / 86_400_000)} d`;
}

/** A time of day; with the date if the day is another. `seconds` adds them. */
export function clock(at, seconds = false) {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return '';
  const time = date.toLocaleTimeString([], {
    hour: '2-digit',
    minute: '2-digit',
    ...(seconds ? { second: '2-digit' } : {}),
  });
  const today = new Date().toDateString() === date.toDateString();
  return today ? time : `${date.toLocaleDateString([], { day: 'numeric', month: 'short' })}, ${time}`;
}

// Answers count only while their cards lie still: a card that comes, goes or grows moves the buttons of the others under
// a finger.

import { useEffect, useRef } from '../lib/preact.js';
import { announce } from './store.js';

/** Cards have to lie still for so long before an answer counts, in milliseconds. */
export const LONG_ENOUGH = 700;
const ANSWERS = '.answers button, .others button';

/** Places and sizes of the cards and their answers. Scrolling is a person's own doing, and changes nothing of it. */
function lie(panel) {
  const round = ({ left, top, width, height }) => [left, top, width, height].map(Math.round).join(' ');
  const own = panel.getBoundingClientRect();
  const parts = [round(own)];
  for (const card of panel.querySelectorAll('article')) {
    const { offsetLeft: left, offsetTop: top, offsetWidth: width, offsetHeight: height } = card;
    parts.push(card.dataset.need ?? '', round({ left, top, width, height }));
  }
  for (const button of panel.querySelectorAll(ANSWERS)) {
    const { width, height } = sized(button.getBoundingClientRect());
    parts.push(`${Math.round(width)} ${Math.round(height)} ${button.disabled}`, button.textContent);
  }
  return parts.join('\n');
}

const sized = ({ width, height }) => ({ width, height });

/** Watches the cards of a panel. `refuse` takes its clicks before its cards do. */
class Watch {
  constructor(panel) {
    this.panel = panel;
    this.since = 0;
    this.last = undefined;
    const look = () => {
      this.look();
      this.next = requestAnimationFrame(look);
    };
    look();
  }

  stop() {
    cancelAnimationFrame(this.next);
  }

  /** Returns true if the cards have lain still for long enough. */
  look() {
    const now = performance.now();
    const lies = lie(this.panel);
    if (lies !== this.last) {
      this.last = lies;
      this.since = now;
    }
    const still = now - this.since >= LONG_ENOUGH;
    for (const button of this.panel.querySelectorAll(ANSWERS)) {
      if (still) button.removeAttribute('aria-disabled');
      else button.setAttribute('aria-disabled', 'true');
    }
    return still;
  }
}

/**
 * Makes answers of a panel wait until its cards lie still. Returns `{panel, refuse}`: a reference, and what takes clicks
 * first. A key that presses a button makes a click as well.
 */
export function useStill() {
  const panel = useRef(null);
  const watch = useRef(null);
  useEffect(() => {
    watch.current = new Watch(panel.current);
    return () => watch.current.stop();
  }, []);
  const refuse = (event) => {
    if (!event.target.closest?.(ANSWERS) || watch.current?.look()) return;
    event.preventDefault();
    event.stopPropagation();
    announce('The cards have just moved. Press again.');
  };
  return { panel, refuse };
}

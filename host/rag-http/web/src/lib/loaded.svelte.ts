// Something that the server is asked for: what it said last, and why it said nothing now.

import { session } from "./session.svelte";

export class Loaded<T> {
  value = $state.raw<T>();
  trouble = $state<unknown>();
  /** Which read is the last: what an earlier one finds is not shown. */
  #turn = 0;

  constructor(private readonly read: () => Promise<T>) {}

  /** Asks; what was shown stays until something else is there. */
  load = async (): Promise<void> => {
    const mine = (this.#turn += 1);
    try {
      const found = await this.read();
      if (mine !== this.#turn) return;
      this.value = found;
      this.trouble = undefined;
    } catch (error) {
      if (mine === this.#turn) this.trouble = error;
    }
  };

  /** Nobody waits for it any more. */
  leave(): void {
    this.#turn += 1;
  }
}

/**
 * For a component: asks at once, again when somebody logged in or the server came back, and whenever something changed
 * that `read` looks at before its first wait.
 */
export function loaded<T>(read: () => Promise<T>): Loaded<T> {
  const kept = new Loaded(read);
  $effect(() => {
    void session.epoch;
    void kept.load();
    return () => kept.leave();
  });
  return kept;
}

// Who is logged in, and whether the server answers; both can change under the open page.

import type { components } from "../api/schema";

export type Who = components["schemas"]["Who"];

/** Waits between two looks at a server that does not answer, in milliseconds. */
const LOOK_AGAIN_MS = [500, 1000, 2000, 4000];

class Session {
  /** `undefined` until the server said it, `null` for nobody. */
  who = $state<Who | null>();
  /** The login ended while the page was open: what was typed stays behind the question for a key. */
  expired = $state(false);
  /** The server does not answer. */
  lost = $state(false);
  /** Grows when somebody logged in or the server came back: what depends on it loads again. */
  epoch = $state(0);

  #looking = false;

  /** Whether this role, or one that includes it, is held in a knowledge base. */
  may(role: "editor" | "admin", kb: string): boolean {
    const who = this.who;
    if (!who) return false;
    const own = who.kb_roles.find((right) => right.kb === kb)?.role;
    const held = own ?? (!who.kbs || who.kbs.includes(kb) ? who.role : undefined);
    return held === "admin" || held === role;
  }

  /** An administrator of everything, not of some knowledge bases. */
  get owner(): boolean {
    return this.who?.role === "admin" && !this.who.kbs && this.who.kb_roles.length === 0;
  }

  begin(who: Who): void {
    this.who = who;
    this.expired = false;
    this.epoch += 1;
  }

  end(): void {
    this.who = null;
    this.expired = false;
  }

  /** The server refused the session. */
  refused(): void {
    if (this.who) this.expired = true;
    else this.who = null;
  }

  /** The server did not answer: looks until it does, then everything loads again. */
  async disconnected(): Promise<void> {
    this.lost = true;
    if (this.#looking) return;
    this.#looking = true;
    for (let turn = 0; this.lost; turn += 1) {
      await new Promise((wake) => setTimeout(wake, LOOK_AGAIN_MS[Math.min(turn, LOOK_AGAIN_MS.length - 1)]));
      const answered = await fetch("/readyz", { cache: "no-store" }).catch(() => undefined);
      if (answered?.ok) this.lost = false;
    }
    this.#looking = false;
    this.epoch += 1;
  }
}

export const session = new Session();

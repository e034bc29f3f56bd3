// Short messages at the edge of the page: what was done, or what failed outside any form.

export type Notice = { id: number; text?: string; error?: unknown };

const SHOWN_MAX = 4;
const SHOWN_MS = 4000;

class Notices {
  list = $state<Notice[]>([]);
  #next = 0;

  say(text: string): void {
    const id = this.#add({ text });
    setTimeout(() => this.close(id), SHOWN_MS);
  }

  /** Stays until it is closed. */
  fail(error: unknown): void {
    this.#add({ error });
  }

  close(id: number): void {
    this.list = this.list.filter((notice) => notice.id !== id);
  }

  #add(notice: Omit<Notice, "id">): number {
    const id = (this.#next += 1);
    this.list = [...this.list, { ...notice, id }].slice(-SHOWN_MAX);
    return id;
  }
}

export const notices = new Notices();

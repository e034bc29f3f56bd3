// Files on their way in, and the jobs that read them: the same list on every page, whatever is open.

import { api, follow, must, Refused, upload, type Job } from "../api/client";
import { bases } from "./bases.svelte";

export type Sending = {
  id: number;
  kb: string;
  file: File;
  /** 0 to 1 of its bytes sent. */
  share: number;
  state: "waiting" | "sending" | "failed";
  error?: unknown;
  abort: AbortController;
};

/** Uploads at once; the rest waits here, not at the server. */
const SENDING_MAX = 2;
/** Jobs shown of a knowledge base. */
const JOBS_SHOWN = 100;
const PRIORITY_MAX = 100;
const ACTIVE = new Set(["queued", "running", "paused"]);

export const active = (job: Job): boolean => ACTIVE.has(job.state);

class Uploads {
  sending = $state<Sending[]>([]);
  #next = 0;

  add(kb: string, files: Iterable<File>): void {
    for (const file of files) {
      this.#next += 1;
      this.sending.push({ id: this.#next, kb, file, share: 0, state: "waiting", abort: new AbortController() });
    }
    this.#pump();
  }

  retry(item: Sending): void {
    item.state = "waiting";
    item.share = 0;
    item.error = undefined;
    item.abort = new AbortController();
    this.#pump();
  }

  drop(item: Sending): void {
    item.abort.abort();
    this.sending = this.sending.filter((other) => other.id !== item.id);
    this.#pump();
  }

  #pump(): void {
    const free = SENDING_MAX - this.sending.filter((item) => item.state === "sending").length;
    for (const item of this.sending.filter((item) => item.state === "waiting").slice(0, free)) void this.#send(item);
  }

  async #send(item: Sending): Promise<void> {
    item.state = "sending";
    try {
      const job = await upload(item.kb, item.file, (share) => (item.share = share), item.abort.signal);
      this.sending = this.sending.filter((other) => other.id !== item.id);
      queues.of(item.kb).put(job);
    } catch (error) {
      if (!item.abort.signal.aborted) {
        item.state = "failed";
        item.error = error;
      }
    }
    this.#pump();
  }
}

/** The jobs of one knowledge base. The one at work is followed, the others are looked at when it ends. */
class Queue {
  jobs = $state.raw<Job[]>();
  trouble = $state<unknown>();
  /** Grows when a job ended: documents came or went. */
  ended = $state(0);
  #stop: (() => void) | undefined;
  #followed: string | undefined;

  constructor(readonly kb: string) {}

  async load(): Promise<void> {
    try {
      const query = { kb: this.kb, limit: JOBS_SHOWN };
      const { jobs } = await must(api.GET("/api/v1/jobs", { params: { query } }));
      const ended = (list: Job[] | undefined) => list?.find((job) => !active(job))?.id;
      // Somebody else's job came to its end.
      if (this.jobs && ended(jobs) !== ended(this.jobs)) this.ended += 1;
      this.jobs = jobs;
      this.trouble = undefined;
    } catch (error) {
      this.trouble = error;
    }
    this.#watch();
  }

  /** A job that is new or changed. */
  put(job: Job): void {
    const others = (this.jobs ?? []).filter((other) => other.id !== job.id);
    this.jobs = [job, ...others].sort((a, b) => b.id.localeCompare(a.id));
    this.#watch();
  }

  async act(job: Job, what: "cancel" | "retry" | "pause" | "resume"): Promise<void> {
    const params = { path: { id: job.id } };
    this.put(await must(api.POST(`/api/v1/jobs/{id}/${what}`, { params })));
  }

  /** Puts a waiting job before all others. */
  async first(job: Job): Promise<void> {
    const highest = Math.max(...(this.jobs ?? []).filter(active).map((other) => other.priority));
    const body = { priority: Math.min(PRIORITY_MAX, highest + 1) };
    this.put(await must(api.PATCH("/api/v1/jobs/{id}", { params: { path: { id: job.id } }, body })));
  }

  /** Nobody looks any more. */
  leave(): void {
    this.#stop?.();
    this.#stop = this.#followed = undefined;
  }

  #watch(): void {
    const open = (this.jobs ?? []).filter((job) => job.state === "queued" || job.state === "running");
    const next = open.find((job) => job.state === "running") ?? open.at(-1);
    if (next?.id === this.#followed) return;
    this.leave();
    if (!next) return;
    this.#followed = next.id;
    this.#stop = follow(next.id, (job, ended) => {
      if (ended) {
        this.leave();
        this.ended += 1;
        this.put(job);
        void this.load();
        void bases.load();
      } else {
        this.put(job);
      }
    });
  }
}

class Queues {
  #of = new Map<string, Queue>();

  of(kb: string): Queue {
    let queue = this.#of.get(kb);
    if (!queue) {
      queue = new Queue(kb);
      this.#of.set(kb, queue);
    }
    return queue;
  }
}

export const queues = new Queues();
export const uploads = new Uploads();
export const isFull = (error: unknown): boolean => error instanceof Refused && error.status === 429;

// One conversation: its rounds, the answer being written, and how it is stopped.

import { api, must, Refused, told, type Schemas } from "../api/client";
import { session } from "./session.svelte";
import { settings } from "./settings.svelte";

export type Start = Schemas["AskStart"];

export type Mark = Schemas["MarkName"];

export type Round = {
  question: string;
  answer: string;
  state: "writing" | "done" | "stopped" | "failed";
  /** What is known of the sources. */
  start?: Start;
  /** Of a finished answer: tokens read and written. */
  usage?: Schemas["UsageView"] | null | undefined;
  /** Under which it is kept, and marked. */
  id?: number | null | undefined;
  mark?: Mark | null | undefined;
  error?: unknown;
  /** The same question answered by the model as it is, when asked for. */
  base?: { answer: string; state: "writing" | "done" | "failed"; error?: unknown } | undefined;
};

export const newId = (): string => crypto.randomUUID?.() ?? `${Date.now()}-${Math.random().toString(36).slice(2)}`;

export class Talk {
  rounds = $state<Round[]>([]);
  loading = $state(false);
  trouble = $state<unknown>();
  #running = $state<AbortController>();

  constructor(
    readonly kb: string,
    readonly id: string,
  ) {}

  get busy(): boolean {
    return this.#running !== undefined;
  }

  /** Loads what was said before. */
  async load(): Promise<void> {
    this.loading = true;
    this.trouble = undefined;
    try {
      const path = { kb: this.kb, id: this.id };
      const said = await must(api.GET("/api/v1/kbs/{kb}/conversations/{id}", { params: { path } }));
      if (!this.busy) this.rounds = said.rounds.map(kept);
    } catch (error) {
      this.trouble = error;
    }
    this.loading = false;
  }

  stop(): void {
    this.#running?.abort();
  }

  /** Asks again what failed, was stopped or did not please. */
  again(round: Round): Promise<void> {
    this.rounds = this.rounds.filter((other) => other !== round);
    return this.ask(round.question);
  }

  /** Says what the reader thinks of an answer; the same again takes it back. */
  async mark(round: Round, mark: Mark): Promise<void> {
    if (round.id === undefined || round.id === null) return;
    const path = { kb: this.kb, id: this.id, round: round.id };
    const wanted = round.mark === mark ? null : mark;
    const said = await must(
      api.PUT("/api/v1/kbs/{kb}/conversations/{id}/rounds/{round}/mark", { params: { path }, body: { mark: wanted } }),
    );
    round.mark = said.mark;
  }

  async ask(question: string): Promise<void> {
    if (this.busy) return;
    const running = new AbortController();
    this.#running = running;
    this.rounds.push({ question, answer: "", state: "writing" });
    const round = this.rounds[this.rounds.length - 1];
    if (!round) return;
    try {
      await this.#listen(round, running.signal);
      if (round.state === "writing") throw new Error("the answer ended early");
      if (this.#beside) await this.#askBase(round, running.signal);
    } catch (error) {
      round.state = running.signal.aborted ? "stopped" : "failed";
      if (!running.signal.aborted) round.error = error;
    }
    this.#running = undefined;
  }

  /** The state or adapter to be written with; only editors may name one. */
  get #variant(): { state?: string | null; adapter?: string | null } {
    const [kind, name] = settings.tuning.variant.split(/:(.*)/s, 2);
    if (!kind || !session.may("editor", this.kb)) return {};
    return kind === "base" ? { state: null } : { [kind]: name ?? null };
  }

  get #beside(): boolean {
    const { state, adapter } = this.#variant;
    return settings.tuning.beside && Boolean(state ?? adapter);
  }

  /** Kept nowhere: it only stands beside the answer. */
  async #askBase(round: Round, signal: AbortSignal): Promise<void> {
    round.base = { answer: "", state: "writing" };
    const body = { question: round.question, ...settings.asking, state: null };
    try {
      for await (const { event, data } of told(this.#path, body, signal)) {
        if (event === "token") round.base.answer += (data as { text: string }).text;
        else if (event === "done") round.base = { answer: (data as Schemas["AskAnswer"]).answer, state: "done" };
        else if (event === "error") throw refusedBy(data as Schemas["ErrorBody"]);
      }
    } catch (error) {
      if (signal.aborted) round.base = undefined;
      else round.base = { answer: round.base?.answer ?? "", state: "failed", error };
    }
  }

  get #path(): string {
    return `/api/v1/kbs/${encodeURIComponent(this.kb)}/ask`;
  }

  async #listen(round: Round, signal: AbortSignal): Promise<void> {
    const body = { question: round.question, conversation: this.id, recall: true, ...settings.asking, ...this.#variant };
    for await (const { event, data } of told(this.#path, body, signal)) {
      if (event === "citations") round.start = data as Start;
      else if (event === "token") round.answer += (data as { text: string }).text;
      else if (event === "done") {
        const whole = data as Schemas["AskAnswer"];
        round.answer = whole.answer;
        // The quotes that fit the finished answer.
        round.start = whole;
        round.usage = whole.usage;
        round.id = whole.round;
        round.state = "done";
      } else if (event === "error") {
        throw refusedBy(data as Schemas["ErrorBody"]);
      }
    }
  }
}

/** A round as the server kept it. */
function kept(round: Schemas["RoundView"]): Round {
  const { question, answer, refused, citations, demonstration, usage, id, mark } = round;
  return { question, answer, state: "done", start: { refused, citations, demonstration, model: round.model ?? "" }, usage, id, mark };
}

function refusedBy(body: Schemas["ErrorBody"]): Refused {
  return new Refused(body.error.code, body.error.message, 200, 0, body.error.request_id);
}

// One conversation: its rounds, the answer being written, and how it is stopped.

import { api, must, Refused, told, type Schemas } from "../api/client";
import { settings } from "./settings.svelte";

export type Start = Schemas["AskStart"];

export type Round = {
  question: string;
  answer: string;
  state: "writing" | "done" | "stopped" | "failed";
  /** What is known of the sources; none of a round that was loaded. */
  start?: Start;
  /** Only of a finished answer of this visit. */
  whole?: Schemas["AskAnswer"];
  error?: unknown;
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
      if (!this.busy) this.rounds = said.rounds.map(({ question, answer }) => ({ question, answer, state: "done" }));
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
    } catch (error) {
      round.state = running.signal.aborted ? "stopped" : "failed";
      if (!running.signal.aborted) round.error = error;
    }
    this.#running = undefined;
  }

  async #listen(round: Round, signal: AbortSignal): Promise<void> {
    const body = { question: round.question, conversation: this.id, recall: true, ...settings.asking };
    for await (const { event, data } of told(`/api/v1/kbs/${encodeURIComponent(this.kb)}/ask`, body, signal)) {
      if (event === "citations") round.start = data as Start;
      else if (event === "token") round.answer += (data as { text: string }).text;
      else if (event === "done") {
        const whole = data as Schemas["AskAnswer"];
        round.answer = whole.answer;
        // The quotes that fit the finished answer.
        round.start = whole;
        round.whole = whole;
        round.state = "done";
      } else if (event === "error") {
        throw refusedBy(data as Schemas["ErrorBody"]);
      }
    }
  }
}

function refusedBy(body: Schemas["ErrorBody"]): Refused {
  return new Refused(body.error.code, body.error.message, 200, 0, body.error.request_id);
}

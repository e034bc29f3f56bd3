// Talks to the server: typed calls, a streamed answer, an upload with progress, a followed job.

import { EventSourceParserStream } from "eventsource-parser/stream";
import createClient from "openapi-fetch";
import { session } from "../lib/session.svelte";
import type { components, paths } from "./schema";

export type Schemas = components["schemas"];
export type Kb = Schemas["KbView"];
export type Doc = Schemas["DocumentView"];
export type Chunk = Schemas["ChunkView"];
export type Job = Schemas["JobView"];
export type Hit = Schemas["HitView"];
export type Citation = Schemas["CitationView"];
export type Trace = Schemas["Trace"];

/** Why something did not work: the server's code and sentence, or `offline` when it said nothing. */
export class Refused extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly status = 0,
    readonly waitS = 0,
    readonly requestId = "",
  ) {
    super(message);
  }
}

/** Proves that a change comes from this page and not from another site with our cookie. */
const CSRF = "x-csrf-token";
const SESSION = "/api/v1/session";

async function heard(input: Request): Promise<Response> {
  const csrf = session.who?.csrf;
  const changes = input.method !== "GET" && csrf;
  if (changes) input.headers.set(CSRF, csrf);
  const again = changes ? input.clone() : undefined;
  const response = await answered(input);
  if (response.status === 401 && !input.url.endsWith(SESSION)) session.refused();
  if (response.status === 403 && again && (await renewed(csrf ?? ""))) {
    again.headers.set(CSRF, session.who?.csrf ?? "");
    return answered(again);
  }
  return response;
}

async function answered(input: Request): Promise<Response> {
  try {
    return await fetch(input);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    void session.disconnected();
    throw new Refused("offline", "");
  }
}

/** Whether another tab logged in meanwhile: then what proves our changes is another. */
async function renewed(csrf: string): Promise<boolean> {
  const response = await answered(new Request(SESSION));
  if (!response.ok) return false;
  const who = (await response.json()) as Schemas["Who"];
  if (!who.csrf || who.csrf === csrf) return false;
  session.who = who;
  return true;
}

export const api = createClient<paths>({ baseUrl: location.origin, fetch: heard });

type Outcome<T> = { data?: T; error?: unknown; response: Response };

/** The answer of a call, or `Refused`. */
export async function must<T>(call: Promise<Outcome<T>>): Promise<T> {
  const { data, error, response } = await call;
  if (!response.ok) throw refusal(response, error);
  return data as T;
}

function refusal(response: Response, body: unknown): Refused {
  const detail = (body as Schemas["ErrorBody"] | undefined)?.error;
  const wait = Number(response.headers.get("retry-after")) || 0;
  return new Refused(detail?.code ?? "internal", detail?.message ?? "", response.status, wait, detail?.request_id);
}

/** One server-sent event. */
export type Told = { event: string; data: unknown };

/** Posts, and yields the events of the answer as they come. */
export async function* told(path: string, body: unknown, signal: AbortSignal): AsyncGenerator<Told> {
  const request = new Request(path, {
    method: "POST",
    headers: { accept: "text/event-stream", "content-type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  const response = await heard(request);
  if (!response.ok || !response.body) throw refusal(response, await response.json().catch(() => undefined));
  const events = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
  const reader = events.getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      if (value.event) yield { event: value.event, data: JSON.parse(value.data) as unknown };
    }
  } catch (error) {
    if (signal.aborted) throw error;
    void session.disconnected();
    throw new Refused("offline", "");
  } finally {
    void reader.cancel().catch(() => undefined);
  }
}

/** Uploads one file and returns its job; `progress` gets 0 to 1 while bytes go out. */
export function upload(kb: string, file: File, progress: (share: number) => void, signal: AbortSignal): Promise<Job> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const name = encodeURIComponent(file.webkitRelativePath || file.name);
    request.open("POST", `/api/v1/kbs/${encodeURIComponent(kb)}/documents?name=${name}`);
    request.setRequestHeader("content-type", "application/octet-stream");
    if (session.who?.csrf) request.setRequestHeader(CSRF, session.who.csrf);
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onerror = () => {
      void session.disconnected();
      reject(new Refused("offline", ""));
    };
    request.onabort = () => reject(new DOMException("", "AbortError"));
    request.onload = () => {
      if (request.status === 401) session.refused();
      const answer = parsed(request.responseText) as Partial<Schemas["JobList"] & Schemas["ErrorBody"]> | undefined;
      const job = answer?.jobs?.[0];
      if (request.status === 202 && job) return resolve(job);
      const wait = Number(request.getResponseHeader("retry-after")) || 0;
      const { code = "internal", message = "", request_id = "" } = answer?.error ?? {};
      reject(new Refused(code, message, request.status, wait, request_id));
    };
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(file);
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Calls `hear` with a job each time it changes, until it ends; returns what stops listening. */
export function follow(job: string, hear: (job: Job, ended: boolean) => void): () => void {
  // The browser itself connects again after a break.
  const events = new EventSource(`/api/v1/jobs/${encodeURIComponent(job)}/events`);
  events.addEventListener("progress", (event) => hear(JSON.parse(event.data as string) as Job, false));
  events.addEventListener("end", (event) => {
    events.close();
    hear(JSON.parse(event.data as string) as Job, true);
  });
  return () => events.close();
}

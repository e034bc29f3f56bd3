// Talks to the server: JSON calls, a streamed answer, an upload, a followed job.

import { say } from "./words.js";

/** An error of the server, in its words. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** One JSON call under /api/v1; undefined for an empty answer. */
export async function call(method, path, body) {
  const response = await send(method, path, body, "application/json");
  return response.status === 204 ? undefined : response.json();
}

/** Asks, and hands each event's name and data to `hear` as it comes. */
export async function ask(kb, body, hear, signal) {
  const response = await send("POST", `/kbs/${kb}/ask`, body, "text/event-stream", signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const fields = event.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trimStart()]);
      const name = fields.find(([field]) => field === "event")?.[1];
      const data = fields.filter(([field]) => field === "data").map(([, text]) => text).join("\n");
      if (name) hear(name, JSON.parse(data));
    }
  }
}

/** Uploads one file and returns its job; `progress` gets 0 to 1 while bytes go out. */
export function upload(kb, file, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/api/v1/kbs/${kb}/documents?name=${encodeURIComponent(file.webkitRelativePath || file.name)}`);
    request.setRequestHeader("content-type", "application/octet-stream");
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onerror = () => reject(new Refused(0, say("noAnswer")));
    request.onload = () => {
      const answer = parsed(request.responseText);
      if (request.status === 202 && answer) resolve(answer.jobs[0]);
      else reject(new Refused(request.status, answer?.error?.message ?? say("noAnswer")));
    };
    request.send(file);
  });
}

/** Calls `hear` with a job each time it changes, until it ends. */
export function follow(job, hear) {
  const events = new EventSource(`/api/v1/jobs/${job}/events`);
  events.addEventListener("progress", (event) => hear(JSON.parse(event.data)));
  events.addEventListener("end", (event) => {
    events.close();
    hear(JSON.parse(event.data));
  });
}

async function send(method, path, body, accept, signal) {
  const headers = { accept };
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(`/api/v1${path}`, { method, headers, body: JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, say("noAnswer"));
  }
  if (response.ok) return response;
  const answer = parsed(await response.text());
  throw new Refused(response.status, answer?.error?.message ?? say("noAnswer"));
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

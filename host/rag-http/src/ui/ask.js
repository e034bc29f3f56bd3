// The conversation: a question goes out, words come in, citations stand below.

import { ask, call } from "./api.js";
import { by, make } from "./dom.js";
import { say } from "./words.js";

let kb;
let conversation;
let running;

export function startAsk() {
  by("ask-form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  by("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      submit();
    }
  });
  by("stop").addEventListener("click", () => running?.abort());
  by("fresh").addEventListener("click", () => {
    running?.abort();
    localStorage.removeItem(place());
    showConversation(kb);
    by("question").focus();
  });
}

/** Continues the knowledge base's last conversation, with what was said in it. */
export async function showConversation(name) {
  running?.abort();
  kb = name;
  conversation = localStorage.getItem(place()) ?? newId();
  localStorage.setItem(place(), conversation);
  by("rounds").replaceChildren();
  const asked = conversation;
  const kept = await call("GET", `/kbs/${kb}/conversations/${conversation}`).catch(() => ({ rounds: [] }));
  if (asked !== conversation) return;
  for (const { question, answer } of kept.rounds) {
    const round = newRound(question);
    round.answer.textContent = answer;
  }
}

const place = () => `conversation:${kb}`;

/** Not randomUUID: browsers have that only on pages with TLS. */
function newId() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function submit() {
  const question = by("question").value.trim();
  if (!question || running) return;
  by("question").value = "";
  const round = newRound(question);
  round.answer.classList.add("writing");
  const stop = new AbortController();
  running = stop;
  busy(true);
  let ended = false;
  const hear = (event, data) => {
    if (event === "citations") showStart(round, data);
    else if (event === "token") round.answer.textContent += data.text;
    else if (event === "done") {
      ended = true;
      round.answer.textContent = data.answer;
      showStart(round, data);
    } else if (event === "error") {
      ended = true;
      fail(round, data.error.message);
    }
  };
  try {
    await ask(kb, { question, conversation, recall: true }, hear, stop.signal);
    if (!ended) fail(round, say("broken"));
  } catch (error) {
    if (error.name === "AbortError") round.answer.textContent += say("stopped");
    else fail(round, error.message);
  } finally {
    round.answer.classList.remove("writing");
    if (running === stop) running = undefined;
    busy(Boolean(running));
    by("question").focus();
  }
}

function busy(now) {
  by("send").disabled = now;
  by("stop").hidden = !now;
}

function newRound(question) {
  const answer = make("p", { className: "answer" });
  const below = make("div");
  by("rounds").append(make("article", { className: "round" }, make("p", { className: "asked" }, question), answer, below));
  answer.scrollIntoView({ block: "nearest" });
  return { answer, below };
}

function fail(round, message) {
  round.below.append(make("p", { className: "failed", role: "alert" }, message));
}

/** Notice, citations and recall list; `done` brings better quotes than `citations` did. */
function showStart(round, data) {
  const parts = [];
  if (data.demonstration && !data.refused) parts.push(make("p", { className: "faint notice" }, say("demonstration")));
  if (data.citations.length > 0) {
    parts.push(make("h3", { className: "faint" }, say("sources")), make("ol", { className: "citations" }, ...data.citations.map(citation)));
  }
  if (data.recall?.length > 0) parts.push(recall(data.recall));
  round.below.replaceChildren(...parts);
}

function citation(found) {
  const where = [found.document, found.heading, found.page && say("page", found.page)].filter(Boolean).join(" › ");
  return make(
    "li",
    { className: "citation" },
    make("span", {}, where),
    make("blockquote", {}, found.quote),
    make("details", {}, make("summary", { className: "faint" }, say("passage")), passage(found)),
  );
}

/** The passage with its quote marked. */
function passage(found) {
  const at = found.passage.indexOf(found.quote);
  const text = make("p", { className: "passage" });
  if (at < 0) text.append(found.passage);
  else text.append(found.passage.slice(0, at), make("mark", {}, found.quote), found.passage.slice(at + found.quote.length));
  return text;
}

function recall(hits) {
  const head = make("tr", {}, ...["rank", "score", "arms", "text"].map((name) => make("th", { scope: "col" }, say(name))));
  const rows = hits.map((hit) => {
    const arms = Object.entries(hit.arms).map(([arm, { rank, score }]) => `${arm} #${rank} ${score.toFixed(3)}`);
    const cells = [String(hit.rank), hit.score.toFixed(3), arms.join("\n"), `${hit.document}\n${hit.text}`];
    return make("tr", {}, ...cells.map((cell) => make("td", { className: "passage" }, cell)));
  });
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
  return make("details", { className: "recall" }, make("summary", { className: "faint" }, say("recall", hits.length)), make("div", { className: "scroll" }, table));
}

// Uploads with their progress, and the list of documents.

import { call, follow, upload } from "./api.js";
import { by, make, trouble } from "./dom.js";
import { say } from "./words.js";

const ENDED = ["done", "failed", "cancelled"];
let kb;
let mayEdit = false;
let changed = () => {};

/** Connects the controls; `onChange` runs when documents came or went. */
export function startDocuments(onChange) {
  changed = onChange;
  by("files").addEventListener("change", (event) => {
    sendAll(event.target.files);
    event.target.value = "";
  });
  const drop = by("drop");
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    sendAll(event.dataTransfer.files);
  });
  by("more-documents").addEventListener("click", (event) => list(event.target.dataset.after));
}

/** Shows a knowledge base's documents. */
export async function showDocuments(name, editor) {
  kb = name;
  mayEdit = editor;
  by("upload").hidden = !editor;
  await list();
}

async function list(after) {
  const asked = kb;
  try {
    const page = await call("GET", `/kbs/${kb}/documents${after === undefined ? "" : `?after=${encodeURIComponent(after)}`}`);
    if (asked !== kb) return;
    const rows = page.documents.map(row);
    if (after === undefined) by("documents").replaceChildren(...rows);
    else by("documents").append(...rows);
    by("no-documents").hidden = by("documents").childElementCount > 0;
    by("more-documents").hidden = !page.next;
    by("more-documents").dataset.after = page.next ?? "";
  } catch (error) {
    trouble(error);
  }
}

function row(found) {
  const path = `/kbs/${kb}/documents/${found.id}`;
  const link = make("a", { className: "name", href: `/api/v1${path}/original`, download: "" }, found.name);
  const remove = make("button", { type: "button", className: "quiet", "aria-label": `${say("remove")} ${found.name}` }, say("remove"));
  remove.addEventListener("click", async () => {
    if (!confirm(say("removeAsk", found.name))) return;
    try {
      await call("DELETE", path);
      trouble();
      await list();
      changed();
    } catch (error) {
      trouble(error);
    }
  });
  return make("li", { className: "document" }, link, mayEdit ? remove : null);
}

/** One file after the other, so that a folder of thousands stays within what the server takes at once. */
async function sendAll(files) {
  const target = kb;
  const waiting = [...files].map((file) => ({ file, view: jobView(file.name) }));
  for (const { file, view } of waiting) {
    try {
      const job = await upload(target, file, (share) => view.sending(share));
      follow(job.id, (state) => view.show(state, target));
    } catch (error) {
      view.fail(error.message);
    }
  }
}

function jobView(name) {
  const bar = make("progress", { max: 100, value: 0, "aria-label": name });
  const words = make("span", { className: "faint" }, say("sending"));
  const buttons = make("span");
  const item = make("li", { className: "job" }, make("span", {}, name), bar, words, buttons);
  by("jobs").prepend(item);
  const view = {
    sending(share) {
      words.textContent = `${say("sending")} ${Math.round(share * 100)} %`;
    },
    fail(message) {
      item.classList.add("failed");
      bar.hidden = true;
      words.textContent = `${say("failed")}: ${message}`;
    },
    show(job, target) {
      item.classList.remove("failed");
      bar.hidden = job.state === "done";
      bar.value = job.percent;
      words.textContent = job.state === "running" ? `${say(job.stage)} ${job.percent} %` : say(job.unchanged ? "unchanged" : job.state);
      if (job.state === "failed") view.fail(job.error);
      const again = job.state === "failed" || job.state === "cancelled" ? "retry" : "cancel";
      buttons.replaceChildren(...(job.state === "done" ? [] : [action(job, again, view, target)]));
      if (ENDED.includes(job.state) && target === kb) {
        list();
        changed();
      }
    },
  };
  return view;
}

function action(job, what, view, target) {
  const button = make("button", { type: "button", className: "quiet" }, say(what));
  button.addEventListener("click", async () => {
    try {
      view.show(await call("POST", `/jobs/${job.id}/${what}`), target);
      if (what === "retry") follow(job.id, (state) => view.show(state, target));
    } catch (error) {
      trouble(error);
    }
  });
  return button;
}

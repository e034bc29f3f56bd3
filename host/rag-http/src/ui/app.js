// The page's beginning: login, language, light and dark, the knowledge base in use.

import { call } from "./api.js";
import { showConversation, startAsk } from "./ask.js";
import { by, make, trouble } from "./dom.js";
import { showDocuments, startDocuments } from "./documents.js";
import { say, sayAll, switchLanguage } from "./words.js";

let who;

async function start() {
  applyTheme(localStorage.getItem("theme"));
  sayAll();
  by("language").addEventListener("click", () => {
    switchLanguage();
    if (who) open();
  });
  by("theme").addEventListener("click", switchTheme);
  by("login-form").addEventListener("submit", login);
  by("logout").addEventListener("click", logout);
  by("kb").addEventListener("change", choose);
  by("new-kb-form").addEventListener("submit", createKb);
  startDocuments(() => listKbs());
  startAsk();
  try {
    who = await call("GET", "/session");
    await open();
  } catch (error) {
    showLogin(error.status === 401 ? undefined : error);
  }
}

function showLogin(error) {
  who = undefined;
  by("login").hidden = false;
  by("work").hidden = true;
  by("who").hidden = true;
  by("logout").hidden = true;
  trouble(error);
  by("key").focus();
}

async function login(event) {
  event.preventDefault();
  try {
    who = await call("POST", "/session", { key: by("key").value });
    by("key").value = "";
    trouble();
    await open();
  } catch (error) {
    trouble(error);
  }
}

async function logout() {
  await call("DELETE", "/session").catch(() => {});
  by("rounds").replaceChildren();
  by("documents").replaceChildren();
  by("jobs").replaceChildren();
  showLogin();
}

async function open() {
  by("login").hidden = true;
  by("work").hidden = false;
  by("logout").hidden = false;
  by("who").hidden = false;
  by("who").textContent = `${who.name} (${who.role})`;
  by("new-kb").hidden = who.role !== "admin";
  await listKbs();
  await choose();
}

/** Fills the picker, keeping the choice. */
async function listKbs(chosen = by("kb").value || localStorage.getItem("kb") || "initial") {
  try {
    const { kbs } = await call("GET", "/kbs");
    by("kb").replaceChildren(...kbs.map((kb) => make("option", { value: kb.name, selected: kb.name === chosen }, kb.name)));
    const kb = kbs.find(({ name }) => name === by("kb").value);
    by("kb-about").textContent = kb ? say("about", kb.documents, kb.chunks) : "";
  } catch (error) {
    if (error.status === 401) showLogin(error);
    else trouble(error);
  }
}

async function choose() {
  const kb = by("kb").value;
  if (!kb) return;
  localStorage.setItem("kb", kb);
  await Promise.all([listKbs(kb), showDocuments(kb, who.role !== "reader"), showConversation(kb)]);
}

async function createKb(event) {
  event.preventDefault();
  try {
    const kb = await call("POST", "/kbs", { name: by("new-kb-name").value });
    by("new-kb-name").value = "";
    by("new-kb").open = false;
    trouble();
    await listKbs(kb.name);
    await choose();
  } catch (error) {
    trouble(error);
  }
}

function switchTheme() {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark" || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  const theme = dark ? "light" : "dark";
  localStorage.setItem("theme", theme);
  applyTheme(theme);
}

function applyTheme(theme) {
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}

start();

// What the page says and how it goes on when the server stops, a key is revoked, a queue is full, two tabs watch.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { key, login, look, open, run, until } from "./page.mjs";

const { RAG_BINARY: binary, RAG_DATA: data, RAG_ROOT: root } = process.env;
const QUESTION = "How long should the anchor chain be?";

/** A port that is free now, the same before and after a restart. */
async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

async function start(port, settings = {}) {
  const env = { ...process.env, ...settings };
  const child = spawn(binary, ["serve", "--listen", `127.0.0.1:${port}`, "--data-dir", data], { cwd: root, env, stdio: ["ignore", "pipe", "ignore"] });
  for await (const line of createInterface({ input: child.stdout })) {
    if (line.startsWith("listening on ")) break;
  }
  child.stdout.resume();
  return child;
}

/** As a power cut would. */
async function kill(child) {
  child.kill("SIGKILL");
  await once(child, "exit");
}

const port = await freePort();
process.env.RAG_URL = `http://127.0.0.1:${port}`;
const home = process.env.RAG_URL;
let host = await start(port);
try {
  await run(async (browser) => {
    for (const part of [offline, revoked, busy, tabs, restart, full]) {
      const began = Date.now();
      await part(browser);
      console.log(`${part.name}: ${Date.now() - began} ms`);
    }
  });
} finally {
  host.kill("SIGKILL");
}

async function ready(browser) {
  const opened = await open(browser, { locale: "en-US" });
  await opened.page.goto(home);
  await login(opened.page);
  await opened.page.locator("[data-kb-picker]").waitFor();
  return opened;
}

async function ask(page) {
  await page.locator("[data-main-input]").fill(QUESTION);
  await page.keyboard.press("Enter");
}

/** The server goes away in the middle and comes back: the page says so, and goes on without a reload. */
async function restart(browser) {
  const { context, page } = await ready(browser);
  await page.evaluate(() => (window.same = true));
  await ask(page);
  await page.locator(".source").first().waitFor();
  await page.locator("[data-send]").waitFor();

  await kill(host);
  await ask(page);
  await page.locator(".round .trouble").waitFor();
  await page.locator(".lost").waitFor();
  await look(page, "lost-en-1280");
  assert.equal(await page.locator(".asked").count(), 2, "what was asked stays");

  host = await start(port);
  await page.locator(".lost").waitFor({ state: "detached" });
  // Logins live in the server's memory: the page asks for the key over what is open.
  if (await page.locator("dialog #login-form").isVisible()) await login(page);
  await page.locator(".round .trouble button").click();
  await until(async () => (await page.locator("dialog #login-form").isVisible()) || (await page.locator(".source").count()) > 1);
  if (await page.locator("dialog #login-form").isVisible()) {
    await look(page, "login-again-en-1280");
    await login(page);
    await page.locator("dialog").waitFor({ state: "detached" });
    await page.locator(".round .trouble button").click();
  }
  await until(async () => (await page.locator(".source").count()) > 1);
  assert.ok(await page.evaluate(() => window.same), "no reload");
  await context.close();
}

/** The network goes away and comes back, with a question asked and a document on its way: both get there. */
async function offline(browser) {
  const { context, page } = await ready(browser);
  await page.evaluate(() => (window.same = true));
  await page.goto(`${home}/#/kb/initial`);
  await page.locator("[data-files]").setInputFiles([{ name: "before.md", mimeType: "text/markdown", buffer: Buffer.from("# Before\n\nA text.\n") }]);
  await page.locator("[data-document]", { hasText: "before.md" }).waitFor();
  await context.setOffline(true);
  await page.locator("[data-files]").setInputFiles([{ name: "during.md", mimeType: "text/markdown", buffer: Buffer.from("# During\n\nA text.\n") }]);
  await page.locator("[data-upload] .reason").waitFor();
  await page.locator(".lost").waitFor();
  await page.goto(`${home}/#/chat/initial`);
  await ask(page);
  await page.locator(".round .trouble").waitFor();
  await look(page, "offline-en-1280");
  await context.setOffline(false);
  await page.locator(".lost").waitFor({ state: "detached" });
  await page.locator(".round .trouble button").click();
  await page.locator(".source").first().waitFor();
  await page.goto(`${home}/#/kb/initial`);
  await page.locator("[data-upload] button").first().click();
  await page.locator("[data-document]", { hasText: "during.md" }).waitFor();
  assert.ok(await page.evaluate(() => window.same), "no reload");
  await context.close();
}

async function call(method, path, body) {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const response = await fetch(home + path, { method, headers, body: body && JSON.stringify(body) });
  return response.status === 204 ? undefined : response.json();
}

/** The key is revoked while the page is open: the next step asks for another, what was typed is still there. */
async function revoked(browser) {
  const made = await call("POST", "/api/v1/keys", { name: "for an hour", role: "reader" });
  const { context, page } = await open(browser, { locale: "en-US" });
  await page.goto(home);
  await login(page, made.secret);
  const input = page.locator("[data-main-input]");
  await input.fill("a long question");
  await call("DELETE", `/api/v1/keys/${made.key.id}`);
  await page.locator("[data-send]").click();
  await page.locator("dialog #login-form").waitFor();
  assert.equal(await page.locator(".asked").textContent(), "a long question");
  await login(page);
  await page.locator("dialog").waitFor({ state: "detached" });
  await page.locator(".round .trouble button").click();
  await page.locator(".round .trouble").waitFor({ state: "detached" });
  await page.locator("[data-send]").waitFor();
  await context.close();
}

/** A refusal with a wait, as a full engine answers: it is told, and the same question works once there is room. */
async function busy(browser) {
  const { context, page } = await ready(browser);
  const body = JSON.stringify({ error: { code: "too_many", message: "64 requests wait", retryable: true, request_id: "0" } });
  const refuse = (route) => route.fulfill({ status: 429, contentType: "application/json", headers: { "retry-after": "7" }, body });
  await page.route("**/ask", refuse);
  await ask(page);
  const trouble = page.locator(".round .trouble");
  await trouble.waitFor();
  assert.match(await trouble.textContent(), /queue is full.*7 seconds/s);
  await page.unroute("**/ask", refuse);
  await trouble.locator("button").click();
  await page.locator(".source").first().waitFor();
  await context.close();
}

/** A server whose queue holds no more says so for each file; the same files go in once one with room is back. */
async function full(browser) {
  await kill(host);
  host = await start(port, { RWKV_RAG__DATA__JOBS_QUEUED_MAX: "0" });
  const { context, page } = await ready(browser);
  await page.goto(`${home}/#/kb/initial`);
  const files = [1, 2, 3].map((i) => ({ name: `full ${i}.md`, mimeType: "text/markdown", buffer: Buffer.from(`# ${i}\n\ntext ${i}\n`) }));
  await page.locator("[data-files]").setInputFiles(files);
  await until(async () => (await page.locator("[data-upload] .reason").count()) === 3);
  assert.match(await page.locator("[data-upload] .reason").first().textContent(), /queue is full/);
  await look(page, "full-en-1280");
  await kill(host);
  host = await start(port);
  await page.locator("[data-upload] button").first().click();
  // Logins live in the server's memory: the page asks for the key over what is open.
  await page.locator("dialog #login-form").waitFor();
  await login(page);
  await page.locator("dialog").waitFor({ state: "detached" });
  for (let left = 3; left > 0; left -= 1) {
    await page.locator("[data-upload] button").first().click();
    await until(async () => (await page.locator("[data-upload]").count()) < left);
  }
  for (const { name } of files) await page.locator("[data-document]", { hasText: name }).waitFor();
  await context.close();
}

/** What one tab brings in, the other sees, to the end of the job; and neither needs a reload. */
async function tabs(browser) {
  const { context, page: first } = await ready(browser);
  const second = await context.newPage();
  for (const page of [first, second]) await page.goto(`${home}/#/kb/initial`);
  for (const page of [first, second]) await page.locator("[data-files]").waitFor({ state: "attached" });
  const name = "two tabs 两个标签.md";
  await first.locator("[data-files]").setInputFiles([{ name, mimeType: "text/markdown", buffer: Buffer.from("# Two\n\nBoth see it.\n") }]);
  for (const page of [first, second]) {
    await page.bringToFront();
    await page.locator("[data-document]", { hasText: name }).waitFor();
    await page.locator("[data-job=done]", { hasText: name }).waitFor();
  }
  await context.close();
}

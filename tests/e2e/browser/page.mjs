// A browser on the page under test: logged in, watched for complaints, looked at for accessibility, photographed.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";

export const { RAG_URL: url, RAG_KEY: key, RAG_SCREENS: screens, RAG_FIXTURES: fixtures } = process.env;

/** Milliseconds that the page has to come to what is waited for: ingest and answers run real models. */
export const WAIT_MS = Number(process.env.RAG_WAIT_MS ?? 100_000);
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Starts Chromium with an empty profile. */
export function launch() {
  return chromium.launch({ executablePath: process.env.RAG_CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
}

/** A page of a fresh profile. `heard` collects what a correct page never says or asks for. */
export async function open(browser, { locale = "zh-CN", width = 1280, scheme = "light" } = {}) {
  const context = await browser.newContext({ locale, viewport: { width, height: 860 }, colorScheme: scheme });
  context.setDefaultTimeout(WAIT_MS);
  const page = await context.newPage();
  const heard = [];
  page.on("pageerror", (error) => heard.push(`error: ${error.message}`));
  page.on("console", (message) => {
    // A refused request is no slip of the page: what it shows then is looked at.
    const expected = /status of (400|401|403|404|409|413|415|429)/.test(message.text());
    if (["error", "warning"].includes(message.type()) && !expected) heard.push(`console: ${message.text()} at ${page.url()}`);
  });
  page.on("request", (request) => {
    const from = request.url();
    if (!from.startsWith(url) && !from.startsWith("blob:")) heard.push(`request: ${from}`);
  });
  return { context, page, heard };
}

export async function login(page, secret = key) {
  await page.locator("#login-form input").fill(secret);
  await page.keyboard.press("Enter");
}

/** A picture for people, and no serious finding of axe. */
export async function look(page, name, { only } = {}) {
  if (screens) {
    mkdirSync(screens, { recursive: true });
    await page.screenshot({ path: join(screens, `${name}.png`), animations: "disabled" });
  }
  const wide = await page.evaluate(() =>
    [document.documentElement, ...document.querySelectorAll("main, main *, dialog, dialog *")]
      .filter((element) => element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0)
      .filter((element) => !element.closest(".scroll-x, .clip, pre, .sr, input, textarea, select"))
      .filter((element) => element === document.documentElement || getComputedStyle(element).overflowX !== "visible")
      .map((element) => element.cloneNode().outerHTML),
  );
  assert.deepEqual(wide, [], `${name}: nothing but tables and code scrolls sideways`);
  // The content policy lets no script in that the page did not bring: this one comes through the debugger.
  await page.evaluate(AXE);
  const found = await page.evaluate(
    (only) => globalThis.axe.run(only ?? document, { resultTypes: ["violations"] }),
    only,
  );
  const serious = found.violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const told = serious.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" | ")}`);
  assert.deepEqual(told, [], name);
}

/** Submits the page's form and waits until the host has taken it: a notice of an earlier step says nothing. */
export async function submit(page) {
  const taken = page.waitForResponse((answer) => answer.request().method() !== "GET");
  await page.locator("form .primary").click();
  const answer = await taken;
  assert.ok(answer.ok(), `${answer.url()}: ${answer.status()}`);
  await page.locator(".notice .said").last().waitFor();
}

/** A call of the API beside the page. */
export async function call(method, path, body, secret = key) {
  const headers = { authorization: `Bearer ${secret}` };
  const json = typeof body === "object" && !(body instanceof Uint8Array);
  if (json) headers["content-type"] = "application/json";
  const response = await fetch(url + path, { method, headers, body: json ? JSON.stringify(body) : body });
  const text = await response.text();
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`);
  return text ? JSON.parse(text) : undefined;
}

/** Ingests a text or bytes under a name and waits for the job. */
export async function ingest(kb, name, text) {
  const { jobs } = await call("POST", `/api/v1/kbs/${kb}/documents?name=${encodeURIComponent(name)}`, text);
  await until(async () => {
    const job = await call("GET", `/api/v1/jobs/${jobs[0].id}`);
    assert.ok(!["failed", "cancelled"].includes(job.state), job.error);
    return job.state === "done";
  });
}

/** Asks until it is so. */
export async function until(holds, waitMs = WAIT_MS) {
  const end = Date.now() + waitMs;
  while (!(await holds())) {
    assert.ok(Date.now() < end, `not so within ${waitMs} ms: ${holds}`);
    await new Promise((wake) => setTimeout(wake, 100));
  }
}

/** Runs a script's body; the test reads the last line. */
export async function run(body) {
  const browser = await launch();
  try {
    await body(browser);
    console.log("ok");
  } finally {
    await browser.close();
  }
}

// Much at once: ten thousand chunks scroll, two thousand messages open; only what is in sight is drawn. Times are
// printed, not asserted.

import assert from "node:assert/strict";
import { login, open, run, until, url } from "./page.mjs";

const CHUNKS = 10_000;
const ROUNDS = 1_000;
/** Elements that may be drawn of a list, however long it is. */
const DRAWN_MAX = 80;

const json = (body) => ({ contentType: "application/json", body: JSON.stringify(body) });
const text = (i) => `Chunk ${i} 第 ${i} 段。${"The harbour lies to the north of the old town. ".repeat(1 + (i % 7))}`;

await run(async (browser) => {
  await firstLoad(browser);
  await chunks(browser);
  await rounds(browser);
});

/** From an empty cache to a page that can be typed into; twice, since the second visit finds the files kept. */
async function firstLoad(browser) {
  for (const visit of ["first", "logged in"]) {
    const { context, page } = await open(browser);
    if (visit === "logged in") {
      await page.goto(url);
      await login(page);
      await page.locator("[data-send]").waitFor();
    }
    const began = Date.now();
    await page.goto(`${url}/?${visit.length}`);
    await page.locator(visit === "first" ? "#login-form input" : "[data-main-input]:enabled").waitFor();
    const usable = Date.now() - began;
    const { loaded, bytes, files } = await page.evaluate(() => {
      const [navigation] = performance.getEntriesByType("navigation");
      const files = performance.getEntriesByType("resource").filter(({ name }) => name.includes("/ui/"));
      return { loaded: navigation.loadEventEnd, bytes: files.reduce((sum, file) => sum + file.encodedBodySize, 0), files: files.length };
    });
    console.log(`${visit}: loaded in ${Math.round(loaded)} ms, usable after ${usable} ms, ${files} files of ${bytes} bytes`);
    assert.ok(bytes <= 300_000, "what every visit needs fits into 300 kB");
    await context.close();
  }
}

async function chunks(browser) {
  const { context, page, heard } = await open(browser, { locale: "en-US" });
  await page.goto(url);
  await login(page);
  await page.locator("[data-main-input]").waitFor();
  const path = "**/api/v1/kbs/initial/documents/large";
  const document = { id: "large", kb: "initial", name: "large.md", sha256: "0", size: 5_000_000, media_type: "text/markdown", state: "ready", chunks: CHUNKS, text_bytes: 5_000_000, disabled: false, attributes: [], metadata: [], created_ms: 0 };
  await page.route(path, (route) => route.fulfill(json(document)));
  await page.route(`${path}/chunks**`, (route) => {
    const query = new URL(route.request().url()).searchParams;
    const [from, limit] = [Number(query.get("after") ?? -1) + 1, Number(query.get("limit"))];
    const found = Array.from({ length: Math.min(limit, CHUNKS - from) }, (_, i) => from + i);
    const chunks = found.map((i) => ({ id: `c${i}`, document: "large", ordinal: i, text: text(i), start: i * 500, end: i * 500 + 400, disabled: false, edited: false }));
    route.fulfill(json({ chunks, next: from + limit < CHUNKS ? from + limit - 1 : null }));
  });
  const began = Date.now();
  await page.goto(`${url}/#/kb/initial/doc/large`);
  await page.locator("[data-chunk]").first().waitFor();
  console.log(`10 000 chunks: the first is there after ${Date.now() - began} ms`);
  await page.locator("header [role=status]", { hasText: "10,000" }).waitFor();
  console.log(`10 000 chunks: all are there after ${Date.now() - began} ms`);

  // A second of scrolling, each frame timed; wherever it stops there is text.
  const frames = await page.evaluate(async () => {
    const scroller = [...globalThis.document.querySelectorAll(".chunks *")].find((element) => element.scrollHeight > element.clientHeight + 1000);
    const times = [];
    let last = performance.now();
    for (let i = 0; i < 60; i += 1) {
      scroller.scrollTop += 1500;
      await new Promise((wake) => requestAnimationFrame(wake));
      times.push(performance.now() - last);
      last = performance.now();
    }
    return times.sort((a, b) => a - b);
  });
  console.log(`10 000 chunks: a frame of scrolling takes ${Math.round(frames[30])} ms, at most ${Math.round(frames[59])} ms`);
  assert.ok((await page.locator("[data-chunk]").count()) <= DRAWN_MAX, "only what is in sight is drawn");
  assert.ok((await page.locator("[data-chunk]").count()) > 2);
  await page.goto(`${url}/#/kb/initial/doc/large?chunk=c8765`);
  await page.locator("[data-chunk].marked", { hasText: "Chunk 8765 " }).waitFor();
  assert.deepEqual(heard, []);
  await context.close();
}

async function rounds(browser) {
  const { context, page, heard } = await open(browser, { locale: "en-US" });
  await page.goto(url);
  await login(page);
  await page.locator("[data-main-input]").waitFor();
  const said = Array.from({ length: ROUNDS }, (_, i) => ({ id: i + 1, question: `question ${i}`, answer: `**answer** ${text(i)}\n\n- one\n- two`, refused: false, citations: [], demonstration: true, created_ms: 0 }));
  const conversation = { id: "long", kb: "initial", title: "long", rounds: ROUNDS, created_ms: 0, updated_ms: 0 };
  await page.route("**/api/v1/kbs/initial/conversations/long**", (route) => route.fulfill(json({ conversation, rounds: said, before: null })));
  const began = Date.now();
  await page.goto(`${url}/#/chat/initial/long`);
  await page.locator(".asked", { hasText: `question ${ROUNDS - 1}` }).waitFor();
  console.log(`2 000 messages: open after ${Date.now() - began} ms`);
  const drawn = await page.locator(".asked").count();
  assert.ok(drawn > 0 && drawn <= DRAWN_MAX);
  await page.locator("button.earlier").click();
  await until(async () => (await page.locator(".asked").count()) > drawn);
  assert.deepEqual(heard, []);
  await context.close();
}

// What an administrator does beside documents: pages of the web come in, plugins are swapped and taken back, models are
// registered and chosen, a state is tuned, tried beside the base and bound; the system says how it is.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { copyFileSync, readFileSync, truncateSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { call, ingest, login, look, open, run, submit, until, url } from "./page.mjs";

const { RAG_SITE: site, RAG_MODELS: models, RAG_ROOT: root } = process.env;
/** Heights of a window, in pixels: the usual one, and at most for a picture of a whole page. */
const HEIGHT = 860;
const HEIGHT_MAX = 3600;
const WAYS = [
  { locale: "zh-CN", width: 1280, scheme: "light" },
  { locale: "en-US", width: 380, scheme: "dark" },
];
const QUESTION = "When does the tide turn?";
/** What the hub has; and repositories whose file was sent in part and then held. */
const weights = readFileSync(join(root, "models/rwkv6-demo.safetensors"));
const held = new Set();

await run(async (browser) => {
  const server = await play();
  for (const way of WAYS) {
    const language = way.locale.slice(0, 2);
    const kb = `manage_${language}`;
    await call("POST", "/api/v1/kbs", { name: kb });
    await ingest(kb, "harbour.md", "# Harbour 港口\n\nThe tide turns at noon. 中午转潮。\n\n# Tower\n\nThe tower is red. 塔是红色的。\n");
    // What a swap is compared on.
    await call("POST", `/api/v1/kbs/${kb}/ask`, { question: QUESTION, conversation: "asked" });
    const { context, page, heard } = await open(browser, way);
    const go = (place) => page.goto(`${url}/#/${place}`);
    // Each page in this language at both widths.
    const see = async (name) => {
      for (const width of [way.width === 380 ? 1280 : 380, way.width]) {
        await page.setViewportSize({ width, height: HEIGHT });
        const inside = await page.evaluate(() => Math.max(...[...document.querySelectorAll("main, main *, dialog[open]")].map((element) => element.scrollHeight)));
        await page.setViewportSize({ width, height: Math.min(Math.max(HEIGHT, inside + 120), HEIGHT_MAX) });
        await look(page, `${name}-${language}-${width}-${way.scheme}`);
      }
      await page.setViewportSize({ width: way.width, height: HEIGHT });
    };
    await page.goto(url);
    await login(page);
    await page.locator("[data-kb-picker]").waitFor();
    for (const part of [web, swap, plugins, registry, pull, tune, system]) {
      const began = Date.now();
      await part(page, { see, go, kb, language });
      console.log(`${part.name} ${language}: ${Date.now() - began} ms`);
    }
    assert.deepEqual(heard, [], "the page complains of nothing and asks nobody else");
    await context.close();
  }
  server.close();
  server.closeAllConnections();
});

/** A site with one page, a search engine that finds it, and a hub of models. */
async function play() {
  const server = createServer((request, response) => {
    if (hub(request, response)) return;
    if (request.url.startsWith("/search")) {
      const results = [{ title: "Lamp 灯", url: `http://127.0.0.1:${site}/lamp`, content: "It flashes. 闪光。" }];
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify({ results }));
      return;
    }
    const found = request.url.startsWith("/lamp");
    response.writeHead(found ? 200 : 404, { "content-type": "text/html; charset=utf-8" });
    response.end(found ? "<title>Lamp 灯</title><main><h1>The lamp 灯</h1><p>The lamp flashes every twelve seconds. 灯每十二秒闪一次。</p></main>" : "");
  });
  await new Promise((ready) => server.listen(Number(site), "127.0.0.1", ready));
  return server;
}

function sha(algorithm, text) {
  return createHash(algorithm).update(text).digest("hex");
}

/** Every repository holds one model, whose first sending stops half way. */
function hub(request, response) {
  const [, about] = /^\/api\/models\/(owner\/[\w-]+)\/revision\//.exec(request.url) ?? [];
  if (about) {
    const file = { rfilename: `${about.slice("owner/".length)}.safetensors`, size: weights.length };
    const siblings = [{ ...file, lfs: { sha256: sha("sha256", weights), size: weights.length } }];
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ sha: sha("sha1", about), siblings, cardData: { license: "apache-2.0" } }));
    return true;
  }
  const [, repository] = /^\/(owner\/[\w-]+)\/resolve\//.exec(request.url) ?? [];
  if (!repository) return false;
  const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
  const range = from > 0 ? { "content-range": `bytes ${from}-${weights.length - 1}/${weights.length}` } : {};
  response.writeHead(from > 0 ? 206 : 200, { etag: '"first"', "content-length": weights.length - from, ...range });
  if (request.method === "HEAD") response.end();
  else if (held.has(repository)) response.end(weights.subarray(from));
  else {
    held.add(repository);
    response.write(weights.subarray(from, weights.length / 2));
  }
  return true;
}

/** A page is looked at, then comes in; one inside the network that nobody allowed is refused with a reason. */
async function web(page, { see, go, kb }) {
  await go(`kb/${kb}`);
  await page.locator("[data-from-web]").click();
  const address = page.locator("[data-web] input[type=url]");
  await address.fill("http://127.0.0.1:9/inside");
  await page.locator("[data-look]").click();
  await page.locator("dialog [role=alert]").waitFor();
  await see("web-refused");
  await address.fill(`http://127.0.0.1:${site}/lamp`);
  await page.locator("[data-look]").click();
  await page.locator("[data-preview]", { hasText: "twelve seconds" }).waitFor();
  await see("web");
  await page.locator("[data-web-search]").click();
  await page.locator("dialog form input[type=search]").fill("lamp 灯");
  await page.keyboard.press("Enter");
  await page.locator("[data-found] input").check();
  await see("web-search");
  await page.locator("dialog .primary").last().click();
  await page.locator("dialog").waitFor({ state: "detached" });
  await page.locator("[data-document]", { hasText: /lamp/i }).waitFor();
  await see("web-done");
}

/** Another strategy is tried and compared, answers, and goes back; another chunker, or a parser's setting, gets an index of its own first. */
async function swap(page, { see, go, kb }) {
  await go(`kb/${kb}/plugins`);
  await page.locator("[data-swap]").waitFor();
  await see("kb-plugins");
  const slot = page.locator("[data-slot=retriever]");
  const other = await slot.locator("option", { hasText: "retrieve-dense" }).first().getAttribute("value");
  await slot.selectOption(other);
  await page.locator("[data-swap] .primary").click();
  await page.locator("[data-staged=ready]").waitFor();
  await page.locator("[data-staged] details summary", { hasText: QUESTION }).click();
  await see("kb-plugins-ready");
  await page.locator("[data-publish]").click();
  await page.locator("[data-staged]").waitFor({ state: "detached" });
  await page.locator("dd", { hasText: "retrieve-dense" }).waitFor();
  await page.locator("[data-bound] .caution").waitFor();
  await page.locator("[data-generation] summary").first().click();
  await see("kb-plugins-live");
  await page.locator("[data-roll-back]").click();
  await see("kb-plugins-back");
  await page.locator("[data-confirm]").click();
  await page.locator("[data-generation=rolled_back]").first().waitFor();
  await page.locator("dd", { hasText: "retrieve-hybrid" }).waitFor();

  await page.locator("[data-slot=chunker]").selectOption({ index: 1 });
  await page.locator("[data-swap] .primary").click();
  await page.locator("[data-staged=ready]").waitFor();
  await see("kb-plugins-second-index");
  await page.locator("[data-abandon]").click();
  await page.locator("[data-staged]").waitFor({ state: "detached" });
  await page.locator("[data-generation=abandoned]").first().waitFor();

  // A parser's settings are fields, as its manifest has them.
  await page.locator("[data-slot=parser]").selectOption("parse-sheet");
  await page.locator("[data-setting=mode]").selectOption({ label: "row" });
  await see("kb-plugins-parser");
  await page.locator("[data-swap] .primary").click();
  await page.locator("[data-staged=ready] p", { hasText: "parse-sheet" }).waitFor();
  await page.locator("[data-abandon]").click();
  await page.locator("[data-staged]").waitFor({ state: "detached" });
}

/** Rights stand in plain words; what is no component is refused with a reason, another version is offered and goes. */
async function plugins(page, { see, go, kb, language }) {
  await go("plugins");
  await page.locator("[data-right]").first().waitFor();
  await see("plugins-rights");
  const upload = (buffer) => page.locator("[data-component]").setInputFiles({ name: "a.wasm", mimeType: "application/wasm", buffer });
  await upload(Buffer.from("no component"));
  await page.locator("[role=alert]").waitFor();
  await see("plugins-refused");
  await page.locator("[role=alert] button").click();

  // Its own description of itself, and its manifest, say another version than the one that is there.
  const component = readFileSync(join(root, "plugins/dist/chunk-lines.wasm"));
  for (const before of ["chunk-lines0.1.", 'version = "0.1.']) {
    component.write(language === "zh" ? "7" : "8", component.indexOf(`${before}0`) + before.length);
  }
  const version = `0.1.${language === "zh" ? 7 : 8}`;
  await upload(component);
  const mine = page.locator("section > ul > li", { hasText: "chunk-lines" }).filter({ hasText: version });
  await mine.waitFor();
  await page.goto(`${url}/#/kb/${kb}/plugins`);
  await page.locator("[data-slot=chunker] option", { hasText: version }).waitFor({ state: "attached" });
  await go("plugins");
  await mine.locator("button").last().click();
  await page.locator("dialog .danger").click();
  await mine.waitFor({ state: "detached" });

  await page.locator("[data-grants]").first().click();
  await page.locator("dialog form").waitFor();
  await see("plugin-grants");
  await page.keyboard.press("Escape");
  await page.locator("dialog").waitFor({ state: "detached" });
}

/** A file is registered, changed, chosen, loaded anew and forgotten; one that broke leaves the old one answering. */
async function registry(page, { see, go, language }) {
  await go("models");
  await page.locator("[data-registry] li").first().waitFor();
  await see("models-registry");
  const first = await page.locator("[data-registry] li[data-model]", { has: page.locator(".tag.good") }).first().getAttribute("data-model");
  const file = join(models, `second-${language}.safetensors`);
  copyFileSync(join(root, "models/rwkv6-demo.safetensors"), file);
  const name = `second-${language}`;
  await page.locator("[data-new-model]").click();
  const inputs = page.locator("[data-model-form] input");
  await inputs.nth(0).fill(name);
  await inputs.nth(1).fill("no-such-file.safetensors");
  await page.locator("[data-model-form] .primary").click();
  await page.locator("dialog [role=alert]").waitFor();
  await see("model-new");
  await inputs.nth(1).fill(file);
  await page.locator("[data-model-form] label.check").click();
  await page.locator("[data-model-form] .primary").click();
  await page.locator("dialog").waitFor({ state: "detached" });

  const row = page.locator(`[data-model="${name}"]`);
  await row.locator("button.icon").first().click();
  await page.locator("[data-model-form] input").nth(1).fill("Apache-2.0");
  await see("model-change");
  await page.locator("[data-model-form] .primary").click();
  await page.locator("dialog").waitFor({ state: "detached" });
  await row.locator("p", { hasText: "Apache-2.0" }).waitFor();

  const choose = async (which) => {
    await page.locator(`[data-model="${which}"] [data-choose]`).click();
    await see("model-choose");
    await page.locator("[data-confirm]").click();
  };
  await row.locator("[data-online]").click();
  await choose(name);
  await page.locator("dialog").waitFor({ state: "detached" });
  await row.locator(".tag.good").waitFor();
  await page.locator("[data-restart]").click();
  await until(async () => !(await page.locator("[data-restart]").isDisabled()));
  assert.equal(await page.locator("[data-registry] [role=alert]").count(), 0);
  await page.locator(".id", { hasText: name }).waitFor();
  await choose(first);
  await page.locator("dialog").waitFor({ state: "detached" });

  // Cut short on the disk: it is refused with a reason, and the old one goes on.
  truncateSync(file, 1_000_000);
  await choose(name);
  await page.locator("dialog [role=alert]").waitFor();
  await see("model-broken");
  await page.keyboard.press("Escape");
  await page.locator("dialog").waitFor({ state: "detached" });
  await page.locator(".id", { hasText: first }).waitFor();
  await row.locator("[data-online]").click();
  await row.locator("[data-choose]").waitFor({ state: "detached" });
  await row.locator("button").last().click();
  await page.locator("dialog .danger").click();
  await row.waitFor({ state: "detached" });
}

/** A model comes from the hub: half of it, stopped, taken up again, registered, forgotten. */
async function pull(page, { see, go, language }) {
  await go("models");
  await page.locator("[data-new-pull]").click();
  const inputs = page.locator("[data-pull-form] input");
  const name = `pulled-${language}`;
  await inputs.nth(0).fill(`owner/tiny-${language}`);
  await inputs.nth(2).fill(name);
  await page.locator("[data-pull-form] .primary").click();
  const mine = page.locator("[data-pull]", { hasText: name });
  await mine.locator("progress[value]").waitFor();
  await until(async () => Number(await mine.locator("progress").getAttribute("value")) >= 40);
  await see("model-pull");
  await mine.locator("[data-stop-pull]").click();
  await page.locator("[data-pull=stopped]", { hasText: name }).waitFor();
  await page.locator("[data-pull=stopped]", { hasText: name }).locator("[data-pull-again]").click();
  await page.locator("[data-pull=done]", { hasText: name }).first().waitFor();
  const row = page.locator(`[data-model="${name}"]`);
  await row.waitFor();
  await see("model-pulled");
  await row.locator("button").last().click();
  await page.locator("dialog .danger").click();
  await row.waitFor({ state: "detached" });
}

/** From lines with an error to a state that answers: its curves grow, it stops, goes on, is tried, and is bound. */
async function tune(page, { see, go, kb, language }) {
  await go("tune");
  await page.locator("[data-new-dataset]").click();
  const name = `set-${language}`;
  const example = (i) => JSON.stringify({ text: `User: What is ${i}?\n\nAssistant: It is ${i * i}. 是 ${i * i}。` });
  await page.locator("[data-dataset-form] input").first().fill(name);
  await page.locator("[data-dataset-form] textarea").fill(`${example(1)}\nnot json\n{"words": 1}\n`);
  await page.locator("[data-dataset-form] .primary").click();
  await until(async () => (await page.locator("[data-dataset-form] .bad li").count()) === 2);
  await see("tune-bad-lines");
  await page.locator("[data-dataset-form] textarea").fill(Array.from({ length: 12 }, (_, i) => example(i)).join("\n"));
  await page.locator("[data-dataset-form] .primary").click();
  await page.locator("[data-dataset-preview] li").first().waitFor();
  await page.locator("[data-tune-start] select").first().selectOption(name);
  await page.locator("[data-method]").selectOption("state");
  await page.locator("[data-estimate]").waitFor();
  await see("tune");

  const field = (label) => page.locator("[data-tune-start] label", { hasText: label }).locator("input");
  await field(/^(Epochs|轮数)$/).fill("3");
  await field(/^(Tokens of a sample at most|样本最长词元数)$/).fill("32");
  await page.locator("[data-tune-start] .primary").click();
  await page.locator("[data-tune-state]").waitFor();
  await until(async () => Number(await page.locator("[data-curve]").first().getAttribute("data-curve")) >= 2);
  await see("tune-running");
  await page.locator("[data-tune-stop]").click();
  await page.locator("[data-tune-state=stopped]").waitFor();
  await page.locator("[data-tune-resume]").click();
  await page.locator("[data-tune-state=done]").waitFor();
  await page.locator("[data-tune-files]:not([data-tune-files='0'])").waitFor();
  for (const details of await page.locator("details.panel > summary").all()) await details.click();
  await see("tune-done");

  const state = `tuned-${language}`;
  await page.locator("[data-offer] input").fill(state);
  await page.locator("[data-offer] .primary").click();
  const offered = page.locator(`[data-offered="${state}"]`);
  await offered.waitFor();
  await page.locator("[data-try-kb]").selectOption(kb);
  await offered.locator("[data-bind]").click();
  await offered.locator("a.tag", { hasText: kb }).waitFor();
  await see("tune-bound");

  // Beside the base, in the chat.
  await offered.locator("[data-try-chat]").click();
  await page.waitForURL(new RegExp(`#/chat/${kb}`));
  await page.locator("[data-main-input]").fill(QUESTION);
  await page.keyboard.press("Enter");
  await page.locator("[data-base=done]").waitFor();
  await page.locator("[data-send]").waitFor();
  await page.locator(".round footer", { hasText: state }).waitFor();
  await page.locator("[data-adjust]").click();
  await page.locator("[data-strategy]").selectOption("retrieve-dense");
  await see("chat-beside");
  await page.locator("[data-main-input]").fill(QUESTION);
  await page.keyboard.press("Enter");
  await until(async () => (await page.locator("[data-base=done]").count()) === 2);
  await page.locator("[data-send]").waitFor();
  await page.locator("[data-strategy]").selectOption("");
  await page.locator("[data-variant]").selectOption("");

  await go(`kb/${kb}/settings`);
  assert.equal(await page.locator("[data-kb-variant=state]").inputValue(), state);
  await page.locator("[data-kb-variant=state]").selectOption("");
  await submit(page);
  await go("tune");
  await page.locator("[data-tune-job=done]").first().waitFor();
  await see("tune-jobs");
}

/** Services, queues and the log; a word narrows the log. */
async function system(page, { see, go }) {
  await go("system");
  for (const name of ["web", "llm", "index", "tuning"]) await page.locator(`[data-service=${name}] .tag.good`).waitFor();
  await page.locator("[data-log] li .tag").first().waitFor();
  await see("system-services");
  await page.locator("[data-log] input").fill("no such word 没有");
  await page.locator("[data-log] li .tag").first().waitFor({ state: "detached" });
}

// What an administrator does beside documents: pages of the web come in, plugins are swapped and taken back, models are
// registered, a run of tuning is started, watched, stopped and finished.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { call, ingest, login, look, open, run, until, url } from "./page.mjs";

const { RAG_SITE: site } = process.env;
const WAYS = [
  { locale: "zh-CN", width: 1280, scheme: "light" },
  { locale: "en-US", width: 380, scheme: "dark" },
];

await run(async (browser) => {
  await ingest("initial", "harbour.md", "# Harbour 港口\n\nThe tide turns at noon. 中午转潮。\n\n# Tower\n\nThe tower is red. 塔是红色的。\n");
  // What a swap is compared on.
  await call("POST", "/api/v1/kbs/initial/search", { question: "When does the tide turn?" });
  await call("POST", "/api/v1/kbs/initial/ask", { question: "When does the tide turn?", conversation: "asked" });
  for (const way of WAYS) {
    const { context, page, heard } = await open(browser, way);
    const tell = `${way.locale.slice(0, 2)}-${way.width}-${way.scheme}`;
    const see = (name) => look(page, `${name}-${tell}`);
    const go = (place) => page.goto(`${url}/#/${place}`);
    await page.goto(url);
    await login(page);
    await page.locator("[data-kb-picker]").waitFor();
    for (const part of [web, swap, plugins, models, tune]) await part(page, see, go, tell);
    assert.deepEqual(heard, [], "the page complains of nothing and asks nobody else");
    await context.close();
  }
});

/** A page is looked at, then comes in; one inside the network that nobody allowed is refused with a reason. */
async function web(page, see, go) {
  const server = createServer((request, response) => {
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
  await go("kb/initial");
  await page.locator("[data-from-web]").click();
  const address = page.locator("[data-web] input[type=url]");
  await address.fill("http://127.0.0.1:9/inside");
  await page.locator("[data-look]").click();
  await page.locator("dialog [role=alert]").waitFor();
  await address.fill(`http://127.0.0.1:${site}/lamp`);
  await page.locator("[data-look]").click();
  await page.locator("[data-preview]", { hasText: "twelve seconds" }).waitFor();
  await see("web");
  await page.locator("[data-web-search]").click();
  await page.locator("dialog form input[type=search]").fill("lamp 灯");
  await page.keyboard.press("Enter");
  await page.locator("[data-found]").first().waitFor();
  await page.locator("[data-found] input").check();
  await see("web-search");
  await page.locator("dialog .primary").last().click();
  await page.locator("dialog").waitFor({ state: "detached" });
  await page.locator("[data-document]", { hasText: "127.0.0.1" }).waitFor();
  server.close();
  server.closeAllConnections();
}

/** Another strategy is tried and compared, answers, and goes back; another chunker gets an index of its own first. */
async function swap(page, see, go) {
  await go("kb/initial/plugins");
  await page.locator("[data-swap]").waitFor();
  await see("kb-plugins");
  const slot = page.locator("[data-slot=retriever]");
  const other = await slot.locator("option", { hasText: /retrieve-dense|retrieve-hybrid/ }).last().getAttribute("value");
  await slot.selectOption(other);
  await page.locator("[data-swap] .primary").click();
  await page.locator("[data-staged=ready]").waitFor();
  await page.locator("[data-report]").first().waitFor();
  await see("kb-plugins-ready");
  await page.locator("[data-publish]").click();
  await page.locator("[data-staged]").waitFor({ state: "detached" });
  await page.locator("[data-roll-back]").waitFor();
  await see("kb-plugins-live");
  await page.locator("[data-roll-back]").click();
  await page.locator("dialog .danger").click();
  await page.locator("[data-generation=rolled_back]").first().waitFor();

  await page.locator("[data-slot=chunker]").selectOption({ index: 1 });
  await page.locator("[data-swap] .primary").click();
  await page.locator("[data-staged=ready]").waitFor();
  await page.locator("[data-abandon]").click();
  await page.locator("[data-staged]").waitFor({ state: "detached" });
  await page.locator("[data-generation=abandoned]").first().waitFor();
}

/** Rights stand in plain words; what is no component is refused with a reason. */
async function plugins(page, see, go) {
  await go("plugins");
  await page.locator("[data-right]").first().waitFor();
  await see("plugins-rights");
  await page.locator("[data-component]").setInputFiles({ name: "no.wasm", mimeType: "application/wasm", buffer: Buffer.from("no component") });
  await page.locator("[role=alert]").waitFor();
  await page.locator("[role=alert] button").click();
  await page.locator("[data-grants]").first().click();
  await page.locator("dialog fieldset").first().waitFor();
  await see("plugin-grants");
  await page.keyboard.press("Escape");
}

/** A file is registered under a second name, changed, taken online, and forgotten. */
async function models(page, see, go, tell) {
  await go("models");
  await page.locator("[data-registry] li").first().waitFor();
  await see("models-registry");
  await page.locator("[data-new-model]").click();
  const inputs = page.locator("[data-model-form] input");
  const name = `second-${tell}`;
  await inputs.nth(0).fill(name);
  await inputs.nth(1).fill("no-such-file.safetensors");
  await page.locator("[data-model-form] .primary").click();
  await page.locator("dialog [role=alert]").waitFor();
  await see("model-new");
  await inputs.nth(1).fill("rwkv6-demo.safetensors");
  await page.locator("[data-model-form] .primary").click();
  await page.locator("dialog").waitFor({ state: "detached" });
  const row = page.locator(`[data-model="${name}"]`);
  await row.locator("[data-online]").click();
  await row.locator("[data-choose]").click();
  await see("model-choose");
  await page.keyboard.press("Escape");
  await row.locator("[data-online]").click();
  await row.locator("[data-choose]").waitFor({ state: "detached" });
  await row.locator("button").last().click();
  await page.locator("dialog .danger").click();
  await row.waitFor({ state: "detached" });
}

/** From lines with an error to a finished run: its curves grow, it stops, goes on, and leaves a file. */
async function tune(page, see, go, tell) {
  await go("tune");
  await page.locator("[data-new-dataset]").click();
  const name = `set-${tell}`;
  const example = (i) => JSON.stringify({ text: `User: What is ${i}?\n\nAssistant: It is ${i * i}. 是 ${i * i}。` });
  await page.locator("[data-dataset-form] input").first().fill(name);
  await page.locator("[data-dataset-form] textarea").fill(`${example(1)}\nnot json\n{"words": 1}\n`);
  await page.locator("[data-dataset-form] .primary").click();
  await until(async () => (await page.locator("[data-dataset-form] .bad li").count()) === 2);
  await see("tune-bad-lines");
  await page.locator("[data-dataset-form] textarea").fill(Array.from({ length: 24 }, (_, i) => example(i)).join("\n"));
  await page.locator("[data-dataset-form] .primary").click();
  await page.locator("[data-dataset-preview] li").first().waitFor();
  await page.locator("[data-tune-start] select").first().selectOption(name);
  await page.locator("[data-method]").selectOption("state");
  await page.locator("[data-estimate]").waitFor();
  await see("tune");

  const field = (label) => page.locator("[data-tune-start] label", { hasText: label }).locator("input");
  await field(/^(Epochs|轮数)$/).fill("4");
  await field(/at most$|最长词元数$/).first().fill("64");
  await page.locator("[data-tune-start] .primary").click();
  await page.locator("[data-tune-state]").waitFor();
  await until(async () => Number(await page.locator("[data-curve]").first().getAttribute("data-curve")) >= 2);
  await see("tune-running");
  await page.locator("[data-tune-stop]").click();
  await page.locator("[data-tune-state=stopped]").waitFor();
  await page.locator("[data-tune-resume]").click();
  await page.locator("[data-tune-state=done]").waitFor();
  await page.locator("[data-tune-files]:not([data-tune-files='0'])").waitFor();
  await see("tune-done");
}

// What an administrator does with a whole knowledge base: models of its own, a folder of the server in step with it, out
// as one file and in again under another name.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { call, ingest, login, look, open, run, until, url } from "./page.mjs";

const { RAG_FOLDER: folder, RAG_MODELS: models } = process.env;
const WAYS = [
  { locale: "zh-CN", width: 1280, scheme: "light" },
  { locale: "en-US", width: 380, scheme: "dark" },
];
const QUESTION = "When does the tide turn?";

await run(async (browser) => {
  for (const name of ["small", "cross"]) {
    await call("POST", "/api/v1/models/entries", { name, path: join(models, name) });
    await call("PATCH", `/api/v1/models/entries/${name}`, { online: true });
  }
  for (const way of WAYS) {
    const language = way.locale.slice(0, 2);
    const kb = `moves_${language}`;
    await call("POST", "/api/v1/kbs", { name: kb });
    await ingest(kb, "harbour.md", "# Harbour 港口\n\nThe tide turns at noon. 中午转潮。\n\n# Tower\n\nThe tower is red. 塔是红色的。\n");
    const { context, page, heard } = await open(browser, way);
    const go = (place) => page.goto(`${url}/#/${place}`);
    const see = (name) => look(page, `moves-${name}-${language}-${way.width}-${way.scheme}`);
    await page.goto(url);
    await login(page);
    await page.locator("[data-kb-picker]").waitFor();
    for (const part of [encoder, reranker, sync, moved]) {
      const began = Date.now();
      await part(page, { see, go, kb, language });
      console.log(`${part.name} ${language}: ${Date.now() - began} ms`);
    }
    assert.deepEqual(heard, [], "the page complains of nothing and asks nobody else");
    await context.close();
  }
});

/** Another encoder: a name that is none is refused with a reason; the index is filled beside the live one, which answers. */
async function encoder(page, { see, go, kb }) {
  await go(`kb/${kb}/plugins`);
  const name = page.locator("[data-swap] [data-model=encoder]");
  await name.fill("no-such-encoder");
  await page.locator("[data-swap] .primary").click();
  await page.locator("[data-swap] [role=alert]").waitFor();
  await see("encoder-refused");
  // The registry's names are offered, and a reranker is none of them.
  assert.deepEqual(await page.locator("#models-encoder option").evaluateAll((all) => all.map((one) => one.value).filter((one) => one === "small" || one === "cross")), ["small"]);
  await name.fill("small");
  await page.locator("[data-swap] .primary").click();
  await page.locator("[data-staged]").waitFor();
  assert.equal(await page.locator("[data-encoder]").getAttribute("data-encoder"), "", "the old one is live until the flip");
  const { hits } = await call("POST", `/api/v1/kbs/${kb}/search`, { question: QUESTION });
  assert.equal(hits[0].document, "harbour.md");
  await page.locator("[data-staged=ready]").waitFor();
  await see("encoder-ready");
  await page.locator("[data-publish]").click();
  await page.locator("[data-encoder=small]").waitFor();
  assert.match(await page.locator("[data-encoder=small]").textContent(), /small@/, "whose vectors they are");
  await see("encoder-live");
  await go(`kb/${kb}/settings`);
  await page.locator("[data-embedded]", { hasText: "32" }).waitFor();
}

/** Another reranker counts from the next question on; one that is not there is refused and nothing changes. */
async function reranker(page, { see, go, kb }) {
  await go(`kb/${kb}/settings`);
  const name = page.locator("[data-model=reranker]");
  await name.fill("no-such-reranker");
  await page.locator("form .primary").click();
  await page.locator("form [role=alert]").waitFor();
  await see("reranker-refused");
  assert.equal((await call("GET", `/api/v1/kbs/${kb}`)).settings.reranker ?? null, null);
  await name.fill("cross");
  await page.locator("[data-ocr]").fill("chi_tra, jpn");
  await page.locator("form .primary").click();
  await until(async () => (await call("GET", `/api/v1/kbs/${kb}`)).settings.reranker === "cross");
  const { settings } = await call("GET", `/api/v1/kbs/${kb}`);
  assert.deepEqual(settings.ocr_languages, ["chi_tra", "jpn"]);
  await go(`test?kb=${kb}`);
  await page.locator("[data-main-input]").fill(QUESTION);
  await page.locator("form .primary").click();
  await page.locator("tr.best").waitFor();
  await page.locator(".steps li", { hasText: "cross" }).first().waitFor({ state: "attached" });
}

/** A folder is compared, taken, compared again after one file came, one changed and one went, and brought in step. */
async function sync(page, { see, go, kb, language }) {
  const mine = join(folder, language);
  mkdirSync(mine, { recursive: true });
  for (const name of ["one.md", "two.md", "three.md"]) writeFileSync(join(mine, name), `# ${name}\n\nThe ${name} says hello. 它说你好。\n`);
  const documents = async () => (await call("GET", `/api/v1/kbs/${kb}/documents`)).documents.map((one) => one.name).filter((name) => name !== "harbour.md");
  const quiet = () => until(async () => (await call("GET", `/api/v1/jobs?kb=${kb}`)).jobs.every((job) => !["queued", "running"].includes(job.state)));
  const into = async () => {
    await go(`kb/${kb}`);
    await page.locator("[data-server-files]").click();
    await page.locator("dialog button.link").first().click();
    await page.locator("dialog button.link", { hasText: language }).click();
    await page.locator("dialog [data-compare]").click();
    await page.locator("[data-plan]").waitFor();
  };
  const figures = async () => (await page.locator("[data-plan] > p").textContent()).match(/\d+/g).map(Number);
  await into();
  assert.deepEqual(await figures(), [3, 0, 0, 0]);
  await page.locator("[data-plan] summary").first().click();
  await see("folder-new");
  await page.locator("[data-sync]").click();
  await page.locator("dialog").waitFor({ state: "detached" });
  await until(async () => (await documents()).length === 3);
  await quiet();

  writeFileSync(join(mine, "four.md"), "The fourth. 第四个。");
  writeFileSync(join(mine, "two.md"), "The second, changed. 第二个，改过了。");
  rmSync(join(mine, "three.md"));
  await into();
  assert.deepEqual(await figures(), [1, 1, 1, 1]);
  await see("folder-changed");
  // Nothing goes unless that is asked for.
  await page.locator("[data-remove]").check();
  await page.locator("[data-sync]").click();
  await page.locator("dialog").waitFor({ state: "detached" });
  await until(async () => (await documents()).length === 3 && !(await documents()).some((name) => name.includes("three")));
  await quiet();
  await into();
  assert.deepEqual(await figures(), [0, 0, 3, 0], "in step");
  await page.keyboard.press("Escape");
  await page.locator("dialog").waitFor({ state: "detached" });
}

/** The file that one knowledge base is downloaded as becomes another; one that was changed is refused and leaves nothing. */
async function moved(page, { see, go, kb, language }) {
  await go(`kb/${kb}/settings`);
  const coming = page.waitForEvent("download");
  await page.locator("[data-export-kb]").click();
  const download = await coming;
  assert.equal(download.suggestedFilename(), `${kb}.kb.zip`);
  const bytes = readFileSync(await download.path());

  await go("kbs");
  const into = `copy_${language}`;
  await page.locator("[data-import-kb]").click();
  const give = async (buffer) => {
    await page.locator("[data-bundle]").setInputFiles({ name: "a.kb.zip", mimeType: "application/zip", buffer });
    await page.locator("dialog .primary").click();
  };
  const bent = Buffer.from(bytes);
  bent[bent.length >> 1] ^= 1;
  await page.locator("[data-bundle-name]").fill(into);
  await give(bent);
  await page.locator("dialog [role=alert]").waitFor();
  await see("import-refused");
  // Its own name is taken.
  await page.locator("[data-bundle-name]").fill("");
  await give(bytes);
  await page.locator("dialog [role=alert]", { hasText: kb }).waitFor();
  const names = (await call("GET", "/api/v1/kbs")).kbs.map((one) => one.name);
  assert.ok(!names.includes(into));
  await page.locator("[data-bundle-name]").fill(into);
  await give(bytes);
  await page.waitForURL(new RegExp(`#/kb/${into}`));
  await page.locator("[data-document]", { hasText: "harbour.md" }).waitFor();
  await see("imported");
  const [was, is] = [await call("GET", `/api/v1/kbs/${kb}`), await call("GET", `/api/v1/kbs/${into}`)];
  assert.deepEqual([is.documents, is.chunks, is.dim, is.settings], [was.documents, was.chunks, 32, was.settings]);
  const found = async (name) => (await call("POST", `/api/v1/kbs/${name}/search`, { question: QUESTION })).hits.map((hit) => hit.text);
  assert.deepEqual(await found(into), await found(kb));
}

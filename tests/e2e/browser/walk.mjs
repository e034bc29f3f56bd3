// Every page's main path, as a person would take it: in both languages, wide and narrow, in light and dark.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fixtures, key, login, look, open, run, submit, until, url } from "./page.mjs";

const WAYS = [
  { locale: "zh-CN", width: 1280, scheme: "light" },
  { locale: "en-US", width: 380, scheme: "light" },
  { locale: "en-US", width: 1280, scheme: "dark" },
  { locale: "zh-CN", width: 380, scheme: "dark" },
];

const SAYS = {
  "zh-CN": {
    login: "登录",
    question: "静态 IP 地址写在哪个文件里？",
    found: "/etc/network/interfaces",
    file: "apt-手册.md",
    demonstration: "演示模型",
    done: "完成",
    stopped: "已停止",
    navigation: ["对话", "知识库", "检索测试", "插件", "模型", "微调", "系统", "用户与密钥"],
    other: "English",
  },
  "en-US": {
    login: "Log in",
    question: "How long should the anchor chain be?",
    found: "anchor",
    file: "sailing.md",
    demonstration: "demonstration model",
    done: "Done",
    stopped: "Stopped",
    navigation: ["Chat", "Knowledge bases", "Hit test", "Plugins", "Models", "Tuning", "System", "Users and keys"],
    other: "中文",
  },
};

await run(async (browser) => {
  // Two at once, each in a browser profile and a knowledge base of its own.
  const lanes = [[WAYS[0], WAYS[3]], [WAYS[1], WAYS[2]]];
  await Promise.all(
    lanes.map(async (lane) => {
      for (const way of lane) await walk(browser, way);
    }),
  );
});

async function walk(browser, way) {
  const says = SAYS[way.locale];
  const { context, page, heard } = await open(browser, way);
  const tell = `${way.locale.slice(0, 2)}-${way.width}-${way.scheme}`;
  const see = (name) => look(page, `${name}-${tell}`);
  const go = (place) => page.goto(`${url}/#/${place}`);
  const kb = `walk_${tell.replaceAll("-", "_")}`;

  // A wrong key is refused in words; the right one opens the page, in the browser's language.
  await page.goto(url);
  await page.locator("#login-form .primary", { hasText: says.login }).waitFor();
  await login(page, "wrong");
  await page.locator("[role=alert]").waitFor();
  await see("login");
  await login(page);
  await page.locator("[data-kb-picker]").waitFor();
  assert.equal(await page.evaluate(() => document.cookie), "", "no script can read the session");
  await see("chat-empty");

  await menu(page, way, says);
  await makeKb(page, kb, way, see, go);
  await fill(page, says, see);
  await ask(page, kb, says, see, go);
  await talks(page, way, kb, says, see);
  await readDocument(page, kb, says, see, go);
  await curate(page, kb, says, see, go);
  await hitTest(page, kb, says, see, go);
  await questions(page, kb, says, see, go);
  await change(page, kb, see, go);
  await lookAround(page, says, see, go);
  await people(page, tell, see, go);
  await users(browser, page, way, tell, see, go);
  await switchBoth(page, way, says, go);
  await end(page, kb, see, go);

  assert.deepEqual(heard, [], "the page complains of nothing and asks nobody else");
  await context.close();
}

/** All pages are one step away; narrow, behind the menu. */
async function menu(page, way, says) {
  const links = page.locator("nav.side li a");
  if (way.width < 760) {
    assert.equal(await links.first().isVisible(), false);
    await page.locator("header.bar button").click();
  }
  assert.deepEqual((await links.allTextContents()).map((text) => text.trim()), says.navigation);
  await links.nth(1).click();
  await page.waitForURL(/#\/kbs/);
  if (way.width < 760) await links.first().waitFor({ state: "hidden" });
}

async function makeKb(page, kb, way, see, go) {
  await page.locator("a.card").first().waitFor();
  await see("kbs");
  await page.locator("[data-new-kb]").click();
  await page.locator("dialog input").fill("initial");
  await page.keyboard.press("Enter");
  await page.locator("dialog [role=alert]").waitFor();
  await see("kb-new");
  await page.locator("dialog input").fill(kb);
  await page.keyboard.press("Enter");
  await page.waitForURL(new RegExp(`#/kb/${kb}`));
  await page.locator("[data-files]").waitFor({ state: "attached" });
  await see("kb-empty");
}

/** Several files at once, of which one cannot be read; and a text. */
async function fill(page, says, see) {
  const bytes = Buffer.alloc(4096, 7);
  await page.locator("[data-files]").setInputFiles([
    { name: "apt-手册.md", mimeType: "text/markdown", buffer: readFileSync(join(fixtures, "apt-手册.md")) },
    { name: "sailing.md", mimeType: "text/markdown", buffer: readFileSync(join(fixtures, "sailing.md")) },
    { name: "twin.md", mimeType: "text/markdown", buffer: readFileSync(join(fixtures, "sailing.md")) },
    { name: "noise.bin", mimeType: "application/octet-stream", buffer: bytes },
  ]);
  // Refused at the door or failed in its job: either way the page says so, with a reason.
  await page.locator("[data-job=failed], [data-upload] .reason").first().waitFor();
  await page.locator("[data-document]").nth(2).waitFor();
  await page.locator("[data-add-text]").click();
  await page.locator("dialog input:not([type=checkbox])").fill("note 便条");
  await page.locator("dialog textarea").fill("# 便条\n\nThe lighthouse is painted white. 灯塔是白色的。\n");
  await see("text-new");
  await page.locator("dialog .primary").click();
  await page.locator("[data-document]").nth(3).waitFor();
  await page.locator("[data-job=done]").first().waitFor();
  assert.match(await page.locator("[data-job=done]").first().textContent(), new RegExp(says.done));
  await see("kb-documents");

  // Two of the files are the same one: the page finds them, and one goes.
  await page.locator("[data-which]").selectOption("duplicates");
  await until(async () => (await page.locator("[data-document]").count()) === 2);
  await see("kb-duplicates");
  await page.locator("[data-document]", { hasText: "twin.md" }).locator("button").last().click();
  await page.locator("dialog .danger").click();
  await page.locator("dialog").waitFor({ state: "detached" });
  await until(async () => (await page.locator("[data-document]").count()) === 0);
  await page.locator("[data-which]").selectOption("");
  await page.locator("[data-document]").nth(2).waitFor();
}

async function ask(page, kb, says, see, go) {
  await go(`chat/${kb}`);
  const input = page.locator("[data-main-input]");
  await input.fill(says.question);
  await page.keyboard.press("Enter");
  await page.locator("[data-send]").waitFor();
  await page.locator(".source").first().waitFor();
  assert.match(await page.locator("[data-demonstration]").textContent(), new RegExp(says.demonstration));
  await see("chat-answer");

  // The citation opens the original with its very words marked.
  const quote = await page.locator(".source .quote").first().textContent();
  const original = readFileSync(join(fixtures, says.file), "utf8");
  assert.ok(quote && original.includes(quote), quote);
  await page.locator(".source").first().click();
  await page.locator(".source-pane mark").waitFor();
  assert.equal(await page.locator(".source-pane mark").textContent(), quote);
  assert.match(await page.locator(".source-pane").textContent(), new RegExp(says.found));
  await see("chat-source");
  await page.keyboard.press("Escape");
  await page.locator(".source-pane").waitFor({ state: "detached" });

  await page.locator("details summary").first().click();
  await page.locator("table tr.best").waitFor();
  assert.ok((await page.locator("table tbody tr").count()) >= 3);
  await see("chat-recall");

  // Stopped while nothing has come yet: the page says so, and is ready for the next question.
  await page.route("**/ask", () => undefined, { times: 1 });
  await input.fill(says.question);
  await page.keyboard.press("Enter");
  await page.locator("[data-stop]").click();
  await page.locator("[data-send]").waitFor();
  await page.locator(".round", { hasText: says.stopped }).waitFor();

  await page.reload();
  await page.locator(".asked").first().waitFor();
  assert.equal(await page.locator(".asked").first().textContent(), says.question, "what was said is kept");
  await page.locator("[data-fresh]").click();
  await page.locator(".asked").first().waitFor({ state: "detached" });
}

/** Kept conversations: marked, found by a word said in them, renamed, opened with their sources, deleted. */
async function talks(page, way, kb, says, see) {
  const narrow = way.width < 960;
  if (narrow) await page.locator("[data-talks]").click();
  const own = page.locator("[data-talk]", { hasText: kb });
  await own.first().waitFor();
  const search = page.locator("aside.list input[type=search]");
  await search.fill("zzz-no-such-word");
  await page.locator("aside.list .none").waitFor();
  await search.fill(says.found);
  await own.first().waitFor();
  await own.first().hover();
  await own.first().locator("button").first().click();
  await page.locator("aside.list form input").fill(`renamed ${kb} 改名`);
  await page.keyboard.press("Enter");
  await page.locator("[data-talk] a", { hasText: "改名" }).first().waitFor();
  await see("talks");
  await page.locator("[data-talk] a", { hasText: `renamed ${kb}` }).click();
  await page.locator(".asked").first().waitFor();
  await page.locator(".source").first().waitFor();
  await page.locator("[data-mark=good]").first().click();
  await page.locator("[data-mark=good][aria-pressed=true]").first().waitFor();
  await page.reload();
  await page.locator("[data-mark=good][aria-pressed=true]").first().waitFor();
  await marked(page, kb, says, see);
  if (narrow) await page.locator("[data-talks]").click();
  const renamed = page.locator("[data-talk]", { hasText: `renamed ${kb}` });
  await renamed.hover();
  await renamed.locator("button").last().click();
  await page.locator("dialog .danger").click();
  await renamed.waitFor({ state: "detached" });
}

/** What was marked is listed, and becomes a question set with one press. */
async function marked(page, kb, says, see) {
  const before = page.url();
  await page.goto(`${url}/#/kb/${kb}/marked`);
  const row = page.locator("[data-marked=good]", { hasText: says.question });
  await row.locator("summary").click();
  await row.locator(".sources button").first().click();
  await page.locator(".source-pane mark").waitFor();
  await page.keyboard.press("Escape");
  await row.locator("input").check();
  await see("marked");
  await page.locator("[data-to-set]").click();
  assert.equal(await page.locator("dialog .question input").first().inputValue(), says.question);
  assert.equal(await page.locator("dialog .question input").nth(1).inputValue(), says.file);
  await page.locator("[data-set-name]").fill("marked 评价");
  await page.locator("dialog .primary").click();
  await page.locator("dialog").waitFor({ state: "detached" });
  await page.goto(before);
  await page.locator(".asked").first().waitFor();
}

async function readDocument(page, kb, says, see, go) {
  await go(`kb/${kb}`);
  await page.locator("[data-document] a", { hasText: says.file }).click();
  await page.locator("[data-chunk]").first().waitFor();
  const all = await page.locator("[data-chunk]").count();
  await see("document");
  await page.locator("[data-main-input]").fill(says.found);
  await page.locator("[data-chunk] mark").first().waitFor();
  assert.ok((await page.locator("[data-chunk]").count()) < all);
  await see("document-filter");
}

/** A chunk is edited and switched off, a document tagged and switched off and on: search follows. */
async function curate(page, kb, says, see, go) {
  await page.locator("[data-main-input]").fill("");
  const chunk = page.locator("[data-chunk]").first();
  await chunk.locator("[data-edit-chunk]").click();
  await chunk.locator("textarea").fill("A corrected sentence about the harbour 更正后的句子。");
  await see("chunk-edit");
  await chunk.locator(".primary").click();
  await page.locator("[data-chunk] .tag.accent").first().waitFor();
  await chunk.locator("[data-disable-chunk]").click();
  await chunk.locator(".tag.warn").waitFor();
  await chunk.locator("[data-disable-chunk]").click();
  await chunk.locator(".tag.warn").waitFor({ state: "detached" });

  await page.locator("[data-metadata]").click();
  await page.locator("dialog input").first().fill("部门");
  await page.locator("dialog input").nth(1).fill("engineering");
  await see("metadata");
  await page.locator("dialog .primary").click();
  await page.locator(".pairs", { hasText: "engineering" }).waitFor();
  await page.locator("[data-enable]").click();
  await page.locator(".pairs .tag.warn").waitFor();
  await page.locator("[data-enable]").click();
  await page.locator(".pairs .tag.warn").waitFor({ state: "detached" });

  // Cut anew: what was edited by hand is gone.
  await page.locator("[data-cut]").click();
  await page.locator("dialog select").selectOption("chunk-fixed");
  await see("rechunk");
  await page.locator("[data-rechunk]").click();
  await page.locator("[data-chunk]", { hasText: "更正后的句子" }).waitFor({ state: "detached" });
  await page.locator("[data-chunk]").first().waitFor();

  await go(`kb/${kb}`);
  const row = page.locator("[data-document]", { hasText: "note" });
  await row.locator("input[type=checkbox]").check();
  await page.locator("[data-disable]").click();
  await row.locator(".tag", { hasText: /Disabled|已停用/ }).waitFor();
  await page.locator("input.find").fill("zzz");
  await row.waitFor({ state: "detached" });
  await page.locator("input.find").fill("");
  await row.waitFor();
  await see("kb-chosen");
}

async function hitTest(page, kb, says, see, go) {
  await go(`test?kb=${kb}`);
  await page.locator("[data-main-input]").fill(says.question);
  await page.locator(".options input[type=checkbox]").last().check();
  await page.keyboard.press("Enter");
  await page.locator("form .primary").click();
  await page.locator(".sides table").nth(1).waitFor();
  assert.ok((await page.locator(".steps li").count()) >= 6, "each side tells its steps");
  await see("test");
  await page.locator(".sides tr.best button").first().click();
  await page.locator(".source-pane mark").waitFor();
  await page.keyboard.press("Escape");
}

/** A set of questions, two runs of it with different ways, compared question by question. */
async function questions(page, kb, says, see, go) {
  await go(`test/sets?kb=${kb}`);
  await page.locator("[data-new-set]").click();
  await page.locator("[data-set-name]").fill("harbour 港口");
  const inputs = page.locator("dialog .question input");
  await inputs.nth(0).fill(says.question);
  await inputs.nth(1).fill(says.file);
  await see("set-new");
  await page.locator("dialog .primary").click();
  await page.locator("dialog").waitFor({ state: "detached" });
  await page.locator("[data-second-way]").click();
  await page.locator("form.ways .way").nth(0).locator("select").nth(0).selectOption("retrieve-dense");
  await page.locator("form.ways .way").nth(1).locator("select").nth(1).selectOption("off");
  await page.locator("[data-start-run]").click();
  await page.locator("[data-verdict]").waitFor();
  assert.equal(await page.locator("[data-run=done]").count(), 2);
  assert.ok((await page.locator("[data-outcomes] tbody tr").count()) >= 5, "figures, and a row for each question");
  await see("set-runs");
}

async function change(page, kb, see, go) {
  await go(`kb/${kb}/settings`);
  const passages = page.locator("section").nth(1).locator("input[type=number]").first();
  await passages.fill("2");
  await see("kb-settings");
  await submit(page);
  await page.reload();
  await passages.waitFor();
  assert.equal(await passages.inputValue(), "2");
}

async function lookAround(page, says, see, go) {
  for (const [place, seen] of [
    ["plugins", "li strong"],
    ["models", ".id"],
    ["system", ".tiles"],
  ]) {
    await go(place);
    await page.locator(seen).first().waitFor();
    await see(place);
  }
}

async function people(page, tell, see, go) {
  await go("people/keys");
  await page.locator("[data-new-key]").click();
  const name = `a reader of ${tell} 读者`;
  await page.locator("dialog input:not([type=checkbox])").first().fill(name);
  await page.locator("dialog .primary").click();
  const secret = await page.locator("[data-secret]").textContent();
  assert.match(secret, /^rag_[0-9a-f]+$/);
  await see("key-made");
  await page.locator("dialog .primary").click();
  const row = page.locator("tr", { hasText: name }).first();
  await row.waitFor();
  await see("people");
  await row.locator("button").click();
  await page.locator("dialog .danger").click();
  await row.waitFor({ state: "detached" });
}

/** A user who may only read, in one knowledge base: logs in by name, sees that one and no control that would fail. */
async function users(browser, page, way, tell, see, go) {
  await go("people");
  const [name, password] = [`user ${tell} 用户`, "a long password 密码"];
  await page.locator("[data-new-user]").click();
  await page.locator("dialog input:not([type=checkbox])").first().fill(name);
  await page.locator("dialog input[type=password]").fill(password);
  await page.locator("dialog label.check", { hasText: "initial" }).click();
  await see("user-new");
  await page.locator("dialog .primary").click();
  const row = page.locator("tr", { hasText: name });
  await row.waitFor();
  await see("users");

  const other = await open(browser, way);
  await other.page.goto(url);
  await other.page.locator("[data-by-name]").click();
  await other.page.locator("[data-user]").fill(name);
  await other.page.locator("#login-form input[type=password]").fill(password);
  await other.page.keyboard.press("Enter");
  await other.page.locator("[data-kb-picker]").waitFor();
  assert.deepEqual(await other.page.locator("[data-kb-picker] option").allTextContents(), ["initial"]);
  assert.equal(await other.page.locator("nav.side li").count(), 6, "no way to users and keys");
  await other.page.goto(`${url}/#/kb/initial`);
  await other.page.locator("section.panel").last().waitFor();
  assert.equal(await other.page.locator("[data-files]").count(), 0, "no upload for a reader");
  await ownPassword(other.page, name, password, way);
  await other.context.close();

  await row.locator("button").last().click();
  await page.locator("dialog .danger").click();
  await row.waitFor({ state: "detached" });
  await go("people/audit");
  await page.locator("tbody tr", { hasText: "/api/v1/users" }).first().waitFor();
  await see("audit");
}

/** One's own password: the old one no longer opens the page, the new one does. */
async function ownPassword(page, name, old, way) {
  if (way.width < 760) await page.locator("header.bar button").click();
  await page.locator("[data-own-password]").click();
  const inputs = page.locator("[data-password] input[type=password]");
  const fresh = "another password 新密码";
  for (const [i, text] of [old, fresh, "different"].entries()) await inputs.nth(i).fill(text);
  assert.ok(await page.locator("[data-password] .primary").isDisabled(), "the two differ");
  await look(page, `password-${way.locale.slice(0, 2)}-${way.width}-${way.scheme}`);
  await inputs.nth(2).fill(fresh);
  await page.locator("[data-password] .primary").click();
  await page.locator("dialog").waitFor({ state: "detached" });
  await page.locator("[data-logout]").click();
  for (const [secret, opens] of [[old, false], [fresh, true]]) {
    if (opens === false) await page.locator("[data-by-name]").click();
    await page.locator("[data-user]").fill(name);
    await page.locator("#login-form input[type=password]").fill(secret);
    await page.keyboard.press("Enter");
    await page.locator(opens ? "nav.side" : "[role=alert]").first().waitFor({ state: "attached" });
  }
}

/** By keys, and back: the choice outlives a reload. */
async function switchBoth(page, way, says, go) {
  await go("models");
  await page.locator(".id").first().waitFor();
  await page.keyboard.press("l");
  const other = way.locale === "zh-CN" ? "Models" : "模型";
  await page.locator("h1", { hasText: other }).waitFor();
  await page.reload();
  await page.locator("h1", { hasText: other }).waitFor();
  await page.keyboard.press("l");
  await page.keyboard.press("t");
  await until(() => page.evaluate(() => document.documentElement.dataset.theme === "light"));
  await page.keyboard.press("?");
  await page.locator("dialog kbd").first().waitFor();
  await page.keyboard.press("Escape");
  await page.locator("dialog").waitFor({ state: "detached" });
  await page.keyboard.press("1");
  await page.waitForURL(/#\/chat/);
}

async function end(page, kb, see, go) {
  await go(`kb/${kb}`);
  const first = page.locator("[data-document]").first();
  await first.waitFor();
  const before = await page.locator("[data-document]").count();
  await first.locator("button").last().click();
  await page.locator("dialog .danger").click();
  await page.locator("dialog").waitFor({ state: "detached" });
  await until(async () => (await page.locator("[data-document]").count()) === before - 1);

  await go(`kb/${kb}/settings`);
  await page.locator("[data-delete-kb]").click();
  const button = page.locator("dialog .danger");
  assert.ok(await button.isDisabled(), "the name must be typed");
  await page.locator("dialog input").fill(kb);
  await see("kb-delete");
  await button.click();
  await page.waitForURL(/#\/kbs/);
  await page.locator("a.card").first().waitFor();
  assert.equal(await page.locator("a.card", { hasText: kb }).count(), 0);
  if (!(await page.locator(".tools button").last().isVisible())) await page.locator("header.bar button").click();
  await page.locator(".tools button").last().click();
  await page.locator("#login-form").waitFor();
}

// Every page's main path, as a person would take it: in both languages, wide and narrow, in light and dark.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fixtures, key, login, look, open, run, until, url } from "./page.mjs";

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
    failed: "失败",
    navigation: ["对话", "知识库", "检索测试", "插件", "模型", "系统", "用户与密钥"],
    other: "English",
  },
  "en-US": {
    login: "Log in",
    question: "How long should the anchor chain be?",
    found: "anchor",
    file: "sailing.md",
    demonstration: "demonstration model",
    done: "Done",
    failed: "Failed",
    navigation: ["Chat", "Knowledge bases", "Hit test", "Plugins", "Models", "System", "Users and keys"],
    other: "中文",
  },
};

await run(async (browser) => {
  for (const way of WAYS) await walk(browser, way);
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
  await page.locator("#login-form button", { hasText: says.login }).waitFor();
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
  await readDocument(page, kb, says, see, go);
  await hitTest(page, kb, says, see, go);
  await change(page, kb, see, go);
  await lookAround(page, says, see, go);
  await people(page, tell, see, go);
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
    { name: "noise.bin", mimeType: "application/octet-stream", buffer: bytes },
  ]);
  // Refused at the door or failed in its job: either way the page says so, with a reason.
  await page.locator("[data-job=failed], [data-upload] .reason").first().waitFor();
  await page.locator("[data-document]").nth(1).waitFor();
  await page.locator("[data-add-text]").click();
  await page.locator("dialog input:not([type=checkbox])").fill("note 便条");
  await page.locator("dialog textarea").fill("# 便条\n\nThe lighthouse is painted white. 灯塔是白色的。\n");
  await see("text-new");
  await page.locator("dialog .primary").click();
  await page.locator("[data-document]").nth(2).waitFor();
  await page.locator("[data-job=done]").first().waitFor();
  assert.match(await page.locator("[data-job=done]").first().textContent(), new RegExp(says.done));
  await see("kb-documents");
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

  // Stopped at once: the page says so, and is ready for the next question.
  await input.fill(says.question);
  await page.keyboard.press("Enter");
  await page.locator("[data-stop]").click();
  await page.locator("[data-send]").waitFor();

  await page.reload();
  await page.locator(".asked").first().waitFor();
  assert.equal(await page.locator(".asked").first().textContent(), says.question, "what was said is kept");
  await page.locator("[data-fresh]").click();
  await page.locator(".asked").first().waitFor({ state: "detached" });
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

async function change(page, kb, see, go) {
  await go(`kb/${kb}/settings`);
  const passages = page.locator("section").nth(1).locator("input[type=number]").first();
  await passages.fill("2");
  await see("kb-settings");
  await page.locator("form .primary").click();
  await page.locator(".notice .said").waitFor();
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
  await go("people");
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

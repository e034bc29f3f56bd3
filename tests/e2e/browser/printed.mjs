// A printed book: a Chinese PDF goes in by the page, and a citation opens its very page with the words marked.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pdf } from "./files.mjs";
import { fixtures, ingest, login, look, open, run, until, url } from "./page.mjs";

const BOOK = "青石港手册.pdf";
const WAYS = [
  { locale: "zh-CN", width: 1280, scheme: "light" },
  { locale: "en-US", width: 380, scheme: "dark" },
];

await run(async (browser) => {
  const first = await open(browser, WAYS[0]);
  await first.page.goto(`${url}/#/kb/initial`);
  await login(first.page);
  await first.page.locator("[data-files]").setInputFiles({ name: BOOK, mimeType: "application/pdf", buffer: readFileSync(join(fixtures, BOOK)) });
  await first.page.locator("[data-document]", { hasText: BOOK }).waitFor();
  await first.context.close();
  for (const way of WAYS) await cited(browser, way);
  await fontless(browser);
});

/** How many dots of the page are dark: letters. */
function drawn(page) {
  return page.locator(".paper canvas").evaluate((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let dark = 0;
    for (let i = 0; i < data.length; i += 4) if (data[i] < 150) dark += 1;
    return dark;
  });
}

async function cited(browser, way) {
  const { context, page, heard } = await open(browser, way);
  const tell = `${way.locale.slice(0, 2)}-${way.width}-${way.scheme}`;
  await page.goto(url);
  await login(page);
  await page.locator("[data-main-input]").fill("白鹭岛锚地最多同时容纳几艘船？");
  await page.keyboard.press("Enter");
  await page.locator("[data-send]").waitFor();
  const sources = page.locator(".source", { hasText: "白鹭岛" });
  await sources.first().waitFor();
  assert.match(await sources.first().locator(".where").textContent(), /青石港手册\.pdf.*3/, "the page is named");
  await sources.first().click();
  await page.locator(".paper canvas").waitFor();
  await page.locator(".paper .hit").first().waitFor();
  assert.match(await page.locator(".source-pane .steps").textContent(), /3.*3/);
  assert.ok((await drawn(page)) > 500, "letters are drawn");
  // Every box lies on the paper and is as high as a line.
  for (const box of await page.locator(".paper .hit").all()) {
    const [mark, paper] = [await box.boundingBox(), await page.locator(".paper").boundingBox()];
    assert.ok(mark.height > 4 && mark.width > 4 && mark.y >= paper.y && mark.x >= paper.x - 1 && mark.x + mark.width <= paper.x + paper.width + 1);
  }
  await look(page, `pdf-cited-${tell}`);
  // Its text as it was read, with the same words marked, and the pages before.
  const views = page.locator(".source-pane .views button");
  await views.last().click();
  assert.match(await page.locator(".source-pane mark").textContent(), /白鹭岛/);
  await views.first().click();
  await page.locator(".source-pane .steps button").first().click();
  await until(async () => /2.*3/.test(await page.locator(".source-pane .steps").textContent()));

  // The document itself, page by page.
  await page.goto(`${url}/#/kb/initial`);
  await page.locator("[data-document] a", { hasText: BOOK }).click();
  await page.locator("[data-chunk]").first().waitFor();
  await page.locator("header [role=group] button").last().click();
  await page.locator(".paper canvas").waitFor();
  await look(page, `pdf-document-${tell}`);
  assert.deepEqual(heard, []);
  await context.close();
}

/** Type that the file does not bring along: its character map comes from this server, none from elsewhere. */
async function fontless(browser) {
  await ingest("initial", "无字库.pdf", pdf(["灯塔看守人的暗语是柑橘果酱。", "每逢单月更换一次。"], { Title: "灯塔守则" }));
  const { context, page, heard } = await open(browser, WAYS[0]);
  const maps = [];
  page.on("response", (response) => response.url().includes("/ui/cmaps/") && maps.push(response.status()));
  await page.goto(url);
  await login(page);
  await page.locator("[data-main-input]").fill("灯塔看守人的暗语是什么？");
  await page.keyboard.press("Enter");
  await page.locator("[data-send]").waitFor();
  await page.locator(".source", { hasText: "柑橘" }).first().click();
  await page.locator(".paper .hit").first().waitFor();
  assert.ok(maps.length > 0 && maps.every((status) => status === 200), "the character map is there");
  assert.deepEqual(heard, []);
  await context.close();
}

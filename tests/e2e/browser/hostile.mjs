// What a document, a file name or a model must not do to the page: run, load, or lead elsewhere.

import assert from "node:assert/strict";
import { pdf, workbook } from "./files.mjs";
import { ingest, login, open, run, until, url } from "./page.mjs";

/** Each tries to run, load or leave by another door. */
const CORPUS = [
  "<script>window.taken=1</script>",
  "<img src=x onerror=window.taken=1>",
  "<svg onload=window.taken=1><a xlink:href='javascript:window.taken=1'>x</a></svg>",
  "<svg><animate attributeName=href values=javascript:window.taken=1 /><text>x</text></svg>",
  "<math><mtext></table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=window.taken=1&gt;'>",
  "<iframe srcdoc='<script>parent.taken=1</script>'></iframe>",
  "<a href='javascript:window.taken=1'>click</a>",
  "<form action=http://127.0.0.1:9/leak><input name=q><button>send</button></form>",
  "<style>body{background:url(http://127.0.0.1:9/leak.png)}</style>",
  "<link rel=stylesheet href=http://127.0.0.1:9/leak.css>",
  "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/leak'>",
  "<base href=http://127.0.0.1:9/>",
  "<details open ontoggle=window.taken=1>x</details>",
  "<video src=x onerror=window.taken=1></video><object data=http://127.0.0.1:9/leak></object>",
  "![x](http://127.0.0.1:9/leak.png)",
  "![x](javascript:window.taken=1)",
  "[x](javascript:window.taken=1) [y](  JaVaScRiPt:window.taken=1) [z](data:text/html,<script>window.taken=1</script>)",
  "[x]: javascript:window.taken=1\n\n[x]",
  "<javascript:window.taken=1> <http://127.0.0.1:9/auto>",
  "`</code><img src=x onerror=window.taken=1>`",
  "```html\n</code></pre><script>window.taken=1</script>\n```",
  "| a |\n| - |\n| <img src=x onerror=window.taken=1> |",
  '<button class="cite" data-cite="1" onclick="window.taken=1">1</button>',
  '"><img src=x onerror=window.taken=1><"',
  "{{constructor.constructor('window.taken=1')()}} ${window.taken=1}",
  "<p style='position:fixed;inset:0;background:red' id=app class=lost>over everything</p>",
];
const NAME = "<img src=x onerror=window.taken=1>.md";
/** What no page of ours holds, wherever it comes from. */
const ODD =
  "main img, main iframe, main object, main video, main form[action], main style, main link, main meta, base, main math, main [onerror], main [onload], main [onclick]";
const TITLE = "# <script>window.taken=1</script> <img src=x onerror=window.taken=1>";

await run(async (browser) => {
  const text = `${TITLE}\n\nThe lighthouse keeper's word is marmalade. ${CORPUS.slice(0, 3).join(" ")}\n\n${CORPUS.join("\n\n")}\n`;
  await ingest("initial", NAME, text);
  await documents(browser);
  await files(browser);
  await answers(browser);
  await policy(browser);
});

/** Nothing that only hostile markup would make, nothing run, nothing asked of anybody else. */
async function unharmed(page, heard, where) {
  const made = await page.evaluate((odd) => {
    const links = [...document.querySelectorAll("main a")].map((link) => link.href);
    return {
      taken: window.taken ?? 0,
      odd: [...document.querySelectorAll(odd)].map((element) => element.outerHTML),
      // `svg` are the page's own drawings: none of them holds more than a path.
      drawn: document.querySelectorAll("main svg > :not(path), main script").length,
      links: links.filter((href) => href && !/^(https?|mailto):/.test(href)),
    };
  }, ODD);
  assert.deepEqual({ where, ...made, heard }, { where, taken: 0, odd: [], drawn: 0, links: [], heard: [] });
}

/** Names, headings, chunks and citations of a hostile document, on every page that shows them. */
async function documents(browser) {
  const { context, page, heard } = await open(browser, { locale: "en-US" });
  await page.goto(url);
  await login(page);
  await page.locator("[data-main-input]").fill("What is the lighthouse keeper's word? <img src=x onerror=window.taken=1>");
  await page.keyboard.press("Enter");
  await page.locator(".source").first().waitFor();
  await page.locator("[data-send]").waitFor();
  assert.match(await page.locator(".source .where").first().textContent(), /<img src=x onerror/, "a name is shown as text");
  await page.locator("details summary").first().click();
  await unharmed(page, heard, "chat");
  await page.locator(".source").first().click();
  await page.locator(".source-pane mark").waitFor();
  await unharmed(page, heard, "source");
  await page.goto(`${url}/#/kb/initial`);
  await page.locator("[data-document] a").first().click();
  await page.locator("[data-chunk]").first().waitFor();
  await unharmed(page, heard, "document");
  await page.goto(`${url}/#/test?kb=initial`);
  await page.locator("[data-main-input]").fill("marmalade");
  await page.locator("form .primary").click();
  await page.locator("tr.best").waitFor();
  await unharmed(page, heard, "test");
  await page.goto(`${url}/#/system`);
  await page.locator(".tiles").waitFor();
  await unharmed(page, heard, "system");
  for (const odd of ["kb/%3Cimg%20src=x%20onerror=window.taken=1%3E", "kb/initial/doc/%3Cscript%3E", "chat/%22%3E%3Cimg%20src=x%20onerror=window.taken=1%3E/x", "%E0%A4%A"]) {
    await page.goto(`${url}/#/${odd}`);
    await page.locator("main").waitFor();
    await unharmed(page, heard, odd);
  }
  await context.close();
}

/** What other programs write into files: names of sheets, metadata of a PDF, the title of a web page. */
async function files(browser) {
  const [first, second] = [CORPUS[1], CORPUS[6]];
  // A sheet's name has no more than 31 letters and none of these: [ ] : * ? / \\
  const sheet = "<img src=x onerror=taken=1>";
  const given = {
    "sheet.xlsx": workbook({ other: [["nothing", "here"]], [sheet]: [["name", "word"], ["the ferryman of Brackwater", `juniper ${first}`]] }),
    "metadata.pdf": pdf(["The cooper of Brackwater says thimble.", second], { Title: first, Author: second, Subject: CORPUS[0], Keywords: CORPUS[2] }),
    "page.html": `<!doctype html><title>${first.replaceAll("<", "&lt;")} ${second.replaceAll("<", "&lt;")}</title><h1>&lt;script&gt;window.taken=1&lt;/script&gt;</h1><p>The chandler of Brackwater says pumpernickel. ${CORPUS.slice(0, 9).join(" ")}</p>`,
  };
  const { context, page, heard } = await open(browser, { locale: "en-US" });
  await page.goto(url);
  await login(page);
  await page.locator("[data-kb-picker]").waitFor();
  for (const [name, bytes] of Object.entries(given)) {
    await ingest("initial", name, bytes);
    await page.goto(`${url}/#/kb/initial`);
    await page.locator("[data-document] a", { hasText: name }).click();
    await page.locator("[data-chunk]").first().waitFor();
    await unharmed(page, heard, name);
    // What they say is on the page, as the text that it is.
    assert.match(await page.locator(".document > header").textContent(), /<img src=x onerror/);
    if (name.endsWith(".pdf")) {
      await page.locator("header [role=group] button").last().click();
      await page.locator(".paper canvas").waitFor();
      await unharmed(page, heard, `${name}, its page`);
    }
  }
  await page.goto(`${url}/#/chat/initial`);
  for (const [who, word] of [["ferryman", "sheet.xlsx"], ["cooper", "metadata.pdf"], ["chandler", "page.html"]]) {
    await page.locator("[data-fresh]").click();
    await page.locator("[data-main-input]").fill(`What does the ${who} of Brackwater say?`);
    await page.keyboard.press("Enter");
    await page.locator("[data-send]").waitFor();
    const source = page.locator(".source", { hasText: word });
    await source.first().waitFor();
    await source.first().click();
    await page.locator(".source-pane mark, .source-pane .hit").first().waitFor();
    await unharmed(page, heard, `citation of ${word}`);
  }
  await context.close();
}

/** Runs in the page: answers a question with `window.body` in pieces that keep to no border, and looks at each state. */
function streamed(ODD) {
  const asked = window.fetch;
  const PIECE = 37;
  window.fetch = (input, init) => {
    if (!(input instanceof Request) || !input.url.endsWith("/ask")) return asked(input, init);
    const bytes = new TextEncoder().encode(window.body);
    const seen = (window.seen = { drawn: 0, odd: [] });
    let at = 0;
    let last = "";
    const body = new ReadableStream({
      async pull(stream) {
        // Only now, so that what came before is on the page.
        await new Promise((wake) => setTimeout(wake));
        const prose = [...document.querySelectorAll(".prose")].at(-1);
        if (prose && prose.innerHTML !== last) {
          last = prose.innerHTML;
          seen.drawn += 1;
          seen.odd.push(...[...prose.querySelectorAll(ODD.replaceAll("main ", ""))].map((element) => element.outerHTML));
        }
        stream.enqueue(bytes.slice(at, at + PIECE));
        at += PIECE;
        if (at >= bytes.length) stream.close();
      },
    });
    return Promise.resolve(new Response(body, { headers: { "content-type": "text/event-stream" } }));
  };
}

/** A model that writes markup letter by letter: half a tag must do no more than a whole one. */
async function answers(browser) {
  const { context, page, heard } = await open(browser, { locale: "en-US" });
  const citation = { document: NAME, document_id: "0", chunk: "0", start: 0, end: 1, quote: CORPUS[1], passage: CORPUS[1], score: 1, heading: CORPUS[0] };
  await page.addInitScript(streamed, ODD);
  await page.goto(url);
  await login(page);
  for (const [i, text] of CORPUS.entries()) {
    const answer = `${text}\n\nand [1] [2]`;
    const start = { refused: false, citations: [citation], model: CORPUS[1], demonstration: true };
    const event = (name, data) => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
    const pieces = [...answer].map((text) => event("token", { text })).join("");
    const done = { ...start, answer, trace: { steps: [] }, usage: { prompt_tokens: 1, output_tokens: 1 }, finish_reason: "stop" };
    await page.evaluate((body) => (window.body = body), event("citations", start) + pieces + event("done", done));
    await page.locator("[data-main-input]").fill(`question ${i}`);
    await page.keyboard.press("Enter");
    await until(async () => (await page.locator(".answer[aria-busy=false]").count()) === i + 1);
    await unharmed(page, heard, text);
    const { drawn, odd } = await page.evaluate(() => window.seen);
    assert.ok(drawn > text.length / 2, "half a tag was on the page too");
    assert.deepEqual({ text, odd }, { text, odd: [] });
  }
  // Of the numbers only the known one is a way to a source.
  assert.equal(await page.locator(".prose").last().locator("[data-cite='1']").count(), 1);
  assert.equal(await page.locator(".prose").last().locator("[data-cite='2']").count(), 0);
  for (const link of await page.locator(".prose a").all()) {
    assert.match(await link.getAttribute("rel"), /noopener noreferrer/);
    assert.equal(await link.getAttribute("target"), "_blank");
  }
  await context.close();
}

/** Were markup to slip in all the same, the content policy would stop it. */
async function policy(browser) {
  const { context, page } = await open(browser);
  const refused = [];
  page.on("console", (message) => refused.push(message.text()));
  await page.goto(url);
  await page.locator("#login-form").waitFor();
  await page.evaluate(() => {
    const holder = document.createElement("div");
    document.body.append(holder);
    holder.innerHTML = "<img src=x onerror=window.taken=1><img src=http://127.0.0.1:9/leak.png>";
    const script = document.createElement("script");
    script.textContent = "window.taken=2";
    document.body.append(script);
  });
  await until(() => refused.filter((text) => text.includes("Content Security Policy")).length >= 2);
  assert.equal(await page.evaluate(() => window.taken ?? 0), 0);
  await context.close();
}

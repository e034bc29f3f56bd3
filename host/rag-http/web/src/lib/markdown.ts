// Turns what a model or a document says into safe markup: no image, no style, no script, no form, no foreign address.

import DOMPurify from "dompurify";
import { Marked } from "marked";

/** `[3]` in an answer stands for the third citation. */
const CITE = /^\[(\d{1,3})\]/;

const escaped = (text: string) =>
  text.replace(/[&<>"']/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" })[c] ?? c);

const marked = new Marked({
  gfm: true,
  breaks: true,
  extensions: [
    {
      name: "cite",
      level: "inline",
      start: (text) => text.search(/\[\d{1,3}\]/),
      tokenizer(text) {
        const found = CITE.exec(text);
        return found ? { type: "cite", raw: found[0], number: found[1] } : undefined;
      },
      renderer: (token) => `<button type="button" class="cite" data-cite="${token.number}">${token.number}</button>`,
    },
  ],
  renderer: {
    // HTML in an answer is shown as the text that it is.
    html: ({ text }) => escaped(text),
    // An image would tell its server who reads what: its name is shown instead.
    image: ({ text, href }) => `<span class="image">▢ ${escaped(text || href)}</span>`,
  },
});

const purify = DOMPurify(window);

const ALLOWED = {
  ALLOWED_TAGS:
    "a b blockquote br button code del em h1 h2 h3 h4 h5 h6 hr i li ol p pre s span strong sub sup table tbody td th thead tr ul".split(
      " ",
    ),
  ALLOWED_ATTR: ["href", "title", "class", "start", "align", "data-cite", "type"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  // Numbers and words, no addresses: without this the rule above would take them away.
  ADD_URI_SAFE_ATTR: ["align", "data-cite", "start", "type"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
};

purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  }
});

/** Markup for `{@html}`; `citations` says how many numbers are known, others stay text. */
export function markup(text: string, citations = 0): string {
  const clean = purify.sanitize(marked.parse(text, { async: false }), { ...ALLOWED, RETURN_DOM_FRAGMENT: true });
  for (const button of clean.querySelectorAll<HTMLElement>("button")) {
    const number = Number(button.dataset.cite);
    if (!(number >= 1 && number <= citations)) button.replaceWith(`[${button.textContent}]`);
  }
  const holder = document.createElement("div");
  holder.append(clean);
  return holder.innerHTML;
}

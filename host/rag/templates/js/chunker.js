// A chunker: one chunk a paragraph. Change `paragraphs`; the rest is what every chunker needs.
import { settings } from 'ragkit:host/config@0.1.0';

const bytes = new TextEncoder();

// As the host understands it: `trim` takes a byte order mark for white space, the host does not.
const isBlank = (line) => /^[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*$/.test(line);

// Byte ranges of what stands between blank lines: in order, none blank, together all of the text that is not blank.
function paragraphs(text) {
  const found = [];
  let start = 0;
  let open = false;
  for (const line of text.split('\n')) {
    const end = start + bytes.encode(line).length;
    const blank = isBlank(line);
    if (!blank && open) found[found.length - 1].end = end;
    else if (!blank) found.push({ start, end });
    open = !blank;
    // The line end is one byte.
    start = end + 1;
  }
  return found;
}

export const info = {
  describe() {
    return { id: 'PLUGIN_ID', version: '0.1.0', description: 'PLUGIN_DESCRIPTION' };
  },
};

export const chunker = {
  split(document) {
    const given = settings();
    if (given.trim() !== '{}') {
      const message = `this chunker has no settings; it was given ${given}`;
      throw { code: 'invalid-input', message, retryable: false };
    }
    return paragraphs(document.text).map((span) => ({ span, parent: undefined, context: undefined }));
  },
};

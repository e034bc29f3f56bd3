// The text around a place in a document, cut exactly at the bytes that a citation names.

import { api, must } from "../api/client";

export type Passage = { before: string; marked: string; after: string; start: number; end: number; bytes: number };

/** The words between `start` and `end` with up to `around` bytes on each side. */
export async function passage(
  kb: string,
  document: string,
  start: number,
  end: number,
  around: { before: number; after: number },
): Promise<Passage> {
  const read = async (start: number, end: number) => {
    const params = { path: { kb, document }, query: { start, end } };
    return must(api.GET("/api/v1/kbs/{kb}/documents/{document}/text", { params }));
  };
  const from = Math.max(0, start - around.before);
  // Three reads, so that no offset must be counted in a text whose edges were widened to whole characters.
  const [before, marked, after] = await Promise.all([
    from < start ? read(from, start) : undefined,
    read(start, end),
    around.after > 0 ? read(end, end + around.after) : undefined,
  ]);
  return {
    before: before?.text ?? "",
    marked: marked.text,
    after: after?.text ?? "",
    start: from,
    end: Math.min(marked.text_bytes, end + around.after),
    bytes: marked.text_bytes,
  };
}

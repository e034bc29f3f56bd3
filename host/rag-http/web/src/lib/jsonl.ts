// Which lines of a JSONL text are no examples to learn from, before anything is sent.

import type { Word } from "./words.svelte";

export type BadLine = { line: number; word: Word; detail: string };

export function badLines(text: string): BadLine[] {
  return text.split("\n").flatMap((line, i) => {
    const wrong = line.trim() ? wrongWith(line) : undefined;
    return wrong ? [{ line: i + 1, ...wrong }] : [];
  });
}

function wrongWith(line: string): Omit<BadLine, "line"> | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    return { word: "tune.notJson", detail: error instanceof Error ? error.message : "" };
  }
  const text = (value as { text?: unknown } | null)?.text;
  if (typeof text !== "string") return { word: "tune.noText", detail: "" };
  return text.trim() ? undefined : { word: "tune.emptyText", detail: "" };
}

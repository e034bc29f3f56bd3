// Every sentence of the page in the reader's language.

import { Refused } from "../api/client";
import { settings } from "./settings.svelte";
import { en } from "./words/en";
import { pluginsZh } from "./words/plugins-zh";
import { zh } from "./words/zh";

export type Word = keyof typeof zh;

const words = { zh, en };

/** The sentence under a name, with {0}, {1}, … filled in; `{0|document|documents}` is the word for one or for more. */
export function t(name: Word, ...values: (string | number)[]): string {
  const value = (at: string) => String(values[Number(at)] ?? `{${at}}`);
  return words[settings.language][name].replace(/\{(\d)(?:\|([^|}]*)\|([^}]*))?\}/g, (_, at: string, one?: string, more?: string) =>
    one === undefined || more === undefined ? value(at) : value(at) === "1" ? one : more,
  );
}

/** The sentence for a word that the server uses, or the word itself when it is new. */
export function named(prefix: string, value: string): string {
  const name = `${prefix}.${value}`;
  return name in words[settings.language] ? t(name as Word) : value;
}

/** What a plugin is, and in which language that is said. */
export function described(plugin: { id: string; description: string }): { lang: string; text: string } {
  const known = settings.language === "zh" ? pluginsZh[plugin.id] : undefined;
  return known ? { lang: "zh-CN", text: known } : { lang: "en", text: plugin.description };
}

/** What went wrong, first in the reader's language, then as the server says it. */
export function explain(error: unknown): { title: string; detail: string } {
  if (error instanceof Refused) {
    const known = `error.${error.code}` as Word;
    const title = known in words.zh ? t(known) : t("error.internal");
    const wait = error.waitS > 0 ? ` ${t("waitSeconds", error.waitS)}` : "";
    const id = error.status >= 500 && error.requestId ? ` (${error.requestId})` : "";
    return { title: title + wait, detail: error.message + id };
  }
  return { title: t("error.internal"), detail: error instanceof Error ? error.message : "" };
}

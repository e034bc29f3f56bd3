// Numbers, sizes and times as the reader's language writes them.

import { settings } from "./settings.svelte";
import { t } from "./words.svelte";

const locale = () => (settings.language === "zh" ? "zh-CN" : "en");

export const count = (value: number): string => new Intl.NumberFormat(locale()).format(value);

export const score = (value: number): string =>
  new Intl.NumberFormat(locale(), { minimumFractionDigits: 3, maximumFractionDigits: 3 }).format(value);

export const percent = (share: number): string =>
  new Intl.NumberFormat(locale(), { style: "percent", maximumFractionDigits: 1 }).format(share);

export function bytes(value: number): string {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte"] as const;
  let size = value;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return new Intl.NumberFormat(locale(), {
    style: "unit",
    unit: units[unit] ?? "byte",
    unitDisplay: "short",
    maximumFractionDigits: size < 10 && unit > 0 ? 1 : 0,
  }).format(size);
}

export const time = (ms: number): string =>
  new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" }).format(ms);

/** Down to the second, for logs. */
export const clock = (ms: number): string =>
  new Intl.DateTimeFormat(locale(), { month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false }).format(ms);

/** "3 minutes ago", and the date once that says more. */
export function ago(ms: number, now = Date.now()): string {
  const seconds = Math.round((ms - now) / 1000);
  const relative = new Intl.RelativeTimeFormat(locale(), { numeric: "auto" });
  if (seconds > -60) return t("justNow");
  if (seconds > -3600) return relative.format(Math.round(seconds / 60), "minute");
  if (seconds > -86400) return relative.format(Math.round(seconds / 3600), "hour");
  return new Intl.DateTimeFormat(locale(), { dateStyle: "medium" }).format(ms);
}

export function duration(seconds: number): string {
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  const parts: [number, string][] = [
    [days, "day"],
    [hours, "hour"],
    [minutes, "minute"],
    [Math.floor(seconds) % 60, "second"],
  ];
  const shown = parts.filter(([value]) => value > 0).slice(0, 2);
  const say = ([value, unit]: [number, string]) =>
    new Intl.NumberFormat(locale(), { style: "unit", unit, unitDisplay: "short" }).format(value);
  return (shown.length > 0 ? shown : [[0, "second"] as [number, string]]).map(say).join(" ");
}

/** The part of a media type that people know. */
export function kind(mediaType: string, name: string): string {
  const ending = /\.([a-z0-9]{1,5})$/i.exec(name)?.[1];
  return (ending ?? mediaType.split(";")[0]?.split("/")[1] ?? "").toUpperCase();
}

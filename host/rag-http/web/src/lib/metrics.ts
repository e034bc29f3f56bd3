// Reads the Prometheus text that the server keeps: a name, labels, a number a line.

export type Sample = { name: string; labels: Record<string, string>; value: number };

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{([^}]*)\})?\s+(\S+)/;

export function samples(text: string): Sample[] {
  return text.split("\n").flatMap((line) => {
    const [, name, labels = "", value] = (line.startsWith("#") ? null : LINE.exec(line)) ?? [];
    if (!name || value === undefined) return [];
    const pairs = [...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, key = "", text = ""]) => [key, text]);
    return [{ name, labels: Object.fromEntries(pairs) as Record<string, string>, value: Number(value) }];
  });
}

/** The sum of all samples of a name whose labels fit. */
export function sum(all: Sample[], name: string, fits: (labels: Record<string, string>) => boolean = () => true): number {
  return all.filter((sample) => sample.name === name && fits(sample.labels)).reduce((total, { value }) => total + value, 0);
}

// The files of a drop, those inside dropped folders included.

/** Files of one drop at most; more is a slip, not a wish. */
const FILES_MAX = 10_000;

export async function dropped(data: DataTransfer): Promise<File[]> {
  const entries = [...data.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  if (entries.length === 0) return [...data.files];
  const files: File[] = [];
  await collect(entries, files);
  return files;
}

async function collect(entries: FileSystemEntry[], files: File[]): Promise<void> {
  for (const entry of entries) {
    if (files.length >= FILES_MAX) return;
    if (entry instanceof FileSystemFileEntry) files.push(await named(entry));
    else if (entry instanceof FileSystemDirectoryEntry) await collect(await children(entry), files);
  }
}

/** With its path in the dropped folder as its name. */
async function named(entry: FileSystemFileEntry): Promise<File> {
  const file = await new Promise<File>((resolve, reject) => entry.file(resolve, reject));
  const path = entry.fullPath.replace(/^\//, "");
  return path === file.name ? file : new File([file], path, { type: file.type });
}

/** A browser hands a folder's entries over in pieces; an empty one is the end. */
async function children(folder: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = folder.createReader();
  const found: FileSystemEntry[] = [];
  for (;;) {
    const piece = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (piece.length === 0) return found;
    found.push(...piece);
  }
}

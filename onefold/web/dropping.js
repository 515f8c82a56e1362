/** What a person dropped or chose, as a flat list of files with where they go. */

/**
 * @typedef {{parts: string[], file: File|null}} Found `parts`: names from where it is put; `file` null: an empty directory
 */

/** @param {FileList} files of an input @returns {Found[]} */
export function fromInput(files) {
  return [...files].map((file) => ({ parts: (file.webkitRelativePath || file.name).split("/"), file }));
}

/**
 * Must be called before the event of the drop ends: its items are gone then.
 * @param {DataTransfer} transfer @returns {Promise<Found[]>}
 */
export async function dropped(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const roots = items.map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const found = await Promise.all(roots.filter(Boolean).map((root) => (root instanceof File ? [{ parts: [root.name], file: root }] : walked(root, []))));
  return found.flat();
}

/** @param {FileSystemEntry} entry @param {string[]} above @returns {Promise<Found[]>} */
async function walked(entry, above) {
  const parts = [...above, entry.name];
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ parts, file }];
  }
  const inside = await children(entry);
  if (!inside.length) return [{ parts, file: null }];
  return (await Promise.all(inside.map((child) => walked(child, parts)))).flat();
}

/** A reader gives at most a hundred at a time. */
async function children(directory) {
  const reader = directory.createReader();
  const all = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return all;
    all.push(...some);
  }
}

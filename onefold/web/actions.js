/** What can be done to a file or directory: each asks what it must, does it, and says so. */

import { ask, field } from "./dialogs.js";
import { attempt, done } from "./notices.js";
import { childOf, encoded, parentOf, shown, wrongName } from "./paths.js";

/** @param {import("./files.js").Entry} entry */
export function canDownload(entry) {
  return entry.kind === "file";
}

/** @param {import("./app.js").App} app @param {import("./files.js").Entry} entry */
export function downloadFile(app, entry) {
  app.transfers.download(`files/${entry.href}`, entry.name, entry.size);
}

/** @param {import("./app.js").App} app @param {string} directory */
export async function makeDirectory(app, directory) {
  const name = field("Name", "");
  const check = () => wrongName(name.input.value);
  if (!(await ask({ title: "New folder", yes: "Make it", fields: [name.element], check }))) return;
  await attempt(async () => {
    await app.api.ask("PUT", `directories/${childOf(directory, encodeURIComponent(name.input.value))}`);
    app.touched(directory);
    done(`The folder ${name.input.value} is on every node.`);
  });
}

/** @param {import("./app.js").App} app @param {import("./files.js").Entry} entry */
export async function renameEntry(app, entry) {
  const above = parentOf(entry.href);
  const name = field("Name", entry.name);
  const folder = field("In folder", `/${shown(above)}`);
  const check = () => wrongName(name.input.value);
  if (!(await ask({ title: `Rename or move ${entry.name}`, yes: "Rename", fields: [name.element, folder.element], check }))) return;
  const last = name.input.value === entry.name ? entry.href.slice(above ? above.length + 1 : 0) : encodeURIComponent(name.input.value);
  const where = folder.input.value === `/${shown(above)}` ? above : encoded(folder.input.value);
  const to = childOf(where, last);
  if (to === entry.href) return;
  await attempt(async () => {
    await app.api.post("move", { from: entry.href, to, ...(entry.digest ? { if_match: `"${entry.digest}"` } : {}) });
    app.touched(above, where);
    done(`${entry.name} is ${shown(to)} now.`);
    if (location.hash === `#file/${entry.href}`) location.hash = `#file/${to}`;
  });
}

/** @param {import("./app.js").App} app @param {import("./files.js").Entry} entry @returns {Promise<boolean>} */
export async function removeEntry(app, entry) {
  const directory = entry.kind === "directory";
  const text = directory ? "The folder and everything in it is removed on every node." : "It is removed on every node.";
  if (!(await ask({ title: `Delete ${entry.name}?`, text, yes: "Delete", danger: true }))) return false;
  return attempt(async () => {
    const headers = entry.digest ? { "If-Match": `"${entry.digest}"` } : {};
    await app.api.ask("DELETE", `files/${entry.href}${directory ? "?recursive=true" : ""}`, { headers });
    app.touched(parentOf(entry.href));
    done(`${entry.name} is deleted.`);
  });
}

/** One file or directory in a dialog: a look into it, what it is, what can be done, what happened to it. */

import { canDownload, downloadFile, removeEntry, renameEntry } from "./actions.js";
import { historyTable } from "./changes.js";
import { dialog } from "./dialogs.js";
import { fromNs, h, icon, named, size, time } from "./dom.js";
import { sentence } from "./notices.js";
import { parentOf, shown } from "./paths.js";
import { preview } from "./preview.js";

const HISTORY_SHOWN = 50;
const POSITIONS = 2 ** 20; // a version is the index of its change, and its position among so many there

/**
 * @param {import("./app.js").App} app @param {import("./files.js").Entry} entry @param {() => void} [closed]
 */
export function openViewer(app, entry, closed = () => {}) {
  const ended = new AbortController();
  const look = h("div", { class: "look" });
  const past = h("div", { class: "past" }, h("p", { class: "quiet" }, "Loading …"));
  const note = h("p", { class: "notice", role: "status", hidden: true });
  const element = dialog(
    entry.name,
    { class: "viewer" },
    note,
    entry.kind === "file" ? look : null,
    h("div", { class: "toolbar" }, ...buttons(app, entry, () => element.close())),
    facts(entry),
    h("section", {}, h("h3", {}, "History"), past),
  );
  element.addEventListener("close", () => {
    ended.abort();
    closed();
  });
  const touched = ({ detail }) => {
    const change = detail.changes.findLast((each) => each.href === entry.href);
    if (!change) return;
    note.hidden = false;
    note.textContent = change.verb === "removed" ? "This was just removed." : "This just changed: here is the new version.";
    if (change.verb !== "removed") fill({ ...entry, size: change.size ?? entry.size });
  };
  app.model.addEventListener("touched", touched, { signal: ended.signal });
  const fill = (now) => {
    if (now.kind === "file") part(look, () => preview(app.api, `files/${now.href}`, now.size, now.name, ended.signal));
    part(past, async () => {
      const { changes } = await app.api.get(`history/${now.href}?limit=${HISTORY_SHOWN}`, ended.signal);
      return changes.length ? historyTable(changes, false) : h("p", { class: "quiet" }, "Nothing is known of its past.");
    });
  };
  fill(entry);
  return element;
}

/** Fill one part of the dialog; what fails is said in its place. */
async function part(place, made) {
  try {
    place.replaceChildren(await made());
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!error.title) throw error;
    place.replaceChildren(h("p", { class: "empty" }, `${sentence(error.title)} ${error.fix ? sentence(error.fix) : ""}`));
  }
}

function buttons(app, entry, close) {
  const after = (action) => async () => {
    if (await action()) close();
  };
  return [
    canDownload(entry) ? h("button", { type: "button", class: "primary", onclick: () => downloadFile(app, entry) }, icon("down"), "Download") : null,
    h("button", { type: "button", onclick: after(() => renameEntry(app, entry)) }, icon("edit"), "Rename or move"),
    h("button", { type: "button", class: "risky", onclick: after(() => removeEntry(app, entry)) }, icon("drop"), "Delete"),
  ];
}

function facts(entry) {
  const modified = entry.mtime_ns === undefined ? entry.modified : fromNs(entry.mtime_ns);
  const pairs = [
    ["In", h("a", { href: `#files/${parentOf(entry.href)}` }, named(`/${shown(parentOf(entry.href))}`))],
    ["Kind", { file: "file", directory: "folder", symlink: "symbolic link" }[entry.kind]],
    entry.target ? ["Leads to", named(entry.target)] : null,
    entry.kind === "file" ? ["Size", `${size(entry.size)}${entry.size >= 1024 ? ` (${entry.size.toLocaleString()} bytes)` : ""}`] : null,
    entry.kind === "file" ? ["Modified", time(modified)] : null,
    entry.mode === undefined || entry.kind === "symlink" ? null : ["Permissions", h("code", {}, permissions(entry.mode))],
    entry.version ? ["Since change", String(Math.floor(Number(entry.version) / POSITIONS))] : null,
    entry.digest ? ["Digest", h("code", { class: "digest" }, entry.digest)] : null,
  ];
  return h("dl", { class: "facts-list" }, ...pairs.filter(Boolean).map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));
}

/** As `ls -l` shows them. @param {number} mode */
function permissions(mode) {
  return [6, 3, 0].map((shift) => ["r", "w", "x"].map((letter, at) => ((mode >> shift) & (4 >> at) ? letter : "-")).join("")).join("");
}

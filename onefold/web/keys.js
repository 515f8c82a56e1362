/** Keyboard shortcuts: single keys, so they can be switched off, and are silent while somebody types. */

import { dialog } from "./dialogs.js";
import { h } from "./dom.js";

const KEY = "onefold-shortcuts";

/** @type {[string, string, () => void][]} */
const SHORTCUTS = [
  ["1", "Overview", () => (location.hash = "#overview")],
  ["2", "Files", () => (location.hash = "#files/")],
  ["3", "Changes", () => (location.hash = "#changes")],
  ["4", "Kept aside", () => (location.hash = "#strays")],
  ["/", "Filter the files", () => press("filter")],
  ["u", "Upload files", () => press("upload")],
  ["n", "New folder", () => press("new-folder")],
  ["Backspace", "Go to the folder above", () => document.querySelector(".crumbs li:nth-last-child(2) a")?.click()],
  ["t", "Light or dark", () => press("theme-button")],
  ["?", "This help", () => showHelp()],
];
const IN_LISTS = [
  ["↑ ↓", "From one file to another"],
  ["← →", "Over what can be done with it"],
  ["Enter", "Open"],
  ["F2", "Rename or move"],
  ["Delete", "Delete"],
  ["Escape", "Close"],
];

/** Press, or enter, the control called `id` if it is there. */
function press(id) {
  const control = document.getElementById(id);
  if (control instanceof HTMLInputElement) control.focus();
  else control?.click();
}

function enabled() {
  return localStorage.getItem(KEY) !== "off";
}

/** @param {AbortSignal} signal */
export function listenToKeys(signal) {
  const pressed = (event) => {
    if (!enabled() || event.altKey || event.ctrlKey || event.metaKey || event.isComposing) return;
    if (document.querySelector("dialog[open]") || event.target.closest("input, textarea, select")) return;
    const found = SHORTCUTS.find(([key]) => key === event.key);
    if (!found) return;
    event.preventDefault();
    found[2]();
  };
  document.addEventListener("keydown", pressed, { signal });
}

export function showHelp() {
  const switched = h("input", { type: "checkbox", id: "shortcuts-on", onchange: () => localStorage.setItem(KEY, switched.checked ? "on" : "off") });
  switched.checked = enabled();
  const rows = (pairs) => pairs.map(([key, what]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)));
  dialog(
    "Keyboard",
    { class: "question" },
    h("h3", {}, "Anywhere"),
    h("dl", { class: "keys" }, ...rows(SHORTCUTS)),
    h("h3", {}, "In the list of files"),
    h("dl", { class: "keys" }, ...rows(IN_LISTS)),
    h("label", { class: "choice", for: "shortcuts-on" }, switched, "Single keys are shortcuts"),
  );
}

/** Short words to the person: a toast that can be seen, and the same for those who listen. */

import { byId, h, iconButton } from "./dom.js";

const SHOWN_MS = 5000;

/** @param {string} text */
export function say(text) {
  byId("said").textContent = text;
}

/** Something was done. @param {string} text */
export function done(text) {
  const toast = h("div", { class: "toast", role: "status" }, h("p", {}, text));
  show(toast);
  setTimeout(() => toast.remove(), SHOWN_MS);
}

/** Something failed: stays until it is closed. @param {any} error */
export function failed(error) {
  if (error.name === "AbortError") return;
  if (!("title" in error)) console.error(error);
  const title = error.title ?? "something in this page failed";
  const fix = error.title ? error.fix : "reload it";
  const toast = h(
    "div",
    { class: "toast bad", role: "alert" },
    h("p", {}, h("strong", {}, sentence(title)), fix ? ` ${sentence(fix)}` : ""),
    iconButton("close", "Close", () => toast.remove()),
  );
  show(toast);
}

/** Do it; say so if it fails. @param {() => Promise<any>} action @returns {Promise<boolean>} whether it was done */
export async function attempt(action) {
  try {
    await action();
    return true;
  } catch (error) {
    failed(error);
    return false;
  }
}

/** With a capital at its beginning and a full stop. @param {string} text */
export function sentence(text) {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(first) ? first : `${first}.`;
}

/** Toasts stand in the topmost dialog if there is one: what is outside of it cannot be reached. */
function show(toast) {
  const dialogs = document.querySelectorAll("dialog[open]");
  const place = dialogs.length ? dialogs[dialogs.length - 1] : byId("toasts");
  place.append(toast);
}

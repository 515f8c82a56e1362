/** What changed: the whole folder's history, newest first, and the newest changes live. */

import { count, delay, fromNs, h, named, size, time } from "./dom.js";
import { attempt } from "./notices.js";

const PAGE = 200;
const CHANGES_MAX = 1000; // that the API tells at once
const WORDS = {
  seed: "took in the first leader's folder",
};

/** One change of the live list. @param {import("./model.js").Entry} entry */
export function changeRow({ index, verb, path, href, many, node, ms }) {
  const what = path
    ? [h("span", { class: `verb ${verb}` }, verb), " ", href && verb !== "removed" ? h("a", { href: `#file/${href}`, "data-key": `change-${index}` }, named(path)) : named(path)]
    : [WORDS[verb] ?? verb];
  return h(
    "li",
    {},
    h("span", { class: "quiet index" }, String(index)),
    h("span", { class: "what" }, ...what, many > 1 ? h("span", { class: "quiet" }, ` and ${many - 1} more`) : null, node ? h("span", { class: "quiet" }, ` on ${node}`) : null),
    ms === null
      ? h("span", { class: "delay waiting" }, h("span", { class: "unseen" }, "on its way"), h("span", { "aria-hidden": "true" }, "…"))
      : h("span", { class: "delay", title: "on every node after" }, delay(ms)),
  );
}

/** A table of history, of one path or all. @param {any[]} changes @param {boolean} withPath */
export function historyTable(changes, withPath) {
  const head = ["Change", "What", withPath ? "Path" : null, "Where", "Size", "File time"].filter(Boolean);
  const rows = changes.map((change) =>
    h(
      "tr",
      {},
      h("td", { class: "quiet number" }, String(change.index)),
      h("td", { class: "verb-cell" }, h("span", { class: `verb ${change.verb}` }, change.verb)),
      withPath
        ? h("td", { class: "wide" }, change.verb === "removed" ? named(change.path) : h("a", { href: `#file/${change.href}` }, named(change.path)))
        : null,
      h("td", {}, change.node || "–"),
      h("td", { class: "number" }, change.size === null ? "–" : size(change.size)),
      h("td", {}, change.mtime_ns ? time(fromNs(change.mtime_ns)) : "–"),
    ),
  );
  return h(
    "table",
    { class: "history" },
    h("thead", {}, h("tr", {}, ...head.map((name) => h("th", { scope: "col", class: name === "Size" || name === "Change" ? "number" : "" }, name)))),
    h("tbody", {}, ...rows),
  );
}

/** The view of everything that changed. @param {import("./app.js").App} app @param {AbortSignal} signal */
export function changesView(app, signal) {
  const list = h("div", { class: "card flush" });
  const note = h("p", { class: "quiet" });
  const more = h("button", { type: "button", onclick: () => show(Math.min(limit + PAGE, CHANGES_MAX)) }, "Show more");
  let limit = PAGE;
  let due = 0;
  const show = (wanted) =>
    attempt(async () => {
      limit = wanted;
      const { changes } = await app.api.get(`history?limit=${limit}`, signal);
      list.replaceChildren(changes.length ? historyTable(changes, true) : h("p", { class: "empty" }, "Nothing has changed yet."));
      note.textContent = changes.length ? `The newest ${count(changes.length, "change")}, newest first.` : "";
      more.hidden = changes.length < limit || limit >= CHANGES_MAX;
    });
  const soon = () => {
    clearTimeout(due);
    due = setTimeout(() => show(limit), 300);
  };
  app.model.addEventListener("touched", soon, { signal });
  app.model.addEventListener("reset", soon, { signal });
  signal.addEventListener("abort", () => clearTimeout(due));
  const element = h("div", {}, h("h1", { tabindex: "-1" }, "Changes"), note, list, more);
  more.hidden = true;
  show(limit);
  return { title: "Changes", element };
}


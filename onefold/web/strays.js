/** What was kept aside on each node: looked at, restored, or dropped. */

import { ask, dialog, field } from "./dialogs.js";
import { count, h, icon, iconButton, named, size, time } from "./dom.js";
import { attempt, done } from "./notices.js";
import { childOf, encoded, lastOf, parentOf, shown, wrongName } from "./paths.js";
import { preview } from "./preview.js";

const ICONS = { directory: "folder", file: "file", symlink: "link" };

/**
 * @typedef {{id: string, node: string, path: string, href: string, kind: string, size: number, kept_at: number,
 *   reason: string}} Stray
 */

/** @param {import("./app.js").App} app @param {AbortSignal} signal */
export function straysView(app, signal) {
  const list = h("div", { class: "card flush" });
  const missing = h("p", { class: "notice", hidden: true });
  const omitted = h("p", { class: "quiet", hidden: true });
  let known = -1;
  const load = () =>
    attempt(async () => {
      const told = await app.api.get("strays", signal);
      missing.hidden = !told.missing.length;
      missing.textContent = `${told.missing.join(", ")} did not answer: what was kept aside there is not in this list.`;
      omitted.hidden = !told.omitted;
      omitted.textContent = `And ${told.omitted} older ones: restore or drop some of these, then they appear.`;
      list.replaceChildren(told.strays.length ? table(app, told.strays, load) : h("p", { class: "empty" }, "Nothing is kept aside."));
    });
  const counted = () => {
    const now = app.model.status.nodes.reduce((sum, node) => sum + (node.strays ?? 0), 0);
    if (now !== known) load();
    known = now;
  };
  app.model.addEventListener("status", counted, { signal });
  app.model.addEventListener("reset", load, { signal });
  const intro =
    "When a change cannot be replicated (an edit on a node that does not lead, or what a disk damaged), its bytes are kept aside on that node, so that nothing is lost.";
  const element = h("div", {}, h("h1", { tabindex: "-1" }, "Kept aside"), h("p", { class: "quiet lead" }, intro), missing, list, omitted);
  counted();
  return { title: "Kept aside", element };
}

/** @param {Stray[]} strays */
function table(app, strays, load) {
  const rows = strays.map((stray) => {
    const path = contentOf(stray);
    const name = shown(lastOf(stray.href));
    return h(
      "tr",
      {},
      h(
        "td",
        { class: "what" },
        h("button", { type: "button", class: "as-link", onclick: () => look(app, stray, load) }, icon(ICONS[stray.kind]), named(stray.path)),
        h("span", { class: "under quiet" }, `${stray.node}, ${size(stray.size)}, `, time(keptAt(stray))),
      ),
      h("td", { class: "node-name" }, stray.node),
      h("td", { class: "number size" }, size(stray.size)),
      h("td", { class: "number mtime_ns" }, time(keptAt(stray))),
      h(
        "td",
        { class: "acts" },
        h(
          "div",
          {},
          iconButton("return", `Restore ${name} from ${stray.node}`, () => restore(app, stray, load)),
          iconButton("down", `Download ${name} from ${stray.node}`, () => app.transfers.download(path, name, stray.size), { class: "bare quick" }),
          iconButton("drop", `Drop ${name} from ${stray.node}`, () => drop(app, stray, load)),
        ),
      ),
    );
  });
  const head = [["Stood at", ""], ["On", "node-name"], ["Size", "number size"], ["Kept since", "number mtime_ns"]];
  return h(
    "table",
    { class: "files strays" },
    h("caption", { class: "unseen" }, count(strays.length, "file")),
    h("thead", {}, h("tr", {}, ...head.map(([label, kind]) => h("th", { scope: "col", class: kind }, label)), h("th", { scope: "col", class: "acts" }, h("span", { class: "unseen" }, "Actions")))),
    h("tbody", {}, ...rows),
  );
}

function contentOf(stray) {
  return `strays/${encodeURIComponent(stray.node)}/${encodeURIComponent(stray.id)}`;
}

/** Unix milliseconds. @param {Stray} stray */
function keptAt(stray) {
  return stray.kept_at * 1000;
}

/** A look into it, with what can be done. */
function look(app, stray, load) {
  const ended = new AbortController();
  const content = h("div", { class: "look" }, h("p", { class: "quiet" }, "Loading …"));
  const then = (action) => async () => {
    if (await action(app, stray, load)) element.close();
  };
  const element = dialog(
    stray.path,
    { class: "viewer" },
    h("p", { class: "quiet" }, `Kept aside on ${stray.node}`, stray.reason ? `: ${stray.reason}` : ""),
    content,
    h(
      "div",
      { class: "toolbar" },
      h("button", { type: "button", class: "primary", onclick: then(restore) }, icon("return"), "Restore"),
      h("button", { type: "button", onclick: () => app.transfers.download(contentOf(stray), shown(lastOf(stray.href)), stray.size) }, icon("down"), "Download"),
      h("button", { type: "button", class: "risky", onclick: then(drop) }, icon("drop"), "Drop"),
    ),
  );
  element.addEventListener("close", () => ended.abort());
  if (stray.kind === "file") {
    attempt(async () => content.replaceChildren(await preview(app.api, contentOf(stray), stray.size, stray.path, ended.signal)));
  } else {
    content.replaceChildren(h("p", { class: "quiet" }, stray.kind === "directory" ? "A folder." : "A symbolic link."));
  }
}

/** @param {Stray} stray @returns {Promise<boolean>} */
async function restore(app, stray, load) {
  const above = parentOf(stray.href);
  const name = field("As", shown(lastOf(stray.href)));
  const folder = field("In folder", `/${shown(above)}`);
  const text = "It becomes the newest version at that place, on every node.";
  const check = () => wrongName(name.input.value);
  if (!(await ask({ title: `Restore ${shown(lastOf(stray.href))}`, text, yes: "Restore", fields: [name.element, folder.element], check }))) return false;
  const last = name.input.value === shown(lastOf(stray.href)) ? lastOf(stray.href) : encodeURIComponent(name.input.value);
  const where = folder.input.value === `/${shown(above)}` ? above : encoded(folder.input.value);
  const to = childOf(where, last);
  return attempt(async () => {
    await app.api.post(`${contentOf(stray)}/restore`, to === stray.href ? {} : { to });
    done(`${shown(to)} is restored on every node.`);
    load();
  });
}

/** @param {Stray} stray @returns {Promise<boolean>} */
async function drop(app, stray, load) {
  const text = `These bytes of ${stray.path} are on ${stray.node} only. They cannot be brought back.`;
  if (!(await ask({ title: "Drop it for good?", text, yes: "Drop", danger: true }))) return false;
  return attempt(async () => {
    await app.api.ask("DELETE", contentOf(stray));
    done(`What was kept aside of ${stray.path} is dropped.`);
    load();
  });
}

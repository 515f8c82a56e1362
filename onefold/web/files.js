/** The file browser: one directory as a list, its path as crumbs, and what can be done there. */

import { count, fromNs, h, icon, iconButton, named, redraw, size, time } from "./dom.js";
import { canDownload, downloadFile, makeDirectory, removeEntry, renameEntry } from "./actions.js";
import { dropped, fromInput } from "./dropping.js";
import { attempt } from "./notices.js";
import { childOf, parentOf, shown, within } from "./paths.js";
import { openViewer } from "./viewer.js";

const SOON_MS = 200;
const ICONS = { directory: "folder", file: "file", symlink: "link" };
const COLUMNS = [
  ["name", "Name"],
  ["size", "Size"],
  ["mtime_ns", "Modified"],
];

/**
 * @typedef {{name: string, href: string, kind: "file"|"directory"|"symlink", size: number, mode: number,
 *   mtime_ns: number, digest: string|null, target: string|null, version: string, id: string}} Entry
 */

/**
 * @param {import("./app.js").App} app @param {AbortSignal} signal
 * @param {string} directory @param {string} opened href of the file that is looked at; "" for none
 */
export function filesView(app, signal, directory, opened = "") {
  const view = new Browser(app, signal, directory);
  view.load().then(() => view.open(opened));
  return { title: directory ? shown(directory) : "Files", element: view.element, browser: view };
}

class Browser {
  /** @type {Entry[]} */ entries = [];
  /** @type {string|null} where the next page begins */ next = null;
  sort = { by: "name", down: false };
  wanted = "";
  /** @type {string} the row that Tab leads to */ current = "";
  due = 0;

  constructor(app, signal, directory) {
    this.app = app;
    this.signal = signal;
    this.directory = directory;
    this.filter = h("input", { id: "filter", type: "search", placeholder: "Filter", "aria-label": "Filter by name", oninput: () => this.filtered() });
    this.pick = h("input", { id: "pick-files", type: "file", multiple: true, class: "unseen", tabindex: "-1", "aria-hidden": "true" });
    this.pickFolder = h("input", { id: "pick-folder", type: "file", webkitdirectory: true, class: "unseen", tabindex: "-1", "aria-hidden": "true" });
    for (const input of [this.pick, this.pickFolder]) input.addEventListener("change", () => this.picked(input));
    this.note = h("p", { class: "quiet", id: "files-note" });
    this.body = h("tbody", {});
    this.head = h("tr", {});
    this.more = h("button", { type: "button", hidden: true, onclick: () => this.loadMore() }, "Show more");
    this.table = h("table", { class: "files", "aria-describedby": "files-note" }, h("thead", {}, this.head), this.body);
    this.body.addEventListener("keydown", (event) => this.keyed(event));
    this.body.addEventListener("focusin", (event) => this.focused(event));
    this.element = this.whole();
    this.listenToDrops();
    const soon = () => {
      clearTimeout(this.due);
      this.due = setTimeout(() => this.load(), SOON_MS);
    };
    app.model.addEventListener(
      "touched",
      ({ detail }) => {
        const moved = detail.changes.some((change) => change.verb === "moved"); // from where, nobody tells
        if (detail.all || moved || detail.hrefs.some((href) => this.concerns(href))) soon();
      },
      { signal },
    );
    app.model.addEventListener("reset", soon, { signal });
    signal.addEventListener("abort", () => clearTimeout(this.due));
  }

  /** Whether a change at `href` shows here: in this directory, below an entry that is not listed yet, or above. */
  concerns(href) {
    if (parentOf(href) === this.directory || within(this.directory, href)) return true;
    return within(href, this.directory) && !this.entries.some((entry) => within(href, entry.href));
  }

  whole() {
    const primary = h("button", { id: "upload", class: "primary", type: "button", onclick: () => this.pick.click() }, icon("up"), "Upload");
    const folder = h("button", { id: "upload-folder", type: "button", onclick: () => this.pickFolder.click() }, icon("up"), "Upload folder");
    const make = h("button", { id: "new-folder", type: "button", onclick: () => makeDirectory(this.app, this.directory) }, icon("plus"), "New folder");
    return h(
      "div",
      { class: "browser" },
      crumbs(this.directory),
      h("div", { class: "toolbar" }, primary, folder, make, this.pick, this.pickFolder, this.filter),
      h("div", { class: "card flush" }, this.table),
      this.note,
      this.more,
      h("p", { class: "drop-hint", "aria-hidden": "true" }, icon("up"), "Drop to upload here"),
    );
  }

  async load() {
    await attempt(async () => {
      let page;
      try {
        page = await this.app.api.list(this.directory, "", this.signal);
      } catch (error) {
        if (error.status !== 404) throw error;
        this.lost();
        return;
      }
      this.entries = page.entries;
      this.next = page.next;
      this.draw();
    });
  }

  async loadMore() {
    await attempt(async () => {
      const page = await this.app.api.list(this.directory, this.next ?? "", this.signal);
      this.entries = [...this.entries, ...page.entries];
      this.next = page.next;
      this.draw();
    });
  }

  /** This directory is not there (any more). */
  lost() {
    const up = parentOf(this.directory);
    redraw(
      this.element,
      crumbs(this.directory),
      h("div", { class: "card empty" }, h("p", {}, "There is no such folder (any more)."), h("p", {}, h("a", { href: `#files/${up}` }, "Go up"))),
    );
  }

  filtered() {
    this.wanted = this.filter.value.toLocaleLowerCase();
    this.draw();
  }

  draw() {
    redraw(this.head, ...COLUMNS.map(([by, label]) => this.heading(by, label)), h("th", { scope: "col", class: "acts" }, h("span", { class: "unseen" }, "Actions")));
    const seen = this.sorted().filter((entry) => entry.name.toLocaleLowerCase().includes(this.wanted));
    if (!seen.some((entry) => entry.href === this.current)) this.current = seen[0]?.href ?? "";
    redraw(this.body, ...seen.map((entry) => this.row(entry)));
    if (!seen.length) {
      const empty = this.entries.length ? "No name here contains that." : "This folder is empty. Drop files here, or choose Upload.";
      this.body.append(h("tr", {}, h("td", { class: "empty", colspan: "4" }, empty)));
    }
    const shownOf = seen.length === this.entries.length ? count(seen.length, "entry", "entries") : `${seen.length} of ${count(this.entries.length, "entry", "entries")}`;
    this.note.textContent = `${shownOf}${this.next ? ", and there are more" : ""}`;
    this.more.hidden = !this.next;
  }

  heading(by, label) {
    const here = this.sort.by === by;
    const sorted = here ? (this.sort.down ? "descending" : "ascending") : "none";
    const onclick = () => {
      this.sort = { by, down: here && !this.sort.down };
      this.draw();
    };
    const button = h("button", { type: "button", class: "bare sort", "data-key": `sort-${by}`, onclick }, label, here ? h("span", { "aria-hidden": "true" }, this.sort.down ? "↓" : "↑") : null);
    return h("th", { scope: "col", class: by === "name" ? "" : `number ${by}`, "aria-sort": sorted }, button);
  }

  sorted() {
    const { by, down } = this.sort;
    const text = new Intl.Collator(undefined, { numeric: true });
    const order = (one, other) => (by === "name" ? text.compare(one.name, other.name) : one[by] - other[by]) || text.compare(one.name, other.name);
    const directory = (entry) => (entry.kind === "directory" ? 0 : 1);
    return [...this.entries].sort((one, other) => directory(one) - directory(other) || (down ? order(other, one) : order(one, other)));
  }

  /** @param {Entry} entry */
  row(entry) {
    const { href, kind, name, target } = entry;
    const here = href === this.current ? "0" : "-1";
    const key = (what) => ({ tabindex: here, "data-key": `${what}-${href}` });
    const to = kind === "directory" ? `#files/${href}` : `#file/${href}`;
    const acts = [
      canDownload(entry) ? iconButton("down", `Download ${name}`, () => downloadFile(this.app, entry), { ...key("down"), class: "bare quick" }) : null,
      iconButton("edit", `Rename or move ${name}`, () => renameEntry(this.app, entry), { ...key("edit"), class: "bare quick" }),
      iconButton("drop", `Delete ${name}`, () => removeEntry(this.app, entry), { ...key("drop"), class: "bare quick" }),
      iconButton("more", `Details of ${name}`, () => openViewer(this.app, entry), key("more")),
    ];
    return h(
      "tr",
      { "data-href": href, class: kind },
      h(
        "td",
        { class: "what" },
        h("a", { href: to, ...key("name") }, icon(ICONS[kind]), h("span", {}, named(name), target === null ? null : h("span", { class: "quiet" }, " → ", named(target)))),
        h("span", { class: "under quiet" }, ...(kind === "file" ? [`${size(entry.size)}, `, time(fromNs(entry.mtime_ns))] : [])),
      ),
      h("td", { class: "number size" }, kind === "file" ? size(entry.size) : "–"),
      h("td", { class: "number mtime_ns" }, kind === "file" ? time(fromNs(entry.mtime_ns)) : "–"),
      h("td", { class: "acts" }, h("div", {}, ...acts.filter(Boolean))),
    );
  }

  focused(event) {
    const row = event.target.closest("tr");
    const href = row?.dataset.href;
    if (href === undefined || href === this.current) return;
    for (const other of this.body.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
    for (const control of row.querySelectorAll("[tabindex]")) control.tabIndex = 0;
    this.current = href;
  }

  /** Arrows walk over the rows, and over what is in one; F2 and Delete act on it. */
  keyed(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const row = event.target.closest("tr");
    const entry = this.entries.find((each) => each.href === row?.dataset.href);
    if (!entry) return;
    const rows = [...this.body.querySelectorAll("tr[data-href]")];
    const at = rows.indexOf(row);
    const controls = [...row.querySelectorAll("[tabindex]")].filter((control) => control.offsetParent !== null);
    const within = controls.indexOf(event.target);
    const moves = {
      ArrowDown: () => rows[at + 1]?.querySelector("a").focus(),
      ArrowUp: () => rows[at - 1]?.querySelector("a").focus(),
      Home: () => rows[0].querySelector("a").focus(),
      End: () => rows[rows.length - 1].querySelector("a").focus(),
      ArrowRight: () => controls[within + 1]?.focus(),
      ArrowLeft: () => controls[within - 1]?.focus(),
      F2: () => renameEntry(this.app, entry),
      Delete: () => removeEntry(this.app, entry),
    };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    move();
  }

  async picked(input) {
    this.app.transfers.upload(this.directory, fromInput(input.files));
    input.value = "";
  }

  listenToDrops() {
    const options = { signal: this.signal };
    const files = (event) => event.dataTransfer?.types.includes("Files");
    let depth = 0;
    const over = (change) => {
      depth = Math.max(0, depth + change);
      this.element.classList.toggle("dropping", depth > 0);
    };
    document.addEventListener("dragenter", (event) => files(event) && over(1), options);
    document.addEventListener("dragleave", (event) => files(event) && over(-1), options);
    document.addEventListener("dragover", (event) => files(event) && event.preventDefault(), options);
    document.addEventListener(
      "drop",
      async (event) => {
        if (!files(event)) return;
        event.preventDefault();
        over(-depth);
        const found = await dropped(event.dataTransfer);
        this.app.transfers.upload(this.directory, found);
      },
      options,
    );
  }

  /** Look at the file `href`, "" for none. It may be on a page that is not loaded. @param {string} href */
  async open(href) {
    if (!href || this.signal.aborted) return;
    const listed = this.entries.find((entry) => entry.href === href);
    await attempt(async () => {
      const entry = listed ?? { name: shown(href.slice(this.directory.length ? this.directory.length + 1 : 0)), href, kind: "file", ...(await this.app.api.facts(href)) };
      openViewer(this.app, entry, () => {
        if (location.hash === `#file/${href}`) location.hash = `#files/${this.directory}`;
      });
    });
  }
}

function crumbs(directory) {
  const names = directory ? directory.split("/") : [];
  let href = "";
  const items = [crumb("", "All files", names.length === 0)];
  names.forEach((name, at) => {
    href = childOf(href, name);
    items.push(crumb(href, shown(name), at === names.length - 1));
  });
  return h("nav", { "aria-label": "Path" }, h("ol", { class: "crumbs" }, ...items));
}

function crumb(href, text, here) {
  return h("li", {}, here ? h("h1", { tabindex: "-1" }, named(text)) : h("a", { href: `#files/${href}` }, named(text)));
}

/** The page as a whole: signing in, which view is shown, what stands above all views. */

import { Api } from "./api.js";
import { changesView } from "./changes.js";
import { byId, icon } from "./dom.js";
import { filesView } from "./files.js";
import { listenToKeys, showHelp } from "./keys.js";
import { Model } from "./model.js";
import { failed, say, sentence } from "./notices.js";
import { overview } from "./overview.js";
import { parentOf } from "./paths.js";
import { straysView } from "./strays.js";
import { Transfers } from "./transfers.js";

const TOKEN = "onefold-token";

/** What all views share. */
export class App {
  #ended = new AbortController();
  #left = new AbortController();
  /** whether there was ever a stream of events */ #linked = false;
  /** @type {{directory: string, open: (href: string) => void}|null} the file browser, while it is shown */ #browser = null;

  /** @param {string} token */
  constructor(token) {
    this.api = new Api(token, () => signOut("This token is not accepted any more."));
    this.model = new Model(this.api);
    this.transfers = new Transfers(this);
  }

  /** Throws `ApiError` when the token is wrong, or nobody answers. */
  async start() {
    await this.model.start();
    const { signal } = this.#ended;
    this.model.addEventListener("status", () => this.#above(), { signal });
    this.model.addEventListener("link", () => this.#above(), { signal });
    addEventListener("hashchange", () => this.show(), { signal });
    listenToKeys(signal);
    this.#above();
    this.show();
  }

  stop() {
    this.#ended.abort();
    this.#left.abort();
    this.model.stop();
  }

  /** This page itself changed something in these directories: whoever shows them need not wait for the event. */
  touched(...directories) {
    const hrefs = directories.map((directory) => (directory ? `${directory}/` : ""));
    this.model.dispatchEvent(new CustomEvent("touched", { detail: { hrefs, all: false, changes: [] } }));
  }

  /** Show what the address names. */
  show() {
    for (const open of document.querySelectorAll("dialog[open]")) open.close();
    const [, name, rest] = /^#?([a-z]*)\/?(.*)$/.exec(location.hash) ?? [];
    const directory = name === "file" ? parentOf(rest) : rest.replace(/\/$/, "");
    const opened = name === "file" ? rest : "";
    if ((name === "files" || name === "file") && this.#browser?.directory === directory) {
      this.#browser.open(opened);
      return;
    }
    this.#left.abort();
    this.#left = new AbortController();
    const { signal } = this.#left;
    const views = {
      files: () => filesView(this, signal, directory),
      file: () => filesView(this, signal, directory, opened),
      changes: () => changesView(this, signal),
      strays: () => straysView(this, signal),
    };
    const { title, element, browser = null } = (views[name] ?? (() => overview(this, signal)))();
    this.#browser = browser;
    document.title = `${title} · Onefold`;
    byId("main").replaceChildren(element);
    const current = name === "file" ? "files" : name in views ? name : "overview";
    for (const link of document.querySelectorAll("nav [data-view]")) {
      if (link.dataset.view === current) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    (element.querySelector("h1") ?? byId("main")).focus({ preventScroll: true });
    scrollTo(0, 0);
  }

  #above() {
    const { status, linked } = this.model;
    const kept = status.nodes.reduce((sum, node) => sum + (node.strays ?? 0), 0);
    byId("strays-count").hidden = kept === 0;
    byId("strays-count").textContent = String(kept);
    const link = byId("link");
    link.classList.toggle("live", linked);
    this.#linked ||= linked;
    byId("stale").hidden = linked || !this.#linked;
    const text = linked ? "live" : "connecting …";
    if (link.textContent !== text) link.textContent = text;
    link.title = linked ? `${status.node ?? "This node"} tells what happens, as it happens` : "This node does not answer just now";
  }
}

/** @type {App|null} */
let app = null;

async function signIn(token) {
  const button = byId("sign-in-form").querySelector("button");
  const wrong = byId("sign-in-error");
  button.disabled = true;
  wrong.textContent = "";
  const trying = new App(token);
  try {
    await trying.start();
    app = trying;
    sessionStorage.setItem(TOKEN, token);
    byId("token").value = "";
    byId("sign-in").hidden = true;
    byId("shell").hidden = false;
    say("Signed in.");
  } catch (error) {
    trying.stop();
    const known = error.status === 401 ? "" : token; // a node that is just away forgets nothing
    signOut();
    byId("token").value = known;
    if (error.title === undefined) failed(error);
    else wrong.textContent = `${sentence(error.title)} ${error.fix ? sentence(error.fix) : ""}`;
  } finally {
    button.disabled = false;
  }
}

/** @param {string} [why] */
function signOut(why = "") {
  sessionStorage.removeItem(TOKEN);
  app?.stop();
  app = null;
  for (const open of document.querySelectorAll("dialog[open]")) open.close();
  byId("main").replaceChildren();
  byId("shell").hidden = true;
  byId("sign-in").hidden = false;
  byId("sign-in-error").textContent = why;
  document.title = "Onefold";
  byId("token").focus();
}

function drawTheme() {
  const dark = globalThis.onefoldTheme.now() === "dark";
  const button = byId("theme-button");
  button.replaceChildren(icon(dark ? "sun" : "moon"));
  button.title = dark ? "Switch to light" : "Switch to dark";
  button.setAttribute("aria-label", button.title);
}

function begin() {
  byId("help-button").append(icon("help"));
  byId("help-button").setAttribute("aria-label", "Keyboard shortcuts");
  byId("help-button").addEventListener("click", showHelp);
  byId("sign-out").append(icon("leave"));
  byId("sign-out").setAttribute("aria-label", "Sign out");
  byId("sign-out").addEventListener("click", () => signOut());
  byId("theme-button").addEventListener("click", () => {
    globalThis.onefoldTheme.toggle();
    drawTheme();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawTheme);
  drawTheme();
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("main").focus();
  });
  byId("sign-in-form").addEventListener("submit", (event) => {
    event.preventDefault();
    signIn(byId("token").value.trim());
  });
  addEventListener("unhandledrejection", ({ reason }) => failed(reason));
  const kept = sessionStorage.getItem(TOKEN);
  if (kept) signIn(kept);
  else signOut();
}

begin();

/** Uploads and downloads, with their progress: a few at a time, each can be stopped. */

import { ApiError, nobody, problemOf } from "./api.js";
import { ask } from "./dialogs.js";
import { byId, h, iconButton, named, size } from "./dom.js";
import { done, failed } from "./notices.js";
import { childOf, shown } from "./paths.js";

const AT_ONCE = 2;
const LOOK_FIRST_BYTES = 1024 * 1024;
const IN_MEMORY_BYTES_MAX = 512 * 1024 * 1024;
const COPIES_MAX = 100;
const SHOWN_MS = 4000;

export class Transfers {
  #waiting = [];
  #running = 0;
  #placed = 0;
  #tidying = 0;
  /** @type {string} what to do with all further names that are taken */ #forAll = "";

  /** @param {import("./app.js").App} app */
  constructor(app) {
    this.app = app;
    this.list = h("ul", {});
    this.title = h("h2", {}, "Transfers");
    this.panel = byId("transfers");
    this.panel.replaceChildren(h("header", {}, this.title, iconButton("close", "Close the list of transfers", () => this.#tidy(true))), this.list);
  }

  /** Put `found` into `directory`. @param {string} directory @param {import("./dropping.js").Found[]} found */
  upload(directory, found) {
    if (!this.#running && !this.#waiting.length) this.#forAll = "";
    for (const { parts, file } of found) {
      const href = parts.reduce((above, name) => childOf(above, encodeURIComponent(name.toWellFormed())), directory);
      const line = this.#line(shown(href), file ? file.size : 0);
      this.#start(line, () => (file ? this.#put(href, file, line) : this.#directory(href)), () => {
        this.#placed += 1;
        this.app.touched(directory);
      });
    }
  }

  /** @param {string} path below `/v1/` @param {string} name @param {number} bytes */
  async download(path, name, bytes) {
    let file = null;
    if (bytes > IN_MEMORY_BYTES_MAX && "showSaveFilePicker" in globalThis) {
      try {
        file = await globalThis.showSaveFilePicker({ suggestedName: name });
      } catch (error) {
        failed(error);
        return;
      }
    }
    const line = this.#line(name, bytes);
    this.#start(line, () => this.#get(path, name, line, file), () => {});
  }

  #line(name, bytes) {
    clearTimeout(this.#tidying);
    const stop = new AbortController();
    const bar = h("progress", { max: Math.max(bytes, 1), value: 0, "aria-label": `Progress of ${name}` });
    const state = h("span", { class: "quiet" }, bytes ? size(bytes) : "");
    const button = iconButton("close", `Stop ${name}`, () => stop.abort());
    const element = h("li", {}, h("div", { class: "row" }, named(name), button), bar, state);
    this.list.append(element);
    this.panel.hidden = false;
    return { element, bar, state, button, stop, signal: stop.signal };
  }

  #start(line, work, after) {
    this.#waiting.push({ line, work, after });
    this.#next();
  }

  #next() {
    this.title.textContent = this.#running + this.#waiting.length ? `Transfers: ${this.#running + this.#waiting.length} left` : "Transfers";
    while (this.#running < AT_ONCE && this.#waiting.length) this.#run(this.#waiting.shift());
  }

  async #run({ line, work, after }) {
    this.#running += 1;
    try {
      line.signal.throwIfAborted();
      const told = await work();
      line.bar.value = line.bar.max;
      line.state.textContent = told;
      line.element.classList.add("done");
      after();
    } catch (error) {
      const stopped = error.name === "AbortError";
      line.element.classList.add("bad");
      line.state.textContent = stopped ? "stopped" : (error.title ?? "failed");
      if (!stopped) failed(error);
    } finally {
      line.button.remove();
      this.#running -= 1;
      this.#next();
      if (!this.#running && !this.#waiting.length) this.#finished();
    }
  }

  #finished() {
    if (this.#placed) done(this.#placed === 1 ? "Uploaded." : `${this.#placed} uploaded.`);
    this.#placed = 0;
    this.#tidying = setTimeout(() => this.#tidy(false), SHOWN_MS);
  }

  /** Take away what is finished; when asked to, failures as well. @param {boolean} all */
  #tidy(all) {
    if (this.#running || this.#waiting.length) return;
    for (const element of [...this.list.children]) {
      if (all || element.classList.contains("done")) element.remove();
    }
    this.panel.hidden = !this.list.children.length;
  }

  async #directory(href) {
    await this.app.api.ask("PUT", `directories/${href}`);
    return "made";
  }

  /** Never over what is there, unless the person says so. */
  async #put(href, file, line) {
    try {
      if (file.size > LOOK_FIRST_BYTES && (await this.#taken(href))) throw new ApiError(412, "it exists", "");
      await this.#send(href, file, { "If-None-Match": "*" }, line);
      return "on a majority of the nodes";
    } catch (error) {
      if (error.status !== 412) throw error;
    }
    const answer = this.#forAll || (await this.#conflict(href));
    if (answer === "skip") return "left as it was";
    if (answer === "replace") {
      const { digest } = await this.app.api.facts(href);
      await this.#send(href, file, { "If-Match": `"${digest}"` }, line);
      return "replaced";
    }
    return this.#copy(href, file, line);
  }

  async #taken(href) {
    try {
      await this.app.api.facts(href);
      return true;
    } catch (error) {
      if (error.status === 404) return false;
      throw error;
    }
  }

  async #copy(href, file, line) {
    for (let number = 2; number < COPIES_MAX; number += 1) {
      const other = numbered(href, number);
      try {
        if (file.size <= LOOK_FIRST_BYTES || !(await this.#taken(other))) {
          await this.#send(other, file, { "If-None-Match": "*" }, line);
          return `kept as ${shown(other)}`;
        }
      } catch (error) {
        if (error.status !== 412) throw error;
      }
    }
    throw new ApiError(412, "there are too many copies of this name", "give it another name");
  }

  /** @returns {Promise<"replace"|"both"|"skip">} one question at a time */
  #conflict(href) {
    this.asking = (this.asking ?? Promise.resolve()).then(() => this.#forAll || this.#choice(href));
    return this.asking;
  }

  async #choice(href) {
    const replace = h("input", { type: "radio", name: "conflict", value: "replace", id: "conflict-replace" });
    const both = h("input", { type: "radio", name: "conflict", value: "both", id: "conflict-both", checked: true });
    const all = h("input", { type: "checkbox", id: "conflict-all" });
    const fields = [
      h("label", { class: "choice", for: "conflict-both" }, both, "Keep both: this one gets a number"),
      h("label", { class: "choice", for: "conflict-replace" }, replace, "Replace the one that is there"),
      h("label", { class: "choice", for: "conflict-all" }, all, "Do the same with all others"),
    ];
    const go = await ask({ title: `${shown(href)} exists already`, yes: "Upload", fields });
    const answer = go ? (replace.checked ? "replace" : "both") : "skip";
    if (all.checked) this.#forAll = answer;
    return answer;
  }

  /** By XMLHttpRequest: `fetch` tells nothing of an upload's progress. */
  #send(href, file, headers, line) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      const stop = () => request.abort();
      line.signal.addEventListener("abort", stop);
      const settle = (how, what) => {
        line.signal.removeEventListener("abort", stop);
        how(what);
      };
      request.open("PUT", `/v1/files/${href}?mtime_ns=${BigInt(file.lastModified) * 1_000_000n}`);
      for (const [name, value] of Object.entries({ ...this.app.api.headers, ...headers })) request.setRequestHeader(name, value);
      request.setRequestHeader("Content-Type", "application/octet-stream");
      request.upload.addEventListener("progress", ({ loaded, total }) => {
        line.bar.max = Math.max(total, 1);
        line.bar.value = loaded;
        line.state.textContent = loaded < total ? `${size(loaded)} of ${size(total)}` : "waiting for a majority of the nodes";
      });
      request.addEventListener("load", () => {
        if (request.status < 300) settle(resolve, undefined);
        else settle(reject, problemOf(request.status, request.statusText, request.responseText));
      });
      request.addEventListener("error", () => settle(reject, nobody()));
      request.addEventListener("abort", () => settle(reject, new DOMException("stopped", "AbortError")));
      request.send(file);
    });
  }

  async #get(path, name, line, file) {
    const answer = await this.app.api.ask("GET", path, { signal: line.signal });
    let got = 0;
    const counting = new TransformStream({
      transform(part, controller) {
        got += part.length;
        line.bar.value = got;
        controller.enqueue(part);
      },
    });
    const counted = answer.body.pipeThrough(counting);
    if (file) {
      await counted.pipeTo(await file.createWritable());
      return "saved";
    }
    // Of a type that no browser shows: a blob of a page belongs to the page's origin.
    const content = await new Response(counted, { headers: { "Content-Type": "application/octet-stream" } }).blob();
    const url = URL.createObjectURL(content);
    const link = h("a", { href: url, download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
    return `saved, ${size(got)}`;
  }
}

/** `a.txt` as `a (2).txt`. @param {string} href @param {number} number */
export function numbered(href, number) {
  const dot = href.lastIndexOf(".");
  const slash = href.lastIndexOf("/");
  const at = dot > slash + 1 ? dot : href.length;
  return `${href.slice(0, at)}%20(${number})${href.slice(at)}`;
}


/** What the page knows of the cluster, kept by the stream of events. Views draw from it, and listen to it. */

import { Stream } from "./events.js";

const CHANGES_KEPT = 200;
const DELAYS_KEPT = 200;

/**
 * @typedef {{what: string, where: string, fix: string}} Problem
 * @typedef {{name: string, role: string, applied: number|null, in_place: number|null, durable: number|null,
 *   digest: string|null, files: number|null, strays: number|null, problems: Problem[],
 *   progress: {what: string, done: number, total: number}|null}} NodeStatus
 * @typedef {{leader: string, term: number, node: string, nodes: NodeStatus[]}} Status
 * @typedef {{index: number, verb: string, path: string, href: string|null, many: number, node: string,
 *   ms: number|null}} Entry
 */

/** Dispatches `status`, `entries`, `reset`, `link`, and `touched` with the paths (hrefs) that changed. */
export class Model extends EventTarget {
  /** @type {Status|null} */ status = null;
  /** @type {Map<string, any>} */ members = new Map();
  /** @type {Map<number, Entry>} by index */ entries = new Map();
  /** @type {{index: number, ms: number}[]} oldest first */ delays = [];
  linked = false;

  /** @param {import("./api.js").Api} api */
  constructor(api) {
    super();
    this.api = api;
    this.stream = new Stream(api);
    this.stream.addEventListener("link", (event) => this.#link(event.detail));
    this.stream.addEventListener("status", (event) => this.#learn(event.detail));
    this.stream.addEventListener("change", (event) => this.#changed(event.detail));
    this.stream.addEventListener("placed", (event) => this.#placed(event.detail));
    this.stream.addEventListener("reset", () => this.#reset());
  }

  /** Ask for the first status, then follow. Throws `ApiError`. */
  async start() {
    this.#learn(await this.api.get("status"));
    this.stream.start();
  }

  stop() {
    this.stream.stop();
  }

  #reset() {
    this.#tell("reset");
    this.#ask();
  }

  #link(linked) {
    this.linked = linked;
    this.#tell("link");
    if (!linked) this.#ask(); // whatever keeps the stream away may let this through
  }

  async #ask() {
    try {
      this.#learn(await this.api.get("status"));
    } catch (error) {
      console.warn("no status", error);
    }
  }

  /** @param {Status & {recent?: any[]}} status */
  #learn(status) {
    const known = this.status?.nodes.map((node) => node.name).join("/");
    this.status = status;
    for (const { index, path, verb, commands, everywhere_ms } of status.recent ?? []) {
      const entry = this.entries.get(index) ?? { index, verb, path, href: null, many: commands, node: "", ms: null };
      this.entries.set(index, { ...entry, ms: everywhere_ms ?? entry.ms });
      if (everywhere_ms !== null) this.#delay(index, everywhere_ms);
    }
    this.#trim();
    this.#tell("status");
    this.#tell("entries");
    if (known !== status.nodes.map((node) => node.name).join("/")) this.#members();
  }

  async #members() {
    try {
      const { members } = await this.api.get("members");
      this.members = new Map(members.map((member) => [member.name, member]));
      this.#tell("status");
    } catch (error) {
      console.warn("no list of members", error);
    }
  }

  #changed({ index, node, changes, omitted }) {
    const [first] = changes;
    const before = this.entries.get(index);
    if (first) {
      const many = changes.length + (omitted ?? 0);
      const { verb, path, href } = first;
      this.entries.set(index, { index, verb, path, href, many, node, ms: before?.ms ?? null });
    }
    this.#trim();
    this.#tell("entries");
    this.#tell("touched", { hrefs: changes.map((change) => change.href), all: Boolean(omitted), changes });
  }

  #placed({ index, everywhere_ms }) {
    const entry = this.entries.get(index);
    if (entry) this.entries.set(index, { ...entry, ms: everywhere_ms });
    this.#delay(index, everywhere_ms);
    this.#tell("entries");
  }

  #delay(index, ms) {
    if (this.delays.some((delay) => delay.index === index)) return;
    this.delays.push({ index, ms });
    this.delays.sort((one, other) => one.index - other.index);
    this.delays.splice(0, this.delays.length - DELAYS_KEPT);
  }

  #trim() {
    const indices = [...this.entries.keys()].sort((one, other) => other - one);
    for (const index of indices.slice(CHANGES_KEPT)) this.entries.delete(index);
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** How many changes `node` is behind the newest one that any node has. @param {Status} status @param {NodeStatus} node */
export function behind(status, node) {
  const newest = Math.max(0, ...status.nodes.map((each) => each.applied ?? 0));
  return node.in_place === null ? 0 : Math.max(0, newest - node.in_place);
}

/** Whether `node` answers, and works. @param {NodeStatus} node */
export function works(node) {
  return node.applied !== null;
}

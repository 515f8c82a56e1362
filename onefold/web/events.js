/**
 * The stream of events (Server-Sent Events), by `fetch`: an EventSource cannot send the token. Comes back by itself, and
 * asks for what happened meanwhile.
 */

const SILENT_MS_MAX = 40_000; // the node sends a line every 15 s
const AGAIN_MS_MIN = 500;
const AGAIN_MS_MAX = 15_000;

/** Text of a stream, in any parts, to its events. */
export class Parser {
  #rest = "";
  #event = "";
  #data = [];
  /** The id of the newest event. */
  lastId = "";

  /** @param {string} part @returns {{event: string, data: string}[]} the events that it completes */
  push(part) {
    const lines = (this.#rest + part).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    const events = [];
    for (const line of lines) {
      if (line === "") {
        if (this.#data.length) events.push({ event: this.#event || "message", data: this.#data.join("\n") });
        this.#event = "";
        this.#data = [];
        continue;
      }
      const colon = line.indexOf(":");
      if (colon === 0) continue;
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "event") this.#event = value;
      else if (field === "data") this.#data.push(value);
      else if (field === "id") this.lastId = value;
    }
    return events;
  }
}

/**
 * Dispatches `change`, `placed`, `status` and `reset` with what the node told as `detail`, and `link` with whether it is
 * connected. Nothing is told twice, and nothing left out unless `reset` says so.
 */
export class Stream extends EventTarget {
  #ended = new AbortController();
  #lastId = "";

  /** @param {import("./api.js").Api} api */
  constructor(api) {
    super();
    this.api = api;
  }

  start() {
    this.#follow();
  }

  stop() {
    this.#ended.abort();
  }

  async #follow() {
    let again = AGAIN_MS_MIN;
    while (!this.#ended.signal.aborted) {
      const began = Date.now();
      try {
        await this.#once();
      } catch (error) {
        if (error.status === 401 || error.status === 403) return;
        if (error instanceof SyntaxError) console.error("an event that is no JSON", error);
      }
      if (this.#ended.signal.aborted) return;
      this.#tell("link", false);
      again = Date.now() - began > AGAIN_MS_MAX ? AGAIN_MS_MIN : Math.min(again * 2, AGAIN_MS_MAX);
      await this.#rest(again);
    }
  }

  /** Wait, but no longer than until the machine is online again, or somebody looks. @param {number} ms */
  #rest(ms) {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        removeEventListener("online", done);
        document.removeEventListener("visibilitychange", done);
        resolve(undefined);
      };
      const timer = setTimeout(done, ms);
      addEventListener("online", done);
      document.addEventListener("visibilitychange", done);
    });
  }

  async #once() {
    const silence = new AbortController();
    const signal = AbortSignal.any([this.#ended.signal, silence.signal]);
    let timer = setTimeout(() => silence.abort(), SILENT_MS_MAX);
    try {
      const headers = this.#lastId ? { "Last-Event-ID": this.#lastId } : {};
      const answer = await this.api.ask("GET", "events", { headers, signal });
      this.#tell("link", true);
      const parser = new Parser();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), SILENT_MS_MAX);
        for (const { event, data } of parser.push(value)) this.#tell(event, JSON.parse(data || "null"));
        this.#lastId = parser.lastId || this.#lastId;
      }
    } finally {
      clearTimeout(timer);
      silence.abort();
    }
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** The node's API: requests with the token, errors as one sentence and the fix. */

import { shown } from "./paths.js";

/** What went wrong, as the API says it: `status` (0: no answer), `title`, `fix` ("" if there is none). */
export class ApiError extends Error {
  /** @param {number} status @param {string} title @param {string} fix */
  constructor(status, title, fix) {
    super(fix ? `${title}: ${fix}` : title);
    this.status = status;
    this.title = title;
    this.fix = fix;
  }
}

const GONE = ["this node does not answer", "see that it runs, or open the page of another node"];

/** @param {string} title @param {string} body @param {number} status @returns {ApiError} */
export function problemOf(status, title, body) {
  try {
    const told = JSON.parse(body);
    return new ApiError(status, told.title || title, told.fix || "");
  } catch {
    return new ApiError(status, title || `the node answered ${status}`, "");
  }
}

/** Nobody answered. */
export function nobody() {
  return new ApiError(0, GONE[0], GONE[1]);
}

export class Api {
  /** @param {string} token @param {() => void} refused called when the token is not (or no longer) accepted */
  constructor(token, refused) {
    this.token = token;
    this.refused = refused;
  }

  /** @returns {Record<string, string>} */
  get headers() {
    return { Authorization: `Bearer ${this.token}` };
  }

  /**
   * @param {string} method
   * @param {string} path below `/v1/`, its parts encoded
   * @param {{body?: any, headers?: Record<string, string>, signal?: AbortSignal}} [options]
   * @returns {Promise<Response>} one that succeeded. Throws `ApiError`; what is aborted throws `AbortError`.
   */
  async ask(method, path, { body, headers = {}, signal } = {}) {
    const sent = { ...this.headers, ...headers };
    if (body !== undefined) sent["Content-Type"] = "application/json";
    let answer;
    try {
      answer = await fetch(`/v1/${path}`, {
        method,
        headers: sent,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal,
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
        referrerPolicy: "no-referrer",
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw nobody();
    }
    if (answer.ok) return answer;
    if (answer.status === 401) this.refused();
    throw problemOf(answer.status, answer.statusText, await answer.text());
  }

  /** @param {string} path @param {AbortSignal} [signal] */
  async get(path, signal) {
    return (await this.ask("GET", path, { signal })).json();
  }

  /** @param {string} path @param {any} body */
  async post(path, body) {
    return (await this.ask("POST", path, { body })).json();
  }

  /** @param {string} directory @param {string} [after] where the page before ended, encoded */
  list(directory, after = "", signal = undefined) {
    return this.get(`list/${directory}?limit=1000${after ? `&after=${after}` : ""}`, signal);
  }

  /** What a file is, without its content. An answer to HEAD tells no reason why not. @param {string} href */
  async facts(href) {
    const { headers } = await this.ask("HEAD", `files/${href}`).catch((error) => {
      throw error.status === 404 ? new ApiError(404, `there is no file ${shown(href)} (any more)`, "") : error;
    });
    return {
      size: Number(headers.get("Content-Length")),
      digest: (headers.get("ETag") ?? "").replaceAll('"', ""),
      version: headers.get("Onefold-Version") ?? "",
      modified: Date.parse(headers.get("Last-Modified") ?? ""),
    };
  }
}

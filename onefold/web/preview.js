/**
 * A look into a file. Its content is data, never a document: text becomes a text node; an image is recognised by its first
 * bytes as one of a few raster formats, and shown in `img` from a blob of that type. All else is shown as bytes.
 */

import { count, h, size } from "./dom.js";

const TEXT_BYTES = 128 * 1024;
const IMAGE_BYTES_MAX = 32 * 1024 * 1024;
const DUMP_BYTES = 512;

/** Raster formats by how their bytes begin; SVG is none of them on purpose. */
const FORMATS = [
  ["image/png", [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]],
  ["image/jpeg", [0xff, 0xd8, 0xff]],
  ["image/gif", [0x47, 0x49, 0x46, 0x38]],
  ["image/webp", [0x52, 0x49, 0x46, 0x46, null, null, null, null, 0x57, 0x45, 0x42, 0x50]],
  ["image/avif", [null, null, null, null, 0x66, 0x74, 0x79, 0x70, 0x61, 0x76, 0x69, 0x66]],
];

/** @param {Uint8Array} bytes @returns {string} "" when it is none of them */
export function imageType(bytes) {
  const found = FORMATS.find(([, magic]) => magic.every((byte, at) => byte === null || bytes[at] === byte));
  return found ? found[0] : "";
}

/** The text that `bytes` are, or null. @param {Uint8Array} bytes @param {boolean} cut whether they are only the beginning */
export function textOf(bytes, cut) {
  if (bytes.includes(0)) return null;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: cut });
  } catch {
    return null;
  }
}

/**
 * @param {import("./api.js").Api} api @param {string} path of the content, below `/v1/`
 * @param {number} bytes its size @param {string} name @param {AbortSignal} signal
 * @returns {Promise<HTMLElement>} Throws `ApiError`.
 */
export async function preview(api, path, bytes, name, signal) {
  if (bytes === 0) return h("p", { class: "empty" }, "This file is empty.");
  const part = await api.ask("GET", path, { headers: { Range: `bytes=0-${TEXT_BYTES - 1}` }, signal });
  const head = await beginning(part, TEXT_BYTES);
  const type = imageType(head);
  if (type && bytes <= IMAGE_BYTES_MAX) return image(api, path, type, name, signal);
  const cut = head.length < bytes;
  const text = textOf(head, cut);
  if (text !== null) return written(text, cut ? `The first ${size(head.length)} of ${size(bytes)}.` : "");
  const note = type ? `An image of ${size(bytes)}: too large to be shown here.` : `No text, and no image that can be shown here: its first ${count(Math.min(head.length, DUMP_BYTES), "byte")}.`;
  return written(dump(head.subarray(0, DUMP_BYTES)), note);
}

/** At most `limit` bytes, even if the whole file is sent. @param {Response} answer @param {number} limit */
async function beginning(answer, limit) {
  const reader = answer.body.getReader();
  const bytes = new Uint8Array(limit);
  let filled = 0;
  while (filled < limit) {
    const { value, done } = await reader.read();
    if (done) break;
    const part = value.subarray(0, limit - filled);
    bytes.set(part, filled);
    filled += part.length;
  }
  await reader.cancel();
  return bytes.subarray(0, filled);
}

async function image(api, path, type, name, signal) {
  const content = await (await api.ask("GET", path, { signal })).arrayBuffer();
  const url = URL.createObjectURL(new Blob([content], { type }));
  const shown = h("img", { src: url, alt: `The image ${name}` });
  const done = () => URL.revokeObjectURL(url);
  const broken = () => {
    done();
    shown.replaceWith(h("p", { class: "empty" }, "This image is damaged, or none."));
  };
  shown.addEventListener("load", done);
  shown.addEventListener("error", broken);
  return h("div", { class: "image" }, shown);
}

function written(text, note) {
  return h("div", {}, h("pre", { tabindex: "0", "aria-label": "Content" }, text), note ? h("p", { class: "quiet" }, note) : null);
}

/** @param {Uint8Array} bytes */
function dump(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = [...bytes.subarray(at, at + 16)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const text = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "·")).join("");
    lines.push(`${at.toString(16).padStart(4, "0")}  ${hex.padEnd(47)}  ${text}`);
  }
  return lines.join("\n");
}

/**
 * Elements from facts. Data only ever becomes text nodes and attribute values here; nothing in this page parses markup
 * (the server's policy forbids it as well: `require-trusted-types-for 'script'`).
 */

/** @typedef {Node|string|number|null|undefined|false} Child */

const SVG = "http://www.w3.org/2000/svg";
const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB"];

/**
 * An element. An attribute that is a function is an event's listener (`onclick`), `true` an empty attribute, and one that
 * is null, undefined or false is left out.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...Child} children
 * @returns {any}
 */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** As `h`, in SVG. @param {string} tag @param {Record<string, any>} [attributes] @param {...Child} children */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/**
 * Draw `container` anew. The focus stays where it was: on the control of the same `data-key`.
 * @param {Element} container @param {...Child} children
 */
export function redraw(container, ...children) {
  const held = container.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  container.replaceChildren(...children.filter((child) => child !== null && child !== undefined && child !== false));
  if (held) container.querySelector(`[data-key="${CSS.escape(held)}"]`)?.focus({ preventScroll: true });
}

/** The element called `id`, which is there. @param {string} id @returns {any} */
export function byId(id) {
  return document.getElementById(id);
}

/** Paths of 24 x 24 icons, drawn as lines. */
const ICONS = {
  close: "M6 6l12 12M18 6L6 18",
  down: "M12 4v12m-5-5l5 5 5-5M5 20h14",
  drop: "M5 7h14M10 7V4h4v3m-7 0l1 13h8l1-13M10 11v5m4-5v5",
  edit: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  file: "M6 3h8l4 4v14H6zM14 3v4h4",
  folder: "M3 7a2 2 0 0 1 2-2h4l2 2h8a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2z",
  help: "M9 9a3 3 0 1 1 4.5 2.6c-1 .6-1.5 1.2-1.5 2.4M12 17.5v.5M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z",
  leave: "M14 4h4a2 2 0 0 1 2 2v12a2 2 0 0 1-2 2h-4M10 8l-4 4 4 4M6 12h10",
  link: "M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1",
  moon: "M20 14A8 8 0 0 1 10 4a8 8 0 1 0 10 10z",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  plus: "M12 5v14M5 12h14",
  return: "M9 6L4 11l5 5M4 11h10a6 6 0 0 1 6 6v1",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2m0 16v2M2 12h2m16 0h2M5 5l1.4 1.4m11.2 11.2L19 19M19 5l-1.4 1.4M6.4 17.6L5 19",
  up: "M12 20V8m-5 5l5-5 5 5M5 4h14",
  warning: "M12 4L2.5 20h19zM12 10v4m0 3v.01",
};

/** @param {keyof typeof ICONS} name */
export function icon(name) {
  return svg("svg", { class: `icon icon-${name}`, viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

/** A button that shows only an icon; `label` names it. */
export function iconButton(name, label, onclick, attributes = {}) {
  return h("button", { class: "bare", type: "button", title: label, "aria-label": label, onclick, ...attributes }, icon(name));
}

/** A name or path as it is shown: set apart from the direction of what stands around it. @param {string} text */
export function named(text) {
  return h("bdi", { class: "name" }, text);
}

/** @param {number} bytes */
export function size(bytes) {
  if (bytes === 1) return "1 byte";
  let unit = 0;
  let left = bytes;
  while (left >= 1024 && unit < UNITS.length - 1) {
    left /= 1024;
    unit += 1;
  }
  return `${unit === 0 || left >= 100 ? Math.round(left).toLocaleString() : left.toFixed(1)} ${UNITS[unit]}`;
}

/** @param {number} many @param {string} one @param {string} [more] */
export function count(many, one, more = `${one}s`) {
  return `${many.toLocaleString()} ${many === 1 ? one : more}`;
}

/** Milliseconds, with as many digits as mean something. @param {number} ms */
export function delay(ms) {
  if (ms >= 10_000) return `${(ms / 1000).toFixed(0)} s`;
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms >= 100 ? ms.toFixed(0) : ms.toFixed(1)} ms`;
}

/** A time, as a short local one that a machine can read too. @param {number} ms unix milliseconds */
export function time(ms) {
  const at = new Date(ms);
  if (Number.isNaN(at.getTime())) return h("span", {}, "unknown");
  const today = new Date().toDateString() === at.toDateString();
  const shown = today
    ? at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })
    : at.toLocaleDateString([], { year: "numeric", month: "short", day: "numeric" });
  return h("time", { datetime: at.toISOString(), title: at.toLocaleString() }, shown);
}

/** Unix milliseconds of what the API tells in nanoseconds. @param {number} ns */
export function fromNs(ns) {
  return ns / 1e6;
}

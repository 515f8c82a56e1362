/** Questions: native dialogs, so that focus, Escape and what lies behind are the browser's business. */

import { byId, h, iconButton } from "./dom.js";

let count = 0;

/**
 * Open a dialog; it removes itself when it is closed.
 * @param {string} title @param {{class?: string}} options @param {...any} children
 */
export function dialog(title, options, ...children) {
  const id = `dialog-${(count += 1)}`;
  const element = h(
    "dialog",
    { "aria-labelledby": id, class: options.class ?? "" },
    h("header", {}, h("h2", { id }, title), iconButton("close", "Close", () => element.close())),
    ...children,
  );
  element.addEventListener("click", (event) => {
    if (event.target === element) element.close();
  });
  element.addEventListener("close", () => {
    byId("toasts").append(...element.querySelectorAll(".toast")); // what was said in it outlives it
    element.remove();
  });
  document.body.append(element);
  element.showModal();
  return element;
}

/**
 * Ask. `fields` are elements between question and buttons; the dialog closes with `yes`, unless `check` answers why not.
 * @param {{title: string, text?: any, yes: string, danger?: boolean, fields?: any[], check?: () => string}} question
 * @returns {Promise<boolean>}
 */
export function ask({ title, text, yes, danger = false, fields = [], check = () => "" }) {
  return new Promise((resolve) => {
    const wrong = h("p", { class: "error", role: "alert" });
    const confirm = h("button", { class: danger ? "danger" : "primary", type: "submit" }, yes);
    const cancel = h("button", { type: "button", onclick: () => element.close() }, "Cancel");
    const form = h("form", {}, text ? h("p", {}, text) : null, ...fields, wrong, h("footer", {}, cancel, confirm));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      wrong.textContent = check();
      if (!wrong.textContent) element.close("yes");
    });
    const element = dialog(title, { class: "question" }, form);
    element.addEventListener("close", () => resolve(element.returnValue === "yes"));
    const first = form.querySelector("input");
    if (first) {
      first.focus();
      first.select?.();
    } else {
      (danger ? cancel : confirm).focus();
    }
  });
}

let fields = 0;

/** A line of text with its label. @param {string} label @param {string} value */
export function field(label, value, attributes = {}) {
  const id = `field-${(fields += 1)}`;
  const input = h("input", { id, type: "text", autocomplete: "off", spellcheck: "false", ...attributes });
  input.value = value;
  return { input, element: h("div", { class: "field" }, h("label", { for: id }, label), input) };
}

/* Light, dark, or as the system says. Loaded before anything is drawn, so that nothing flashes; not a module for that. */
"use strict";

(() => {
  const KEY = "onefold-theme";
  const root = document.documentElement;
  const kept = localStorage.getItem(KEY);
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  globalThis.onefoldTheme = {
    /** @returns {"light"|"dark"} what is shown now */
    now: () => root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"),
    /** Show the other one; what the system says counts again once that is the same. */
    toggle() {
      const wanted = this.now() === "dark" ? "light" : "dark";
      const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
      if (wanted === system) {
        delete root.dataset.theme;
        localStorage.removeItem(KEY);
      } else {
        root.dataset.theme = wanted;
        localStorage.setItem(KEY, wanted);
      }
    },
  };
})();

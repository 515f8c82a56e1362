/** How long changes took to be everywhere: a chart of our own, and the same as a table. */

import { delay, h, redraw, svg } from "./dom.js";

const SHOWN = 60;
const ROWS = 20;
const HEIGHT = 190;
const LEFT = 52;
const RIGHT = 10;
const TOP = 12;
const BOTTOM = 22;

/** The value below which a share `part` of them lies (nearest rank). @param {number[]} values @param {number} part */
export function percentile(values, part) {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)];
}

export class DelayChart {
  /** @param {import("./model.js").Model} model @param {AbortSignal} signal */
  constructor(model, signal) {
    this.model = model;
    this.figures = h("dl", { class: "figures" });
    this.plot = h("div", { class: "plot" });
    this.table = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Delays as a table" });
    this.element = h("div", { class: "chart" }, this.figures, this.plot, h("details", {}, h("summary", {}, "As a table"), this.table));
    const observer = new ResizeObserver(() => this.draw());
    observer.observe(this.plot);
    signal.addEventListener("abort", () => observer.disconnect());
    model.addEventListener("entries", () => this.draw(), { signal });
  }

  draw() {
    const delays = this.model.delays.slice(-SHOWN);
    const values = delays.map((each) => each.ms);
    if (!values.length) {
      redraw(this.plot, h("p", { class: "empty" }, "No change yet. Edit a file, and its delay appears here."));
      redraw(this.figures);
      redraw(this.table);
      return;
    }
    const half = percentile(values, 0.5);
    const most = percentile(values, 0.99);
    redraw(
      this.figures,
      figure("Half within", delay(half), "p50"),
      figure("99 % within", delay(most), "p99"),
      figure("Newest", delay(values[values.length - 1]), `of ${values.length}`),
    );
    const width = this.plot.clientWidth;
    if (width > LEFT + RIGHT) redraw(this.plot, plotted(delays, half, most, width));
    redraw(this.table, tabled(delays));
  }
}

function figure(label, value, note) {
  return h("div", {}, h("dt", {}, label), h("dd", {}, value, " ", h("small", {}, note)));
}

/** Logarithmic upwards: a few slow changes must not flatten all others. */
function plotted(delays, half, most, width) {
  const values = delays.map((each) => each.ms);
  const low = Math.min(0, Math.floor(Math.log10(Math.max(Math.min(...values), 0.1))));
  const high = Math.max(2, Math.ceil(Math.log10(Math.max(...values, 1))));
  const y = (ms) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - (Math.log10(Math.max(ms, 10 ** low)) - low) / (high - low));
  const step = (width - LEFT - RIGHT) / SHOWN;
  const x = (at) => width - RIGHT - (delays.length - at - 0.5) * step;
  const parts = [];
  for (let power = low; power <= high; power += 1) {
    const at = y(10 ** power);
    parts.push(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
    parts.push(svg("text", { class: "axis end", x: LEFT - 8, y: at + 4 }, tick(10 ** power)));
  }
  const foot = HEIGHT - BOTTOM;
  delays.forEach(({ index, ms }, at) => {
    const top = y(ms);
    const bar = Math.max(2, step * 0.62);
    parts.push(
      svg(
        "rect",
        { class: at === delays.length - 1 ? "bar newest" : "bar", x: x(at) - bar / 2, y: top, width: bar, height: Math.max(foot - top, 1), rx: Math.min(2, bar / 2) },
        svg("title", {}, `change ${index}: ${delay(ms)}`),
      ),
    );
  });
  for (const [name, ms] of [["p99", most], ["p50", half]]) {
    const at = y(ms);
    parts.push(svg("line", { class: `mark ${name}`, x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
    parts.push(svg("text", { class: `axis mark-${name}`, x: LEFT + 4, y: at - 4 }, name));
  }
  parts.push(svg("text", { class: "axis", x: LEFT, y: HEIGHT - 4 }, "older"));
  parts.push(svg("text", { class: "axis end", x: width - RIGHT, y: HEIGHT - 4 }, "newest change"));
  const label = `Delays of the last ${delays.length} changes: half within ${delay(half)}, 99 % within ${delay(most)}.`;
  return svg("svg", { role: "img", "aria-label": label, width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}` }, ...parts);
}

function tick(ms) {
  return ms >= 1000 ? `${ms / 1000} s` : `${ms} ms`;
}

function tabled(delays) {
  const rows = delays.slice(-ROWS).reverse().map(({ index, ms }) => h("tr", {}, h("td", {}, String(index)), h("td", { class: "number" }, delay(ms))));
  return h(
    "table",
    {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Change"), h("th", { scope: "col", class: "number" }, "On every node after"))),
    h("tbody", {}, ...rows),
  );
}

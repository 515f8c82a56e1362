/** The cluster at a glance: is all well, who leads, who is behind, what changed, how long it took. */

import { changeRow } from "./changes.js";
import { DelayChart } from "./chart.js";
import { ask } from "./dialogs.js";
import { count, h, icon, named, redraw } from "./dom.js";
import { behind, works } from "./model.js";
import { attempt, done, say } from "./notices.js";

const CHANGES_SHOWN = 12;
const ROLES = {
  leader: "leads",
  voter: "votes",
  replica: "replica",
  down: "down",
  standby: "stands by",
};

/** @param {import("./app.js").App} app @param {AbortSignal} signal */
export function overview(app, signal) {
  const { model } = app;
  const headline = h("div", { class: "headline" });
  const problems = h("section", { "aria-label": "Problems" });
  const nodes = h("ul", { class: "nodes", "aria-label": "Nodes" });
  const changes = h("ol", { class: "changes", "aria-label": "Last changes, newest first" });
  const chart = new DelayChart(model, signal);
  let said = "";
  const draw = () => {
    const { status } = model;
    const all = summary(status);
    redraw(headline, ...headlined(status, all));
    if (said && said !== all.text) say(all.text);
    said = all.text;
    redraw(problems, ...status.nodes.flatMap((node) => node.problems.map((problem) => problemCard(app, node, problem))));
    redraw(nodes, ...status.nodes.map((node) => nodeCard(app, status, node)));
  };
  const drawChanges = () => {
    const newest = [...model.entries.values()].sort((one, other) => other.index - one.index).slice(0, CHANGES_SHOWN);
    redraw(changes, ...newest.map(changeRow));
    changes.hidden = newest.length === 0;
    none.hidden = newest.length > 0;
  };
  const none = h("p", { class: "empty" }, "Nothing has changed yet.");
  model.addEventListener("status", draw, { signal });
  model.addEventListener("entries", drawChanges, { signal });
  const element = h(
    "div",
    { class: "overview" },
    headline,
    problems,
    h("section", { "aria-labelledby": "nodes-title" }, h("h2", { id: "nodes-title" }, "Nodes"), nodes),
    h(
      "div",
      { class: "columns" },
      h(
        "section",
        { class: "card", "aria-labelledby": "changes-title" },
        h("div", { class: "row" }, h("h2", { id: "changes-title" }, "Last changes"), h("a", { href: "#changes" }, "All changes")),
        changes,
        none,
      ),
      h(
        "section",
        { class: "card", "aria-labelledby": "delay-title" },
        h("h2", { id: "delay-title" }, "Until on every node"),
        chart.element,
      ),
    ),
  );
  draw();
  drawChanges();
  chart.draw();
  return { title: "Overview", element };
}

/**
 * The state of the cluster in one sentence.
 * @param {import("./model.js").Status} status
 * @returns {{tone: "good"|"busy"|"bad", text: string}}
 */
export function summary(status) {
  const away = status.nodes.filter((node) => !works(node)).map((node) => node.name);
  const late = status.nodes.filter((node) => works(node) && (node.progress || behind(status, node) > 0));
  const problems = status.nodes.reduce((sum, node) => sum + node.problems.length, 0);
  if (!status.leader) return { tone: "bad", text: "Nobody leads: changes wait until a majority of the nodes is up." };
  if (away.length) return { tone: "bad", text: `${listed(away)} ${away.length === 1 ? "is" : "are"} away; the others go on.` };
  if (problems) return { tone: "busy", text: `All nodes are up, with ${count(problems, "problem")}.` };
  if (late.length) return { tone: "busy", text: `${listed(late.map((node) => node.name))} ${late.length === 1 ? "is" : "are"} catching up.` };
  if (status.nodes.length === 1) return { tone: "good", text: "The one node is well." };
  return { tone: "good", text: `All ${status.nodes.length} nodes are identical.` };
}

function listed(names) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`;
}

function headlined(status, all) {
  const leader = status.nodes.find((node) => node.name === status.leader);
  const known = leader && works(leader) ? leader : status.nodes.find(works);
  const facts = [
    status.leader ? [h("strong", {}, status.leader), ` leads (term ${status.term})`] : null,
    known ? [h("strong", {}, (known.files ?? 0).toLocaleString()), known.files === 1 ? " file" : " files"] : null,
    known ? ["change ", h("strong", {}, (known.applied ?? 0).toLocaleString())] : null,
  ];
  return [
    h("h1", { tabindex: "-1", class: `state ${all.tone}` }, h("span", { class: "dot", "aria-hidden": "true" }), all.text),
    h("p", { class: "quiet facts" }, ...facts.filter(Boolean).map((parts) => h("span", {}, ...parts))),
  ];
}

function nodeCard(app, status, node) {
  const late = behind(status, node);
  const leads = node.name === status.leader;
  const address = app.model.members.get(node.name)?.address;
  const tone = !works(node) ? "bad" : node.problems.length || late || node.progress ? "busy" : "good";
  const parts = [
    h(
      "div",
      { class: "row" },
      h("h3", {}, h("span", { class: `dot ${tone}`, "aria-hidden": "true" }), node.name),
      h("span", { class: `badge ${leads ? "leader" : works(node) ? "" : "bad"}` }, leads ? "leads" : (ROLES[node.role] ?? node.role)),
    ),
    h("p", { class: "quiet" }, standing(node, late)),
  ];
  if (node.progress && node.progress.total) {
    const { what, done: so, total } = node.progress;
    parts.push(h("progress", { max: total, value: so, "aria-label": `${node.name} catches up with ${what}` }));
  }
  if (works(node)) {
    parts.push(
      h(
        "dl",
        { class: "pairs" },
        pair("Files", (node.files ?? 0).toLocaleString()),
        pair("Change", (node.applied ?? 0).toLocaleString()),
        pair("Kept aside", node.strays ? h("a", { href: "#strays", "data-key": `strays-${node.name}` }, node.strays.toLocaleString()) : "0"),
        pair("Catalogue", h("code", { title: node.digest }, (node.digest ?? "").slice(0, 8) || "–")),
      ),
    );
  }
  const movable = works(node) && !leads && node.role === "voter" && status.leader;
  parts.push(
    h(
      "div",
      { class: "row foot" },
      h("small", { class: "quiet" }, address ?? "", status.node === node.name ? (address ? ", shows this page" : "Shows this page") : ""),
      movable ? h("button", { type: "button", class: "small", "data-key": `lead-${node.name}`, onclick: () => moveLeader(app, node.name) }, "Make leader") : null,
    ),
  );
  return h("li", { class: "card node" }, ...parts);
}

function pair(term, value) {
  return h("div", {}, h("dt", {}, term), h("dd", {}, value));
}

function standing(node, late) {
  if (node.role === "down") return "Does not answer.";
  if (!works(node)) return "Stands by: it cannot go on, see its problem.";
  if (node.progress) {
    const { what, done: so, total } = node.progress;
    return `Catches up: ${so.toLocaleString()} of ${total.toLocaleString()}${what === "files" ? " files" : ` (${what})`}.`;
  }
  return late ? `${count(late, "change")} behind.` : "Has everything in place.";
}

function problemCard(app, node, problem) {
  const gone = problem.fix.includes("onefold confirm");
  return h(
    "article",
    { class: "problem" },
    icon("warning"),
    h(
      "div",
      {},
      h("p", {}, h("strong", {}, `${node.name}: ${problem.what}`), ...(problem.where ? [" (", named(problem.where), ")"] : [])),
      problem.fix ? h("p", {}, h("strong", {}, "What to do: "), problem.fix) : null,
      gone ? h("button", { type: "button", "data-key": `confirm-${node.name}`, onclick: () => confirmGone(app, node.name) }, "They were meant to go …") : null,
    ),
  );
}

async function moveLeader(app, name) {
  const text = `Edits then start in the folder of ${name}. Nothing is lost, and it takes a fraction of a second.`;
  if (!(await ask({ title: `Make ${name} the leader?`, text, yes: "Make leader" }))) return;
  await attempt(async () => {
    const { leader } = await app.api.post("leader", { node: name });
    done(`${leader} leads now.`);
  });
}

async function confirmGone(app, name) {
  const text = `What is gone from the folder of ${name} is then removed on every node.`;
  if (!(await ask({ title: "Remove it everywhere?", text, yes: "Remove everywhere", danger: true }))) return;
  await attempt(async () => {
    const { removals } = await app.api.post("confirm", { node: name });
    done(`${count(removals, "removal")} confirmed.`);
  });
}

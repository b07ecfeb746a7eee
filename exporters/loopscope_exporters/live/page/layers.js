// The table of layers, or of every parameter: these are asked for only while they are shown.

import { byId, tag } from "./dom.js";
import { count, number, plain, share } from "./format.js";
import { graveness } from "./heatmap.js";
import { Table } from "./table.js";

const STATES = ["healthy", "unstable", "vanishing", "dead", "exploding", "nonfinite"];
const NORM = {
  key: "norm",
  title: "Norm",
  format: number,
  explain: "L2 norm of the gradient at the latest step, after clipping",
};
const SAMPLED = [
  {
    key: "max_abs",
    title: "Largest",
    format: number,
    explain: "Largest magnitude of the gradient, at the latest sampled step",
  },
  { key: "zero_ratio", title: "Zeros", format: share, explain: "Share of the gradient's elements that are zero" },
  { key: "weight_norm", title: "Weights", format: number, explain: "L2 norm of the weights" },
  {
    key: "update_ratio",
    title: "Update / weights",
    format: number,
    explain: "L2 norm of the update over that of the weights",
  },
];
const LAYERS = [
  { key: "name", title: "Layer", isText: true },
  {
    key: "rank",
    title: "State",
    isText: true,
    isDownFirst: true,
    format: (_, row) => badge(row),
    explain: "State of the layer's gradient; the worst first",
  },
  NORM,
  ...SAMPLED,
];
const PARAMETERS = [
  { key: "name", title: "Parameter", isText: true },
  NORM,
  { key: "num_nonfinite", title: "Not finite", format: count, explain: "NaN or infinite elements of the gradient" },
  ...SAMPLED,
  { key: "mean", title: "Mean", format: number, explain: "Mean of the gradient's elements" },
  {
    key: "subnormal_ratio",
    title: "Underflow",
    format: share,
    explain: "Share of magnitudes below the smallest normal number",
  },
];

export class Layers {
  // `ask` gets all parameters from the server; `poll` has the page draw anew, these included.
  constructor(ask, poll) {
    this.ask = ask;
    this.poll = poll;
    this.isAll = false;
    const [layers, parameters] = [tag("div"), tag("div", { hidden: true })];
    const choose = (isAll) => () => this.choose(isAll);
    const choice = (value, words, isAll) =>
      tag(
        "label",
        {},
        tag("input", { type: "radio", name: "detail", value, checked: !isAll, onchange: choose(isAll) }),
        ` ${words}`,
      );
    this.note = tag("p", { class: "muted" });
    byId("layers").replaceChildren(
      tag(
        "fieldset",
        { class: "choice" },
        tag("legend", { class: "unseen" }, "Rows"),
        choice("layers", "layers", false),
        choice("parameters", "every parameter", true),
      ),
      layers,
      parameters,
      this.note,
    );
    this.parts = { layers, parameters };
    this.layers = new Table(layers, "Layers", LAYERS);
    this.parameters = new Table(parameters, "Parameters", PARAMETERS);
  }

  draw(store) {
    this.store = store;
    if (this.isAll) return;
    const { layers } = store.answer;
    const states = statesOf(store.answer);
    this.layers.fill(
      (layers?.names ?? []).map((name, index) => ({ name, ...state(states[name]), ...at(layers.columns, index) })),
    );
    this.say(layers?.sampled_step);
  }

  choose(isAll) {
    this.isAll = isAll;
    this.parts.layers.hidden = isAll;
    this.parts.parameters.hidden = !isAll;
    if (isAll) this.poll();
    else if (this.store?.answer) this.draw(this.store);
  }

  // Gets the parameters anew where they are shown.
  async refresh() {
    if (!this.isAll) return;
    const answer = await this.ask();
    if (!this.isAll) return; // it was chosen otherwise meanwhile
    const rows = answer.names.map((name, index) => ({
      name,
      num_nonfinite: answer.num_nonfinite[index],
      ...at(answer.columns, index),
    }));
    this.parameters.fill(rows);
    this.say(answer.sampled_step);
  }

  say(sampled) {
    this.note.textContent =
      sampled === null || sampled === undefined
        ? "Norms are those of the latest step."
        : `Norms are those of the latest step, the rest of step ${sampled.toLocaleString("en")}, the latest sampled one.`;
  }
}

// The state of each layer of the optimizer that is shown; layers that are not in it are healthy.
export function statesOf(answer) {
  const states = answer.health?.layers ?? {};
  return states[answer.optimizer ?? ""] ?? {};
}

const state = (known) => ({
  state: known?.state ?? "healthy",
  rule: known?.rule ?? "",
  rank: STATES.indexOf(known?.state ?? "healthy"),
});

const at = (columns, index) =>
  Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values[index]]));

function badge(row) {
  return tag(
    "span",
    { class: `badge ${graveness(row.state)}`, title: row.rule && `by ${plain(row.rule)}` },
    plain(row.state),
  );
}

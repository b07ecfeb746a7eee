// A line for each epoch or window of steps, the latest first.

import { byId, tag } from "./dom.js";
import { number, plain } from "./format.js";

const MOST_NAMES = 4;
const MOST_SHOWN = 100;
const TITLES = [
  "Epoch",
  "Steps",
  "Loss",
  "Norm, mean",
  "Norm, max",
  "Not finite",
  "Skipped",
  "Layers that were not healthy",
];

export function drawEpochs(store) {
  const epochs = store.epochs.filter((epoch) => epoch.optimizer === store.answer.optimizer);
  byId("epochs-section").hidden = !epochs.length;
  const key = epochs.length ? `${epochs.length} ${epochs.at(-1).last_step}` : "";
  const root = byId("epochs");
  if (root.dataset.key === key) return;
  root.dataset.key = key;
  const isNumber = (index) => index > 0 && index < TITLES.length - 1;
  const titles = TITLES.map((title, index) => tag("th", { scope: "col", class: isNumber(index) ? "n" : "" }, title));
  const rows = epochs.slice(-MOST_SHOWN).reverse().map(row);
  root.replaceChildren(tag("table", {}, tag("thead", {}, tag("tr", {}, titles)), tag("tbody", {}, rows)));
}

function row(epoch) {
  const steps = `${epoch.first_step.toLocaleString("en")} to ${epoch.last_step.toLocaleString("en")}`;
  const numbers = [
    steps,
    number(epoch.loss),
    number(epoch.norm_mean),
    number(epoch.norm_max),
    epoch.num_nonfinite_steps,
    epoch.num_skipped,
  ];
  const name = epoch.window === null ? String(epoch.epoch) : `${epoch.epoch}, window ${epoch.window}`;
  return tag(
    "tr",
    {},
    tag("th", { scope: "row" }, name),
    numbers.map((text) => tag("td", { class: "n" }, String(text))),
    tag("td", {}, unhealthy(epoch.layers)),
  );
}

// Layers by their state, of each the first few by name.
function unhealthy(layers) {
  const byState = new Map();
  for (const [layer, [state]] of Object.entries(layers)) byState.set(state, [...(byState.get(state) ?? []), layer]);
  const some = (names) =>
    names.length <= MOST_NAMES
      ? names.join(", ")
      : `${names.slice(0, MOST_NAMES).join(", ")} and ${names.length - MOST_NAMES} more`;
  return [...byState].map(([state, names]) => `${plain(state)}: ${some(names)}`).join("; ");
}

// A line for each epoch or window of steps, the latest first.

import { byId, tag } from "./dom.js";
import { number, plain } from "./format.js";

const MOST_NAMES = 4;
const MOST_SHOWN = 100;
const TITLES = ["Epoch", "Steps", "Loss", "Norm, mean", "Norm, max", "Not finite", "Skipped"];
const UNHEALTHY = "Layers that were not healthy";

export function drawEpochs(store) {
  const epochs = store.epochs.filter((epoch) => epoch.optimizer === store.answer.optimizer);
  byId("epochs-section").hidden = !epochs.length;
  const key = JSON.stringify([store.identity, epochs.length, epochs.at(-1)]);
  const root = byId("epochs");
  if (root.dataset.key === key) return;
  root.dataset.key = key;
  const shown = epochs.slice(-MOST_SHOWN).reverse();
  const isAnyUnhealthy = shown.some((epoch) => Object.keys(epoch.layers).length > 0);
  const titles = TITLES.map((title, index) => tag("th", { scope: "col", class: index > 0 ? "n" : "" }, title));
  if (isAnyUnhealthy) titles.push(tag("th", { scope: "col" }, UNHEALTHY));
  const rows = shown.map((epoch) => row(epoch, isAnyUnhealthy));
  root.replaceChildren(tag("table", {}, tag("thead", {}, tag("tr", {}, titles)), tag("tbody", {}, rows)));
}

function row(epoch, isAnyUnhealthy) {
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
    isAnyUnhealthy ? tag("td", {}, unhealthy(epoch.layers)) : null,
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

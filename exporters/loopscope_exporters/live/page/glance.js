// Is my run healthy? One sentence, why, and the figures of this moment.

import { byId, say, tag } from "./dom.js";
import { bytes, clock, count, number, plain, seconds, share } from "./format.js";
import { incidents, rank } from "./store.js";

const STALLED_STEPS = 20; // as many usual steps without one
const STALLED_SECONDS = 60; // at the least, as in `loopscope top`
const MANY = 5;

// Returns {level, words, why}: level is good, warning, critical or still.
export function verdict(store) {
  const { step, health, time_unix_seconds: now } = store.answer;
  if (!step)
    return {
      level: "still",
      words: "Waiting for the first step",
      why: "The agent is attached; no optimizer step has been reported yet.",
    };
  const open = [...(health?.anomalies ?? [])].sort((a, b) => rank(a.severity) - rank(b.severity));
  const grave = open.filter((anomaly) => anomaly.severity !== "info");
  const idle = now - step.time_unix_seconds;
  const usual = store.history?.columns.duration_mean.findLast((value) => typeof value === "number") ?? 0;
  const isStalled = idle > Math.max(STALLED_SECONDS, STALLED_STEPS * usual);
  const still = isStalled
    ? `No step for ${seconds(idle)} (a step takes ${seconds(usual)}): stalled, validating, or done. `
    : "";
  if (!grave.length) {
    if (isStalled)
      return {
        level: "still",
        words: `No step for ${seconds(idle)}`,
        why: `A step takes ${seconds(usual)}. The loop is stalled, validating, or done; nothing was wrong when it last stepped.`,
      };
    return { level: "good", words: "Healthy", why: `No anomaly is open${before(store)}.` };
  }
  const named = grave
    .slice(0, MANY)
    .map(
      (anomaly) =>
        `${plain(anomaly.kind)}${anomaly.layers.length ? ` in ${layers(anomaly.layers)}` : ""} since step ${anomaly.step}`,
    );
  const more = grave.length > MANY ? `; ${grave.length - MANY} more` : "";
  return {
    level: grave[0].severity,
    words: `${grave.length} ${grave.length === 1 ? "anomaly" : "anomalies"} open`,
    why: `${still}${named.join("; ")}${more}.`,
  };
}

// What was told and is over: a run that is healthy now may have had its trouble.
function before(store) {
  const told = incidents(store.events).map((incident) => incident.severity);
  const counts = ["critical", "warning"].map((severity) => [told.filter((each) => each === severity).length, severity]);
  const named = counts.filter(([num]) => num).map(([num, severity]) => `${num} ${severity}`);
  return named.length ? `; before: ${named.join(" and ")}, see below` : "";
}

function layers(names) {
  return names.length <= 3 ? names.join(", ") : `${names.slice(0, 2).join(", ")} and ${names.length - 2} more`;
}

export function drawGlance(store, last) {
  const { level, words, why } = last ?? verdict(store);
  byId("glance").className = `glance ${level}`;
  say(byId("verdict"), words);
  say(byId("verdict-why"), why);
  const old = byId("figures").children;
  const figures = figuresOf(store);
  if (old.length !== figures.length)
    byId("figures").replaceChildren(...figures.map(() => tag("div", {}, tag("dt"), tag("dd"))));
  figures.forEach(([name, value, small], index) => {
    const [title, text] = byId("figures").children[index].children;
    say(title, name);
    if (text.dataset.said !== `${value}|${small}`) text.replaceChildren(value, small ? tag("small", {}, small) : "");
    text.dataset.said = `${value}|${small}`;
  });
}

function figuresOf(store) {
  const { step, self, agent } = store.answer;
  const columns = store.history?.columns;
  const lately = columns && recent(columns);
  const gradients = step?.gradients;
  return [
    ["Step", step ? step.step.toLocaleString("en") : "–", step ? `epoch ${step.epoch}` : ""],
    ["Loss", number(step?.loss), step?.loss_source ? `from ${step.loss_source}` : ""],
    [
      "Gradient norm",
      number(gradients?.global_norm),
      gradients?.global_norm_pre_clip != null ? `${number(gradients.global_norm_pre_clip)} before clipping` : "",
    ],
    [
      "Learning rate",
      number(step?.learning_rates?.[0]),
      step?.learning_rates?.length > 1 ? `of ${step.learning_rates.length} groups` : "",
    ],
    ["Time of a step", seconds(lately?.duration), lately?.duration ? `${number(1 / lately.duration)} steps/s` : ""],
    [
      "Samples",
      lately?.samples ? `${count(lately.samples)}/s` : "–",
      lately?.tokens ? `${count(lately.tokens)} tokens/s` : "",
    ],
    [
      "Cost of loopscope",
      share(self?.overhead_ratio),
      self ? `a sample every ${self.sample_interval_steps} steps` : "",
    ],
    ["Memory", bytes(self?.process_memory_bytes), step ? `at ${clock(step.time_unix_seconds)}` : agent],
  ];
}

// Rates over the last spans with a known duration.
function recent(columns) {
  const known = columns.duration_mean
    .map((value, span) => [value, span])
    .filter(([value]) => typeof value === "number");
  const last = known.slice(-5);
  if (!last.length) return null;
  const sum = (name) => last.reduce((total, [, span]) => total + columns[name][span], 0);
  const spent = last.reduce((total, [value, span]) => total + value * columns.num_steps[span], 0);
  return { duration: spent / sum("num_steps"), samples: sum("samples") / spent, tokens: sum("tokens") / spent };
}

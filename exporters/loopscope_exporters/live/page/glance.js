// Is my run healthy? One sentence, why, and the figures of this moment.

import { byId, say, tag } from "./dom.js";
import { bytes, clock, count, number, plain, seconds, share } from "./format.js";
import { incidents, rank, recent } from "./store.js";

const STALLED_STEPS = 20; // as many usual steps without one
const STALLED_SECONDS = 60; // at the least, as in `loopscope top`
const MANY = 5;
const LEVELS = ["good", "still", "warning", "critical"];

// Returns {level, words, why}: level is good, still, warning or critical. As `loopscope top` has it. `silence` is
// {isLate} where there is no answer any more.
export function verdict(store, silence = null) {
  const health = healthOf(store);
  const { step, time_unix_seconds: now } = store.answer;
  const usual = recent(store.history)?.duration ?? step?.duration_seconds ?? null;
  const idle = step && now - step.time_unix_seconds;
  if (silence) return silent(silence, health);
  if (!step) {
    const trouble = health.level === "good" ? "" : ` ${health.was}`;
    return {
      level: worse(health.level, "still"),
      words: "Waiting for the first step",
      why: `The agent is attached; no optimizer step has been reported yet.${trouble}`,
    };
  }
  if (idle <= Math.max(STALLED_SECONDS, STALLED_STEPS * (usual ?? 0))) return health;
  const takes = usual === null ? "" : ` (it takes ${seconds(usual)})`;
  return {
    level: worse(health.level, "warning"),
    words: "Stalled",
    why: `No step for ${seconds(Math.round(idle))}${takes}: the loop hangs, validates or is done. ${health.was}`,
  };
}

function silent({ isLate }, health) {
  const [words, why] = isLate
    ? ["No answer", "The run's process is suspended, or very busy."]
    : ["The run has ended", "Its process no longer answers."];
  return {
    level: worse(health.level, "still"),
    words,
    why: `${why} ${health.was} This is the last that was seen; the page goes on by itself when there is an answer again.`,
  };
}

const worse = (one, other) => (LEVELS.indexOf(one) > LEVELS.indexOf(other) ? one : other);

// What is open; `was` says the same of a run that is not seen any more.
function healthOf(store) {
  const open = store.answer.health?.anomalies ?? [];
  const grave = open
    .filter((anomaly) => anomaly.severity !== "info")
    .sort((a, b) => rank(a.severity) - rank(b.severity));
  if (!grave.length) {
    const told = before(store);
    return { level: "good", words: "Healthy", why: `No anomaly is open${told}.`, was: `It was healthy${told}.` };
  }
  const named = grave.slice(0, MANY).map((anomaly) => {
    const place = anomaly.layers.length ? ` in ${layers(anomaly.layers)}` : "";
    return `${anomaly.severity}: ${plain(anomaly.kind)}${place} since step ${anomaly.step.toLocaleString("en")}`;
  });
  const why = `${named.join("; ")}${grave.length > MANY ? `; ${grave.length - MANY} more` : ""}.`;
  const words = `${grave.length} ${grave.length === 1 ? "anomaly" : "anomalies"} open`;
  return { level: grave[0].severity, words, why: capital(why), was: `It had ${words}: ${why}` };
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

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

export function drawGlance(store, silence) {
  const { level, words, why } = verdict(store, silence);
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
  const { step, self } = store.answer;
  const lately = recent(store.history);
  const gradients = step?.gradients;
  return [
    [
      "Step",
      step ? step.step.toLocaleString("en") : "–",
      step ? `epoch ${step.epoch} · ${clock(step.time_unix_seconds)}` : "",
    ],
    ["Loss", number(step?.loss), step?.loss_source ? `from ${step.loss_source}` : ""],
    [
      "Gradient norm",
      number(gradients?.global_norm),
      gradients?.global_norm_pre_clip != null ? `${number(gradients.global_norm_pre_clip)} before clipping` : "",
    ],
    [
      "Learning rate",
      number(step?.learning_rates?.[0]),
      step?.learning_rates?.length > 1 ? `first of ${step.learning_rates.length} groups` : "",
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
    ["Memory", bytes(self?.process_memory_bytes), self ? "of the process" : ""],
  ];
}

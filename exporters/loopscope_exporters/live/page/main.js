// The live page: asks /api/live every two seconds for what is new and draws it.

import { Gone, Refused, Silent, ask, hasToken, keepToken, remember, tokenFromAddress } from "./client.js";
import { Curves } from "./curves.js";
import { byId, say, tag } from "./dom.js";
import { drawEpochs } from "./epochs.js";
import { Events } from "./events.js";
import { clock, seconds, share } from "./format.js";
import { drawGlance } from "./glance.js";
import { Heatmap } from "./heatmap.js";
import { drawIncidents } from "./incidents.js";
import { Layers, statesOf } from "./layers.js";
import { drawLines } from "./lines.js";
import { Store } from "./store.js";

const POLL_MILLISECONDS = 2_000;
const HIDDEN_MILLISECONDS = 15_000; // nobody looks

const store = new Store();
const chosen = { agent: null, optimizer: null };
const curves = new Curves();
const heatmap = new Heatmap(byId("heatmap"));
const events = new Events(byId("events"));
const layers = new Layers(() => ask("api/parameters", chosen), poll);
let timer = null;
let round = 0; // of polls: an answer to one that another has overtaken is not taken in
let lastAnswer = null;

async function poll() {
  clearTimeout(timer);
  round += 1;
  const mine = round;
  try {
    const answer = await ask("api/live", { ...chosen, ...store.query() });
    if (mine !== round) return;
    if (!store.take(answer)) return void poll(); // another run than before: asked for from its start
    lastAnswer = Date.now();
    byId("token-form").hidden = true;
    byId("main").hidden = false;
    draw();
    await layers.refresh();
    if (mine !== round) return;
    link("live", "live", `, ${clock(store.answer.time_unix_seconds)}`);
  } catch (fault) {
    if (mine === round) failed(fault);
  } finally {
    if (mine === round) timer = setTimeout(poll, document.hidden ? HIDDEN_MILLISECONDS : POLL_MILLISECONDS);
  }
}

function draw() {
  const { answer, history } = store;
  head(answer);
  drawGlance(store);
  title();
  drawIncidents(store);
  byId("steps").hidden = !history;
  if (history) curves.draw(store);
  byId("heatmap").parentElement.hidden = !history?.layers.length;
  if (history?.layers.length) heatmap.draw(history, statesOf(answer), answer.step.step);
  byId("layers").parentElement.hidden = !answer.layers;
  drawLines(byId("lines"), answer.activity);
  layers.draw(store);
  drawEpochs(store);
  events.draw(store);
  const spent = Object.values(answer.self?.overhead_seconds ?? {}).reduce((sum, part) => sum + part, 0);
  say(
    byId("cost"),
    answer.self ? `loopscope has cost ${seconds(spent)} of CPU so far${part(answer.self.overhead_ratio)}.` : "",
  );
}

const part = (ratio) => (typeof ratio === "number" ? `, ${share(ratio)} of the loop's time` : "");

function head(answer) {
  const run = answer.run;
  say(byId("run"), run?.run ?? "loopscope");
  const facts = run
    ? [
        run.model,
        `${run.num_parameters.toLocaleString("en")} parameters`,
        run.rank === null ? "" : `rank ${run.rank}`,
        run.host,
        `process ${run.pid}`,
        `torch ${run.versions.torch ?? "?"}`,
      ]
    : [];
  say(byId("facts"), facts.filter(Boolean).join(" · "));
  options(
    byId("agent"),
    byId("agent-label"),
    answer.agents.map((each) => each.agent),
    answer.agent,
  );
  const optimizers = answer.agents.find((each) => each.agent === answer.agent)?.optimizers ?? [];
  options(
    byId("optimizer"),
    byId("optimizer-label"),
    optimizers.filter((each) => each !== null),
    answer.optimizer,
  );
}

function options(select, label, names, current) {
  label.hidden = names.length < 2;
  const key = JSON.stringify(names);
  if (select.dataset.key !== key) {
    const held = select.value;
    select.replaceChildren(...names.map((name) => tag("option", {}, name)));
    select.value = names.includes(held) ? held : (current ?? "");
  }
  select.dataset.key = key;
  if (current !== null && document.activeElement !== select) select.value = current;
}

function failed(fault) {
  if (fault instanceof Refused) {
    byId("token-form").hidden = false;
    byId("main").hidden = true;
    link("gone", "a token is asked for");
    say(byId("token-wrong"), hasToken() ? "This is not its token." : "");
  } else if (fault instanceof Gone) {
    if (chosen.agent === null) missing();
    Object.assign(chosen, { agent: null, optimizer: null });
  } else if (fault instanceof Silent) {
    const age = lastAnswer === null ? null : (Date.now() - lastAnswer) / 1e3;
    const since = age === null ? "" : `, last seen ${seconds(Math.round(age))} ago`;
    link("gone", fault.isLate ? "no answer" : "the run has ended or its process is gone", since);
    if (store.answer) drawGlance(store, { isLate: fault.isLate });
  } else {
    link("gone", `the page cannot show this: ${fault.message}`);
    console.error(fault);
  }
  if (store.answer) title();
}

// The server is there and has no agent: not yet, or not any more.
function missing() {
  link("gone", store.answer ? "the run has ended" : "attached, but nothing was reported yet");
  if (store.answer) drawGlance(store, { isLate: false });
}

// What changes with every poll stands beside the words: a screen reader is told of these alone.
function link(state, words, since = "") {
  byId("link").className = `link ${state}`;
  say(byId("link-words"), words);
  say(byId("link-since"), since);
}

function title() {
  document.title = `${byId("verdict").textContent} · ${store.answer.run?.run ?? "loopscope"}`;
}

function choose(agent, optimizer) {
  Object.assign(chosen, { agent, optimizer });
  store.reset();
  poll();
}

function recolour() {
  curves.recolour();
  heatmap.recolour();
}

byId("agent").addEventListener("change", (event) => choose(event.target.value, null));
byId("optimizer").addEventListener("change", (event) => choose(chosen.agent ?? store.answer.agent, event.target.value));
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(byId("token").value);
  poll();
});
for (const radio of document.getElementsByName("theme")) {
  radio.checked = radio.value === (remember("localStorage", "loopscope-theme") ?? "auto");
  radio.addEventListener("change", () => {
    remember("localStorage", "loopscope-theme", radio.value);
    recolour();
  });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
document.addEventListener("visibilitychange", () => document.hidden || poll());
tokenFromAddress();
poll();

// The gradient norm of each layer over the steps, as colours on a canvas; the keyboard moves through the cells.

import { colour, say, tag } from "./dom.js";
import { number, plain } from "./format.js";

const FEW_ROWS = 24;
const EDGE = 0.02; // share of the values at either end that the colours do not spread for

const LIGHT = [
  [232, 240, 246],
  [168, 200, 224],
  [84, 143, 189],
  [27, 86, 140],
  [10, 39, 78],
];
const DARK = [
  [27, 37, 48],
  [28, 66, 101],
  [46, 111, 163],
  [112, 170, 214],
  [222, 238, 250],
];

export class Heatmap {
  constructor(root) {
    this.names = tag("ul", { class: "rows" });
    this.canvas = tag("canvas", { tabindex: "0", role: "img", "aria-describedby": "heatmap-cell" });
    this.cell = tag("p", { id: "heatmap-cell", class: "muted", role: "status" });
    this.legend = tag("p", { class: "muted legend" });
    this.axis = tag("p", { class: "axis muted" });
    this.at = null;
    const body = tag("div", {}, this.canvas, this.axis);
    root.replaceChildren(
      tag("figcaption", {}, this.legend),
      tag("div", { class: "heatmap" }, this.names, body),
      this.cell,
    );
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => this.move(null));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.history && this.paint()).observe(body);
  }

  draw(history, states) {
    this.history = history;
    this.height = history.layers.length <= FEW_ROWS ? 20 : 12;
    this.range = range(history.layer_norms);
    this.names.className = `rows h${this.height}`;
    this.names.replaceChildren(...history.layers.map((layer) => name(layer, states[layer])));
    this.canvas.setAttribute(
      "aria-label",
      `Norms of ${history.layers.length} layers over ${history.num_spans} spans of steps. Arrow keys move through the cells.`,
    );
    this.paint();
    this.tell();
  }

  paint() {
    const { layers, num_spans: num, layer_norms: norms } = this.history;
    const scale = window.devicePixelRatio || 1;
    const width = this.canvas.parentElement.clientWidth;
    this.canvas.width = Math.max(1, Math.round(width * scale));
    this.canvas.height = Math.max(1, Math.round(layers.length * this.height * scale));
    this.canvas.style.height = `${layers.length * this.height}px`;
    const context = this.canvas.getContext("2d");
    const ramp = colours();
    const bad = colour("critical");
    for (const [row, values] of norms.entries()) {
      const top = Math.round(row * this.height * scale);
      const bottom = Math.round((row + 1) * this.height * scale) - 1;
      for (let span = 0; span < num; span += 1) {
        const value = values[span];
        if (value === null || value === undefined) continue;
        const left = Math.round((span / num) * this.canvas.width);
        const right = Math.round(((span + 1) / num) * this.canvas.width);
        context.fillStyle = value === "NaN" ? bad : ramp[shade(value, this.range)];
        context.fillRect(left, top, right - left, bottom - top);
      }
    }
    if (this.at) this.frame(context, scale);
    this.explain(ramp, bad);
  }

  frame(context, scale) {
    const [row, span] = this.at;
    const step = this.canvas.width / this.history.num_spans;
    context.strokeStyle = colour("text");
    context.lineWidth = 2 * scale;
    context.strokeRect(span * step, row * this.height * scale, Math.max(step, 2 * scale), this.height * scale);
  }

  explain(ramp, bad) {
    const { origin, width, num_spans: num } = this.history;
    const swatches = ramp.map((fill) => swatch(fill));
    const [low, high] = this.range ?? [null, null];
    this.legend.replaceChildren(
      "Mean of each span of steps: ",
      number(power(low)),
      tag("span", { class: "ramp", "aria-hidden": "true" }, swatches),
      number(power(high)),
      tag("span", { class: "key" }, swatch(bad), "NaN or infinite"),
      tag("span", { class: "key" }, swatch("transparent", true), "no gradient"),
    );
    const last = origin + num * width - 1;
    this.axis.replaceChildren(
      tag("span", {}, `step ${origin.toLocaleString("en")}`),
      tag("span", {}, last.toLocaleString("en")),
    );
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const { layers, num_spans: num } = this.history;
    const row = Math.floor((event.clientY - box.top) / this.height);
    const span = Math.floor(((event.clientX - box.left) / box.width) * num);
    this.move(row >= 0 && row < layers.length && span >= 0 && span < num ? [row, span] : null);
  }

  key(event) {
    const moves = {
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      Home: [0, -1e9],
      End: [0, 1e9],
      Escape: null,
    };
    if (!(event.key in moves) || !this.history) return;
    event.preventDefault();
    const move = moves[event.key];
    const { layers, num_spans: num } = this.history;
    const [row, span] = this.at ?? [0, num - 1];
    const within = (value, most) => Math.min(Math.max(value, 0), most);
    this.move(move && [within(row + move[0], layers.length - 1), within(span + move[1], num - 1)]);
  }

  move(cell) {
    this.at = cell;
    if (this.history) this.paint();
    this.tell();
  }

  tell() {
    const { history, at } = this;
    if (!at || !history || at[0] >= history.layers.length)
      return say(this.cell, "Point at a cell, or use the arrow keys, for its value.");
    const first = history.origin + at[1] * history.width;
    const span = history.width === 1 ? `step ${first}` : `steps ${first} to ${first + history.width - 1}`;
    const value = history.layer_norms[at[0]][at[1]];
    say(
      this.cell,
      `${history.layers[at[0]]}, ${span}: ${value === null ? "no gradient" : value === "NaN" ? "NaN or infinite" : number(value)}`,
    );
  }
}

function name(layer, state) {
  const mark =
    state && state.state !== "healthy"
      ? tag("span", { class: `badge ${graveness(state.state)}` }, plain(state.state))
      : null;
  return tag(
    "li",
    { title: state?.rule ? `${layer}: ${state.state} by ${plain(state.rule)}` : layer },
    mark,
    " ",
    layer,
  );
}

export const graveness = (state) =>
  ["nonfinite", "exploding"].includes(state) ? "critical" : state === "healthy" ? "good" : "warning";

function swatch(fill, hasEdge = false) {
  const box = tag("span", { class: hasEdge ? "swatch edge" : "swatch" });
  box.style.background = fill;
  return box;
}

// The logarithms between which the colours spread: those of the values without the outermost, null without any value.
function range(norms) {
  const logs = norms
    .flat()
    .filter((value) => typeof value === "number" && value > 0)
    .map(Math.log10)
    .sort((a, b) => a - b);
  if (!logs.length) return null;
  const low = logs[Math.floor(EDGE * (logs.length - 1))];
  const high = logs[Math.ceil((1 - EDGE) * (logs.length - 1))];
  return high - low > 1e-9 ? [low, high] : [low - 0.5, high + 0.5];
}

const power = (exponent) => (exponent === null ? null : 10 ** exponent);

const NUM_COLOURS = 16;

function shade(value, range) {
  if (!range || value <= 0) return 0;
  const place = (Math.log10(value) - range[0]) / (range[1] - range[0]);
  return Math.round(Math.min(Math.max(place, 0), 1) * (NUM_COLOURS - 1));
}

function colours() {
  const anchors =
    colour("page")
      .match(/\d+/g)
      .slice(0, 3)
      .reduce((sum, part) => sum + Number(part), 0) < 384
      ? DARK
      : LIGHT;
  return Array.from({ length: NUM_COLOURS }, (_, index) => {
    const place = (index / (NUM_COLOURS - 1)) * (anchors.length - 1);
    const low = Math.min(Math.floor(place), anchors.length - 2);
    const mixed = anchors[low].map((from, channel) =>
      Math.round(from + (anchors[low + 1][channel] - from) * (place - low)),
    );
    return `rgb(${mixed.join(" ")})`;
  });
}

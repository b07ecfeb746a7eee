// The gradient norm of each layer over the steps, as colours on a canvas; the keyboard moves through the cells.

import { colour, say, tag } from "./dom.js";
import { number, plain, plural, shortened } from "./format.js";
import { channels, colours, css, range, shade } from "./ramp.js";

const FEW_ROWS = 24;
const CHARACTER = 20; // pixels of the whole's width for one of a name, which has a third of it

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
    new ResizeObserver(() => this.paint()).observe(body);
  }

  // `last`: the latest step; the last span may reach beyond it.
  draw(history, states, last) {
    if (this.at) this.at[1] = Math.floor((this.at[1] * this.history.width) / history.width);
    if (this.at?.[1] >= history.num_spans) this.at = null;
    this.history = history;
    this.last = last;
    this.height = history.layers.length <= FEW_ROWS ? 20 : 12;
    this.label(history.layers, states);
    this.recolour();
    this.cell.setAttribute("aria-live", "off"); // only what a person asks for is said
    this.tell();
  }

  label(layers, states) {
    const most = Math.max(Math.floor(this.names.parentElement.clientWidth / CHARACTER), 12);
    const key = JSON.stringify([most, layers.map((layer) => [layer, states[layer]])]);
    if (this.names.dataset.key === key) return;
    this.names.dataset.key = key;
    this.names.className = `rows h${this.height}`;
    const short = shortened(layers, most);
    this.names.replaceChildren(...layers.map((layer, index) => name(layer, short[index], states[layer])));
    const words = `Norms of ${plural(layers.length, "layer")} over spans of steps. Arrow keys move through the cells.`;
    this.canvas.setAttribute("aria-label", words);
  }

  // Makes the picture anew, a pixel a cell, in the colours that the page has now.
  recolour() {
    if (!this.history) return;
    const { layers, num_spans: num, layer_norms: norms } = this.history;
    const [ramp, bad, logs] = [colours(), channels("critical"), range(norms)];
    this.cells = new OffscreenCanvas(Math.max(num, 1), Math.max(layers.length, 1));
    const image = new ImageData(this.cells.width, this.cells.height);
    norms.forEach((values, row) => {
      for (let span = 0; span < num; span += 1) {
        const value = values[span];
        if (value === null || value === undefined) continue; // stays transparent
        image.data.set([...(value === "NaN" ? bad : ramp[shade(value, logs)]), 255], 4 * (row * num + span));
      }
    });
    this.cells.getContext("2d").putImageData(image, 0, 0);
    this.explain(ramp, bad, logs);
    this.paint();
  }

  paint() {
    if (!this.cells) return;
    const scale = window.devicePixelRatio || 1;
    const num = this.history.layers.length;
    this.canvas.width = Math.max(1, Math.round(this.canvas.parentElement.clientWidth * scale));
    this.canvas.height = Math.max(1, Math.round(num * this.height * scale));
    this.canvas.style.height = `${num * this.height}px`;
    const context = this.canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(this.cells, 0, 0, this.canvas.width, this.canvas.height);
    for (let row = 1; row < num; row += 1) context.clearRect(0, row * this.height * scale - 1, this.canvas.width, 1);
    if (this.at) this.frame(context, scale);
  }

  frame(context, scale) {
    const [row, span] = this.at;
    const step = this.canvas.width / this.history.num_spans;
    context.strokeStyle = colour("text");
    context.lineWidth = 2 * scale;
    context.strokeRect(span * step, row * this.height * scale, Math.max(step, 2 * scale), this.height * scale);
  }

  explain(ramp, bad, logs) {
    const { origin } = this.history;
    const swatches = ramp.map((fill) => swatch(css(fill)));
    const [low, high] = (logs ?? [null, null]).map((power) => number(power === null ? 0 : 10 ** power));
    this.legend.replaceChildren(
      "Mean of each span of steps: ",
      low,
      tag("span", { class: "ramp", "aria-hidden": "true" }, swatches),
      high,
      tag("span", { class: "key" }, swatch(css(bad)), "NaN or infinite"),
      tag("span", { class: "key" }, swatch("transparent", true), "no gradient"),
    );
    this.axis.replaceChildren(
      tag("span", {}, `step ${origin.toLocaleString("en")}`),
      tag("span", {}, this.last.toLocaleString("en")),
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
    this.cell.setAttribute("aria-live", "polite");
    this.paint();
    this.tell();
  }

  tell() {
    const { history, at } = this;
    if (!at || !history || at[0] >= history.layers.length)
      return say(this.cell, "Point at a cell, or use the arrow keys, for its value.");
    const first = history.origin + at[1] * history.width;
    const last = Math.max(first, Math.min(first + history.width - 1, this.last));
    const [from, to] = [first, last].map((step) => step.toLocaleString("en"));
    const span = first === last ? `step ${from}` : `steps ${from} to ${to}`;
    const value = history.layer_norms[at[0]][at[1]];
    say(
      this.cell,
      `${history.layers[at[0]]}, ${span}: ${value === null ? "no gradient" : value === "NaN" ? "NaN or infinite" : number(value)}`,
    );
  }
}

function name(layer, short, state) {
  const mark =
    state && state.state !== "healthy"
      ? tag("span", { class: `badge ${graveness(state.state)}` }, plain(state.state))
      : null;
  return tag(
    "li",
    { title: state?.rule ? `${layer}: ${state.state} by ${plain(state.rule)}` : layer },
    mark,
    " ",
    short,
  );
}

export const graveness = (state) =>
  ["nonfinite", "exploding"].includes(state) ? "critical" : state === "healthy" ? "good" : "warning";

function swatch(fill, hasEdge = false) {
  const box = tag("span", { class: hasEdge ? "swatch edge" : "swatch" });
  box.style.background = fill;
  return box;
}

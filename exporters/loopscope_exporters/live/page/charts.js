// Lines over the steps, drawn by uPlot: one cursor for all of them, incidents and epochs marked.

import uPlot from "./uplot/uPlot.esm.js";
import { colour, say, tag } from "./dom.js";
import { number, ticks } from "./format.js";

const HEIGHT = 200;
const LOG_FROM = 50; // a curve whose extremes are further apart is drawn on a logarithmic scale
const MIN_AXIS = 62;
const SYNC = uPlot.sync("steps");

export const finite = (value) => (typeof value === "number" ? value : null);

// The first step of every span: what charts have as x.
export function steps(history) {
  return Array.from({ length: history.num_spans }, (_, span) => history.origin + span * history.width);
}

export class Chart {
  // `series`: [{label, colour, fill, band}], in the order of the data given to `draw`; `format` writes a value.
  constructor(root, title, series, { format = number, isStacked = false, canBeLog = true } = {}) {
    this.root = root;
    this.series = series;
    this.format = format;
    this.isStacked = isStacked;
    this.canBeLog = canBeLog;
    this.scaleName = tag("small");
    this.said = tag("p", { class: "unseen" });
    this.holder = tag("div", { class: "plot", "aria-hidden": "true" }); // a picture, which `said` puts in words
    root.setAttribute("aria-label", title);
    root.replaceChildren(tag("figcaption", {}, tag("h3", {}, title, " "), this.scaleName), this.holder, this.said);
    this.marks = [];
    new ResizeObserver(() => this.resize()).observe(this.holder);
  }

  // `x` and `columns` have a value a span, null where there is none; `marks` are {step, severity}; `bad` the steps at which
  // the value was not finite; `of` says whose they are: of others than before all is shown.
  draw(x, columns, { marks = [], bad = [], words = "", of = "" } = {}) {
    const isLog = this.canBeLog && wantsLog(columns);
    const isZoomed = this.of === of && this.zoom() !== null;
    this.of = of;
    this.marks = marks;
    this.bad = bad;
    const data = [x, ...(isLog ? columns.map((column) => column.map((v) => (v > 0 ? v : null))) : columns)];
    if (!this.plot || isLog !== this.isLog) this.make(data, isLog);
    else if (isZoomed) {
      this.plot.setData(data, false);
      this.plot.redraw();
    } else this.plot.setData(data);
    say(this.scaleName, isLog ? "logarithmic" : "");
    say(this.said, words);
  }

  // Colours are the style sheet's: made anew when these change.
  recolour() {
    const zoom = this.zoom();
    if (this.plot) this.make(this.plot.data, this.isLog);
    if (zoom) this.plot.setScale("x", zoom);
  }

  // The steps that a drag has left in sight, null where all are.
  zoom() {
    const x = this.plot?.data[0];
    const { min, max } = this.plot?.scales.x ?? {};
    return x?.length && (min > x[0] || max < x.at(-1)) ? { min, max } : null;
  }

  resize() {
    const width = this.holder.clientWidth;
    if (width > 0) this.plot?.setSize({ width, height: HEIGHT });
  }

  make(data, isLog) {
    this.plot?.destroy();
    this.isLog = isLog;
    this.plot = new uPlot(this.options(isLog), data, this.holder);
  }

  options(isLog) {
    const axis = {
      stroke: colour("muted"),
      grid: { stroke: colour("line"), width: 1 },
      ticks: { show: false },
      font: "12px system-ui, sans-serif",
    };
    const isEven = this.format === number && !isLog;
    const told = (values) => (isEven ? ticks(values) : values.map((v) => (v === null ? "" : this.format(v))));
    return {
      width: Math.max(this.holder.clientWidth, 120),
      height: HEIGHT,
      padding: [10, (plot) => room(widest(plot)) / 2, null, null],
      cursor: { sync: { key: SYNC.key }, points: { size: 6 }, drag: { x: true, y: false } },
      scales: { x: { time: false }, y: isLog ? { distr: 3 } : { range: fitted(this.isStacked) } },
      axes: [
        {
          ...axis,
          size: 38,
          gap: 11,
          space: (plot) => room(widest(plot)) + 12,
          values: (_, steps) => steps.map((step) => (Number.isInteger(step) ? step.toLocaleString("en") : "")),
        },
        {
          ...axis,
          size: (_, words) => Math.max(MIN_AXIS, ...(words ?? []).map((word) => room(word) + 14)),
          values: (_, values) => told(values),
        },
      ],
      series: [
        {
          label: "step",
          value: (plot, step, index, at) => chosen(plot, step, index, at)[0]?.toLocaleString("en") ?? "–",
        },
        ...this.series.map((one) => this.line(one)),
      ],
      bands: this.series.some((one) => one.band) ? [{ series: [3, 2], fill: colour("band") }] : [],
      hooks: {
        draw: [(plot) => this.drawMarks(plot)],
      },
    };
  }

  line(one) {
    const told = (value, at) =>
      value === null || value === undefined ? "–" : this.format(one.own ? one.own(at) : value);
    return {
      label: one.label,
      stroke: one.band ? "transparent" : colour(one.colour),
      fill: one.fill ? colour(one.colour) : undefined,
      width: one.band || one.fill ? 0 : 1.75,
      points: { show: (plot) => !one.band && !one.fill && plot.data[0].length < 40 },
      value: (plot, value, index, at) => told(...chosen(plot, value, index, at)),
    };
  }

  drawMarks(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.setLineDash([4, 4]);
    for (const mark of this.marks) {
      const x = Math.round(plot.valToPos(mark.step, "x", true));
      ctx.strokeStyle = colour(mark.severity);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.fillStyle = colour("critical");
    for (const step of this.bad ?? []) {
      ctx.fillRect(plot.valToPos(step, "x", true) - 1, bbox.top + bbox.height - 8, 3, 8);
    }
    ctx.restore();
  }
}

// About as wide as a text is at the size of the axes.
const room = (text) => 7 * text.length;
const widest = (plot) => Math.round(plot.scales.x.max ?? 0).toLocaleString("en");

function wantsLog(columns) {
  let low = Infinity;
  let high = 0;
  for (const column of columns) {
    for (const value of column) {
      if (value === null) continue;
      if (value < 0) return false;
      if (value > 0) [low, high] = [Math.min(low, value), Math.max(high, value)];
    }
  }
  return high > LOG_FROM * low;
}

// From zero where values are stacked or near to it, else around the values.
function fitted(isStacked) {
  return (_, low, high) => {
    if (low === null || high === null) return [0, 1];
    const space = (high - low || Math.abs(high) || 1) * 0.08;
    return [isStacked || (low >= 0 && low < 0.4 * high) ? 0 : low - space, high + space];
  };
}

// What the legend tells: the value under the cursor, the latest one without it; and its place.
function chosen(plot, value, index, at) {
  const place = at ?? plot.data[0].length - 1;
  return [at === null ? plot.data[index][place] : value, place];
}

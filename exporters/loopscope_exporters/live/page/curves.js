// The four charts of a run: loss, global norm, where a step's time goes, learning rate.

import { Chart, finite, steps } from "./charts.js";
import { byId } from "./dom.js";
import { number, plain, seconds, share } from "./format.js";
import { incidents } from "./store.js";

const MOST_MARKS = 40;

export class Curves {
  constructor() {
    const banded = (label) => [
      { label, colour: "s0" },
      { label: "low", band: true },
      { label: "high", band: true },
    ];
    this.charts = {
      loss: new Chart(byId("loss"), "Loss", banded("mean")),
      norm: new Chart(byId("norm"), "Norm of all gradients", banded("mean")),
      learning_rate: new Chart(byId("rate"), "Learning rate", [{ label: "rate", colour: "s0" }], { canBeLog: false }),
    };
    this.phases = null;
  }

  draw(store) {
    const { history, identity } = store;
    const x = steps(history);
    const marks = grave(store.events);
    for (const [name, chart] of Object.entries(this.charts)) {
      const [mean, low, high] = ["mean", "low", "high"].map((part) => history.columns[`${name}_${part}`]);
      const bad = x.filter((_, span) => mean[span] === "NaN");
      const columns =
        name === "learning_rate"
          ? [mean]
          : [mean.map((value, span) => inside(value, low[span], high[span])), low, high];
      chart.root.hidden = low.every((value) => value === null) && bad.length === 0;
      chart.draw(
        x,
        columns.map((column) => column.map(finite)),
        { marks, bad, words: inWords(x, low, high, bad), of: identity },
      );
    }
    this.drawPhases(history, x, marks, identity);
  }

  recolour() {
    for (const chart of [...Object.values(this.charts), this.phases]) chart?.recolour();
  }

  drawPhases(history, x, marks, of) {
    const columns = history.columns;
    const perStep = history.phases.map((phase) =>
      columns[`phase_${phase}`].map((total, span) =>
        columns.num_steps[span] ? total / columns.num_steps[span] : null,
      ),
    );
    const sums = stacked(perStep);
    this.phases ??= new Chart(
      byId("phases"),
      "Time of a step",
      history.phases
        .map((phase, index) => ({
          label: plain(phase),
          colour: `b${index}`,
          fill: true,
          own: (span) => this.perStep[index][span],
        }))
        .reverse(),
      { format: seconds, isStacked: true, canBeLog: false },
    );
    this.perStep = perStep;
    this.phases.draw(x, sums.reverse(), { marks, words: phasesInWords(history.phases, perStep), of });
  }
}

// Where a value of the span was not finite the mean of the others is not known; between the extremes there is a line still.
const inside = (mean, low, high) => (mean === "NaN" && low !== null && high !== null ? (low + high) / 2 : mean);

function grave(events) {
  const wanted = incidents(events).filter((incident) => incident.severity !== "info");
  return wanted.slice(-MOST_MARKS).map((incident) => ({ step: incident.head.step, severity: incident.severity }));
}

function stacked(columns) {
  let below = null;
  return columns.map((column) => {
    const before = below;
    below = column.map((value, span) => (value === null ? null : value + (before ? before[span] : 0)));
    return below;
  });
}

function inWords(x, low, high, bad) {
  const lows = low.filter((value) => value !== null);
  if (!lows.length) return "No value yet.";
  const highs = high.filter((value) => value !== null);
  const range = `Between ${number(Math.min(...lows))} and ${number(Math.max(...highs))} over steps ${x[0]} to ${x.at(-1)}, last ${number(lows.at(-1))} to ${number(highs.at(-1))}.`;
  return bad.length ? `${range} Not finite at ${bad.length} places, first at step ${bad[0]}.` : range;
}

function phasesInWords(phases, perStep) {
  const last = perStep.map((column) => column.findLast((value) => value !== null) ?? 0);
  const total = last.reduce((sum, value) => sum + value, 0);
  if (!total) return "No time yet.";
  return `Of a step of ${seconds(total)} lately: ${phases.map((phase, index) => `${plain(phase)} ${share(last[index] / total)}`).join(", ")}.`;
}

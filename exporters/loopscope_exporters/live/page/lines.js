// Waits for the device and compilations, by the line of the user's code that causes them.

import { tag } from "./dom.js";
import { count, plain, seconds } from "./format.js";
import { counters } from "./store.js";

const MOST = 15;

export function drawLines(root, activity) {
  const spent = new Map(counters(activity, "loopscope.device.sync").map((row) => [key(row), row.value]));
  const waits = counters(activity, "loopscope.device.syncs").map((row) => [
    row.labels.site,
    plain(row.labels.kind),
    count(row.value),
    seconds(spent.get(key(row)) ?? 0),
  ]);
  const compiled = [
    ...counters(activity, "loopscope.recompilations").map((row) => [
      row.labels.frame,
      `recompiled: ${plain(row.labels.reason)}`,
      count(row.value),
    ]),
    ...counters(activity, "loopscope.graph_breaks").map((row) => [
      row.labels.site,
      `graph break: ${plain(row.labels.reason)}`,
      count(row.value),
    ]),
    ...counters(activity, "loopscope.compile_fallbacks").map((row) => [
      row.labels.frame,
      "runs eager",
      count(row.value),
    ]),
    ...counters(activity, "loopscope.inplace_conflicts").map((row) => [
      row.labels.site,
      `in place: ${row.labels.op}`,
      count(row.value),
    ]),
  ];
  const text = JSON.stringify([waits, compiled]);
  if (root.dataset.key === text) return;
  root.dataset.key = text;
  root.replaceChildren(
    part("Waits for the device", ["Line", "By", "Times", "Waited"], waits, "No line has waited for the device."),
    part(
      "torch.compile and in-place operations",
      ["Line or frame", "What", "Times"],
      compiled,
      "Nothing was recompiled, no graph broke, and nothing was overwritten.",
    ),
  );
}

const key = (row) => `${row.labels.site}\n${row.labels.kind}`;

function part(title, titles, rows, calm) {
  const more =
    rows.length > MOST ? tag("p", { class: "muted" }, `${rows.length - MOST} further lines are in the metrics.`) : null;
  const table = tag(
    "table",
    {},
    tag(
      "thead",
      {},
      tag(
        "tr",
        {},
        titles.map((name, index) => tag("th", { scope: "col", class: index > 1 ? "n" : "" }, name)),
      ),
    ),
    tag(
      "tbody",
      {},
      rows.slice(0, MOST).map((row) =>
        tag(
          "tr",
          {},
          tag("th", { scope: "row" }, tag("code", {}, row[0])),
          row.slice(1).map((text, index) => tag("td", { class: index > 0 ? "n" : "" }, text)),
        ),
      ),
    ),
  );
  return tag(
    "div",
    { class: "card" },
    tag("h3", {}, title),
    rows.length
      ? tag("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title }, table)
      : tag("p", { class: "calm" }, calm),
    more,
  );
}

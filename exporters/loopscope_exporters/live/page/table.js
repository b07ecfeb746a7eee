// A table that sorts and filters, and of thousands of rows draws only those in sight.

import { say, tag } from "./dom.js";
import { plural, shortened } from "./format.js";

const ROW = 28; // pixels, as in the style sheet
const NARROW = 760; // pixels: the column of names is narrow then
const SPARE = 12; // rows above and below what is in sight

export class Table {
  // `columns`: [{key, title, format, isText, isDownFirst, explain}]; rows are objects with a value for each key.
  constructor(root, caption, columns) {
    this.caption = caption;
    this.columns = columns;
    this.rows = [];
    this.shown = [];
    this.sorted = { key: null, isDown: true };
    this.filter = tag("input", {
      type: "search",
      placeholder: "Filter by name",
      "aria-label": "Filter by name",
      spellcheck: "false",
      oninput: () => this.arrange(),
    });
    this.number = tag("span", { class: "muted", role: "status" });
    this.head = tag("tr");
    this.body = tag("tbody");
    this.table = tag("table", {}, tag("caption", { class: "unseen" }, caption), tag("thead", {}, this.head), this.body);
    this.scroller = tag(
      "div",
      { class: "scroll tall", tabindex: "0", role: "region", "aria-label": caption },
      this.table,
    );
    this.scroller.addEventListener("scroll", () => this.paint());
    new ResizeObserver(() => this.paint()).observe(this.scroller);
    this.titles();
    root.replaceChildren(tag("div", { class: "tools" }, this.filter, this.number), this.scroller);
  }

  fill(rows) {
    const key = this.columns[0].key;
    const most = this.scroller.clientWidth < NARROW ? 24 : 48;
    const names = shortened(
      rows.map((row) => String(row[key])),
      most,
    );
    this.rows = rows.map((row, index) => ({ ...row, short: names[index] }));
    this.arrange();
  }

  titles() {
    this.head.replaceChildren(...this.columns.map((column) => this.title(column)));
  }

  title(column) {
    const isSorted = this.sorted.key === column.key;
    const order = isSorted ? (this.sorted.isDown ? "descending" : "ascending") : "none";
    const arrow = isSorted ? (this.sorted.isDown ? " ↓" : " ↑") : "";
    const button = tag(
      "button",
      { type: "button", title: column.explain, onclick: () => this.sort(column) },
      column.title,
      tag("span", { "aria-hidden": "true" }, arrow),
    );
    return tag("th", { scope: "col", class: column.isText ? "" : "n", "aria-sort": order }, button);
  }

  // The first click sorts names upwards, numbers and states downwards, the second the other way, the third as it came.
  sort(column) {
    const first = column.isDownFirst ?? !column.isText;
    if (this.sorted.key !== column.key) this.sorted = { key: column.key, isDown: first };
    else if (this.sorted.isDown === first) this.sorted.isDown = !first;
    else this.sorted = { key: null, isDown: true };
    const place = this.columns.indexOf(column);
    this.titles();
    this.head.children[place].querySelector("button").focus();
    this.arrange();
  }

  arrange() {
    const wanted = this.filter.value.trim().toLowerCase();
    const rows = wanted
      ? this.rows.filter((row) => String(row[this.columns[0].key]).toLowerCase().includes(wanted))
      : [...this.rows];
    const { key, isDown } = this.sorted;
    if (key !== null) rows.sort((a, b) => compare(a[key], b[key], isDown));
    this.shown = rows;
    this.table.setAttribute("aria-rowcount", rows.length + 1);
    say(
      this.number,
      rows.length === this.rows.length
        ? plural(rows.length, "row")
        : `${rows.length.toLocaleString("en")} of ${plural(this.rows.length, "row")}`,
    );
    this.paint();
  }

  paint() {
    const top = Math.max(0, Math.floor(this.scroller.scrollTop / ROW) - SPARE);
    const bottom = Math.min(
      this.shown.length,
      Math.ceil((this.scroller.scrollTop + (this.scroller.clientHeight || 480)) / ROW) + SPARE,
    );
    const rows = this.shown.slice(top, bottom).map((row, index) => this.row(row, top + index));
    this.body.replaceChildren(
      gap(top, this.columns.length),
      ...rows,
      gap(this.shown.length - bottom, this.columns.length),
    );
  }

  row(row, index) {
    const cells = this.columns.map((column) => {
      const value = column.format ? column.format(row[column.key], row) : row[column.key];
      return column.isText && column === this.columns[0]
        ? tag("th", { scope: "row", title: String(row[column.key]) }, row.short ?? value)
        : tag("td", { class: column.isText ? "" : "n" }, value);
    });
    return tag("tr", { "aria-rowindex": index + 2 }, cells);
  }
}

// Rows out of sight: their height, and nothing for a screen reader.
function gap(num, span) {
  const cell = tag("td", { colspan: span, class: "gap" });
  cell.style.height = `${Math.max(num, 0) * ROW}px`;
  return tag("tr", { "aria-hidden": "true", hidden: num <= 0 }, cell);
}

// What is not finite is more than every number, what is not known comes last either way.
function compare(a, b, isDown) {
  const [unknownA, unknownB] = [a === null || a === undefined, b === null || b === undefined];
  if (unknownA || unknownB) return unknownA - unknownB;
  if (a === b) return 0;
  const order = weight(a) !== weight(b) ? weight(a) - weight(b) : a < b ? -1 : 1;
  return isDown ? -order : order;
}

const weight = (value) => (value === "NaN" ? 1 : 0);

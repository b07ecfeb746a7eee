// Every event as it came, the latest first.

import { tag } from "./dom.js";
import { clock, plain } from "./format.js";
import { where } from "./store.js";

// New ones are put on top of those that stand there.
export class Events {
  constructor(root) {
    this.list = tag("ol", { class: "log", "aria-label": "Events, the latest first" });
    this.empty = tag("p", { class: "calm" }, "None yet.");
    root.replaceChildren(
      this.empty,
      tag("div", { class: "card scroll tall", tabindex: "0", role: "region", "aria-label": "Events" }, this.list),
    );
    this.drawn = null;
  }

  draw(store) {
    const start =
      this.drawn?.store === store.events
        ? store.events.length
        : this.drawn
          ? store.events.indexOf(this.drawn.last) + 1
          : 0;
    if (start === 0) this.list.replaceChildren();
    this.list.prepend(...store.events.slice(start).reverse().map(line));
    while (this.list.children.length > store.events.length) this.list.lastChild.remove();
    this.drawn = { store: store.events, last: store.events.at(-1) };
    this.empty.hidden = store.events.length > 0;
    this.list.parentElement.hidden = store.events.length === 0;
  }
}

function line(event) {
  return tag(
    "li",
    {},
    tag("span", { class: `badge ${event.severity}` }, event.severity),
    tag("span", { class: "muted" }, ` ${clock(event.time_unix_seconds)} · step ${event.step.toLocaleString("en")} · `),
    tag("strong", {}, plain(event.kind)),
    where(event) ? [" ", tag("code", {}, where(event))] : null,
    " ",
    event.message,
    event.remedy ? tag("span", { class: "muted" }, ` ${event.remedy}`) : null,
  );
}

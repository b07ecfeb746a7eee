// What happened and may need a person: incidents with their first cause and remedy.

import { byId, tag } from "./dom.js";
import { number, plain } from "./format.js";
import { incidents, rank, where } from "./store.js";

const MOST_SHOWN = 20;
const MOST_FOLLOWERS = 30;

export function drawIncidents(store) {
  const grave = incidents(store.events).filter((incident) => incident.severity !== "info");
  grave.sort((a, b) => rank(a.severity) - rank(b.severity) || b.last - a.last);
  const list = byId("incident-list");
  const open = new Set([...list.querySelectorAll("details[open]")].map((element) => element.dataset.key));
  const more =
    grave.length > MOST_SHOWN
      ? [
          tag(
            "li",
            { class: "muted" },
            `${grave.length - MOST_SHOWN} further ones are among the events below and in the log.`,
          ),
        ]
      : [];
  const key = JSON.stringify([store.identity, grave.map((incident) => [incident.key, incident.count])]);
  if (list.dataset.key === key) return undefined; // nothing new: what a reader has open and selected stays
  list.dataset.key = key;
  if (!grave.length) return list.replaceChildren(tag("li", { class: "calm" }, "Nothing to act on so far."));
  return list.replaceChildren(...grave.slice(0, MOST_SHOWN).map((incident) => item(incident, open)), ...more);
}

function item(incident, open) {
  const { head, followers } = incident;
  const times =
    followers.length || incident.count === 1
      ? `step ${head.step.toLocaleString("en")} · epoch ${head.epoch}${head.first_cause ? " · first cause" : ""}`
      : `${incident.count} times · steps ${head.step.toLocaleString("en")} to ${incident.last.toLocaleString("en")}`;
  const title = tag(
    "h3",
    {},
    tag("span", { class: `badge ${incident.severity}` }, incident.severity),
    ` ${plain(head.kind)} `,
    tag("small", {}, times),
  );
  return tag(
    "li",
    { class: `incident ${incident.severity}` },
    title,
    place(head),
    tag("p", {}, head.message),
    head.remedy ? tag("p", {}, tag("strong", {}, "Remedy. "), head.remedy) : null,
    followers.length ? following(incident, open) : null,
  );
}

function place(event) {
  const facts = [
    where(event) && tag("code", {}, where(event)),
    event.optimizer && `optimizer ${event.optimizer}`,
    event.value !== null && event.value !== undefined && `value ${number(event.value)}`,
    event.threshold !== null && event.threshold !== undefined && `threshold ${number(event.threshold)}`,
  ];
  const told = facts.filter(Boolean).map((fact) => tag("span", {}, fact));
  return told.length ? tag("p", { class: "facts" }, told) : null;
}

function following(incident, open) {
  const lines = incident.followers
    .slice(0, MOST_FOLLOWERS)
    .map((event) =>
      tag(
        "li",
        {},
        `${event.severity}: ${plain(event.kind)} at step ${event.step.toLocaleString("en")}${where(event) && ` in ${where(event)}`}. ${event.message}`,
      ),
    );
  const element = tag(
    "details",
    { open: open.has(incident.key) },
    tag("summary", {}, `${incident.followers.length} that followed`),
    tag("ul", {}, lines),
  );
  element.dataset.key = incident.key;
  return element;
}

// What the page knows of one agent, from the answers of /api/live one after the other. No DOM in here.

const RECENT_SECONDS = 10;

export class Store {
  constructor() {
    this.reset();
  }

  reset() {
    this.answer = null; // the latest
    this.identity = ""; // of the run, the agent and the optimizer
    this.history = null; // whole
    this.events = []; // oldest first
    this.epochs = [];
    this.next = { event: 0, epoch: 0 };
  }

  // The query that asks for what is new.
  query() {
    const history = this.history;
    const first = history ? history.num_spans - 1 : 0;
    return { width: history?.width ?? 0, first: Math.max(first, 0), event: this.next.event, epoch: this.next.epoch };
  }

  // Takes an answer in; of another run than before, or one that began anew, it starts from nothing and returns false:
  // then what was asked for was too little, and has to be asked for again.
  take(answer) {
    if (this.answer && this.identity !== identity(answer)) {
      this.reset();
      return false;
    }
    this.answer = answer;
    this.identity = identity(answer);
    this.history = grown(this.history, answer.history);
    this.events = appended(this.events, answer.events, this.next.event, 300);
    this.epochs = appended(this.epochs, answer.epochs, this.next.epoch, 500);
    this.next = { event: answer.events.next, epoch: answer.epochs.next };
    return true;
  }
}

function identity(answer) {
  const run = answer.run ?? {};
  return [run.run, run.pid, run.time_unix_seconds, answer.agent, answer.optimizer].join("\n");
}

function appended(known, part, next, most) {
  const entries = part.next < next ? part.entries : [...known, ...part.entries];
  return entries.slice(-most);
}

function grown(known, part) {
  if (!part) return known;
  if (!known || part.first === 0) return part;
  const columns = {};
  for (const name of Object.keys(part.columns)) {
    columns[name] = [...(known.columns[name] ?? []).slice(0, part.first), ...part.columns[name]];
  }
  const norms = part.layer_norms.map((row, layer) => {
    const before = known.layer_norms[layer] ?? new Array(part.first).fill(null);
    return [...before.slice(0, part.first), ...row];
  });
  return { ...part, first: 0, columns, layer_norms: norms };
}

// Incidents: the events that share one, the first cause foremost; others by what and where they are.
export function incidents(events) {
  const groups = new Map();
  for (const event of events) {
    const incident = event.attributes?.incident;
    const key =
      incident !== undefined
        ? `#${incident}`
        : JSON.stringify([event.kind, event.severity, event.layer, event.site, event.optimizer]);
    const group = groups.get(key);
    if (!group)
      groups.set(key, { key, head: event, followers: [], count: 1, last: event.step, severity: event.severity });
    else {
      group.count += 1;
      group.last = Math.max(group.last, event.step);
      if (rank(event.severity) < rank(group.severity)) group.severity = event.severity;
      if (incident === undefined) continue;
      const isHead = event.first_cause && !group.head.first_cause;
      group.followers.push(isHead ? group.head : event);
      if (isHead) group.head = event;
    }
  }
  return [...groups.values()];
}

export const rank = (severity) => ["critical", "warning", "info"].indexOf(severity);

// The latest spans that hold ten seconds of steps together, or all there is: what a step takes and does now. null
// without any of known duration. As in `loopscope top`.
export function recent(history) {
  const columns = history?.columns;
  const sums = { num_steps: 0, samples: 0, tokens: 0 };
  let spent = 0;
  for (let span = (history?.num_spans ?? 0) - 1; span >= 0 && spent < RECENT_SECONDS; span -= 1) {
    const duration = columns.duration_mean[span];
    if (typeof duration !== "number" || duration * columns.num_steps[span] <= 0) continue;
    spent += duration * columns.num_steps[span];
    for (const name of Object.keys(sums)) sums[name] += columns[name][span] ?? 0;
  }
  if (!spent) return null;
  return { duration: spent / sums.num_steps, samples: sums.samples / spent, tokens: sums.tokens / spent };
}

export function where(event) {
  return event.site ?? event.attributes?.parameter ?? event.layer ?? "";
}

// Counters of lines and frames by the catalog's name, the largest first; those at 0 are left out.
export function counters(activity, name) {
  const rows = (activity?.counters ?? []).filter((row) => row.name === name && row.value > 0);
  return rows.sort((a, b) => b.value - a.value);
}

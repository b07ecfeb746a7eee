// Numbers as a person reads them: three or four digits that count, and the unit. As in `loopscope report`.

export const UNKNOWN = "–";
const RAISED = ["", "k", "M", "G", "T"];

export function number(value) {
  if (value === null || value === undefined) return UNKNOWN;
  if (typeof value === "string") return value === "Infinity" ? "∞" : value === "-Infinity" ? "-∞" : value;
  if (!Number.isFinite(value)) return "NaN";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e9)) return value.toExponential(2).replace("e+", "e");
  if (size >= 1e4) return scaled(value);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
}

export function count(value) {
  if (value === null || value === undefined) return UNKNOWN;
  return Math.abs(value) < 1e5 ? Math.round(value).toLocaleString("en") : scaled(value);
}

export function seconds(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (size === 0) return "0 s";
  if (size < 1e-3) return `${digits(value * 1e6)} µs`;
  if (size < 1) return `${digits(value * 1e3)} ms`;
  if (size < 99.95) return `${digits(value)} s`;
  const whole = Math.round(value);
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min${rest(whole % 60, "s")}`;
  if (minutes < 2880) return `${Math.floor(minutes / 60)} h${rest(minutes % 60, "min")}`;
  return `${Math.floor(minutes / 1440)} d ${Math.floor(minutes / 60) % 24} h`;
}

const rest = (number, unit) => (number ? ` ${number} ${unit}` : "");

export function share(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return UNKNOWN;
  const percent = 100 * value;
  return percent !== 0 && percent < 0.1 ? "< 0.1 %" : `${percent.toFixed(percent < 99.95 ? 1 : 0)} %`;
}

export function bytes(value) {
  return value === null || value === undefined ? UNKNOWN : `${scaled(value)}B`;
}

export const plain = (name) => String(name ?? "").replaceAll("_", " ");

// The time of day, with the day where it is not today's.
export function clock(unixSeconds) {
  const time = new Date(unixSeconds * 1e3);
  const isToday = time.toDateString() === new Date().toDateString();
  const day = isToday ? "" : `${time.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} `;
  return day + time.toLocaleTimeString("en-GB");
}

// Module paths begin alike: of those longer than `most` the modules become initials, from the left, as many as must be.
export function shortened(names, most) {
  const short = names.map((name) => initials(name, most));
  return new Set(short).size === new Set(names).size ? short : names;
}

function initials(name, most) {
  const parts = name.split(".");
  for (let index = 0; index < parts.length - 1 && parts.join(".").length > most; index += 1) {
    parts[index] = /^\d*$/.test(parts[index]) ? parts[index] : parts[index][0] + parts[index].match(/\d*$/)[0];
  }
  return parts.join(".");
}

export const plural = (num, noun) => `${num.toLocaleString("en")} ${noun}${num === 1 ? "" : "s"}`;

// The numbers along an axis, evenly spaced: in one form, with the digits that tell them apart.
export function ticks(values) {
  const size = Math.max(...values.map(Math.abs));
  const power = (value) => Math.floor(Math.log10(value) + 1e-9);
  const step = values.length > 1 ? values[1] - values[0] : size / 100 || 1;
  const inTens = step / 10 ** power(step);
  const apart = power(step) - (Math.abs(inTens - Math.round(inTens)) > 1e-6); // 2.5 takes a digit more than 2
  const isPlain = size === 0 || (size >= 1e-3 && size < 1e6);
  const digits = isPlain ? -apart : power(size) - apart;
  const places = Math.min(Math.max(digits, 0), 12);
  const text = (value) => (isPlain ? value.toFixed(places) : value.toExponential(places).replace("e+", "e"));
  return values.map((value) => (Math.abs(value) < 1e-9 * size || value === 0 ? "0" : text(value)));
}

function scaled(value) {
  let index = 0;
  while (Math.abs(value) >= 999.5 && index < RAISED.length - 1) {
    value /= 1e3;
    index += 1;
  }
  return `${digits(value)} ${RAISED[index]}`.trimEnd() + (index === 0 ? " " : "");
}

const digits = (value) => Number(value.toPrecision(3)).toString();

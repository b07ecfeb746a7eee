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
  const minutes = Math.floor(value / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(value % 60)} s`;
  if (minutes < 2880) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.floor(minutes / 1440)} d ${Math.floor(minutes / 60) % 24} h`;
}

export function share(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return UNKNOWN;
  const percent = 100 * value;
  return percent !== 0 && percent < 0.1 ? "< 0.1 %" : `${percent.toFixed(percent < 99.95 ? 1 : 0)} %`;
}

export function bytes(value) {
  return value === null || value === undefined ? UNKNOWN : `${scaled(value)}B`;
}

export const plain = (name) => String(name ?? "").replaceAll("_", " ");

export const clock = (unixSeconds) => new Date(unixSeconds * 1e3).toLocaleTimeString("en-GB");

function scaled(value) {
  let index = 0;
  while (Math.abs(value) >= 999.5 && index < RAISED.length - 1) {
    value /= 1e3;
    index += 1;
  }
  return `${digits(value)} ${RAISED[index]}`.trimEnd() + (index === 0 ? " " : "");
}

const digits = (value) => Number(value.toPrecision(3)).toString();

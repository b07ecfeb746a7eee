// The colours of norms: one hue from faint to strong, spread over their logarithms.

import { colour } from "./dom.js";

const NUM_COLOURS = 16;
const EDGE = 0.02; // share of the values at either end that the colours do not spread for
const DARK_BELOW = 384; // sum of the channels of a dark ground

// What is low is near to the page's own colour in both.
const LIGHT = [
  [232, 240, 246],
  [168, 200, 224],
  [84, 143, 189],
  [27, 86, 140],
  [10, 39, 78],
];
const DARK = [
  [27, 37, 48],
  [28, 66, 101],
  [46, 111, 163],
  [112, 170, 214],
  [222, 238, 250],
];

// The logarithms between which the colours spread: those of the values without the outermost, null without any value.
export function range(norms) {
  const logs = norms
    .flat()
    .filter((value) => typeof value === "number" && value > 0)
    .map(Math.log10)
    .sort((a, b) => a - b);
  if (!logs.length) return null;
  const low = logs[Math.floor(EDGE * (logs.length - 1))];
  const high = logs[Math.ceil((1 - EDGE) * (logs.length - 1))];
  return high - low > 1e-9 ? [low, high] : [low - 0.5, high + 0.5];
}

export function shade(value, range) {
  if (!range || value <= 0) return 0;
  const place = (Math.log10(value) - range[0]) / (range[1] - range[0]);
  return Math.round(Math.min(Math.max(place, 0), 1) * (NUM_COLOURS - 1));
}

// The channels of each colour on the ground that the page has now.
export function colours() {
  const anchors = channels("page").reduce((sum, part) => sum + part, 0) < DARK_BELOW ? DARK : LIGHT;
  return Array.from({ length: NUM_COLOURS }, (_, index) => {
    const place = (index / (NUM_COLOURS - 1)) * (anchors.length - 1);
    const low = Math.min(Math.floor(place), anchors.length - 2);
    return anchors[low].map((from, part) => Math.round(from + (anchors[low + 1][part] - from) * (place - low)));
  });
}

export const channels = (name) =>
  colour(name)
    .match(/[\d.]+/g)
    .slice(0, 3)
    .map(Number);

export const css = (channels) => `rgb(${channels.join(" ")})`;

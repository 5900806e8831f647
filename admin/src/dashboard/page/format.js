// Figures in words, all of one width and with a dash for what is not known.

import { now } from "./store.js";

export const UNKNOWN = "–";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

function isKnown(value) {
  return value !== null && value !== undefined && Number.isFinite(value);
}

export function count(value) {
  return isKnown(value) ? whole.format(value) : UNKNOWN;
}

/// So many in a second.
export function rate(value) {
  if (!isKnown(value)) return UNKNOWN;
  if (value === 0) return "0";
  if (value < 0.1) return "<0.1";
  return value < 100 ? value.toFixed(1) : whole.format(value);
}

export function ratio(value) {
  return isKnown(value) ? value.toFixed(2) : UNKNOWN;
}

/// A share of 0 to 1.
export function share(value) {
  if (!isKnown(value)) return UNKNOWN;
  const percent = value * 100;
  if (percent > 0 && percent < 0.1) return "<0.1 %";
  if (percent < 100 && percent > 99.9) return ">99.9 %";
  return `${percent.toFixed(percent % 1 === 0 ? 0 : 1)} %`;
}

/// The chance of something, as `1 in 200` where it is small.
export function chance(value) {
  if (!isKnown(value)) return UNKNOWN;
  return value > 0.01 ? `${Math.round(value * 100)} %` : `1 in ${whole.format(Math.floor(1 / Math.max(value, 1e-12)))}`;
}

export function millis(value) {
  if (!isKnown(value)) return UNKNOWN;
  return value < 10 ? `${value.toFixed(1)} ms` : value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}

/// What half of the responses took at most, and what 99 of 100 did.
export function quantiles(found) {
  return isKnown(found?.p99) ? `${millis(found.p50)} / ${millis(found.p99)}` : UNKNOWN;
}

/// Seconds in the two largest units.
export function span(seconds) {
  if (!isKnown(seconds)) return UNKNOWN;
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  let left = Math.max(0, Math.round(seconds));
  const first = units.findIndex(([, size]) => left >= size);
  if (first < 0) return "0 s";
  const parts = [];
  for (const [unit, size] of units.slice(first, first + 2)) {
    const number = Math.floor(left / size);
    left -= number * size;
    if (number > 0) parts.push(`${number} ${unit}`);
  }
  return parts.join(" ");
}

/// The time of day of Unix milliseconds, with the date where it is not today's.
export function time(at) {
  if (!isKnown(at)) return UNKNOWN;
  const date = new Date(at);
  const clock = date.toLocaleTimeString("en-GB");
  const today = date.toDateString() === new Date().toDateString();
  return today ? clock : `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock}`;
}

function two(number) {
  return String(number).padStart(2, "0");
}

export function ago(at) {
  return isKnown(at) ? `${span((now() - at) / 1000)} ago` : UNKNOWN;
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/// A name of the API, as `not-enough-traffic`, in words.
export function words(name) {
  return String(name).replaceAll(/[-_]/g, " ");
}

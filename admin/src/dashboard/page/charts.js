// Charts are uPlot's; this says what they look like, in the colours of the page.

import { Component, createRef, h } from "./parts.js";

const HEIGHT = 150;

/// A colour of the style sheet as the present theme has it.
function colour(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function axis(more) {
  const font = "11px system-ui, sans-serif";
  return { stroke: colour("quiet"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font, ...more };
}

const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

function text(value) {
  return value === null || value === undefined ? "–" : value >= 100 ? short.format(value) : String(Math.round(value * 100) / 100);
}

function series({ label, colour: name, fill, dash, bars }) {
  return {
    label,
    stroke: colour(name),
    fill: fill || bars ? colour(`${name}-fill`) : undefined,
    width: 1.5,
    dash,
    points: { show: false },
    paths: bars,
    value: (_, value) => text(value),
  };
}

/// From zero up to what there is, and not all of noise where there is little.
function upFromZero(least) {
  return (_, min, max) => [Math.min(0, min ?? 0), Math.max(least, (max ?? 0) * 1.1)];
}

/// `data` is uPlot's: times or places, then a list for each series.
class Chart extends Component {
  box = createRef();

  componentDidMount() {
    this.draw();
    this.resized = new ResizeObserver(([{ contentRect }]) => this.plot?.setSize({ width: contentRect.width, height: HEIGHT }));
    this.resized.observe(this.box.current);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.redraw = () => this.draw();
    this.scheme.addEventListener("change", this.redraw);
    document.addEventListener("theme", this.redraw);
  }

  componentDidUpdate(before) {
    if (before.shape !== this.props.shape) this.draw();
    else this.plot.setData(this.props.data);
  }

  componentWillUnmount() {
    this.resized.disconnect();
    this.scheme.removeEventListener("change", this.redraw);
    document.removeEventListener("theme", this.redraw);
    this.plot.destroy();
  }

  draw() {
    this.plot?.destroy();
    const width = Math.max(160, this.box.current.clientWidth);
    this.plot = new window.uPlot({ width, height: HEIGHT, ...this.props.options() }, this.props.data, this.box.current);
  }

  render({ title, now, says }) {
    return h("figure", { class: "chart" },
      h("figcaption", null, h("span", null, title), h("strong", null, now)),
      h("div", { class: "plot", role: "img", "aria-label": says, ref: this.box }));
  }
}

function clock(at) {
  return at ? new Date(at * 1000).toLocaleTimeString("en-GB") : "–";
}

/// Lines over time. `lines` are `{ of, label, colour }`, `of` the name of the figure in each sample.
export function overTime({ title, samples, lines, now, says, least = 1 }) {
  const data = [samples.map(({ at }) => at / 1000), ...lines.map(({ of }) => samples.map((sample) => sample[of] ?? null))];
  const options = () => ({
    cursor: { points: { size: 6 }, drag: { x: false, y: false } },
    scales: { y: { range: upFromZero(least) } },
    padding: [12, 26, 0, 0],
    axes: [axis({ space: 80, size: 26, values: (_, times) => times.map(clock) }), axis({ size: 44, space: 36, values: (_, values) => values.map(text) })],
    series: [{ label: "at", value: (_, at) => clock(at) }, ...lines.map(series)],
  });
  return h(Chart, { key: title, title, now, says: says ?? `${title}: ${now} now`, data, options, shape: lines.length });
}

/// Bars beside each other. `groups` are `{ label, colour, values }`, with a value for each of the `names`.
export function beside({ title, names, groups, now, says, least = 1 }) {
  const { uPlot } = window;
  const width = 0.8 / groups.length;
  const places = groups.map((_, at) => at * width - 0.4);
  const bars = (at) => uPlot.paths.bars({
    disp: {
      x0: { unit: 1, values: (plot) => plot.data[0].map((place) => place + places[at]) },
      size: { unit: 1, values: (plot) => plot.data[0].map(() => width * 0.92) },
    },
  });
  const label = (place) => (Number.isInteger(place) ? names[place] ?? "" : "");
  const options = () => ({
    cursor: { points: { show: false }, drag: { x: false, y: false } },
    padding: [12, 26, 0, 0],
    scales: { x: { time: false, range: [-0.6, names.length - 0.4] }, y: { range: upFromZero(least) } },
    axes: [
      axis({ size: 26, grid: { show: false }, splits: () => names.map((_, at) => at), values: (_, all) => thinned(all.map(label)) }),
      axis({ size: 44, space: 36, values: (_, values) => values.map(text) }),
    ],
    series: [{ label: "of", value: (_, place) => label(place) || "–" }, ...groups.map((group, at) => series({ ...group, bars: bars(at) }))],
  });
  const data = [names.map((_, at) => at), ...groups.map(({ values }) => values)];
  return h(Chart, { key: title, title, now, says, data, options, shape: names.join("\n") });
}

/// As many names as there is room for.
function thinned(names) {
  const every = Math.ceil(names.length / 12);
  return names.map((name, at) => (at % every === 0 ? (name.length > 14 ? `${name.slice(0, 13)}…` : name) : ""));
}

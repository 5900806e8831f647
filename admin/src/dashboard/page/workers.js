// The data planes with their workers.

import { ago, count, span, time } from "./format.js";
import { h, table } from "./parts.js";
import { state } from "./store.js";

/// What a listener shows its clients, and until when.
function certificates({ tls }) {
  const all = Object.entries(tls).flatMap(([listener, { certificates: found, refused }]) => [
    ...found.map(({ names, not_after }) => `${listener}: ${names.join(", ")} until ${time(not_after * 1000)}`),
    ...(refused ? [`${listener}: ${refused}`] : []),
  ]);
  return all.length === 0 ? "none" : h("ul", { class: "plain" }, all.map((each) => h("li", { key: each }, each)));
}

export function Workers() {
  const { status } = state;
  if (!status) return h("main", null, h("h1", { tabindex: -1 }, "Workers"), h("p", { class: "about" }, "Nothing is known yet."));
  const columns = [
    { label: "Data plane", row: true, cell: ({ pid }) => `pid ${pid}` },
    { label: "Version", cell: ({ version }) => version },
    { label: "Workers", number: true, cell: ({ workers }) => count(workers) },
    { label: "Generation", number: true, cell: ({ applied_generation: applied }) => generation(applied, status.generation) },
    { label: "Open connections", number: true, cell: (plane) => count(plane.open_connections) },
    { label: "Connected", cell: (plane) => ago(plane.connected_since) },
    { label: "Last report", cell: ({ report_age: age }) => (age === null ? "none yet" : `${span(age / 1000)} ago`) },
    { label: "Certificates", cell: certificates },
  ];
  return h("main", null,
    h("h1", { tabindex: -1 }, "Workers"),
    h("p", { class: "about" },
      `The admin process, version ${status.version}, has been up for ${span(status.uptime_seconds)} and is at generation ${status.generation}. `,
      status.source === "file" ? "The configuration file decides who is a member." : "Who is a member is changed over REST, or here."),
    table("Data planes", columns, status.dataplanes, {
      key: ({ pid }) => pid,
      empty: "No data plane is connected: nobody serves, or one serves on with what it knew last. Nothing can be told of it here.",
    }));
}

function generation(applied, wanted) {
  return applied === wanted ? count(applied) : `${count(applied)} of ${count(wanted)}`;
}

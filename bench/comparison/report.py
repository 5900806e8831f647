"""The table, the ratios, and whether what is promised is reached."""

import statistics

from .works import BETTER, ITSELF, WORKS


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)} if values else None


def ratios(ours, theirs):
    """Pair by pair in each round: whatever drifts on the machine meets both."""
    pairs = [(one, other) for one, other in zip(ours, theirs) if not one.void and not other.void]
    return spread([one.figure / other.figure for one, other in pairs if other.figure])


def better(ours, others):
    """The same to whichever of the others was cheaper in its median."""
    medians = {name: statistics.median(run.figure for run in runs if not run.void) for name, runs in others.items()
               if any(not run.void for run in runs)}
    return ratios(ours, others[min(medians, key=medians.get)]) if medians else None


def summary(runs):
    """A row for each work, number of connections and peer; ratios are the first peer's figure by the others'."""
    groups = {}
    for run in runs:
        groups.setdefault((run.work, run.connections), {}).setdefault(run.peer, []).append(run)
    rows = []
    for (name, connections), peers in groups.items():
        work, first = WORKS[name], next(iter(peers))
        for peer, group in peers.items():
            valid = [run for run in group if not run.void]
            requests = sum(run.requests for run in valid)
            row = {
                "work": name, "connections": connections, "peer": peer, "unit": work.unit,
                "figure": spread([run.figure for run in valid]),
                "requests_per_second": statistics.median(run.requests_per_second for run in valid) if valid else None,
                "user_share": statistics.median(run.user_share for run in valid) if valid else None,
                "opened_per_1000_requests": 1000 * sum(run.backend_connections_opened for run in valid) / requests if requests else None,
                "ratio": ratios(peers[first], group) if peer != first else None,
                "target": work.targets.get((connections, peer if peer != first else ITSELF)),
            }
            rows.append(row)
        others = {peer: group for peer, group in peers.items() if peer in ("haproxy", "nginx")}
        if (target := work.targets.get((connections, BETTER))) and others:
            rows.append({"work": name, "connections": connections, "peer": BETTER, "unit": work.unit, "figure": None,
                         "requests_per_second": None, "user_share": None, "opened_per_1000_requests": None,
                         "ratio": better(peers[first], others), "target": target})
    return rows


def table(rows, versions):
    """In Markdown, one for each work."""

    def show(figures, digits=2):
        return "{median:.{d}f} [{min:.{d}f}–{max:.{d}f}]".format(d=digits, **figures) if figures else ""

    def line(row):
        ratio, target = row["ratio"], row["target"]
        judged = ratio or row["figure"]
        reached = "" if target is None or judged is None else f"{target:.2f}: {'reached' if judged['median'] <= target else 'missed'}"
        known = row["requests_per_second"] is not None
        digits = 0 if row["unit"] in ("bytes/connection", "CPU µs/MiB") else 2
        return (
            str(row["connections"]), f"{row['peer']} {versions.get(row['peer'], '')}".strip(),
            f"{row['requests_per_second']:.0f}" if known else "", show(row["figure"], digits),
            f"{row['user_share']:.0%}" if known else "",
            f"{row['opened_per_1000_requests']:.1f}" if row["opened_per_1000_requests"] is not None else "",
            show(ratio), reached,
        )

    text = []
    for name in dict.fromkeys(row["work"] for row in rows):
        of_it = [row for row in rows if row["work"] == name]
        head = ("connections", "peer", f"{WORKS[name].counts}s/s", of_it[0]["unit"], "user", "opened/1000", "Steadfast / peer", "to reach")
        lines = [head, ["-" * len(title) for title in head], *map(line, of_it)]
        widths = [max(map(len, column)) for column in zip(*lines)]
        text.append(f"**`{name}`**: {WORKS[name].what}\n")
        text.extend("| " + " | ".join(map(str.ljust, each, widths)) + " |" for each in lines)
        text.append("")
    return "\n".join(text)

"""Output of a run's numbers as a table, a page, a plot and a file.

A report is a plain dict: "machine", "seed", "options", "features", "sizes", "peaks" (FLOP/s of the
best matrix product, by precision and library), "rows", "complete". A row is one line of the table;
its fields are listed in `speed.blank_row`.
"""

import json
import pathlib
import statistics

COLUMNS = (
    ("work", 52),
    ("side", 34),
    ("median", 17),
    ("min..max (runs)", 20),
    ("relative time", 23),
    ("compile s", 9),
    ("MiB: call, plan", 15),
    ("GFLOP/s", 8),
    ("of best", 7),
    ("cores", 5),
)

# What the columns mean; printed below every table.
LEGEND = """\
- Both sides have the same weights, pictures, drawn pairs, VGG-16 features, precision and threads,
  and all data on the device before the time is taken. Runs are interleaved (ours, torch, ours,
  torch, ...); every timing is in the JSON file.
- ours: what the verbs run, buffers donated as they do. torch: `tests/torch_reference.py`, the
  independent PyTorch version, doing our work. published work list: with the second forward pass and
  the two losses for logging that the published program has in every online frame; its 64 JPEG files
  to decode per frame are left out. NHWC: channels_last.
- train step: from uint8 pictures to new weights. online: cut the pairs from the frames, update,
  predict; per frame. inference: joints of crops that are cut already. whole subjects: from the base
  model, "map" and "vmap" in one program, per subject. offline: as many updates as frames, then all
  predictions.
- float32: full precision. tf32: jax's default on a GPU, and torch's `allow_tf32`. bf16: the network
  in bfloat16 (torch: autocast), features and losses in float32 with short products. On a GPU
  `cudnn.benchmark` is on, and torch.compile gets channels_last.
- compile s: tracing and compiling, persistent caches off; torch.compile: a first run less another.
- MiB, call: what one run takes on top of what was held before (CPU: peak resident memory; GPU: of
  torch only). MiB, plan: XLA's plan for the program, beyond its arguments.
- GFLOP/s: operations of the convolutions and matrix products in the PyTorch version of the work
  (torch's FlopCounterMode; one number for all sides that do the same), over the median time.
  of best: over the best matrix product measured here in this precision, by either library.
- cores: CPU seconds of the process per second.
"""


def rates(row: dict, rows: list[dict], peaks: dict[str, dict[str, float]]) -> dict:
    """Return a row's numbers: seconds per part (median, low, high), relative, rate, share, cores.

    `rows` are all rows of the same run, among which the row's baseline is looked up. The result is
    empty for a row without timings; unknown numbers are None.
    """
    if not row["seconds"]:
        return {}
    times = [seconds / row["parts"] for seconds in row["seconds"]]
    median = statistics.median(times)
    baseline = next(
        (r for r in rows if _group(r) == _group(row) and r["side"] == row["baseline"]), None
    )
    relative = None
    if baseline is not None and baseline["seconds"]:
        relative = median / (statistics.median(baseline["seconds"]) / baseline["parts"])
    rate = row["flops_per_part"] and row["flops_per_part"] / median
    best = max(peaks.get(row["precision"], {}).values(), default=None)
    return {
        "median": median,
        "low": min(times),
        "high": max(times),
        "relative": relative,
        "rate": rate,
        "share": rate / best if rate and best else None,
        "cores": sum(row["cpu_seconds"]) / sum(row["seconds"]),
    }


def _group(row):
    return row["size"], row["precision"], row["title"]


def head() -> str:
    """Return the table's first two lines."""
    names = " | ".join(name.ljust(width) for name, width in COLUMNS)
    return f"| {names} |\n|{'|'.join('-' * (width + 2) for _, width in COLUMNS)}|"


def line(row: dict, rows: list[dict], peaks: dict[str, dict[str, float]], *, first: bool) -> str:
    """Return one line of the table.

    Args:
      row: row of the report.
      rows: all rows, among which the baseline is looked up.
      peaks: best rates of matrix products measured here, FLOP/s.
      first: whether it is the first row of its workload.
    """
    work = f"{row['size']}, {row['precision']}: {row['title']}" if first else ""
    found = rates(row, rows, peaks)
    if not found:
        cells = [work, row["side"], f"not available: {row['missing']}", *[""] * 7]
    else:
        unit = 1000 if row["unit"].startswith("ms") else 1
        relative, rate, share = (found[k] for k in ("relative", "rate", "share"))
        cells = [
            work,
            row["side"],
            f"{_digits(unit * found['median'])} {row['unit']}",
            f"{_digits(unit * found['low'])}..{_digits(unit * found['high'])} "
            f"({len(row['seconds'])})",
            "" if relative is None else f"{relative:.2f} of {row['baseline']}",
            "" if row["compile_seconds"] is None else f"{row['compile_seconds']:.1f}",
            ", ".join("-" if b is None else f"{b / 2**20:.0f}" for b in _memory(row)),
            "" if rate is None else f"{rate / 1e9:.0f}",
            "" if share is None else f"{100 * share:.0f} %",
            f"{found['cores']:.1f}",
        ]
    padded = (cell.ljust(width) for cell, (_, width) in zip(cells, COLUMNS, strict=True))
    return f"| {' | '.join(padded)} |"


def _memory(row):
    return row["call_bytes"], row["planned_bytes"]


def _digits(value):
    """Format a number with three significant digits, or with all digits before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(report: dict) -> str:
    """Return the whole table."""
    lines, before = [head()], None
    for row in report["rows"]:
        lines.append(line(row, report["rows"], report["peaks"], first=_group(row) != before))
        before = _group(row)
    return "\n".join(lines)


def facts(report: dict) -> str:
    """Return machine, versions, seeds and best matrix products as list items."""
    machine = report["machine"]
    versions = ", ".join(f"{name} {value}" for name, value in machine["versions"].items())
    device = "" if machine["device"] == "cpu" else f", {machine['device']}"
    items = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB{device}; "
        f"torch on {machine['torch_threads']} threads; {machine['date']}; load at the start "
        f"{machine['load_at_start']:.1f}{', BUSY: times too long' if machine['busy'] else ''}",
        versions,
        *(f"set: {name}={value}" for name, value in machine["settings"].items()),
        f"seed {report['seed']}; random pictures and weights",
        *(f"{name}: {title}" for name, title in report["sizes"].items()),
        *(f"VGG of {name}: {source}" for name, source in report["features"].items()),
    ]
    for precision, rates in report["peaks"].items():
        found = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in rates.items())
        items.append(f"best matrix product, {precision}: {found} GFLOP/s")
    worst = same_work(report["rows"])
    if worst:
        text = ", ".join(f"{title} {value:.0e}" for title, value in worst.items())
        items.append(
            f"largest relative difference of the first run's figure, ours and torch: {text}"
        )
    if not report["complete"]:
        items.append("INTERRUPTED: not all lines are there")
    return "\n".join(f"- {item}" for item in items)


def same_work(rows: list[dict]) -> dict[str, float]:
    """Return, by workload, the largest relative difference of a side's first result from ours."""
    worst: dict[str, float] = {}
    for row in rows:
        ours = next(r for r in rows if _group(r) == _group(row) and r["side"].startswith("ours"))
        figure, reference = row["first_figure"], ours["first_figure"]
        if row is not ours and figure is not None and reference:
            name = f"{row['size']} {row['precision']} {row['work']}"
            worst[name] = max(worst.get(name, 0.0), abs(figure / reference - 1))
    return worst


def page(report: dict) -> str:
    """Return everything as a Markdown page."""
    head_line = f"# Speed\n\n```bash\n{report['command']}\n```\n\nmade this page:"
    return "\n\n".join([head_line, facts(report), table(report), LEGEND])


def save(report: dict, path: pathlib.Path) -> None:
    """Write the JSON file atomically."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(report, indent=1) + "\n")
    part.replace(path)


def plot(report: dict, path: pathlib.Path) -> None:
    """Plot bars of time relative to the workload's baseline, with the spread; shorter is faster."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    bars = []
    for row in report["rows"]:
        found = rates(row, report["rows"], report["peaks"])
        if found and found["relative"] is not None:
            scale = found["relative"] / found["median"]
            label = f"{row['size']}, {row['precision']}: {row['title']}: {row['side']}"
            bars.append(
                (label, row["side"], *(scale * found[k] for k in ("median", "low", "high")))
            )
    figure, axes = plt.subplots(figsize=(11, 1.2 + 0.24 * len(bars)), layout="constrained")
    for i, (_, side, median, low, high) in enumerate(bars):
        color = "tab:blue" if side.startswith("ours") else "tab:gray"
        axes.barh(i, median, color=color, xerr=[[median - low], [high - median]])
    axes.set_yticks(range(len(bars)), [bar[0] for bar in bars], fontsize=7)
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("time relative to torch eager (subjects: to one alone); bars: min..max")
    figure.savefig(path, dpi=120)
    plt.close(figure)

"""Figures of a GPU as Markdown."""

from typing import Any

NUM_KERNELS = 12
"""Rows of a profile; the others are one row."""


def gpu_report(report: dict[str, Any]) -> str:
    """The report of GpuBench.run() for a person."""
    return "\n\n".join(_shape(name, shape, report) for name, shape in report["shapes"].items()) + "\n"


def _shape(name: str, shape: dict[str, Any], report: dict[str, Any]) -> str:
    parts = [_headline(name, report), *_conditions(shape, report), _table(shape["cells"])]
    parts += [_profile(cell, figures) for cell, figures in shape["cells"].items() if "profile" in figures]
    return "\n\n".join(part for part in parts if part)


def _headline(name: str, report: dict[str, Any]) -> str:
    quantized = report["quantized"]
    how = f"{quantized} weights, bfloat16" if quantized else "bfloat16"
    how += "" if report["kv_dtype"] == "auto" else f", KV cache in {report['kv_dtype']}"
    return f"## {name}, {how} on {report['machine']['hardware']}"


def _conditions(shape: dict[str, Any], report: dict[str, Any]) -> list[str]:
    conditions, machine, ceilings = shape.get("conditions"), report["machine"], report["ceilings"]["before"]
    limits = (
        f"Machine: {ceilings['read_bytes_per_s'] / 1e9:,.1f} GB/s, {ceilings['flops'] / 1e12:,.2f} TFLOP/s in bf16 on random "
        f"numbers, measured before."
    )
    if conditions is None:
        return [limits]
    against = [f"{name}: {'; '.join(why)}" for name, why in conditions["not_attention"].items() if why]
    versions = [
        f"driver {machine['driver'] or 'unknown'}",
        f"torch {conditions['torch']}",
        f"triton {machine['triton'] or 'absent'}",
        f"mistral_local {conditions['mistral_local']}",
        conditions["date"],
    ]
    products = "; ".join(conditions["not_triton"]) or "none, they serve"
    graphs = "; ".join(conditions["not_graphs"]) or "none, they are recorded"
    return [
        f"{limits}  Random weights of {shape['weights_bytes'] / 1e9:,.1f} GB, made in {shape['build_s']:.1f} s; "
        f"peak {shape.get('peak_bytes', 0) / 1e9:,.1f} GB.  {', '.join(versions)}.",
        f"Attention: {conditions['attention']} ({' / '.join(against) or 'the first choice'}).  "
        f"Reasons against Triton's products: {products}; against graphs of decode steps: {graphs}.",
    ]


def _table(cells: dict[str, dict[str, Any]]) -> str:
    rows = ["| cell | tok/s | of the floor | ms | runs | spread |", "|---|---|---|---|---|---|"]
    notes = []
    for name, figures in cells.items():
        if "missing" in figures:
            rows.append(f"| {name} | {figures['missing']} | | | | |")
        elif "first_answer_s" in figures:
            notes.append(_start(figures))
        else:
            rows.append(_row(name, figures))
    return "\n\n".join([*notes, "\n".join(rows)] if len(rows) > 2 else notes)


def _row(name: str, figures: dict[str, Any]) -> str:
    runs = figures["runs"]
    spread = (max(runs) - min(runs)) / figures["tokens_per_s"]
    return (
        f"| {name} | {figures['tokens_per_s']:,.1f} | {figures['share_of_floor']:.0%} | {figures['ms']:,.2f} | "
        f"{len(runs)} | {spread:.1%} |"
    )


def _start(figures: dict[str, Any]) -> str:
    nexts = " and ".join(f"{seconds:.2f}" for seconds in figures["next_answers_s"])
    return (
        f"Start: the first short answer took {figures['first_answer_s']:.2f} s, the first of a second engine "
        f"{figures['first_of_next_engine_s']:.2f} s, those after them {nexts} s."
    )


def _profile(cell: str, figures: dict[str, Any]) -> str:
    """Kernels by time, and what of the step they do not fill; below 0 if they overlap or the profiler slows them down."""
    kernels, step_ms = figures["profile"], figures["ms"]
    total = sum(kernel["ms"] for kernel in kernels)
    shown, others = kernels[:NUM_KERNELS], kernels[NUM_KERNELS:]
    rows = [(kernel["name"], f"{kernel['per_step']:,.1f}", kernel["ms"]) for kernel in shown]
    if others:
        rows.append((f"{len(others)} others", f"{sum(kernel['per_step'] for kernel in others):,.1f}", _sum(others)))
    rows.append(("rest: no kernel runs (on a CPU: Python, compiled kernels)", "", step_ms - total))
    lines = [f"One step of {cell}, {step_ms:,.2f} ms without the profiler:", ""]
    lines += ["| kernel | per step | ms | of the step |", "|---|---|---|---|"]
    lines += [f"| {_short(name)} | {count} | {ms:,.3f} | {ms / step_ms:.1%} |" for name, count, ms in rows]
    return "\n".join(lines)


def _sum(kernels: list[dict[str, Any]]) -> float:
    return sum(kernel["ms"] for kernel in kernels)


def _short(name: str) -> str:
    """Names of templates are longer than a table is wide."""
    shown = name if len(name) <= 70 else name[:67] + "..."
    return shown.replace("|", "\\|")

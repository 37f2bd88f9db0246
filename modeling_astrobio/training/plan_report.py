"""Plans for people: a table, and stacked bars."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from .gpu_specs import Hardware
from .memory_plan import COMPONENTS, MemoryPlan
from .plan_search import PlannedStrategy


__all__ = ["plan_table", "plot_plans", "strategy_table"]


GIB = 2**30
SECONDS_A_DAY = 86_400


def _gib(size: float) -> str:
    return f"{size / GIB:.1f}"


def plan_table(plan: MemoryPlan, days: float) -> str:
    """Return one plan as lines: each component, then what it is held against, then time."""
    hardware = plan.hardware
    where = f"each of {hardware.gpus} GPU(s)" if hardware.gpus else "each process"
    lines = [f"{plan.step.name}: {plan.step.strategy.sharding}, worst in the {plan.moment} pass or step", ""]
    lines += [f"on {where}, GiB"]
    lines += [f"  {name:24}{_gib(size):>9}" for name, size in plan.device.items() if size]
    lines += [f"  {'allocated':24}{_gib(plan.device_bytes):>9}"]
    if hardware.gpus:
        lines += [f"  {'reserved, about':24}{_gib(plan.reserved_bytes):>9}   of {_gib(hardware.usable_vram_bytes)}"]
    for title, parts, there in (
        ("host memory", plan.host, hardware.ram_bytes),
        ("disk", plan.disk, hardware.disk_bytes),
    ):
        lines += ["", f"{title}, GiB"]
        lines += [f"  {name:24}{_gib(size):>9}" for name, size in parts.items() if size]
        known = f"   of {_gib(there)}" if there is not None else "   (not known what is there)"
        lines += [f"  {'together':24}{_gib(sum(parts.values())):>9}{known}"]
    lines += ["", _time_line(plan, days), "", _verdict(plan)]
    return "\n".join(lines)


def _time_line(plan: MemoryPlan, days: float) -> str:
    time, item = plan.time, plan.step.item
    if time.seconds is None:
        return "time: not estimated, for the GPU is not known (name it with --gpu)"
    seen = time.items_in(days * SECONDS_A_DAY) or 0.0
    return (
        f"time, estimated and not measured: {time.seconds:.1f} s a step ({time.seconds_low:.1f} to "
        f"{time.seconds_high:.1f}), bound by {time.bound_by}; {time.items_per_second:,.0f} {item}s/s, "
        f"{seen:.3g} {item}s in {days:g} days; {100 * (time.model_flops_utilisation or 0):.0f} % of the peak in the "
        "model's FLOPs"
    )


def _verdict(plan: MemoryPlan) -> str:
    return "fits" if plan.fits else "does not fit: " + "; ".join(plan.shortfalls)


def strategy_table(rows: Sequence[PlannedStrategy], days: float) -> str:
    """Return strategies as a Markdown table, in their order."""
    refused: dict[str, list[str]] = {}
    lines = [
        "| strategy, checkpointing | GPUs | GPU, GiB | host, GiB | disk, GiB | s/step (estimate) | "
        f"items in {days:g} days | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.plan is None:
            refused.setdefault("; ".join(map(str, row.refusals)), []).append(row.name)
            continue
        plan, time = row.plan, row.plan.time
        seconds = "–" if time.seconds is None else f"{time.seconds:.1f}"
        seen = time.items_in(days * SECONDS_A_DAY)
        lines.append(
            f"| {row.name} | {plan.processes} | {_gib(plan.reserved_bytes)} | {_gib(sum(plan.host.values()))} | "
            f"{_gib(sum(plan.disk.values()))} | {seconds} | {'–' if seen is None else f'{seen:.2g}'} | "
            f"{_verdict(plan)} |"
        )
    lines += ["", *(f"Cannot work: {', '.join(names)}: {why}" for why, names in refused.items())]
    return "\n".join(lines)


def plot_plans(plans: Sequence[tuple[str, MemoryPlan]], hardware: Hardware, path: Path) -> None:
    """Draw what each plan holds on a device as stacked bars, beside what the device has.

    Args:
        plans: Names and plans, drawn from top to bottom.
        hardware: Whose GPU memory is drawn as a line.
        path: PNG to write.
    """
    matplotlib.use("agg")
    figure = Figure(figsize=(10, 1.6 + 0.32 * len(plans)), layout="constrained")
    axes = figure.subplots()
    names = [name for name, _ in plans]
    left = [0.0] * len(plans)
    for place, component in enumerate(COMPONENTS):
        widths = [plan.device[component] / GIB for _, plan in plans]
        if any(widths):
            label = component.replace("_", " ")
            axes.barh(range(len(plans)), widths, left=left, color=f"C{place}", label=label, height=0.72)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    limit = hardware.usable_vram_bytes if hardware.gpus else hardware.ram_bytes
    if limit:
        axes.axvline(limit / GIB, color="black", linestyle="--", linewidth=1.2, label="usable")
    count = f"{hardware.gpus} x {hardware.gpu.name if hardware.gpu else 'GPU'}" if hardware.gpus else "CPU"
    axes.set_title(f"{plans[0][1].step.name} on {count}", fontsize=10)
    axes.set_yticks(range(len(plans)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("GiB allocated on each GPU at the worst moment" if hardware.gpus else "GiB in each process")
    axes.grid(axis="x", alpha=0.25)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=5)
    figure.savefig(path, dpi=130)

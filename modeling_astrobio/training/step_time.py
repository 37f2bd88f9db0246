"""How long a step takes: an estimate from FLOPs, traffic and published peak rates, not a measurement.

A GPU reaches a share of its dense tensor peak. Published runs of 13B models on 8 H100 show 41.6 to 44.3 % of the peak
counted in the model's FLOPs (MosaicML llm-foundry, throughput tables), which with full recomputation is 55 to 59 % of
the peak in executed FLOPs; the estimate takes 0.55, and 0.40 and 0.65 as its bounds.
"""

from dataclasses import asdict, dataclass
from typing import Any

from .gpu_specs import Hardware
from .memory_trace import StepTrace
from .training_step import TrainingStep


__all__ = ["StepTime", "estimate_time"]


_EXECUTED_SHARE = {"low": 0.40, "estimate": 0.55, "high": 0.65}
# Share of a link's or a memory's peak that long copies reach.
_LINK_SHARE = 0.75
# Bytes a second that an update on the host reads and writes: a server's memory, all channels, is faster; two channels
# of a desktop about this.
_HOST_BYTES_PER_SECOND = 40e9


@dataclass(frozen=True)
class StepTime:
    """Time of one optimizer step.

    Attributes:
        seconds: The estimate; `None` where the GPU is not known.
        seconds_low: If everything goes well.
        seconds_high: If the GPU reaches little of its peak.
        bound_by: What takes longest: "compute", "between_gpus", "to_host".
        items_per_second: Of all processes together, such as tokens.
        model_flops_utilisation: Model FLOPs over the peak in the time estimated.
    """

    seconds: float | None = None
    seconds_low: float | None = None
    seconds_high: float | None = None
    bound_by: str | None = None
    items_per_second: float | None = None
    model_flops_utilisation: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, and that they are an estimate."""
        return {"measured": False, **asdict(self)}

    def items_in(self, seconds: float) -> float | None:
        """Return the items seen in a time."""
        return None if self.items_per_second is None else self.items_per_second * seconds


def estimate_time(
    step: TrainingStep, trace: StepTrace, hardware: Hardware, processes: int, traffic: dict[str, int]
) -> StepTime:
    """Estimate a step's time: the slowest of computing and moving, micro-batch by micro-batch, and the update.

    Args:
        step: The step.
        trace: Its trace.
        hardware: Whose `gpu` gives the peak rates; without one nothing is estimated.
        processes: How many train together.
        traffic: Bytes moved, of `memory_plan`.
    """
    gpu = hardware.gpu
    if gpu is None or not hardware.gpus:
        return StepTime()
    narrow = step.dtype in ("bfloat16", "float16") or step.mixed_precision != "no"
    peak = 1e12 * ((gpu.fp8_tflops if step.strategy.fp8 else None) or gpu.bf16_tflops if narrow else gpu.fp32_tflops)
    link = 1e9 * gpu.interconnect_gb_per_s * _LINK_SHARE
    host = 1e9 * gpu.pcie_gb_per_s * _LINK_SHARE
    memory = 1e9 * gpu.memory_gb_per_s * _LINK_SHARE
    seconds = {}
    for bound, share in _EXECUTED_SHARE.items():
        parts = {
            "compute": trace.executed_flops / (peak * share),
            "between_gpus": traffic["between_gpus"] / link,
            "to_host": traffic["to_host"] / host,
        }
        slowest = max(parts, key=lambda name: parts[name])
        if bound == "estimate":
            bound_by = slowest
        seconds[bound] = (
            parts[slowest] * step.accumulation_steps
            + traffic["reduced_once_a_step"] / link
            + traffic["update_on_device"] / memory
            + traffic["update_on_host"] / _HOST_BYTES_PER_SECOND
        )
    estimate = seconds["estimate"]
    return StepTime(
        seconds=estimate,
        seconds_low=seconds["high"],
        seconds_high=seconds["low"],
        bound_by=bound_by,
        items_per_second=step.items * step.accumulation_steps * processes / estimate,
        model_flops_utilisation=trace.model_flops * step.accumulation_steps / (peak * estimate),
    )

"""The `monitor` section of a recipe: when a run calls for attention."""

from dataclasses import dataclass


__all__ = ["WEBHOOK_VARIABLE", "MonitorSection"]


WEBHOOK_VARIABLE = "MODELING_ASTROBIO_WEBHOOK"


@dataclass
class MonitorSection:
    """Limits beyond which an alert is raised; 0 switches an alert off.

    Alerts go to the log, to Weights & Biases where the run reports to it, and to the URL in the environment variable
    `MODELING_ASTROBIO_WEBHOOK` where there is one.

    Attributes:
        memory_over_plan: Share by which the peak may exceed the plan.
        stall_factor: A step is stalled after so many times the median step, and at least `stall_seconds`.
        stall_seconds: See `stall_factor`.
        data_wait_share: Share of the time that may go into waiting for data, over `window_steps` steps.
        gpu_idle_percent: GPU utilisation below which the GPU counts as idle, as the mean of `window_steps` steps.
        window_steps: Steps over which data wait and GPU utilisation are averaged.
        disk_checkpoints: Checkpoints for which there must be room on the disk, beside those that are there.
        cooldown_seconds: An alert of one kind is sent again only after so long.
    """

    memory_over_plan: float = 0.10
    stall_factor: float = 20.0
    stall_seconds: float = 300.0
    data_wait_share: float = 0.25
    gpu_idle_percent: float = 30.0
    window_steps: int = 20
    disk_checkpoints: float = 2.0
    cooldown_seconds: float = 1800.0

"""What monitoring costs: steps of the nano recipe with everything that watches a run, against steps without.

    python recipes/benchmarks/monitoring_cost.py [--rounds 61] [--steps 2] [--threads 1]

One run of the trainer, in which the monitor gets the events of every other block of steps, so that all else is equal;
with it come a row in metrics.jsonl and a look for requests at every step, and a log file is open. A step counts from
the moment its data is there to the same moment of the next step. The watchdog's threads run on through all blocks;
what a look of theirs takes, over the time between two, is added. The cost is the median over rounds, by the clock on
the wall; by processor time, which other programs disturb less, it stands beside it. Writes
results/monitoring_cost.json.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from interleaved import write_benchmark
from nano_training import NanoTraining
from transformers import Trainer, TrainerCallback, TrainingArguments

from modeling_astrobio.training.gpu_specs import this_machine
from modeling_astrobio.training.llm_data import collate_packed
from modeling_astrobio.training.llm_step import llm_step
from modeling_astrobio.training.memory_plan import plan_step
from modeling_astrobio.training.monitoring.alerts import Alerts
from modeling_astrobio.training.monitoring.logs import run_logging
from modeling_astrobio.training.monitoring.monitor import MonitorCallback
from modeling_astrobio.training.monitoring.settings import MonitorSection
from modeling_astrobio.training.monitoring.watchdog import Watchdog
from modeling_astrobio.training.trainer import AstroTrainer


GOAL = 0.02
WARM_UP_STEPS = 3
WATCHDOG_LOOKS = 200


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


class Switch(TrainerCallback):
    """Passes events on to a monitor in every other block, and times the steps of both kinds.

    Each round has a block with and one without, and the next round has them the other way round.
    """

    def __init__(self, monitor: MonitorCallback, steps: int):
        self.monitor = monitor
        self.steps = steps
        self.is_on = False
        self.began: tuple[float, float] | None = None
        self.own_seconds = 0.0
        # Of each block's steps, by the clock on the wall and by what all threads computed.
        self.seconds: dict[bool, list[list[tuple[float, float]]]] = {True: [], False: []}

    def on_train_begin(self, args, state, control, **kwargs):
        self.monitor.on_train_begin(args, state, control, **kwargs)

    def on_step_begin(self, args, state, control, **kwargs):
        now = clocks()
        if self.began is not None:
            self.seconds[self.is_on][-1].append((now[0] - self.began[0], now[1] - self.began[1]))
        counted = state.global_step - WARM_UP_STEPS
        if counted < 0:
            return
        if counted % self.steps == 0:
            block = counted // self.steps
            self.is_on = bool(block % 2) != bool(block // 2 % 2)
            self.seconds[self.is_on].append([])
        self.began = clocks()
        if self.is_on:
            self.monitor.on_step_begin(args, state, control, **kwargs)
            self.own_seconds += time.perf_counter() - self.began[0]

    def on_train_end(self, args, state, control, **kwargs):
        self.monitor.on_train_end(args, state, control, **kwargs)


def passed_on(target: Any, switch: Switch, *events: str) -> TrainerCallback:
    """A callback that passes events on where the switch is on."""

    class Passes(TrainerCallback):
        pass

    def passer(event: str) -> Any:
        def act(self, args, state, control, **kwargs):
            if switch.is_on:
                began = time.perf_counter()
                getattr(target, event)(args, state, control, **kwargs)
                switch.own_seconds += time.perf_counter() - began

        return act

    for event in events:
        setattr(Passes, event, passer(event))
    return Passes()


def run(rounds: int, steps: int, folder: Path) -> tuple[Switch, NanoTraining, float]:
    """Train the recipe for so many rounds; returns the watchdog's share of the time too."""
    nano = NanoTraining.prepare()
    plan = plan_step(llm_step(nano.recipe), this_machine("cpu"))
    settings = nano.recipe.training
    arguments = TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        max_steps=WARM_UP_STEPS + 2 * rounds * steps + 1,
        save_strategy="no",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        **{
            name: settings[name]
            for name in (
                "learning_rate",
                "warmup_steps",
                "weight_decay",
                "adam_beta2",
                "max_grad_norm",
                "per_device_train_batch_size",
                "logging_steps",
                "include_num_input_tokens_seen",
                "report_to",
            )
        },
    )
    trainer: Trainer = AstroTrainer(
        model=nano.build_model(0, torch.float32),
        args=arguments,
        train_dataset=nano.train_rows,
        data_collator=collate_packed,
        processing_class=nano.tokenizer,
    )
    section = MonitorSection()
    alerts = Alerts.for_run(folder, section, is_main=True)
    monitor = MonitorCallback(section, plan, folder, alerts, is_main=True)
    switch = Switch(monitor, steps)
    first = passed_on(monitor, switch, "on_pre_optimizer_step", "on_step_end", "on_log")
    trainer.callback_handler.callbacks[:0] = [switch, first]
    trainer.add_callback(passed_on(monitor.end, switch, "on_step_end", "on_epoch_end", "on_log"))
    with run_logging(folder, 0):
        trainer.train()
    watchdog = Watchdog(alerts, section, folder)
    began = time.process_time()
    for _ in range(WATCHDOG_LOOKS):
        watchdog.check_steps()
        watchdog.check_disk()
        watchdog.check_gpu()
    share = (time.process_time() - began) / WATCHDOG_LOOKS / watchdog.poll_seconds
    alerts.close()
    return switch, nano, share


def compare(seconds: dict[bool, list[list[tuple[float, float]]]], clock: int, added: float) -> dict[str, Any]:
    """Compare the blocks of each round by one of the clocks; the cost is a share of a step without monitoring."""
    # The step after the last round begins a block of its own.
    means = {
        is_on: [statistics.fmean(step[clock] for step in block) for block in blocks if block]
        for is_on, blocks in seconds.items()
    }
    ratios = [on / off for on, off in zip(means[True], means[False], strict=True)]
    return {
        "cost": statistics.median(ratios) - 1 + added,
        "ratio_quartiles": statistics.quantiles(ratios, n=4),
        "median_step_seconds": {"with": statistics.median(means[True]), "without": statistics.median(means[False])},
        "ratios": ratios,
        "step_seconds": {"with": means[True], "without": means[False]},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=61)
    parser.add_argument("--steps", type=int, default=2, help="that count in each block")
    parser.add_argument("--threads", type=int, default=1)
    parsed = parser.parse_args()
    if parsed.rounds < 15 or parsed.steps < 1:
        parser.error("--rounds must be at least 15 and --steps at least 1")
    torch.set_num_threads(parsed.threads)
    with tempfile.TemporaryDirectory() as folder:
        switch, nano, watchdog_share = run(parsed.rounds, parsed.steps, Path(folder))
        rows = (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").count("\n")
    found = {name: compare(switch.seconds, clock, watchdog_share) for clock, name in enumerate(("wall", "processor"))}
    is_within = found["wall"]["cost"] <= GOAL
    result = {
        "status": "finished",
        "goal": GOAL,
        "within": is_within,
        "rounds": parsed.rounds,
        "steps_in_block": parsed.steps,
        "threads": parsed.threads,
        "rows_written": rows,
        "watchdog_share": watchdog_share,
        "callback_seconds_per_step": switch.own_seconds / rows,
        **found,
        "recipe": nano.recipe.to_dict(),
    }
    path = write_benchmark("monitoring_cost", result)
    for name, figures in found.items():
        low, _, high = (100 * (quartile - 1) for quartile in figures["ratio_quartiles"])
        print(f"{name:9} {100 * figures['cost']:+.2f} % of a step (quartiles {low:+.2f} to {high:+.2f})")
    print(f"callbacks {1000 * switch.own_seconds / rows:.3f} ms of a step, in the main thread")
    print(path.name)
    return 0 if is_within else 1


if __name__ == "__main__":
    sys.exit(main())

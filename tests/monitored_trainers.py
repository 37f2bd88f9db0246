"""Small trainers with a monitor, for the tests of monitoring."""

import dataclasses
import time
from pathlib import Path

import torch
from torch.utils.data import Dataset
from training_builders import small_model
from transformers import TrainingArguments

from modeling_astrobio.training.gpu_specs import this_machine
from modeling_astrobio.training.llm_data import collate_packed
from modeling_astrobio.training.memory_plan import MemoryPlan, plan_step
from modeling_astrobio.training.monitoring.alerts import Alerts
from modeling_astrobio.training.monitoring.monitor import MonitorCallback
from modeling_astrobio.training.monitoring.settings import MonitorSection
from modeling_astrobio.training.strategy import Strategy
from modeling_astrobio.training.trainer import AstroTrainer
from modeling_astrobio.training.training_step import TrainingStep


ROWS, LENGTH, VOCABULARY = 2, 23, 37


class RandomRows(Dataset):
    """Rows of random tokens, each of which takes so long to read."""

    def __init__(self, count: int = 64, seconds: float = 0.0):
        self.count, self.seconds = count, seconds

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        time.sleep(self.seconds)
        tokens = torch.randint(3, VOCABULARY, (LENGTH,), generator=torch.Generator().manual_seed(index)).tolist()
        return {"input_ids": tokens, "labels": tokens}


def make_plan(accumulation: int = 1, **changes) -> MemoryPlan:
    """The plan of the trainers below, or one with other figures."""

    def make_batch() -> dict[str, torch.Tensor]:
        tokens = torch.ones(ROWS, LENGTH, dtype=torch.long)
        return {"input_ids": tokens, "labels": tokens, "position_ids": torch.arange(LENGTH).repeat(ROWS, 1)}

    step = TrainingStep(
        name="tiny",
        identity="tiny",
        make_model=lambda: small_model(vocab_size=VOCABULARY),
        make_batch=make_batch,
        strategy=Strategy(sharding="none"),
        dtype="float32",
        mixed_precision="no",
        accumulation_steps=accumulation,
        max_grad_norm=1.0,
        micro_batch=ROWS,
        items=ROWS * LENGTH,
    )
    return dataclasses.replace(plan_step(step, this_machine("cpu")), **changes)


def make_monitor(folder: Path, plan: MemoryPlan | None = None, is_main: bool = True, **settings) -> MonitorCallback:
    options = {name: settings.pop(name) for name in ("gpu_utilisation", "poll_seconds") if name in settings}
    section = MonitorSection(**settings)
    alerts = Alerts(folder / "alerts.jsonl" if is_main else None, (), section.cooldown_seconds)
    return MonitorCallback(section, plan or make_plan(), folder, alerts, is_main, **options)


def make_trainer(folder: Path, monitor: MonitorCallback | None, model=None, rows=None, **options) -> AstroTrainer:
    arguments = TrainingArguments(
        **{
            "output_dir": str(folder),
            "use_cpu": True,
            "per_device_train_batch_size": ROWS,
            "per_device_eval_batch_size": 3,
            "max_steps": 7,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "include_num_input_tokens_seen": "non_padding",
            "remove_unused_columns": False,
            "dataloader_pin_memory": False,
            "disable_tqdm": True,
            **options,
        }
    )
    trainer = AstroTrainer(
        model=small_model(vocab_size=VOCABULARY) if model is None else model,
        args=arguments,
        train_dataset=RandomRows() if rows is None else rows,
        eval_dataset=RandomRows(5),
        data_collator=collate_packed,
    )
    if monitor is not None:
        monitor.attach(trainer)
    return trainer

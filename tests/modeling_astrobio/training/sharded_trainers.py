"""AstroTrainer under Accelerate's FSDP2 and DeepSpeed's ZeRO-3 on two processes, and on one.

Accelerate takes up either only where there is an accelerator. Told to, its code runs on CPUs as it does on GPUs.
"""

from pathlib import Path
from typing import Any

import torch
from accelerate import FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from datasets import Dataset
from sharded_models import EPS, EVEN, local, make_model, of_ranks
from torch.distributed.tensor import DTensor
from transformers import TrainingArguments

from modeling_astrobio.training.llm_data import collate_packed
from modeling_astrobio.training.strategy import Strategy
from modeling_astrobio.training.trainer import AstroTrainer


STEPS, SAVED_STEP = 5, 3


def rows() -> Dataset:
    generator = torch.Generator().manual_seed(0)
    found = []
    for index in range(20):
        tokens = torch.randint(3, EVEN, (7 + index,), generator=generator).tolist()
        found.append({"input_ids": tokens, "labels": [-100] * (index % 5) + tokens[index % 5 :]})
    return Dataset.from_list(found)


def make_trainer(folder: Path, strategy: Strategy, dtype: torch.dtype = torch.float32, **options) -> AstroTrainer:
    """Return a trainer whose step has two rows of each process, or four of one alone."""
    arguments = TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=4 if strategy.sharding == "none" else 2,
        max_steps=STEPS,
        learning_rate=1e-3,
        adam_epsilon=EPS,
        max_grad_norm=0.5,
        logging_steps=1,
        save_steps=SAVED_STEP,
        report_to="none",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        **options,
    )
    return AstroTrainer(
        model=make_model(dtype, num_hidden_layers=1),
        args=arguments,
        train_dataset=rows(),
        data_collator=collate_packed,
        strategy=strategy,
    )


def fsdp2_trainer(folder: Path, dtype: torch.dtype) -> AstroTrainer:
    """A trainer that was told what recipes/hardware/fsdp2.yaml would tell it on GPUs."""
    rounding = dtype is torch.bfloat16
    strategy = Strategy(sharding="fsdp2", optimizer="adamw_torchao_8bit", stochastic_rounding=rounding)
    each_row = {"gradient_accumulation_kwargs": {"sync_each_batch": True}}
    trainer = make_trainer(folder, strategy, dtype, accelerator_config=each_row)
    _set_distributed_type(DistributedType.FSDP)
    AcceleratorState._shared_state["fsdp_plugin"] = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["AstroLLMDecoderLayer"],
        reshard_after_forward=True,
        state_dict_type="SHARDED_STATE_DICT",
        cpu_ram_efficient_loading=True,
    )
    trainer.is_fsdp_enabled = True
    return trainer


def zero3_trainer(folder: Path) -> AstroTrainer:
    """A trainer that was told what recipes/hardware/zero3_offload.yaml would tell it on GPUs."""
    zero = {
        "stage": 3,
        # Or parameters as small as these would be kept whole.
        "stage3_param_persistence_threshold": 0,
        "stage3_gather_16bit_weights_on_model_save": True,
        "offload_optimizer": {"device": "cpu"},
        "offload_param": {"device": "cpu"},
    }
    automatic = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    strategy = Strategy(sharding="zero3", parameter_offload=True, optimizer_offload=True)
    trainer = make_trainer(folder, strategy, deepspeed={**dict.fromkeys(automatic, "auto"), "zero_optimization": zero})
    _set_distributed_type(DistributedType.DEEPSPEED)
    plugin = trainer.args.deepspeed_plugin
    plugin.select(_from_accelerator_state=True)
    AcceleratorState._shared_state["deepspeed_plugins"] = plugin
    trainer.is_deepspeed_enabled = True
    return trainer


def _set_distributed_type(distributed_type: DistributedType) -> None:
    for state in (PartialState, AcceleratorState):
        state._shared_state["distributed_type"] = distributed_type


def figures(trainer: AstroTrainer) -> list[tuple[float, float]]:
    """Return loss and norm of the gradient of each step."""
    return [(row["loss"], row["grad_norm"]) for row in trainer.state.log_history if "loss" in row]


def train_whole(folder: Path, optimizer: str) -> dict[str, Any]:
    """Train in one process on the windows of two."""
    trainer = make_trainer(folder, Strategy(sharding="none", optimizer=optimizer))
    trainer.train()
    return {
        "figures": figures(trainer),
        "weights": {key: value.detach().clone() for key, value in trainer.model.state_dict().items()},
    }


def run_trainer(trainer: AstroTrainer, resume: bool = False) -> dict[str, Any]:
    """Train, from the beginning or a checkpoint, and save the model for `from_pretrained`."""
    folder = Path(trainer.args.output_dir)
    trainer.train(resume_from_checkpoint=str(folder / f"checkpoint-{SAVED_STEP}") if resume else None)
    trainer.save_whole_model(folder / "model")
    return {"folder": folder / "model", "figures": figures(trainer)}


def run_fsdp2(folder: Path, dtype: torch.dtype, resume: bool = False) -> dict[str, Any]:
    trainer = fsdp2_trainer(folder, dtype)
    found = run_trainer(trainer, resume)
    model, optimizer = trainer.model, trainer.optimizer.optimizer
    updated = [value for group in optimizer.param_groups for value in group["params"]]
    states = [value for state in optimizer.state.values() for key, value in state.items() if key != "step"]
    return {
        **found,
        "weights": {key: value.full_tensor().clone() for key, value in model.state_dict().items()},
        "parameters": sum(1 for _ in model.parameters()),
        "dtensors": sum(isinstance(value, DTensor) for value in model.parameters()),
        "dtypes": {value.dtype for value in model.parameters()},
        "local_bytes": of_ranks(sum(local(value).nbytes for value in model.parameters())),
        "state_types": {(type(value).__name__, type(local(value)).__name__) for value in states},
        "updates_the_model": {id(value) for value in updated} == {id(value) for value in model.parameters()},
    }


def run_zero3(folder: Path, resume: bool = False) -> dict[str, Any]:
    trainer = zero3_trainer(folder)
    found = run_trainer(trainer, resume)
    return {
        **found,
        "engine": type(trainer.model_wrapped).__name__,
        "held_numbers": of_ranks(sum(value.ds_tensor.numel() for value in trainer.model.parameters())),
    }

"""What half precision does to a step on the CPU: autocast to bfloat16 and float16, and the loss scale of float16.

Accelerate makes a loss scaler on GPUs only; `scaled` gives a trainer torch's own for the CPU, which is the same class.

Tolerances: three layers make of roundings of 2^-9 in bfloat16 an error of 5 % of a gradient; float16 has three bits
more, and an eighth of that. The bounds are 8 % and 1 %.
"""

import copy

import pytest
import torch
from accelerate.state import AcceleratorState
from peft import LoraConfig, get_peft_model
from torch import nn
from training_builders import small_model
from transformers import TrainerCallback, TrainingArguments

from modeling_astrobio.training.activations import apply_activation_policy
from modeling_astrobio.training.adapters import LORA_TARGET_MODULES
from modeling_astrobio.training.strategy import Strategy
from modeling_astrobio.training.trainer import AstroTrainer


ERROR = {torch.bfloat16: 0.08, torch.float16: 0.01}
STEPS = 6
# The largest gradient times this is above 65504, the greatest number of float16, until it is halved a few times.
OVERFLOWING = 2.0**19


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """A trainer's precision is state of the process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def tokens(rows: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 97, (rows, 16), generator=torch.Generator().manual_seed(seed))


def make_trainer(
    folder, model: nn.Module, optimizer: torch.optim.Optimizer | None = None, **arguments
) -> AstroTrainer:
    return AstroTrainer(
        model=model,
        args=TrainingArguments(
            **{
                "output_dir": str(folder),
                "per_device_train_batch_size": 2,
                "max_steps": STEPS,
                "learning_rate": 1e-3,
                "logging_steps": 1,
                "save_strategy": "no",
                "report_to": "none",
                "use_cpu": True,
                **arguments,
            }
        ),
        train_dataset=[{"input_ids": row, "labels": row} for row in tokens(2 * STEPS)],
        optimizers=(optimizer, None),
        strategy=Strategy(),
    )


def losses(trainer: AstroTrainer) -> list[float]:
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def scaled(trainer: AstroTrainer, scale: float) -> torch.amp.GradScaler:
    """Train in float16 as on a GPU."""
    trainer.accelerator.native_amp = True
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10**6)
    return trainer.accelerator.scaler


def dtype_inside(model: nn.Module) -> list[torch.dtype]:
    """What a projection of the first layer returns, filled at each call."""
    seen: list[torch.dtype] = []
    model.model.layers[0].self_attn.q_proj.register_forward_hook(lambda module, inputs, out: seen.append(out.dtype))
    return seen


def gradients(model: nn.Module, low: torch.dtype | None = None, scale: float = 1.0) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    ids = tokens()
    with torch.autocast("cpu", dtype=low, enabled=low is not None):
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    (loss * scale).backward()
    return {name: value.grad / scale for name, value in model.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
@pytest.mark.parametrize("overrides", [{}, {"loss_chunk_size": 0}, {"use_qk_norm": True}], ids=["", "logits", "norm"])
@pytest.mark.parametrize(("low", "scale"), [(torch.bfloat16, 1.0), (torch.float16, 2.0**14)], ids=["bf16", "fp16"])
def test_gradients_under_autocast_are_near_exact_ones(low, scale, overrides, checkpointing):
    model = small_model(**overrides).train()
    exact = gradients(copy.deepcopy(model).double())
    apply_activation_policy(model, Strategy(activation_checkpointing=checkpointing))
    for name, gradient in gradients(model, low, scale).items():
        assert gradient.dtype == torch.float32
        error = (gradient - exact[name]).norm() / exact[name].norm()
        assert error < ERROR[low], (name, error)


def test_bfloat16_training_keeps_its_weights_in_float32(tmp_path):
    model = small_model()
    seen = dtype_inside(model)
    trainer = make_trainer(tmp_path, model, bf16=True)
    trainer.train()
    assert trainer.accelerator.scaler is None
    assert set(seen) == {torch.bfloat16}
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    AcceleratorState._reset_state(reset_partial_state=True)
    plain = make_trainer(tmp_path, small_model())
    plain.train()
    assert losses(trainer) != losses(plain)
    assert losses(trainer) == pytest.approx(losses(plain), rel=1e-2)


def test_float16_training_on_the_cpu_would_be_float32(tmp_path):
    # Why it is refused: nothing says that the precision asked for is not the one that is used.
    model = small_model()
    seen = dtype_inside(model)
    trainer = make_trainer(tmp_path, model, fp16=True)
    trainer.train()
    assert trainer.accelerator.mixed_precision == "fp16"
    assert trainer.accelerator.scaler is None
    assert set(seen) == {torch.float32}


def adamw(model: nn.Module, kind: str) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=kind != "foreach")
    if kind == "fused, skipped by the scaler":
        # The scaler then unscales and skips, and not the fused kernel.
        optimizer._step_supports_amp_scaling = False
    return optimizer


@pytest.mark.parametrize("kind", ["foreach", "fused, skipped by the scaler"])
def test_a_step_that_overflows_is_skipped_and_the_schedule_waits(tmp_path, kind):
    model = small_model()
    start = copy.deepcopy(model.state_dict())
    seen = dtype_inside(model)
    trainer = make_trainer(tmp_path, model, adamw(model, kind), fp16=True, warmup_steps=0, lr_scheduler_type="linear")
    scaler = scaled(trainer, OVERFLOWING)
    changed = []

    class NoteChange(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            changed.append(any(not torch.equal(value, start[name]) for name, value in model.state_dict().items()))

    trainer.add_callback(NoteChange())
    trainer.train()
    skipped = changed.index(True)
    assert set(seen) == {torch.float16}
    assert 0 < skipped < STEPS - 1
    assert scaler.get_scale() == OVERFLOWING / 2**skipped
    assert trainer.lr_scheduler.last_epoch == STEPS - skipped
    assert trainer.state.global_step == STEPS
    assert all(value.isfinite().all() for value in model.parameters())


def test_a_fused_optimizer_skips_a_step_unseen_and_the_schedule_goes_on(tmp_path):
    # Why the trainer must tell the scaler to skip: Accelerate sees only whether `step` was called.
    model = small_model()
    trainer = make_trainer(tmp_path, model, adamw(model, "fused"), fp16=True, warmup_steps=0)
    scaler = scaled(trainer, OVERFLOWING)
    trainer.train()
    assert scaler.get_scale() < OVERFLOWING
    assert trainer.lr_scheduler.last_epoch == STEPS


def test_float16_training_follows_float32_training(tmp_path):
    model = small_model()
    trainer = make_trainer(tmp_path, model, adamw(model, "foreach"), fp16=True)
    scaler = scaled(trainer, 2.0**10)
    trainer.train()
    assert scaler.get_scale() == 2.0**10
    AcceleratorState._reset_state(reset_partial_state=True)
    plain = make_trainer(tmp_path, small_model())
    plain.train()
    assert losses(trainer) == pytest.approx(losses(plain), rel=2e-3)


def test_the_loss_scale_is_saved_and_resumed(tmp_path):
    model = small_model()
    trainer = make_trainer(
        tmp_path, model, adamw(model, "foreach"), fp16=True, save_strategy="steps", save_steps=4, save_total_limit=3
    )
    scaler = scaled(trainer, OVERFLOWING)
    trainer.train()
    checkpoint = tmp_path / "checkpoint-4"
    saved = torch.load(checkpoint / "scaler.pt")["scale"]
    assert saved == scaler.get_scale() < OVERFLOWING
    AcceleratorState._reset_state(reset_partial_state=True)
    twin = small_model()
    resumed = make_trainer(tmp_path, twin, adamw(twin, "foreach"), fp16=True)
    resumed_scaler = scaled(resumed, 2.0**30)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert resumed_scaler.get_scale() == scaler.get_scale()
    for ours, theirs in zip(twin.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", ["foreach", "fused"])
def test_weights_in_float16_cannot_be_unscaled(tmp_path, kind):
    model = small_model().half()
    trainer = make_trainer(tmp_path, model, adamw(model, kind), fp16=True)
    scaled(trainer, 2.0**10)
    with pytest.raises(ValueError, match=r"Attempting to unscale FP16 gradients\."):
        trainer.train()


def test_weights_in_float16_lose_what_adam_divides_by():
    # Squares of gradients below 2.4e-4 are 0 in float16, and so is eps.
    weight = nn.Parameter(torch.ones(3, dtype=torch.float16))
    weight.grad = torch.full((3,), 1e-4, dtype=torch.float16)
    torch.optim.AdamW([weight], lr=1e-3, foreach=True).step()
    assert not weight.isfinite().all()


def test_an_adapter_of_a_float16_model_is_float32_and_trains(tmp_path):
    model = get_peft_model(
        small_model().half(), LoraConfig(r=4, target_modules=LORA_TARGET_MODULES, task_type="CAUSAL_LM")
    )
    trained = {name: value.dtype for name, value in model.named_parameters() if value.requires_grad}
    assert set(trained.values()) == {torch.float32}
    trainer = make_trainer(tmp_path, model, adamw(model, "foreach"), fp16=True)
    scaled(trainer, 2.0**10)
    trainer.train()
    assert all(value.isfinite().all() for value in model.parameters())
    assert any(value.abs().max() > 0 for name, value in model.named_parameters() if "lora_B" in name)

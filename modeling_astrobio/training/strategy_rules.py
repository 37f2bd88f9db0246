"""Combinations of strategy, precision and hardware that cannot work, each with its name and a remedy."""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass

from .errors import StrategyError
from .strategy import Strategy


__all__ = ["RULES", "Refusal", "Rule", "StepSettings", "check_strategy", "find_refusals"]


@dataclass(frozen=True)
class StepSettings:
    """What decides, beside the size of the model, whether a training step can run.

    Attributes:
        strategy: The strategy, its `sharding` resolved: never "auto".
        device: "cpu" or "cuda".
        processes: Processes that train together.
        dtype: Precision of the weights.
        mixed_precision: "no", "bf16" or "fp16".
        accumulation_steps: Micro-batches in an optimizer step.
        max_grad_norm: Norm to which gradients are clipped; 0 does not clip.
        items: Items, such as tokens, in a micro-batch.
        quantization: "4bit", "8bit" or `None`, of frozen weights.
        is_adapted: Whether only an adapter is trained.
        attn_implementation: Kernel of the attention, or `None` for transformers' choice.
        compute_capability: Of the GPU, such as (9, 0); `None` where it is not known.
        is_averaged: Whether an average of the trained weights is kept.
        platform: As `sys.platform`.
    """

    strategy: Strategy
    device: str = "cuda"
    processes: int = 1
    dtype: str = "float32"
    mixed_precision: str = "no"
    accumulation_steps: int = 1
    max_grad_norm: float = 0.0
    items: int = 0
    quantization: str | None = None
    is_adapted: bool = False
    attn_implementation: str | None = None
    compute_capability: tuple[int, int] | None = None
    is_averaged: bool = False
    platform: str = sys.platform

    @property
    def uses_bitsandbytes_optimizer(self) -> bool:
        return "bnb" in self.strategy.optimizer or self.strategy.optimizer == "lion"

    @property
    def is_sharded(self) -> bool:
        return self.strategy.sharding in ("fsdp2", "zero3")

    def older_than(self, *capability: int) -> bool:
        """Whether the GPU is known to have a lower compute capability."""
        return self.compute_capability is not None and self.compute_capability < capability


@dataclass(frozen=True)
class Rule:
    """A combination that cannot work.

    Attributes:
        name: What the combination is called.
        applies: Whether the settings are that combination.
        reason: Why it cannot work.
        remedy: What to use instead.
    """

    name: str
    applies: Callable[[StepSettings], bool]
    reason: str
    remedy: str


@dataclass(frozen=True)
class Refusal:
    """A rule that applies, or a package that is absent."""

    name: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}. {self.remedy}."


RULES: tuple[Rule, ...] = (
    # Processes.
    Rule(
        "one_process_sharded",
        lambda s: s.is_sharded and s.processes < 2 and not s.strategy.parameter_offload,
        "sharding over one process saves nothing",
        "Set strategy.sharding=none, or launch two processes or more",
    ),
    Rule(
        "many_processes_unshared",
        lambda s: s.strategy.sharding == "none" and s.processes > 1,
        "several processes that share nothing would train different models",
        "Set strategy.sharding=ddp or fsdp2",
    ),
    Rule(
        "fsdp2_on_cpu",
        lambda s: s.strategy.sharding == "fsdp2" and s.device == "cpu",
        "Accelerate has no FSDP on the CPU and would train with DDP instead",
        "Set strategy.sharding=ddp, or use modeling_astrobio.training.sharding in a script of your own",
    ),
    Rule(
        "fsdp2_widens_narrow_weights",
        lambda s: s.strategy.sharding == "fsdp2" and s.dtype != "float32" and s.mixed_precision != "no",
        "with mixed precision Accelerate widens the weights of FSDP2 to float32, which doubles them",
        "Set training.bf16=false and fp16=false: weights in bfloat16 compute in bfloat16 as they are",
    ),
    Rule(
        "parameter_offload_unsharded",
        lambda s: s.strategy.parameter_offload and not s.is_sharded,
        "parameters can be kept in host memory only by FSDP2 or ZeRO-3",
        "Launch with recipes/hardware/fsdp2_offload.yaml or zero3_offload.yaml, or set "
        "strategy.optimizer_offload=true on one GPU",
    ),
    Rule(
        "quantized_weights_sharded",
        lambda s: s.quantization is not None and s.is_sharded,
        "quantised weights are packed integers that neither FSDP2 nor ZeRO-3 shards as loaded here",
        "Set strategy.sharding=ddp: 4-bit weights of 13.14B parameters are 7 GB",
    ),
    # Optimizers.
    Rule(
        "bitsandbytes_with_fsdp2",
        lambda s: s.uses_bitsandbytes_optimizer and s.strategy.sharding == "fsdp2",
        "bitsandbytes optimizers cannot update the DTensor parameters of FSDP2",
        "Set strategy.optimizer=adamw_torchao_8bit",
    ),
    Rule(
        "zero3_optimizer",
        lambda s: s.strategy.sharding == "zero3" and s.strategy.optimizer != "adamw",
        "ZeRO-3 gives the optimizer flat float32 partitions, in host memory where offloaded, which only its own Adam "
        "and torch's are known to update",
        "Set strategy.optimizer=adamw, or shard with fsdp2",
    ),
    Rule(
        "sophia_sharded",
        lambda s: s.strategy.optimizer == "sophia" and s.is_sharded,
        "Sophia's curvature pass is not written for sharded parameters",
        "Set strategy.sharding=ddp or strategy.optimizer=adamw_torchao_8bit",
    ),
    Rule(
        "sophia_with_fp16",
        lambda s: s.strategy.optimizer == "sophia" and s.mixed_precision == "fp16",
        "Sophia's curvature pass does not scale its loss, so that small gradients become 0",
        "Set training.bf16=true in place of training.fp16",
    ),
    Rule(
        "stochastic_rounding_without_torchao",
        lambda s: s.strategy.stochastic_rounding and "torchao" not in s.strategy.optimizer,
        "only torchao's optimizers round at random",
        "Set strategy.optimizer=adamw_torchao or adamw_torchao_8bit",
    ),
    Rule(
        "stochastic_rounding_of_wide_weights",
        lambda s: s.strategy.stochastic_rounding and s.dtype != "bfloat16",
        "stochastic rounding is made for weights stored in bfloat16",
        "Set model.dtype=bfloat16, or strategy.stochastic_rounding=false",
    ),
    Rule(
        "optimizer_in_backward_with_accumulation",
        lambda s: s.strategy.optimizer_in_backward and s.accumulation_steps > 1,
        "an optimizer in the backward pass updates and frees each gradient before the next micro-batch adds to it",
        "Set training.gradient_accumulation_steps=1, or strategy.optimizer_in_backward=false",
    ),
    Rule(
        "optimizer_in_backward_with_clipping",
        lambda s: s.strategy.optimizer_in_backward and s.max_grad_norm > 0,
        "the norm of all gradients is known only when each has been used",
        "Set training.max_grad_norm=0, or strategy.optimizer_in_backward=false",
    ),
    Rule(
        "optimizer_in_backward_with_many_processes",
        lambda s: s.strategy.optimizer_in_backward and s.processes > 1,
        "the update would come before the gradients of the processes are averaged",
        "Train with one process, or set strategy.optimizer_in_backward=false",
    ),
    Rule(
        "optimizer_in_backward_with_fp16",
        lambda s: s.strategy.optimizer_in_backward and s.mixed_precision == "fp16",
        "gradients are still multiplied by the loss scale when they are used",
        "Set training.bf16=true in place of training.fp16",
    ),
    Rule(
        "optimizer_in_backward_with_offload",
        lambda s: s.strategy.optimizer_in_backward and s.strategy.optimizer_offload,
        "the offloaded optimizer steps after the backward pass",
        "Set one of strategy.optimizer_in_backward and strategy.optimizer_offload",
    ),
    Rule(
        "optimizer_in_backward_with_sophia",
        lambda s: s.strategy.optimizer_in_backward and s.strategy.optimizer == "sophia",
        "Sophia's curvature pass needs a backward pass that updates nothing",
        "Set strategy.optimizer=adamw",
    ),
    # Offload.
    Rule(
        "torchao_offload_with_clipping",
        lambda s: s.strategy.optimizer_offload and s.strategy.sharding == "none" and s.max_grad_norm > 0,
        "gradients are copied to the host during the backward pass, so clipping afterwards changes nothing there",
        "Set training.max_grad_norm=0",
    ),
    Rule(
        "gradient_offload_with_accumulation",
        lambda s: s.strategy.gradient_offload and s.accumulation_steps > 1,
        "a gradient that leaves the GPU is not there for the next micro-batch to add to",
        "Set strategy.gradient_offload=false, or training.gradient_accumulation_steps=1",
    ),
    Rule(
        "gradient_offload_alone",
        lambda s: s.strategy.gradient_offload and not s.strategy.optimizer_offload,
        "gradients leave the GPU only for an optimizer that is in host memory",
        "Set strategy.optimizer_offload=true too",
    ),
    Rule(
        "optimizer_offload_on_many_gpus",
        lambda s: s.strategy.optimizer_offload and s.strategy.sharding in ("ddp", "fsdp2"),
        "torchao's offloaded optimizer is for one GPU",
        "Launch with recipes/hardware/fsdp2_offload.yaml, or zero3_offload.yaml",
    ),
    Rule(
        "optimizer_offload_on_cpu",
        lambda s: s.strategy.optimizer_offload and s.device == "cpu",
        "on the CPU the moments are in host memory already",
        "Set strategy.optimizer_offload=false",
    ),
    Rule(
        "optimizer_offload_of_another",
        lambda s: s.strategy.optimizer_offload and s.strategy.optimizer != "adamw",
        "only AdamW's update is made in host memory",
        "Set strategy.optimizer=adamw",
    ),
    Rule(
        "optimizer_offload_with_fp16",
        lambda s: s.strategy.optimizer_offload and s.strategy.sharding == "none" and s.mixed_precision == "fp16",
        "gradients are copied to the host while they are still multiplied by the loss scale",
        "Set training.bf16=true in place of training.fp16",
    ),
    Rule(
        "activation_offload_alone",
        lambda s: s.strategy.activation_offload and s.strategy.activation_checkpointing != "full",
        "only the inputs of checkpointed layers are moved, which are all that full checkpointing keeps",
        "Set strategy.activation_checkpointing=full",
    ),
    Rule(
        "activation_offload_on_cpu",
        lambda s: s.strategy.activation_offload and s.device == "cpu",
        "on the CPU activations are in host memory already",
        "Set strategy.activation_offload=false",
    ),
    # Precision.
    Rule(
        "fp16_weights_with_fp16_training",
        lambda s: s.mixed_precision == "fp16" and s.dtype == "float16" and not s.is_adapted,
        "the gradient scaler refuses gradients stored in float16",
        "Set model.dtype=float32 with training.fp16=true, or model.dtype=bfloat16 with training.bf16=true",
    ),
    Rule(
        "fp16_weights_alone",
        lambda s: s.mixed_precision == "no" and s.dtype == "float16" and not s.is_adapted,
        "the squares of small gradients are 0 in float16, and AdamW divides by them",
        "Set model.dtype=float32 with training.fp16=true, or model.dtype=bfloat16",
    ),
    Rule(
        "fp16_on_cpu",
        lambda s: s.mixed_precision == "fp16" and s.device == "cpu",
        "Accelerate has no float16 training on the CPU and would train in float32 without a word",
        "Set training.bf16=true in place of training.fp16, or neither",
    ),
    Rule(
        "bf16_weights_with_fp16_training",
        lambda s: s.mixed_precision == "fp16" and s.dtype == "bfloat16",
        "the gradient scaler of float16 does not unscale bfloat16 gradients",
        "Set training.bf16=true in place of training.fp16",
    ),
    Rule(
        "bf16_on_old_gpu",
        lambda s: s.device == "cuda" and s.older_than(8, 0) and (s.mixed_precision == "bf16" or s.dtype == "bfloat16"),
        "GPUs older than compute capability 8.0 only emulate bfloat16",
        "Set model.dtype=float32 and training.fp16=true",
    ),
    # Kernels.
    Rule(
        "liger_on_cpu",
        lambda s: s.strategy.liger and s.device == "cpu",
        "Liger's kernels are written in Triton, and importing them on the CPU breaks transformers' models",
        "Set strategy.liger=false",
    ),
    Rule(
        "flash_attention_on_cpu",
        lambda s: s.device == "cpu" and str(s.attn_implementation).startswith("flash_attention"),
        "flash attention needs a GPU",
        "Set model.attn_implementation=sdpa",
    ),
    Rule(
        "flex_attention_on_cpu",
        lambda s: s.device == "cpu" and s.attn_implementation == "flex_attention",
        "flex attention has no backward pass on the CPU",
        "Set model.attn_implementation=sdpa",
    ),
    Rule(
        "flash_attention_in_float32",
        lambda s: (
            str(s.attn_implementation).startswith("flash_attention")
            and s.dtype == "float32"
            and s.mixed_precision == "no"
        ),
        "flash attention takes float16 and bfloat16 only",
        "Set model.dtype=bfloat16, or model.attn_implementation=sdpa",
    ),
    Rule(
        "fp8_without_tensor_cores",
        lambda s: s.strategy.fp8 and (s.device == "cpu" or s.older_than(8, 9)),
        "float8 products need a GPU of compute capability 8.9 or higher (Ada, Hopper, Blackwell)",
        "Set strategy.fp8=false",
    ),
    Rule(
        "fp8_of_quantized_weights",
        lambda s: s.strategy.fp8 and s.quantization is not None,
        "quantised linear layers are not torch's, which alone are converted to float8",
        "Set one of strategy.fp8 and model.quantization",
    ),
    Rule(
        "fp8_with_adapter",
        lambda s: s.strategy.fp8 and s.is_adapted and s.quantization is None,
        "torchao's float8 layers compute the gradient of every weight, frozen ones too",
        "Set strategy.fp8=false, or adapter.r=0",
    ),
    Rule(
        "fp8_of_narrow_weights",
        lambda s: s.strategy.fp8 and s.dtype != "bfloat16",
        "float8 products pay off, and are tested, only for bfloat16 weights",
        "Set model.dtype=bfloat16",
    ),
    Rule(
        "fp8_of_odd_batches",
        lambda s: s.strategy.fp8 and s.items % 16 != 0,
        "float8 products take multiples of 16 only, and the weights' gradients sum over tokens",
        "Choose a data.sequence_length that is a multiple of 16",
    ),
    Rule(
        "compile_with_zero3",
        lambda s: s.strategy.compile and s.strategy.sharding == "zero3",
        "DeepSpeed gathers each layer's weights in hooks that a compiled layer breaks its graph at",
        "Set strategy.compile=false, or shard with fsdp2",
    ),
    # Platforms.
    Rule(
        "zero3_off_linux",
        lambda s: s.strategy.sharding == "zero3" and s.platform != "linux",
        "DeepSpeed's ZeRO-3 is for Linux",
        "Train on one device, or on Linux",
    ),
    Rule(
        "average_of_weights_elsewhere",
        lambda s: s.is_averaged and (s.strategy.sharding == "zero3" or s.strategy.parameter_offload),
        "an average needs the weights on the device, and ZeRO-3 and parameter_offload keep them elsewhere",
        "Set ema_decay=0, or shard with fsdp2",
    ),
    Rule(
        "fsdp2_off_linux",
        lambda s: s.strategy.sharding == "fsdp2" and s.platform != "linux",
        "NCCL, which FSDP2 communicates through, is for Linux",
        "Train on one device, or on Linux",
    ),
)

_PACKAGES: dict[str, Callable[[StepSettings], bool]] = {
    "bitsandbytes": lambda s: s.uses_bitsandbytes_optimizer or s.quantization is not None,
    "torchao": lambda s: (
        "torchao" in s.strategy.optimizer
        or s.strategy.fp8
        or (s.strategy.optimizer_offload and s.strategy.sharding == "none")
    ),
    "deepspeed": lambda s: s.strategy.sharding == "zero3",
    "liger_kernel": lambda s: s.strategy.liger,
    "flash_attn": lambda s: s.attn_implementation == "flash_attention_2",
}

# Compiled against an installed CUDA toolkit, so that no extra has it.
_INSTALL = {"flash_attn": "flash-attn"}


def find_refusals(settings: StepSettings, *, check_packages: bool = True) -> list[Refusal]:
    """Return every reason for which a step with these settings cannot run, none if it can.

    Args:
        settings: What the step is made of.
        check_packages: Whether a package that is not installed here counts; not where another machine is planned for.
    """
    found = [Refusal(rule.name, rule.reason, rule.remedy) for rule in RULES if rule.applies(settings)]
    if check_packages:
        found += [
            Refusal(
                f"{package}_missing",
                f"the strategy needs {package}, which is not installed",
                f"pip install {_INSTALL.get(package, repr('modeling_astrobio[gpu]'))}, or choose another strategy",
            )
            for package, is_needed in _PACKAGES.items()
            if is_needed(settings) and importlib.util.find_spec(package) is None
        ]
    return found


def check_strategy(settings: StepSettings, *, check_packages: bool = True) -> None:
    """Refuse a step that cannot run, before anything is allocated.

    Raises:
        StrategyError: With every reason and its remedy.
    """
    found = find_refusals(settings, check_packages=check_packages)
    if found:
        raise StrategyError("the strategy cannot work. " + " ".join(map(str, found)))

"""How a training step is made to fit the hardware: sharding, optimizer, offload, checkpointing, kernels."""

from dataclasses import dataclass


__all__ = ["ACTIVATION_CHECKPOINTING", "OPTIMIZER_NAMES", "SHARDINGS", "Strategy"]


SHARDINGS = ("auto", "none", "ddp", "fsdp2", "zero3")
OPTIMIZER_NAMES = (
    "adamw",
    "adamw_torchao",
    "adamw_torchao_8bit",
    "adamw_bnb_8bit",
    "paged_adamw_bnb_8bit",
    "lion",
    "lion_bnb_8bit",
    "sophia",
)
ACTIVATION_CHECKPOINTING = ("none", "selective", "full")


@dataclass
class Strategy:
    """The `strategy` section of a recipe. It changes what a step costs, not what is learned, but for rounding.

    Attributes:
        sharding: What the processes share: "none" (one process), "ddp" (each has all), "fsdp2" or "zero3" (each has
            its part of parameters, gradients and optimizer); "auto" takes what the launcher set up.
        parameter_offload: Under "fsdp2" or "zero3": parameters, gradients and optimizer live in host memory and the
            update is made there.
        optimizer: One of `OPTIMIZER_NAMES`: "adamw" (torch, fused), "adamw_torchao" and "adamw_torchao_8bit"
            (torchao), "adamw_bnb_8bit", "paged_adamw_bnb_8bit", "lion" and "lion_bnb_8bit" (bitsandbytes), "sophia"
            (Sophia-G).
        stochastic_rounding: Round updates of bfloat16 weights at random, in proportion to the distance, so that
            small ones are not lost; torchao optimizers only.
        optimizer_offload: Moments in host memory and the update made there, its copies running beside the backward
            pass: torchao's CPUOffloadOptimizer on one GPU, DeepSpeed's under "zero3".
        gradient_offload: With `optimizer_offload`: gradients leave the GPU as they come; needs accumulation of 1.
        optimizer_in_backward: Update each weight as soon as its gradient is there and free the gradient; needs
            accumulation of 1 and no clipping.
        activation_checkpointing: "none"; "full" keeps each layer's input and computes the rest again in the backward
            pass; "selective" keeps the results of attention and most matrix products too, and computes only the rest.
        activation_offload: Keep the inputs of checkpointed layers in host memory.
        compile: Compile the model with torch.compile.
        fp8: Matrix products of the linear layers in float8 by torchao; needs compute capability 8.9 or higher.
        liger: Triton kernels of liger-kernel for RMSNorm, rotary embedding and SwiGLU; CUDA only.
    """

    sharding: str = "auto"
    parameter_offload: bool = False
    optimizer: str = "adamw"
    stochastic_rounding: bool = False
    optimizer_offload: bool = False
    gradient_offload: bool = False
    optimizer_in_backward: bool = False
    activation_checkpointing: str = "none"
    activation_offload: bool = False
    compile: bool = False
    fp8: bool = False
    liger: bool = False

"""LoRA and quantised loading with targets that fit AstroLLM."""

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.utils import is_bitsandbytes_available

from .errors import HardwareError


__all__ = ["LORA_TARGET_MODULES", "add_lora", "lora_config", "quantization_config"]


# All linear layers of attention and feed-forward: QLoRA needs them all to match full fine-tuning
# (Dettmers et al. 2023, arXiv:2305.14314, section 4).
LORA_TARGET_MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

# A `LoraConfig` without target_modules then finds them too.
TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING["astro_llm"] = LORA_TARGET_MODULES


def lora_config(
    r: int = 16, alpha: int = 32, dropout: float = 0.0, target_modules: list[str] | None = None
) -> LoraConfig:
    """Return LoRA settings for a causal model.

    Args:
        r: Rank of the update.
        alpha: Scale; the update is multiplied by alpha / r.
        dropout: Dropout on the adapter's input.
        target_modules: Names of linear layers; `None` means `LORA_TARGET_MODULES`.
    """
    return LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=target_modules or LORA_TARGET_MODULES,
        task_type="CAUSAL_LM",
    )


def add_lora(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """Freeze a model, quantised or not, and add trainable LoRA weights."""
    if getattr(model, "is_quantized", False):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return get_peft_model(model, config)


def quantization_config(bits: str, compute_dtype: torch.dtype) -> BitsAndBytesConfig:
    """Return 4-bit (NF4 with double quantisation) or 8-bit loading.

    Args:
        bits: "4bit" or "8bit".
        compute_dtype: Precision of the matrix products of 4-bit weights.

    Raises:
        HardwareError: If bitsandbytes is not installed.
    """
    if not is_bitsandbytes_available():
        raise HardwareError(
            f"model.quantization={bits!r} needs bitsandbytes, which is not installed. "
            "pip install 'modeling_astrobio[gpu]'."
        )
    if bits == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
    )

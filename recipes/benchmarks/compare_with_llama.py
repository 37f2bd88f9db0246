"""AstroLLM against LlamaForCausalLM of the same shape and the same weights: training step, decoding, memory.

    python recipes/benchmarks/compare_with_llama.py [--shapes base 1b] [--rounds 15] [--device cpu]

One thread on the CPU. Writes recipes/benchmarks/results/compare_with_llama_DEVICE.json.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from interleaved import compare, peak_memory, run_in_fresh_process, write_benchmark
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from modeling_astrobio import AstroLLMConfig, AstroLLMForCausalLM


# Sequences and answers on the CPU keep a round of the 1b shape under a minute.
SHAPES: dict[str, dict[str, Any]] = {
    "base": {
        "config": {
            "vocab_size": 54272,
            "hidden_size": 512,
            "intermediate_size": 1536,
            "num_hidden_layers": 8,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "max_position_embeddings": 4096,
        },
        "sequence": {"cpu": 1024, "cuda": 4096},
        "new_tokens": {"cpu": 64, "cuda": 64},
    },
    "1b": {"preset": "1b", "sequence": {"cpu": 128, "cuda": 4096}, "new_tokens": {"cpu": 8, "cuda": 64}},
    "13b": {"preset": "13b", "sequence": {"cpu": 8, "cuda": 4096}, "new_tokens": {"cpu": 2, "cuda": 64}},
}
LLAMA_FIELDS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_parameters"),
)
# Dense bfloat16 FLOP/s of the maker's data sheets.
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}


def make_pair(shape: str, device: str) -> dict[str, PreTrainedModel]:
    """Both models on the same parameters, so that two of them fit where one does."""
    spec = SHAPES[shape]
    config = AstroLLMConfig(**spec["config"]) if "config" in spec else AstroLLMConfig.from_preset(spec["preset"])
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    torch.manual_seed(0)
    with torch.device(device):
        ours = AstroLLMForCausalLM._from_config(config, dtype=dtype)
    with torch.device("meta"):
        llama = LlamaForCausalLM(LlamaConfig(**{name: getattr(config, name) for name in LLAMA_FIELDS}))
    llama.load_state_dict(ours.state_dict(), assign=True)
    for theirs, own in zip(llama.parameters(), ours.parameters(), strict=True):
        theirs.requires_grad_(own.requires_grad)
    llama.model.rotary_emb = type(llama.model.rotary_emb)(llama.config).to(device)
    return {"llama": llama, "astro": ours}


def training_step(model: PreTrainedModel, tokens: torch.Tensor) -> None:
    """Forward and backward; gradients are dropped, as at the end of an optimizer step."""
    model.train()
    model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
    model.zero_grad(set_to_none=True)


def greedy_decoding(model: PreTrainedModel, tokens: torch.Tensor, new_tokens: int) -> torch.Tensor:
    model.eval()
    return model.generate(
        tokens, max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False, pad_token_id=0
    )


def measure_memory(shape: str, name: str, device: str, sequence: int) -> dict[str, int]:
    """Weights and the peak of one training step above them, in bytes; for a process of its own."""
    model = make_pair(shape, device)[name]
    # A short step first: libraries make their buffers, and the memory of the other model's skeleton is settled.
    training_step(model, torch.randint(0, model.config.vocab_size, (1, 16), device=device))
    tokens = torch.randint(0, model.config.vocab_size, (1, sequence), device=device)
    step = peak_memory(lambda: training_step(model, tokens))
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return {"weights_bytes": weights, "step_peak_bytes": step, "total_bytes": weights + step}


def model_flops(model: PreTrainedModel, sequence: int) -> float:
    """FLOPs of a training step: 6 for each weight of a matrix product and token, and causal attention."""
    config = model.config
    matrices = sum(p.numel() for n, p in model.named_parameters() if p.dim() == 2 and "embed_tokens" not in n)
    attention = 6 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * sequence
    return sequence * (6 * matrices + attention)


def run_shape(shape: str, device: str, rounds: int) -> dict[str, Any]:
    sequence, new_tokens = (SHAPES[shape][key][device] for key in ("sequence", "new_tokens"))
    script = Path(__file__).resolve()
    memory = {
        name: run_in_fresh_process(script, "--memory", shape, name, "--device", device) for name in ("llama", "astro")
    }
    pair = make_pair(shape, device)
    vocabulary = pair["astro"].config.vocab_size
    tokens = torch.randint(0, vocabulary, (1, sequence), device=device)
    prompt = tokens[:, :32]
    step = compare({name: lambda m=m: training_step(m, tokens) for name, m in pair.items()}, rounds, "llama")
    texts = {name: greedy_decoding(model, prompt, new_tokens) for name, model in pair.items()}
    decode = compare({n: lambda m=m: greedy_decoding(m, prompt, new_tokens) for n, m in pair.items()}, rounds, "llama")
    result = {
        "parameters": sum(parameter.numel() for parameter in pair["astro"].parameters()),
        "dtype": str(pair["astro"].dtype),
        "sequence": sequence,
        "attention": pair["astro"].config._attn_implementation,
        "training_step": step,
        "decoding": {
            "prompt": 32,
            "new_tokens": new_tokens,
            "equal": bool((texts["llama"] == texts["astro"]).all()),
            **decode,
        },
        "memory": memory,
    }
    if all(figures["status"] == "finished" for figures in memory.values()):
        for key in ("step_peak_bytes", "total_bytes"):
            result[f"{key}_astro_over_llama"] = memory["astro"][key] / memory["llama"][key]
    if device == "cuda":
        name = torch.cuda.get_device_name()
        peak = next((flops for key, flops in PEAK_FLOPS.items() if key in name), None)
        if peak:
            result["model_flops_utilisation"] = {
                rival: model_flops(pair["astro"], sequence) / seconds / peak
                for rival, seconds in step["median_seconds"].items()
            }
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=sorted(SHAPES), default=["base"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--memory", nargs=2, metavar=("SHAPE", "NAME"), help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    if parsed.memory:
        shape, name = parsed.memory
        sequence = SHAPES[shape]["sequence"][parsed.device]
        print(json.dumps(measure_memory(shape, name, parsed.device, sequence)))
        return 0
    shapes: dict[str, Any] = {}
    for shape in parsed.shapes:
        shapes[shape] = run_shape(shape, parsed.device, parsed.rounds)
        path = write_benchmark(f"compare_with_llama_{parsed.device}", {"status": "finished", "shapes": shapes})
        found = shapes[shape]
        print(
            f"{shape}: training {found['training_step']['speed_up_median_of_rounds']['astro']:.3f}x Llama, decoding "
            f"{found['decoding']['speed_up_median_of_rounds']['astro']:.3f}x, step memory "
            f"{found.get('step_peak_bytes_astro_over_llama', float('nan')):.3f} of Llama's "
            f"({found.get('total_bytes_astro_over_llama', float('nan')):.3f} with weights) -> {path.name}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""recipes/convert_llama.py, run as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM


ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(ROOT / "recipes" / "convert_llama.py"), *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def llama(tmp_path) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=101,
        hidden_size=48,
        intermediate_size=74,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(tmp_path / "llama", max_shard_size="20KB")
    return model


def test_there_and_back(llama, tmp_path):
    done = run("llama", "ours", "--vocab-size", "130", "--max-shard-size", "50KB", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Converted llama to astro_llm: 30 tensors" in done.stdout
    assert "Load with AutoModelForCausalLM.from_pretrained('ours', trust_remote_code=True)" in done.stdout
    assert "model-00001-of-0000" in done.stderr
    done = run("ours", "back", "--dtype", "bfloat16", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Converted astro_llm to llama" in done.stdout
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "back")
    assert back.dtype == torch.bfloat16
    layer = "model.layers.2.mlp.down_proj.weight"
    assert torch.equal(back.state_dict()[layer], llama.state_dict()[layer].bfloat16())
    assert torch.equal(back.lm_head.weight[:101], llama.lm_head.weight.bfloat16())
    assert back.lm_head.weight.shape == (130, 48)


def test_refusal_is_one_line_and_a_failing_status(llama, tmp_path):
    done = run("llama", "ours", "--to", "qwen3", cwd=tmp_path)
    assert done.returncode == 1
    assert "convert_llama.py: this AstroLLM config cannot be expressed as qwen3" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "ours").exists()

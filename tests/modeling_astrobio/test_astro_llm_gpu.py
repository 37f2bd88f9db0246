"""On a CUDA device: equality with Llama, packing under flash attention, 4-bit loading."""

import pytest
import torch
from reference_models import astro_and_reference, tiny_model
from transformers import BitsAndBytesConfig

from modeling_astrobio import AstroLLMForCausalLM


pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_logits_and_gradients_equal_llama_on_cuda():
    ours, llama = (model.cuda().train() for model in astro_and_reference("llama"))
    tokens = torch.randint(0, ours.config.vocab_size, (3, 37), device="cuda")
    losses = [model(input_ids=tokens, labels=tokens, use_cache=False).loss for model in (ours, llama)]
    torch.testing.assert_close(losses[0], losses[1], atol=1e-5, rtol=1e-5)
    for loss in losses:
        loss.backward()
    for own, theirs in zip(ours.parameters(), llama.parameters(), strict=True):
        torch.testing.assert_close(own.grad, theirs.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kernel", ["flash_attention_2", "flash_attention_3"])
def test_flash_attention_keeps_packed_documents_apart(kernel):
    # Heads of 32: flash attention takes multiples of 8 of at least 16 on every release.
    model = tiny_model(torch.bfloat16, hidden_size=192, head_dim=32).cuda()
    try:
        model.set_attn_implementation(kernel)
    except (ImportError, ValueError, OSError) as error:
        pytest.skip(f"{kernel} is not usable here: {error}")
    tokens = torch.randint(0, model.config.vocab_size, (2, 13), device="cuda")
    positions = torch.tensor([[*range(6), *range(7)], [*range(9), *range(4)]], device="cuda")
    changed = tokens.clone()
    changed[0, :6] = (changed[0, :6] + 1) % model.config.vocab_size
    before, after = (model(input_ids=ids, position_ids=positions).logits for ids in (tokens, changed))
    assert torch.equal(before[0, 6:], after[0, 6:])
    assert torch.equal(before[1], after[1])
    assert not torch.equal(before[0, :6], after[0, :6])


def test_four_bit_loading_on_cuda(tmp_path):
    pytest.importorskip("bitsandbytes")
    model = tiny_model(torch.bfloat16, hidden_size=192, head_dim=32)
    model.save_pretrained(tmp_path)
    loaded = AstroLLMForCausalLM.from_pretrained(
        tmp_path,
        quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16),
        device_map={"": 0},
    )
    tokens = torch.randint(0, model.config.vocab_size, (2, 11))
    expected = model.cuda()(tokens.cuda()).logits.float()
    got = loaded(tokens.cuda()).logits.float()
    # NF4 keeps about 4 bits: the direction of the logits survives, their last digits do not.
    assert torch.nn.functional.cosine_similarity(got.flatten(), expected.flatten(), dim=0) > 0.9

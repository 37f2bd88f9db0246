"""Generation through transformers' `generate` gives, token for token, what the reference models generate."""

import copy

import pytest
import torch
from reference_models import astro_and_reference, random_tokens, tiny_model
from transformers import DynamicCache, StaticCache


MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
MODELS = {
    "llama": ("llama", {}),
    "llama_mqa": ("llama", {"num_key_value_heads": 1}),
    "mistral": ("mistral", {"sliding_window": 5}),
    "qwen2_mixed": ("qwen2", {"layer_types": MIXED, "sliding_window": 5}),
    "qwen3": ("qwen3", {}),
}
WAYS = {
    "greedy": {"do_sample": False},
    "sampled": {"do_sample": True, "temperature": 1.3, "top_k": 17},
    "beam": {"do_sample": False, "num_beams": 3, "num_return_sequences": 2},
    "static_cache": {"do_sample": False, "cache_implementation": "static"},
    "without_cache": {"do_sample": False, "use_cache": False},
    "prefill_in_chunks": {"do_sample": False, "prefill_chunk_size": 4},
}


def prompt() -> dict[str, torch.Tensor]:
    """Two prompts of 7 and 4 tokens, padded on the left."""
    tokens = random_tokens(2, 7)
    mask = torch.tensor([[1] * 7, [0] * 3 + [1] * 4])
    return {"input_ids": tokens.masked_fill(mask == 0, 0), "attention_mask": mask}


def generated(model, **arguments) -> torch.Tensor:
    torch.manual_seed(5)
    return model.generate(**prompt(), max_new_tokens=11, pad_token_id=0, **arguments)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("model", MODELS)
def test_tokens_equal_the_reference(model, attention, way):
    reference, overrides = MODELS[model]
    ours, theirs = astro_and_reference(reference, attention, **overrides)
    found = generated(ours, **WAYS[way])
    assert torch.equal(found, generated(theirs, **WAYS[way]))
    assert found.shape[1] == 7 + 11


@pytest.mark.parametrize("model", MODELS)
def test_assisted_tokens_equal_greedy_ones(model):
    reference, overrides = MODELS[model]
    ours, _ = astro_and_reference(reference, "sdpa", **overrides)
    # An assistant that is right about half the time: the weights themselves, disturbed.
    assistant = copy.deepcopy(ours)
    with torch.no_grad():
        for parameter in assistant.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    tokens = random_tokens(1, 7)
    arguments = {"max_new_tokens": 13, "do_sample": False, "pad_token_id": 0}
    found = ours.generate(tokens, assistant_model=assistant, **arguments)
    assert torch.equal(found, ours.generate(tokens, **arguments))


@pytest.mark.parametrize("layer_types", [["full_attention"] * 3, ["sliding_attention"] * 3, MIXED])
def test_caches_leave_the_tokens_alone(layer_types):
    model = tiny_model(layer_types=layer_types, sliding_window=5)
    expected = generated(model, do_sample=False, use_cache=False)
    for cache in (
        None,
        DynamicCache(config=model.config),
        DynamicCache(),
        StaticCache(model.config, max_cache_len=37),
    ):
        assert torch.equal(generated(model, do_sample=False, past_key_values=cache), expected)


def test_sliding_layers_cache_no_more_than_their_window():
    model = tiny_model(layer_types=MIXED, sliding_window=5)
    with torch.no_grad():
        cache = model(random_tokens(2, 13)).past_key_values
    assert [layer.keys.shape[-2] for layer in cache.layers] == [4, 13, 4]
    assert cache.get_seq_length() == 13


def test_padding_does_not_change_what_a_prompt_generates():
    model = tiny_model(layer_types=MIXED, sliding_window=5)
    together = generated(model, do_sample=False)
    alone = model.generate(prompt()["input_ids"][1:, 3:], max_new_tokens=11, do_sample=False, pad_token_id=0)
    assert torch.equal(together[1, 3:], alone[0])


def test_generation_stops_at_the_end_token():
    model = tiny_model()
    tokens = random_tokens(1, 7)
    free = model.generate(tokens, max_new_tokens=11, do_sample=False, pad_token_id=0)[0, 7:]
    end = free[4].item()
    stopped = model.generate(tokens, max_new_tokens=11, do_sample=False, pad_token_id=0, eos_token_id=end)[0, 7:]
    first = free.tolist().index(end)
    assert torch.equal(stopped, free[: first + 1])


def test_generation_goes_on_from_a_cache():
    model = tiny_model(layer_types=MIXED, sliding_window=5)
    tokens = random_tokens(1, 7)
    arguments = {"do_sample": False, "pad_token_id": 0}
    whole = model.generate(tokens, max_new_tokens=10, **arguments)
    begun = model.generate(tokens, max_new_tokens=4, return_dict_in_generate=True, **arguments)
    resumed = model.generate(begun.sequences, past_key_values=begun.past_key_values, max_new_tokens=6, **arguments)
    assert torch.equal(resumed, whole)


def test_dynamic_rotary_positions_generate_as_llama_beyond_the_original_length():
    rope = {"rope_type": "dynamic", "factor": 3.0, "rope_theta": 10000.0}
    ours, theirs = astro_and_reference("llama", "sdpa", rope_parameters=rope, max_position_embeddings=16)
    assert torch.equal(generated(ours, do_sample=False), generated(theirs, do_sample=False))

"""Token accuracy counted in chunks inside the forward pass, against the argmax of all logits."""

import pytest
import torch
from training_builders import small_model
from transformers import LlamaConfig, LlamaForCausalLM, ViTConfig, ViTForImageClassification

from modeling_astrobio.training.adapters import add_lora, lora_config
from modeling_astrobio.training.token_accuracy import TokenAccuracy


def llama(**overrides) -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 48, "intermediate_size": 88, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(**{**shape, "vocab_size": 37, "initializer_range": 0.4, **overrides})
    return LlamaForCausalLM(config).eval()


def with_lora(model):
    adapted = add_lora(model, lora_config(4))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return adapted.eval()


MODELS = {
    "astro_llm": lambda: small_model(vocab_size=37),
    "tied": lambda: small_model(vocab_size=37, tie_word_embeddings=True),
    "llama": llama,
    "llama_bias": lambda: llama(attention_bias=True, tie_word_embeddings=True),
    "peft": lambda: with_lora(small_model(vocab_size=37)),
    "float64": lambda: small_model(vocab_size=37).double(),
}


def batch(rows: int = 3, length: int = 13, packed: bool = False) -> dict[str, torch.Tensor]:
    """Rows of which beginnings, some places and, unless packed, ends are not learned."""
    generator = torch.Generator().manual_seed(rows * 100 + length)
    tokens = torch.randint(3, 37, (rows, length), generator=generator)
    labels = tokens.masked_fill(torch.rand(rows, length, generator=generator) < 0.2, -100)
    if packed:
        positions = (torch.arange(length) % 5).repeat(rows, 1)
        return {"input_ids": tokens, "position_ids": positions, "labels": labels.masked_fill(positions == 0, -100)}
    mask = torch.arange(length)[None, :] < length - 2 * torch.arange(rows)[:, None]
    return {"input_ids": tokens, "attention_mask": mask.long(), "labels": labels.masked_fill(~mask, -100)}


@torch.no_grad()
def naive_counts(model, inputs) -> tuple[int, int]:
    chosen = model(**{key: value for key, value in inputs.items() if key != "labels"}).logits.argmax(-1)
    right = counted = 0
    for row, label_row in zip(chosen, inputs["labels"], strict=True):
        for place in range(len(row) - 1):
            if label_row[place + 1] != -100:
                counted += 1
                right += int(row[place] == label_row[place + 1])
    return right, counted


def like_the_model(model, inputs, share: float = 0.6):
    """Labels of which about so many are what the model would say, for an accuracy that is not near 0."""
    with torch.no_grad():
        chosen = model(**{key: value for key, value in inputs.items() if key != "labels"}).logits.argmax(-1)
    labels = inputs["labels"].clone()
    generator = torch.Generator().manual_seed(1)
    hits = torch.rand(labels[:, 1:].shape, generator=generator) < share
    labels[:, 1:] = torch.where((labels[:, 1:] != -100) & hits, chosen[:, :-1], labels[:, 1:])
    return {**inputs, "labels": labels}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("chunk_size", [1, 7, 1024])
@pytest.mark.parametrize("packed", [False, True])
def test_equals_the_argmax_of_all_logits(name, chunk_size, packed):
    model = MODELS[name]()
    accuracy = TokenAccuracy(chunk_size)
    right = counted = 0
    # Two batches of different shapes, one of a single row.
    for inputs in (batch(packed=packed), batch(1, 29, packed=packed)):
        inputs = like_the_model(model, inputs)
        with torch.no_grad(), accuracy.watching(model, inputs):
            model(**inputs)
        found = naive_counts(model, inputs)
        right, counted = right + found[0], counted + found[1]
    assert 0.4 * counted < right < 0.9 * counted
    assert accuracy.drain(lambda counts: counts) == {"accuracy": right / counted}
    # Drained, it begins anew.
    assert accuracy.drain(lambda counts: counts) == {}


@pytest.mark.parametrize("make", [llama, lambda: small_model(vocab_size=37)], ids=["llama", "astro_llm"])
def test_bfloat16_equals_the_argmax_but_where_two_logits_are_as_near_as_its_rounding(make):
    model = make().bfloat16()
    inputs = like_the_model(model, batch(5, 31))
    accuracy = TokenAccuracy(7)
    with torch.no_grad(), accuracy.watching(model, inputs):
        model(**inputs)
    right, counted = naive_counts(model, inputs)
    with torch.no_grad():
        first, second = (
            model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
            .logits.topk(2)
            .values.unbind(-1)
        )
    near = int(((first - second) <= 2**-7 * first.abs()).sum())
    assert near < 0.2 * counted
    assert abs(accuracy.drain(lambda counts: counts)["accuracy"] * counted - right) <= near


@pytest.mark.parametrize("skip_logits", [False, True])
def test_the_loss_is_the_same_to_the_bit(skip_logits):
    model = small_model(vocab_size=37)
    inputs = {**batch(), "skip_logits": skip_logits}
    with torch.no_grad():
        expected = model(**inputs).loss
        with TokenAccuracy(5).watching(model, inputs):
            found = model(**inputs).loss
    assert torch.equal(found, expected)


def test_nothing_is_left_on_the_model_and_gradients_are_the_same():
    model = small_model(vocab_size=37).train()
    inputs = batch()
    model(**inputs).loss.backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    with TokenAccuracy(5).watching(model, inputs):
        loss = model(**inputs).loss
    loss.backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, gradient)
    assert not model.model._forward_hooks


def test_labels_that_are_shifted_already():
    model = small_model(vocab_size=37)
    inputs = like_the_model(model, batch())
    shifted = torch.nn.functional.pad(inputs["labels"][:, 1:], (0, 1), value=-100)
    accuracies = []
    for labels in ({"labels": inputs["labels"]}, {"shift_labels": shifted, "labels": inputs["labels"].flip(1)}):
        accuracy = TokenAccuracy()
        with torch.no_grad(), accuracy.watching(model, labels):
            model(inputs["input_ids"], attention_mask=inputs["attention_mask"])
        accuracies.append(accuracy.drain(lambda counts: counts))
    assert accuracies[0] == accuracies[1] != {}


def test_no_labels_count_nothing():
    model = small_model(vocab_size=37)
    accuracy = TokenAccuracy()
    with torch.no_grad(), accuracy.watching(model, {"input_ids": torch.ones(1, 5, dtype=torch.long)}):
        model(torch.ones(1, 5, dtype=torch.long))
    assert accuracy.drain(lambda counts: counts) == {}
    ignored = {**batch(), "labels": torch.full((3, 13), -100)}
    with torch.no_grad(), accuracy.watching(model, ignored):
        model(ignored["input_ids"])
    assert accuracy.drain(lambda counts: counts) == {}


def test_sums_over_processes():
    model = small_model(vocab_size=37)
    inputs = like_the_model(model, batch())
    accuracy = TokenAccuracy()
    with torch.no_grad(), accuracy.watching(model, inputs):
        model(**inputs)
    right, counted = naive_counts(model, inputs)
    # Another process that had 3 of 10 places right.
    found = accuracy.drain(lambda counts: counts + torch.tensor([3, 10]))
    assert found == {"accuracy": (right + 3) / (counted + 10)}


def test_never_holds_logits_of_more_than_a_chunk():
    model = small_model(vocab_size=37)
    inputs = batch(4, 31)
    sizes = []
    handle = model.lm_head.register_forward_hook(lambda module, arguments, logits: sizes.append(logits.shape))
    accuracy = TokenAccuracy(8)
    with torch.no_grad(), accuracy.watching(model, inputs):
        model(**inputs, skip_logits=True)
    handle.remove()
    *chunks, loss = sizes
    assert loss == ()
    assert len(chunks) > 5
    assert all(rows <= 8 for rows, _ in chunks)


def test_mistakes():
    with pytest.raises(ValueError, match="chunk_size must be at least 1; got 0"):
        TokenAccuracy(0)
    model, other = small_model(), small_model()
    message = "must run the model, whose decoder is AstroLLMModel"
    with pytest.raises(RuntimeError, match=message), TokenAccuracy().watching(model, batch()):
        other(**batch())
    assert not model.model._forward_hooks
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    vision = ViTForImageClassification(ViTConfig(**shape))
    message = r"must be a causal language model.*got ViTForImageClassification"
    with pytest.raises(TypeError, match=message), TokenAccuracy().watching(vision, batch()):
        vision(torch.ones(1, 3, 224, 224))
    # An error of the model's own is not hidden by one about a missing call.
    with pytest.raises(KeyError, match="lost"), TokenAccuracy().watching(model, batch()):
        raise KeyError("lost")

"""Documents packed in one row never see one another, whatever the mask, the cache, the kernel or the layer."""

import copy
from itertools import pairwise

import pytest
import torch
from reference_models import VOCAB_SIZE, random_tokens, tiny_model
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import flash_attention_mask

from modeling_astrobio.attention_packing import document_positions, flash_varlen_arguments


LENGTHS = ((5, 1, 7), (4, 9))
LAYERS = {
    "full": ["full_attention"] * 3,
    "sliding": ["sliding_attention"] * 3,
    "mixed": ["sliding_attention", "full_attention", "sliding_attention"],
}
# Places of the two rows that hold padding, for each kind of mask.
MASKS = {"none": [], "ones": [], "right_padded": [(0, 12), (1, 11), (1, 12)], "left_padded": [(0, 0), (1, 0), (1, 1)]}


def packed_positions() -> torch.Tensor:
    return torch.tensor([[place for length in row for place in range(length)] for row in LENGTHS])


def document_slices() -> list[tuple[int, slice]]:
    borders = [(index, [0, *torch.tensor(row).cumsum(0).tolist()]) for index, row in enumerate(LENGTHS)]
    return [(index, slice(*ends)) for index, row in borders for ends in pairwise(row)]


def packed_inputs(mask: str) -> dict[str, torch.Tensor]:
    inputs = {"input_ids": random_tokens(2, 13), "position_ids": packed_positions()}
    if mask != "none":
        inputs["attention_mask"] = torch.ones(2, 13, dtype=torch.long)
        for place in MASKS[mask]:
            inputs["attention_mask"][place] = 0
    return inputs


def assert_no_leak(model, inputs, real) -> None:
    """Change one document: logits of all others, and the gradients that they send back, stay bit for bit."""
    embeddings = model.get_input_embeddings()(inputs.pop("input_ids")).detach()
    target = torch.randn(2, 13, VOCAB_SIZE, generator=torch.Generator().manual_seed(1))
    documents = document_slices()

    def run(values, counted):
        values = values.clone().requires_grad_()
        logits = model(inputs_embeds=values, **inputs).logits
        (gradient,) = torch.autograd.grad((logits * target * counted[..., None]).sum(), values)
        return logits.detach(), gradient

    for row, places in documents:
        others = real.clone()
        others[row, places] = False
        changed = embeddings.clone()
        changed[row, places] += 0.5
        before, gradient_before = run(embeddings, others)
        after, gradient_after = run(changed, others)
        assert torch.equal(before[others], after[others])
        assert torch.equal(gradient_before[others], gradient_after[others])
        assert not gradient_before[row, places].any()
        own = real.clone()
        own[others] = False
        if own.any():
            assert not torch.equal(before[own], after[own])


@pytest.mark.parametrize("use_cache", [None, True, False])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_documents_do_not_leak(attention, layers, mask, training, use_cache):
    model = tiny_model(attention=attention, layer_types=LAYERS[layers], sliding_window=4).train(training)
    inputs = packed_inputs(mask)
    real = inputs.get("attention_mask", torch.ones(2, 13)).bool()
    assert_no_leak(model, {**inputs, "use_cache": use_cache}, real)


@pytest.mark.parametrize(("mask", "use_cache"), [("none", None), ("ones", False), ("left_padded", None)])
def test_documents_do_not_leak_in_a_compiled_model(mask, use_cache):
    # Traced by dynamo, whole, and run eagerly; where borders are drawn must not depend on being compiled.
    model = tiny_model(layer_types=LAYERS["mixed"][:2], num_hidden_layers=2, sliding_window=4).train()
    model = torch.compile(model, backend="eager", fullgraph=True)
    inputs = packed_inputs(mask)
    tokens, real = inputs.pop("input_ids"), inputs.get("attention_mask", torch.ones(2, 13)).bool()
    changed = tokens.clone()
    changed[0, 1:5] = (changed[0, 1:5] + 1) % VOCAB_SIZE
    others = real.clone()
    others[0, :5] = False
    with torch.no_grad():
        before = model(tokens, **inputs, use_cache=use_cache).logits
        after = model(changed, **inputs, use_cache=use_cache).logits
    torch.compiler.reset()
    assert torch.equal(before[others], after[others])


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_rows_equal_their_documents_alone(attention, layers):
    model = tiny_model(torch.float64, attention, layer_types=LAYERS[layers], sliding_window=4).train()
    alone = copy.deepcopy(model)
    inputs = packed_inputs("ones")
    labels = inputs["input_ids"].clone()
    # A document's first token is no other's continuation.
    labels[inputs["position_ids"] == 0] = -100
    packed_loss = model(**inputs, labels=labels, num_items_in_batch=1).loss
    packed_loss.backward()

    separate_loss = torch.zeros((), dtype=torch.float64)
    for row, places in document_slices():
        tokens = inputs["input_ids"][row, places][None]
        with torch.no_grad():
            expected = alone.eval()(tokens).logits
            torch.testing.assert_close(model.eval()(**inputs).logits[row, places][None], expected, rtol=0, atol=1e-12)
        if tokens.shape[1] > 1:
            loss = alone.train()(tokens, labels=tokens, num_items_in_batch=1).loss
            loss.backward()
            separate_loss += loss.detach()
    torch.testing.assert_close(packed_loss.detach(), separate_loss, rtol=1e-12, atol=0)
    for found, expected in zip(model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 2])
def test_one_row_of_positions_serves_the_whole_batch(rows):
    model = tiny_model()
    tokens, positions = random_tokens(2, 13), torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 8]])
    with torch.no_grad():
        found = model(tokens, position_ids=positions.expand(rows, -1)).logits
        expected = torch.cat((model(tokens[:, :4]).logits, model(tokens[:, 4:]).logits), dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def naive_documents(positions: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    """Number the documents of each row by a plain loop; each padding place is one of its own."""
    rows = []
    for row_positions, row_mask in zip(positions.tolist(), mask.tolist(), strict=True):
        numbers, number = [], -1
        for place, (position, real) in enumerate(zip(row_positions, row_mask, strict=True)):
            joined = place > 0 and real and row_mask[place - 1] and position == row_positions[place - 1] + 1
            number += 0 if joined else 1
            numbers.append(number)
        rows.append(numbers)
    return rows


def random_packing(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions (3, 37) that start again at random places, and a mask with holes."""
    generator = torch.Generator().manual_seed(seed)
    positions = torch.zeros(3, 37, dtype=torch.long)
    for place in range(1, 37):
        again = torch.rand(3, generator=generator) < 0.2
        positions[:, place] = torch.where(again, 0, positions[:, place - 1] + 1)
    return positions, torch.rand(3, 37, generator=generator) > 0.1


@pytest.mark.parametrize("seed", range(7))
def test_document_positions_break_where_a_plain_loop_breaks(seed):
    positions, mask = random_packing(seed)
    found = document_positions(positions, mask, 3)
    breaks = torch.ones_like(mask)
    breaks[:, 1:] = found.diff(dim=-1) != 1
    numbers = torch.tensor(naive_documents(positions, mask))
    assert torch.equal(breaks.cumsum(-1) - 1, numbers)


@pytest.mark.parametrize("seed", range(7))
def test_flash_lengths_equal_a_plain_loop(seed):
    positions, mask = random_packing(seed)
    found = flash_varlen_arguments(document_positions(positions, mask, 3))
    lengths = [row.count(number) for row in naive_documents(positions, mask) for number in sorted(set(row))]
    expected = [0]
    for length in lengths:
        expected.append(expected[-1] + length)
    for side in ("q", "k"):
        assert found[f"cu_seq_lens_{side}"].tolist() == expected
        assert found[f"cu_seq_lens_{side}"].dtype == torch.int32
        assert found[f"max_length_{side}"] == max(lengths)


@pytest.mark.parametrize(
    ("positions", "mask"),
    [
        (None, None),
        (torch.arange(7)[None], None),
        (torch.arange(7)[None], torch.ones(2, 7)),
        # Positions of padded rows as `generate` counts them.
        (torch.tensor([[1, 1, 1, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6]]), torch.tensor([[0, 0, 0, 1, 1, 1, 1], [1] * 7])),
        (torch.tensor([[0, 1, 2, 2, 2, 2, 2], [0, 1, 2, 3, 4, 5, 6]]), torch.tensor([[1, 1, 1, 0, 0, 0, 0], [1] * 7])),
        # A mask that is complete already, and one over past and present.
        (torch.tensor([[0, 1, 0, 1, 2, 3, 4]]), torch.zeros(2, 1, 7, 7)),
        (torch.tensor([[0, 1, 0, 1, 2, 3, 4]]), torch.ones(2, 11)),
    ],
)
def test_rows_of_one_document_need_no_positions(positions, mask):
    assert document_positions(positions, mask, 2) is None


@pytest.fixture
def flash_probe():
    """Register a kernel whose name asks for flash attention's conventions; it records what reaches it."""
    calls = []

    def kernel(module, query, key, value, attention_mask, scaling, sliding_window=None, **kwargs):
        """Causal attention inside the documents that `cu_seq_lens_q` delimits over the flattened batch."""
        calls.append({"attention_mask": attention_mask, "sliding_window": sliding_window, **kwargs})
        batch, _, length, _ = query.shape
        document = torch.zeros(batch * length, dtype=torch.long)
        document[kwargs["cu_seq_lens_q"][1:-1].long()] = 1
        document, place = document.cumsum(0), torch.arange(batch * length)
        distance = place[:, None] - place
        seen = (document[:, None] == document) & (distance >= 0) & (distance < (sliding_window or batch * length))
        flat = [t.transpose(1, 2).flatten(0, 1).transpose(0, 1)[None] for t in (query, key, value)]
        output = torch.nn.functional.scaled_dot_product_attention(*flat, seen, scale=scaling, enable_gqa=True)
        return output[0].transpose(0, 1).unflatten(0, (batch, length)), None

    AttentionInterface.register("flash_attention_probe", kernel)
    AttentionMaskInterface.register("flash_attention_probe", flash_attention_mask)
    yield calls
    AttentionInterface._global_mapping.pop("flash_attention_probe")
    AttentionMaskInterface._global_mapping.pop("flash_attention_probe")


@pytest.mark.parametrize("use_cache", [None, False])
@pytest.mark.parametrize("mask", MASKS)
def test_flash_kernels_are_given_the_borders_of_documents(flash_probe, mask, use_cache):
    model = tiny_model(layer_types=LAYERS["mixed"], sliding_window=4)
    inputs = packed_inputs(mask)
    real = inputs.get("attention_mask", torch.ones(2, 13)).bool()
    with torch.no_grad():
        expected = model(**inputs).logits
        model.config._attn_implementation = "flash_attention_probe"
        found = model(**inputs, use_cache=use_cache).logits
    assert len(flash_probe) == 3
    assert all(call["attention_mask"] is None for call in flash_probe)
    assert [call["sliding_window"] for call in flash_probe] == [4, None, 4]
    torch.testing.assert_close(found[real], expected[real], rtol=1e-5, atol=1e-5)


def test_lengths_given_by_a_collator_are_not_replaced(flash_probe):
    model = tiny_model()
    model.config._attn_implementation = "flash_attention_probe"
    inputs = packed_inputs("none")
    given = flash_varlen_arguments(inputs["position_ids"])
    with torch.no_grad():
        model(**inputs, **given)
    assert all(call["cu_seq_lens_q"] is given["cu_seq_lens_q"] for call in flash_probe)

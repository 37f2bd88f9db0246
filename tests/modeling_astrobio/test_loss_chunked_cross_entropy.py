"""The loss taken a chunk of tokens at a time is the plain cross-entropy, in value and gradients.

Tolerances: in float64 both are sums of the same terms in another order, 1e-10 is far above their rounding. In float32
the error of a sum of 101 terms is below 1e-5 of its size. In bfloat16 (8 bits) both are compared with the float64
result of the same rounded inputs. The fused route rounds each chunk's part of the head's gradient once, which may
leave it a quarter farther off than the plain loss; the other route also adds the parts up in bfloat16: twice as far.
"""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from reference_models import VOCAB_SIZE, assert_same_gradients, random_tokens, tiny_config, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode

from modeling_astrobio import AstroLLMForCausalLM
from modeling_astrobio.loss_chunked_cross_entropy import (
    ChunkedLossHead,
    chunked_head_cross_entropy,
    shift_labels_left,
)


ROWS, LENGTH, HIDDEN = 3, 37, 13
TOLERANCE = {torch.float64: {"rtol": 1e-10, "atol": 1e-12}, torch.float32: {"rtol": 1e-5, "atol": 1e-6}}


def problem(dtype: torch.dtype = torch.float64, ignored: float = 0.2):
    """A head of odd sizes, hidden states (3, 37, 13) and shifted labels of which a share is ignored."""
    generator = torch.Generator().manual_seed(0)
    head = ChunkedLossHead(HIDDEN, VOCAB_SIZE, bias=False)
    head.weight.data = (0.5 * torch.randn(VOCAB_SIZE, HIDDEN, generator=generator, dtype=torch.float64)).to(dtype)
    hidden = torch.randn(ROWS, LENGTH, HIDDEN, generator=generator, dtype=torch.float64).to(dtype)
    labels = torch.randint(0, VOCAB_SIZE, (ROWS, LENGTH), generator=generator)
    labels[torch.rand(ROWS, LENGTH, generator=generator) < ignored] = -100
    return head, hidden.requires_grad_(), labels


def plain_loss(head, hidden, labels, num_items_in_batch=None):
    logits = torch.nn.functional.linear(hidden, head.weight).flatten(0, 1)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if num_items_in_batch is None:
        return torch.nn.functional.cross_entropy(logits, labels.flatten())
    return torch.nn.functional.cross_entropy(logits, labels.flatten(), reduction="sum") / num_items_in_batch


def gradients(loss, *tensors):
    return torch.autograd.grad(loss, tensors)


@pytest.mark.parametrize("num_items_in_batch", [None, 41, torch.tensor(41), torch.tensor([41]), torch.tensor(41.0)])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("chunk_size", [1, 7, 111, 1000])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_value_and_gradients_equal_the_plain_loss(dtype, chunk_size, fused, num_items_in_batch):
    head, hidden, labels = problem(dtype)
    expected = plain_loss(head, hidden, labels, num_items_in_batch).squeeze()
    found = chunked_head_cross_entropy(head, hidden, labels, chunk_size, num_items_in_batch, fused=fused)
    assert found.shape == ()
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, **TOLERANCE[dtype])
    for ours, theirs in zip(
        gradients(found, hidden, head.weight), gradients(expected, hidden, head.weight), strict=True
    ):
        torch.testing.assert_close(ours, theirs, **TOLERANCE[dtype])


def error_of(gradient, exact) -> float:
    return ((gradient.double() - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("chunk_size", [7, 1000])
def test_bfloat16_is_as_near_float64_as_the_plain_loss(chunk_size, fused):
    head, hidden, labels = problem(torch.bfloat16)
    exact_head, exact_hidden = copy.deepcopy(head).double(), hidden.detach().double().requires_grad_()
    exact_loss = plain_loss(exact_head, exact_hidden, labels)
    exact = gradients(exact_loss, exact_hidden, exact_head.weight)
    plain = gradients(plain_loss(head, hidden, labels), hidden, head.weight)
    loss = chunked_head_cross_entropy(head, hidden, labels, chunk_size, fused=fused)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), exact_loss, rtol=1e-3, atol=0)
    for ours, theirs, reference in zip(gradients(loss, hidden, head.weight), plain, exact, strict=True):
        assert ours.dtype == torch.bfloat16
        assert error_of(ours, reference) < (1.25 if fused else 2.0) * error_of(theirs, reference)


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("loss_scale", [1.0, 2.0**10, 2.0**16])
def test_autocast_is_as_near_float64_as_the_plain_loss(low, loss_scale):
    # 2^16 is where GradScaler begins. Many tokens and a wide vocabulary: each gradient of a logit, about
    # 1 / (1009 * 997), is below float16's smallest number unless the scale reaches it before it is rounded.
    generator = torch.Generator().manual_seed(0)
    head = ChunkedLossHead(HIDDEN, 997, bias=False)
    head.weight.data = 0.2 * torch.randn(997, HIDDEN, generator=generator)
    hidden = torch.randn(1, 1009, HIDDEN, generator=generator).requires_grad_()
    labels = torch.randint(0, 997, (1, 1009), generator=generator)
    exact_head, exact_hidden = copy.deepcopy(head).double(), hidden.detach().double().requires_grad_()
    exact = gradients(plain_loss(exact_head, exact_hidden, labels), exact_hidden, exact_head.weight)
    with torch.autocast("cpu", dtype=low):
        plain = gradients(plain_loss(head, hidden, labels) * loss_scale, hidden, head.weight)
        found = gradients(chunked_head_cross_entropy(head, hidden, labels, 256) * loss_scale, hidden, head.weight)
    for ours, theirs, reference in zip(found, plain, exact, strict=True):
        assert ours.dtype == torch.float32
        assert error_of(ours / loss_scale, reference) < 1.25 * error_of(theirs / loss_scale, reference)


@pytest.mark.parametrize("fused", [True, False])
def test_scaled_loss_scales_the_gradients(fused):
    head, hidden, labels = problem()
    found = gradients(3 * chunked_head_cross_entropy(head, hidden, labels, 7, fused=fused), hidden, head.weight)
    expected = gradients(3 * plain_loss(head, hidden, labels), hidden, head.weight)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, **TOLERANCE[torch.float64])


def test_retained_graph_gives_the_same_gradients_twice():
    head, hidden, labels = problem()
    loss = chunked_head_cross_entropy(head, hidden, labels, 7)
    loss.backward(retain_graph=True)
    once = head.weight.grad.clone(), hidden.grad.clone()
    loss.backward()
    assert torch.equal(head.weight.grad, 2 * once[0])
    assert torch.equal(hidden.grad, 2 * once[1])


def test_second_derivatives_are_refused():
    # A gradient penalty that were silently left out of the gradients would be worse.
    head, hidden, labels = problem()
    loss = chunked_head_cross_entropy(head, hidden, labels, 7)
    with pytest.raises(RuntimeError, match="second derivative"):
        torch.autograd.grad(loss, hidden, create_graph=True)


@pytest.mark.parametrize("frozen", ["head", "body", "both"])
def test_frozen_sides_get_no_gradient_and_leave_the_other_alone(frozen):
    head, hidden, labels = problem()
    expected = dict(
        zip(("body", "head"), gradients(plain_loss(head, hidden, labels), hidden, head.weight), strict=True)
    )
    head.weight.requires_grad_(frozen == "body")
    hidden.requires_grad_(frozen == "head")
    loss = chunked_head_cross_entropy(head, hidden, labels, 7)
    torch.testing.assert_close(loss.detach(), plain_loss(head, hidden, labels).detach(), **TOLERANCE[torch.float64])
    if frozen == "both":
        assert not loss.requires_grad
        return
    loss.backward()
    if frozen == "body":
        torch.testing.assert_close(head.weight.grad, expected["head"], **TOLERANCE[torch.float64])
        assert hidden.grad is None
    else:
        torch.testing.assert_close(hidden.grad, expected["body"], **TOLERANCE[torch.float64])
        assert head.weight.grad is None


@pytest.mark.parametrize("fused", [True, False])
def test_ignored_labels_alone_send_no_gradient(fused):
    head, hidden, labels = problem()
    loss = chunked_head_cross_entropy(
        head, hidden, torch.full_like(labels, -100), 7, num_items_in_batch=5, fused=fused
    )
    loss.backward()
    assert loss.item() == 0
    assert not hidden.grad.any()
    assert not head.weight.grad.any()


def test_ignored_labels_alone_without_a_divisor_are_not_a_number_as_in_torch():
    head, hidden, labels = problem()
    ignored = torch.full_like(labels, -100)
    assert plain_loss(head, hidden, ignored).isnan()
    assert chunked_head_cross_entropy(head, hidden, ignored, 7).isnan()


def test_another_ignored_label_is_respected():
    head, hidden, labels = problem()
    other = labels.masked_fill(labels == -100, 5)
    labels = labels.masked_fill(other == 5, -100)
    found = chunked_head_cross_entropy(head, hidden, other, 7, ignore_index=5)
    torch.testing.assert_close(found, plain_loss(head, hidden, labels), **TOLERANCE[torch.float64])


def test_head_with_a_bias_is_not_mistaken_for_one_without():
    _, hidden, labels = problem()
    biased = ChunkedLossHead(HIDDEN, VOCAB_SIZE, bias=True, dtype=torch.float64)
    logits = biased(hidden).flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, labels.flatten())
    torch.testing.assert_close(chunked_head_cross_entropy(biased, hidden, labels, 7), expected)


def test_shifted_labels_are_those_of_the_next_place():
    labels = random_tokens(2, 7)
    shifted = shift_labels_left(labels)
    assert torch.equal(shifted[:, :-1], labels[:, 1:])
    assert (shifted[:, -1] == -100).all()
    assert (shift_labels_left(labels, ignore_index=-7)[:, -1] == -7).all()


class LargestTensor(TorchDispatchMode):
    """Number of values of the largest tensor that any operation returns."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, torch.Tensor):
                self.largest = max(self.largest, value.numel())
        return result


@pytest.mark.parametrize("fused", [True, False])
def test_logits_of_all_tokens_never_exist(fused):
    chunk_size, tokens, vocab_size = 8, 128, 1009
    head = ChunkedLossHead(HIDDEN, vocab_size, bias=False)
    hidden = torch.randn(2, tokens // 2, HIDDEN, requires_grad=True)
    labels = torch.randint(0, vocab_size, (2, tokens // 2))
    with LargestTensor() as chunked:
        chunked_head_cross_entropy(head, hidden, labels, chunk_size, fused=fused).backward()
    with LargestTensor() as plain:
        plain_loss(head, hidden, labels).backward()
    assert plain.largest == tokens * vocab_size
    # The head's own weight and gradient are larger than one chunk of logits.
    assert chunked.largest == max(chunk_size, HIDDEN) * vocab_size


@pytest.mark.parametrize("trainable", [True, False])
def test_model_in_training_never_holds_the_logits(trainable):
    model = tiny_model(loss_chunk_size=8).train()
    model.requires_grad_(trainable)
    tokens = random_tokens(3, 101)
    with LargestTensor() as seen, torch.set_grad_enabled(trainable):
        model(tokens, labels=tokens, use_cache=False)
    # Every other tensor of the model is smaller: the SwiGLU's are 104 wide, so the vocabulary is what counts.
    assert seen.largest < 3 * 101 * 110
    assert model(tokens, labels=tokens).logits is None


@pytest.mark.parametrize("chunk_size", [0, 7])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("skip_logits", [None, True, False])
def test_logits_are_skipped_in_training_or_where_asked(chunk_size, training, skip_logits):
    model = tiny_model(loss_chunk_size=chunk_size).train(training)
    tokens = random_tokens(2, 13)
    output = model(tokens, labels=tokens, skip_logits=skip_logits)
    skipped = chunk_size > 0 and (training if skip_logits is None else skip_logits)
    assert (output.logits is None) == skipped
    logits = model(tokens).logits
    assert logits.shape == (2, 13, VOCAB_SIZE)
    expected = model.loss_function(logits=logits, labels=tokens, vocab_size=VOCAB_SIZE)
    torch.testing.assert_close(output.loss, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk_size", [0, 7])
def test_model_takes_labels_that_are_shifted_already(chunk_size):
    model = tiny_model(loss_chunk_size=chunk_size).train()
    tokens = random_tokens(2, 13)
    expected = model(tokens, labels=tokens, num_items_in_batch=5).loss
    shifted = shift_labels_left(tokens)
    for labels in (None, tokens, shifted):
        found = model(tokens, labels=labels, shift_labels=shifted, num_items_in_batch=5).loss
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def loss_of_logits(logits, labels):
    """Mean over the real next tokens, in the precision of the logits."""
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("chunk_size", [0, 7])
def test_loss_is_as_precise_as_the_model(chunk_size, training):
    model = tiny_model(torch.float64, loss_chunk_size=chunk_size).train(training)
    tokens = random_tokens(2, 13)
    found = model(tokens, labels=tokens).loss
    torch.testing.assert_close(found, loss_of_logits(model(tokens).logits, tokens), rtol=1e-12, atol=0)


@pytest.mark.parametrize("tied", [False, True])
def test_chunks_leave_the_gradients_of_the_whole_model_alone(tied):
    chunked = tiny_model(torch.float64, loss_chunk_size=5, tie_word_embeddings=tied).train()
    plain = copy.deepcopy(chunked)
    tokens = random_tokens(3, 13)
    found, expected = chunked(tokens, labels=tokens).loss, loss_of_logits(plain(tokens).logits, tokens)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    found.backward()
    expected.backward()
    assert_same_gradients(chunked, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("windows", [(3,), (2, 1), (1, 1, 1)])
def test_accumulation_over_ragged_batches_equals_one_batch(windows):
    lengths = (13, 2, 7)
    mask = torch.tensor([[1] * length + [0] * (13 - length) for length in lengths])
    tokens = random_tokens(3, 13)
    labels = tokens.masked_fill(mask == 0, -100)
    # Every real token but the first of each row is predicted.
    counted = sum(lengths) - len(lengths)
    whole = tiny_model(torch.float64).train()
    accumulated = tiny_model(torch.float64, loss_chunk_size=7).train()
    whole_loss = loss_of_logits(whole(tokens, attention_mask=mask).logits, labels)
    whole_loss.backward()
    total, begin = 0.0, 0
    for rows in windows:
        part = slice(begin, begin + rows)
        longest = max(lengths[part])
        loss = accumulated(
            tokens[part, :longest],
            attention_mask=mask[part, :longest],
            labels=labels[part, :longest],
            num_items_in_batch=torch.tensor(counted),
        ).loss
        loss.backward()
        total += loss.item()
        begin += rows
    assert total == pytest.approx(whole_loss.item(), rel=1e-12)
    assert_same_gradients(accumulated, whole, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("targets", [["q_proj", "lm_head"], ["q_proj"]])
def test_head_wrapped_by_lora_gives_the_plain_gradients(targets):
    config = LoraConfig(r=3, target_modules=targets, init_lora_weights=False)
    model = get_peft_model(tiny_model(loss_chunk_size=5), config).train().double()
    tokens = random_tokens(3, 13)
    adapters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    # Each layer, and the head where it is a target, holds an A and a B.
    assert len(adapters) == 2 * (3 + ("lm_head" in targets))
    output = model(input_ids=tokens, labels=tokens)
    assert output.logits is None
    expected_loss = loss_of_logits(model(input_ids=tokens).logits, tokens)
    torch.testing.assert_close(output.loss, expected_loss, rtol=1e-12, atol=0)
    found, expected = gradients(output.loss, *adapters.values()), gradients(expected_loss, *adapters.values())
    for name, ours, theirs in zip(adapters, found, expected, strict=True):
        assert theirs.any(), name
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_head_trained_whole_beside_lora_gets_its_gradient():
    config = LoraConfig(r=3, target_modules=["q_proj"], modules_to_save=["lm_head"])
    model = get_peft_model(tiny_model(loss_chunk_size=5), config).train()
    tokens = random_tokens(2, 13)
    model(input_ids=tokens, labels=tokens).loss.backward()
    gradients_of_head = [p.grad for n, p in model.named_parameters() if "lm_head" in n and p.requires_grad]
    assert len(gradients_of_head) == 1
    assert gradients_of_head[0].any()


def test_hooks_of_the_head_see_the_loss_computed():
    # What gathers parameters around a module's call (FSDP, ZeRO-3) must be called around the loss.
    model = tiny_model(loss_chunk_size=5).train()
    calls = []
    model.lm_head.register_forward_pre_hook(lambda module, args: calls.append("before"))
    model.lm_head.register_forward_hook(lambda module, args, output: calls.append(tuple(output.shape)))
    tokens = random_tokens(2, 13)
    model(tokens, labels=tokens).loss.backward()
    assert calls == ["before", ()]


def test_training_step_can_be_traced_with_fake_tensors():
    # The memory planner traces a step of 13B without holding its weights.
    with torch._subclasses.fake_tensor.FakeTensorMode():
        model = AstroLLMForCausalLM(tiny_config()).train()
        tokens = torch.zeros(2, 13, dtype=torch.long)
        model(tokens, labels=tokens, use_cache=False).loss.backward()
    assert all(parameter.grad.shape == parameter.shape for parameter in model.parameters())


def test_label_beyond_the_vocabulary_is_refused():
    head, hidden, labels = problem()
    labels[0, 0] = VOCAB_SIZE
    with pytest.raises(RuntimeError, match="out of bounds"):
        chunked_head_cross_entropy(head, hidden, labels, 7)

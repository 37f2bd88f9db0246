"""AstroLLM computes what Llama, Mistral, Qwen2 and Qwen3 compute with the same weights.

Tolerances: both sides run the same float32 operations in nearly the same order, so logits of order 1 agree to 1e-5 and
gradients, sums over all tokens, to 1e-4 of their size.
"""

import copy

import pytest
import torch
from reference_models import (
    assert_same_gradients,
    astro_and_reference,
    random_tokens,
    randomised,
    tiny_config,
    tiny_model,
)
from transformers import DynamicCache, Trainer, TrainingArguments

from modeling_astrobio import AstroLLMForCausalLM, AstroLLMForSequenceClassification, AstroLLMModel


LOGITS = {"rtol": 1e-5, "atol": 1e-5}
GRADIENTS = {"rtol": 1e-4, "atol": 1e-5}
KERNELS = ("eager", "sdpa")
MIXED = ["full_attention", "sliding_attention", "full_attention"]
MODELS = {
    "llama_mha": ("llama", {"num_key_value_heads": 6}),
    "llama_gqa": ("llama", {"num_key_value_heads": 2}),
    "llama_mqa": ("llama", {"num_key_value_heads": 1}),
    "llama_biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama_wide_heads_gelu": ("llama", {"head_dim": 14, "hidden_act": "gelu"}),
    "mistral": ("mistral", {"sliding_window": 5}),
    "qwen2": ("qwen2", {}),
    "qwen2_mixed": ("qwen2", {"layer_types": MIXED, "sliding_window": 3}),
    "qwen3": ("qwen3", {}),
    "qwen3_mixed_mqa": ("qwen3", {"layer_types": MIXED, "sliding_window": 3, "num_key_value_heads": 1}),
}


def batch(kind: str) -> dict[str, torch.Tensor]:
    """Inputs of a few rows of odd length."""
    if kind == "one_row":
        return {"input_ids": random_tokens(1, 7)}
    tokens = random_tokens(3, 13) if kind != "packed" else random_tokens(2, 13)
    if kind == "plain":
        return {"input_ids": tokens}
    if kind == "packed":
        positions = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2]])
        return {"input_ids": tokens, "position_ids": positions, "use_cache": False}
    columns, padding = torch.arange(13), torch.tensor([[0], [4], [11]])
    mask = columns >= padding if kind == "left_padded" else columns < 13 - padding
    return {"input_ids": tokens, "attention_mask": mask.long()}


def labels_of(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Labels of real tokens that a real token precedes: what a padding place predicts differs between kernels."""
    labels = inputs["input_ids"].clone()
    if "attention_mask" in inputs:
        real = inputs["attention_mask"].bool()
        labels[~real] = -100
        labels[:, 1:][~real[:, :-1]] = -100
    return labels


@pytest.mark.parametrize("kind", ["one_row", "plain", "left_padded", "right_padded", "packed"])
@pytest.mark.parametrize("attention", KERNELS)
@pytest.mark.parametrize("model", MODELS)
def test_logits_loss_and_gradients_equal_the_reference(model, attention, kind):
    reference, overrides = MODELS[model]
    ours, theirs = astro_and_reference(reference, attention, loss_chunk_size=5, **overrides)
    inputs = batch(kind)
    with torch.no_grad():
        torch.testing.assert_close(ours(**inputs).logits, theirs(**inputs).logits, **LOGITS)

    # The sum over tokens, so that the gradients are of order 1.
    labels = labels_of(inputs)
    our_loss = ours.train()(**inputs, labels=labels, num_items_in_batch=1).loss
    their_loss = theirs.train()(**inputs, labels=labels, num_items_in_batch=1).loss
    torch.testing.assert_close(our_loss, their_loss, **LOGITS)
    our_loss.backward()
    their_loss.backward()
    assert_same_gradients(ours, theirs, **GRADIENTS)


@pytest.mark.parametrize("attention", KERNELS)
@pytest.mark.parametrize("model", ["llama_gqa", "llama_mqa", "mistral", "qwen2_mixed", "qwen3"])
def test_cached_pieces_equal_the_reference_and_one_pass(model, attention):
    reference, overrides = MODELS[model]
    ours, theirs = astro_and_reference(reference, attention, **overrides)
    tokens = random_tokens(2, 13)
    with torch.no_grad():
        whole = ours(tokens).logits
        our_cache, their_cache = DynamicCache(config=ours.config), DynamicCache(config=theirs.config)
        begin = 0
        for end in (7, 9, 10, 11, 12, 13):
            piece = tokens[:, begin:end]
            found = ours(piece, past_key_values=our_cache).logits
            torch.testing.assert_close(found, theirs(piece, past_key_values=their_cache).logits, **LOGITS)
            torch.testing.assert_close(found, whole[:, begin:end], **LOGITS)
            begin = end


@pytest.mark.parametrize("attention", KERNELS)
def test_cached_pieces_of_left_padded_rows_equal_the_rows_alone(attention):
    model = tiny_model(attention=attention, layer_types=MIXED, sliding_window=5)
    rows = [random_tokens(1, length, seed=length) for length in (13, 8, 5)]
    padded = torch.cat([torch.nn.functional.pad(row, (13 - row.shape[1], 0)) for row in rows])
    mask = torch.cat([torch.nn.functional.pad(torch.ones_like(row), (13 - row.shape[1], 0)) for row in rows])
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        pieces = [
            model(
                padded[:, begin:end],
                attention_mask=mask[:, :end],
                position_ids=positions[:, begin:end],
                past_key_values=cache,
            ).logits
            for begin, end in ((0, 9), (9, 12), (12, 13))
        ]
        for index, row in enumerate(rows):
            found = torch.cat(pieces, dim=1)[index : index + 1, -row.shape[1] :]
            torch.testing.assert_close(found, model(row).logits, **LOGITS)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "factor": 3.0},
        {"rope_type": "dynamic", "factor": 3.0},
        {"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 16},
        {
            "rope_type": "llama3",
            "factor": 3.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    ],
    ids=lambda rope: rope["rope_type"],
)
def test_scaled_rotary_positions_equal_llama_beyond_the_original_length(rope):
    rope = {"rope_theta": 10000.0, **rope}
    ours, theirs = astro_and_reference("llama", rope_parameters=rope, max_position_embeddings=16)
    with torch.no_grad():
        # Short, long and short again: "dynamic" grows its frequencies and must shrink them again.
        for tokens in (random_tokens(2, 13), random_tokens(2, 37), random_tokens(2, 11)):
            torch.testing.assert_close(ours(tokens).logits, theirs(tokens).logits, **LOGITS)


@pytest.mark.parametrize("attention", KERNELS)
def test_hidden_states_and_attentions_equal_the_reference(attention):
    ours, theirs = astro_and_reference("qwen3", attention, layer_types=MIXED, sliding_window=3)
    wanted = {"output_hidden_states": True, "output_attentions": attention == "eager"}
    with torch.no_grad():
        found, expected = ours(**batch("plain"), **wanted), theirs(**batch("plain"), **wanted)
    assert len(found.hidden_states) == 4
    for our_state, their_state in zip(found.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(our_state, their_state, **LOGITS)
    if attention == "eager":
        assert len(found.attentions) == 3
        for our_weights, their_weights in zip(found.attentions, expected.attentions, strict=True):
            torch.testing.assert_close(our_weights, their_weights, **LOGITS)


def test_eager_and_sdpa_agree_in_float64():
    # 1e-12: only a pass that never narrows to float32 gets there; transformers' Llama differs by 1e-8.
    eager = tiny_model(torch.float64, "eager", layer_types=MIXED, sliding_window=5, use_qk_norm=True)
    sdpa = copy.deepcopy(eager)
    sdpa.set_attn_implementation("sdpa")
    for kind in ("plain", "left_padded", "packed"):
        inputs = batch(kind)
        real = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool()
        losses, logits = [], []
        for model in (eager, sdpa):
            model.zero_grad()
            output = model(**inputs)
            assert output.logits.dtype == torch.float64
            logits.append(output.logits[real])
            losses.append(model(**inputs, labels=labels_of(inputs), num_items_in_batch=1, skip_logits=True).loss)
            losses[-1].backward()
        torch.testing.assert_close(*logits, rtol=0, atol=1e-12)
        torch.testing.assert_close(*losses, rtol=1e-13, atol=0)
        assert_same_gradients(eager, sdpa, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_near_float64_as_llama(dtype):
    ours, theirs = astro_and_reference("llama", "sdpa")
    tokens = random_tokens(3, 37)
    with torch.no_grad():
        exact = copy.deepcopy(ours).double()(tokens).logits
        our_error = (ours.to(dtype)(tokens).logits.double() - exact).norm()
        their_error = (theirs.to(dtype)(tokens).logits.double() - exact).norm()
    assert our_error < 1.1 * their_error


def test_casting_the_model_does_not_round_the_rotary_frequencies():
    # `model.to(bfloat16)` is what DeepSpeed does; rounded frequencies turn position 4000 by several radians.
    model = AstroLLMModel(tiny_config())
    expected = model.rotary_emb.inv_freq.clone()
    torch.testing.assert_close(model.to(torch.bfloat16).rotary_emb.inv_freq.float(), expected, rtol=1e-7, atol=0)


@pytest.mark.parametrize("attention", KERNELS)
@pytest.mark.parametrize("layer_types", [["full_attention"] * 3, ["sliding_attention"] * 3, MIXED])
def test_no_place_sees_the_future_nor_beyond_its_window(attention, layer_types):
    model = tiny_model(attention=attention, layer_types=layer_types, sliding_window=3)
    tokens = random_tokens(2, 13)
    with torch.no_grad():
        before = model(tokens).logits
        for place in (1, 6, 12):
            changed = tokens.clone()
            changed[:, place] = (changed[:, place] + 1) % 97
            after = model(changed).logits
            assert torch.equal(before[:, :place], after[:, :place])
            assert not torch.isclose(before[:, place], after[:, place]).all()
            if "full_attention" not in layer_types:
                # Three layers with a window of 3 reach 3 * 2 places ahead and no further.
                assert torch.equal(before[:, place + 7 :], after[:, place + 7 :])


@pytest.mark.parametrize(
    "overrides", [{}, {"tie_word_embeddings": True}, {"use_qk_norm": True, "attention_bias": True}]
)
def test_gradients_reach_every_parameter(overrides):
    model = tiny_model(**overrides).train()
    tokens = random_tokens(2, 13)
    model(tokens, labels=tokens).loss.backward()
    # A bias of the keys shifts all scores of a row alike only without positions; rotary ones make it count.
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert idle == []


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("kind", ["left_padded", "packed"])
def test_activation_checkpointing_leaves_the_gradients_alone(kind, reentrant):
    inputs = {**batch(kind), "use_cache": False}
    plain = tiny_model(layer_types=MIXED, sliding_window=5).train()
    saving = copy.deepcopy(plain)
    saving.activation_checkpointing_enable({"use_reentrant": reentrant})
    assert saving.is_activation_checkpointing
    for model in (plain, saving):
        model(**inputs, labels=labels_of(inputs), num_items_in_batch=1).loss.backward()
    # The same operations in the same order: bit for bit.
    assert_same_gradients(saving, plain, rtol=0, atol=0)


def test_activation_checkpointing_works_with_the_default_cache_and_dropout():
    model = tiny_model(attention_dropout=0.3).train()
    inputs = batch("plain")
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.activation_checkpointing_enable()
        model.zero_grad()
        torch.manual_seed(7)
        model(**inputs, labels=labels_of(inputs)).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for plain, saved in zip(*gradients, strict=True):
        torch.testing.assert_close(saved, plain, rtol=0, atol=0)


def test_dropout_is_drawn_in_training_only():
    model = tiny_model(attention_dropout=0.5)
    tokens = random_tokens(2, 13)
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, model(tokens).logits)
        assert not torch.equal(model.train()(tokens).logits, model(tokens).logits)


def test_embeddings_given_equal_tokens_given():
    model = tiny_model()
    tokens = random_tokens(2, 13)
    with torch.no_grad():
        assert torch.equal(model(inputs_embeds=model.get_input_embeddings()(tokens)).logits, model(tokens).logits)


def test_only_the_logits_asked_for_are_computed():
    model = tiny_model()
    tokens = random_tokens(2, 13)
    with torch.no_grad():
        whole = model(tokens).logits
        torch.testing.assert_close(model(tokens, logits_to_keep=3).logits, whole[:, -3:], **LOGITS)
        places = torch.tensor([0, 7])
        torch.testing.assert_close(model(tokens, logits_to_keep=places).logits, whole[:, places], **LOGITS)


@pytest.mark.parametrize("arguments", [{}, {"input_ids": random_tokens(1, 3), "inputs_embeds": torch.zeros(1, 3, 48)}])
def test_tokens_or_embeddings_but_not_both(arguments):
    with pytest.raises(ValueError, match="exactly one of input_ids or inputs_embeds"):
        tiny_model()(**arguments)


def test_masks_of_rank_4_and_masks_for_each_layer_type_are_used_as_given():
    model = tiny_model(layer_types=MIXED, sliding_window=3, attention="eager")
    tokens = random_tokens(2, 7)
    distance = torch.arange(7)[:, None] - torch.arange(7)
    lowest = torch.finfo(torch.float32).min
    full = torch.where(distance >= 0, 0.0, lowest).expand(2, 1, 7, 7)
    sliding = torch.where((distance >= 0) & (distance < 3), 0.0, lowest).expand(2, 1, 7, 7)
    with torch.no_grad():
        by_type = model(tokens, attention_mask={"full_attention": full, "sliding_attention": sliding}).logits
        torch.testing.assert_close(by_type, model(tokens).logits, **LOGITS)
        everywhere = copy.deepcopy(model)
        for layer in everywhere.model.layers:
            layer.self_attn.sliding_window = None
        everywhere.config.layer_types = ["full_attention"] * 3
        torch.testing.assert_close(model(tokens, attention_mask=full).logits, everywhere(tokens).logits, **LOGITS)


def test_tied_head_shares_its_weight_and_stays_tied_when_saved(tmp_path):
    model = tiny_model(tie_word_embeddings=True)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    model.save_pretrained(tmp_path)
    loaded = AstroLLMForCausalLM.from_pretrained(tmp_path)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    tokens = random_tokens(1, 7)
    with torch.no_grad():
        assert torch.equal(loaded(tokens).logits, model(tokens).logits)


@pytest.mark.parametrize("tied", [False, True])
def test_vocabulary_can_be_extended(tied):
    model = tiny_model(tie_word_embeddings=tied)
    head_class = type(model.lm_head)
    tokens = random_tokens(2, 7)
    with torch.no_grad():
        before = model(tokens).logits
        model.resize_token_embeddings(101)
        torch.testing.assert_close(model(tokens).logits[..., :97], before, **LOGITS)
    assert model.config.vocab_size == 101
    # Another class would lose the chunked loss's fused route without a word.
    assert type(model.lm_head) is head_class
    head = model.lm_head.weight.clone()
    model.post_init()
    assert torch.equal(model.lm_head.weight, head)
    loss = model.train()(tokens, labels=tokens).loss
    loss.backward()
    assert model.get_input_embeddings().weight.grad.shape == (101, 48)


def test_names_in_the_parallel_plans_are_modules():
    for overrides in ({}, {"use_qk_norm": True}):
        model = tiny_model(**overrides)
        inner = {name.replace("layers.0.", "layers.*.") for name, _ in model.model.named_modules()}
        assert set(model.config.base_model_tp_plan) <= inner
        assert set(model.config.base_model_pp_plan) <= inner
        assert set(AstroLLMForCausalLM._tp_plan) | set(AstroLLMForCausalLM._pp_plan) <= {
            name for name, _ in model.named_modules()
        }
        classes = {type(module).__name__ for module in model.modules()}
        assert set(AstroLLMForCausalLM._no_split_modules) <= classes
        # Every matrix of a layer is split; a norm of one head is whole on each rank.
        matrices = {
            name for name, module in model.model.layers[0].named_modules() if isinstance(module, torch.nn.Linear)
        }
        assert {f"layers.*.{name}" for name in matrices} <= set(model.config.base_model_tp_plan)


def classifier(**overrides) -> AstroLLMForSequenceClassification:
    config = tiny_config(**overrides)
    config.num_labels = 3
    return randomised(AstroLLMForSequenceClassification(config)).eval()


@pytest.mark.parametrize("side", ["left", "right"])
def test_classifier_reads_the_last_real_token(side):
    model = classifier(pad_token_id=0)
    lengths = (7, 4, 1)
    rows = [random_tokens(1, length, seed=length) for length in lengths]
    pads = [(7 - length, 0) if side == "left" else (0, 7 - length) for length in lengths]
    tokens = torch.cat([torch.nn.functional.pad(row, pad) for row, pad in zip(rows, pads, strict=True)])
    mask = (tokens != 0).long()
    with torch.no_grad():
        found = model(tokens, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0)).logits
        alone = torch.cat([model(row).logits for row in rows])
        last = model.score(model.model(rows[1]).last_hidden_state[:, -1])
    assert found.shape == (3, 3)
    torch.testing.assert_close(found, alone, **LOGITS)
    torch.testing.assert_close(found[1:2], last, **LOGITS)


@pytest.mark.parametrize(
    ("problem", "labels"),
    [
        ("single_label_classification", torch.tensor([0, 2])),
        ("multi_label_classification", torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])),
        ("regression", torch.tensor([[0.5, -1.0, 2.0], [0.1, 0.2, 0.3]])),
    ],
)
def test_classifier_trains_on_each_kind_of_problem(problem, labels):
    model = classifier(pad_token_id=0, problem_type=problem).train()
    output = model(random_tokens(2, 7), labels=labels)
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_accumulated_classifier_steps_equal_one_step(tmp_path):
    # The classifier's loss is a mean over its batch, so that the Trainer must divide it by the number of batches.
    norms = []
    rows = [{"input_ids": tokens, "labels": index % 3} for index, tokens in enumerate(random_tokens(4, 7))]
    for accumulated, size in ((1, 4), (4, 1)):
        arguments = TrainingArguments(
            str(tmp_path),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulated,
            max_steps=1,
            logging_steps=1,
            max_grad_norm=1e9,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = Trainer(classifier(pad_token_id=0), arguments, train_dataset=rows)
        trainer.train()
        norms.append(trainer.state.log_history[0]["grad_norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_classifier_without_a_padding_token_refuses_several_rows():
    with pytest.raises(ValueError, match="if no padding token is defined"):
        classifier()(random_tokens(2, 7))


@pytest.mark.parametrize("training", [pytest.param(False, marks=pytest.mark.slow), True])
def test_compiled_forward_equals_eager(training):
    # Traced by dynamo and run eagerly: what the compiler would be given, without minutes of code generation.
    model = tiny_model(layer_types=MIXED[1:], num_hidden_layers=2, sliding_window=5, use_qk_norm=True).train(training)
    compiled = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=True)
    inputs = {**batch("left_padded"), "use_cache": False}
    inputs |= {"labels": labels_of(inputs), "num_items_in_batch": torch.tensor(7)}
    expected, found = model(**inputs), compiled(**inputs)
    torch.testing.assert_close(found.loss, expected.loss, **LOGITS)
    if not training:
        torch.testing.assert_close(found.logits, expected.logits, **LOGITS)
    expected.loss.backward()
    found.loss.backward()
    assert_same_gradients(compiled._orig_mod, model, **GRADIENTS)


@pytest.mark.slow
def test_inductor_equals_eager():
    model = tiny_model().train()
    compiled = torch.compile(copy.deepcopy(model))
    inputs = {"input_ids": random_tokens(2, 13), "labels": random_tokens(2, 13), "use_cache": False}
    expected, found = model(**inputs).loss, compiled(**inputs).loss
    torch.testing.assert_close(found, expected, **LOGITS)
    expected.backward()
    found.backward()
    assert_same_gradients(compiled._orig_mod, model, **GRADIENTS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "left_padded", "packed"])
@pytest.mark.parametrize("layer_types", [["full_attention"] * 3, MIXED])
def test_flex_attention_equals_eager(layer_types, kind):
    # flex_attention has no backward pass on a CPU.
    eager = tiny_model(attention="eager", layer_types=layer_types, sliding_window=5)
    flex = copy.deepcopy(eager)
    flex.set_attn_implementation("flex_attention")
    inputs = batch(kind)
    real = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool()
    with torch.no_grad():
        expected = eager(**inputs).logits
        try:
            found = flex(**inputs).logits
        except torch._dynamo.exc.BackendCompilerFailed as error:
            pytest.skip(f"flex_attention does not compile here: {str(error).splitlines()[0]}")
    torch.testing.assert_close(found[real], expected[real], **LOGITS)

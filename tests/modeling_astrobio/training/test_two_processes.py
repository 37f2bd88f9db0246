"""Two processes that share a model by FSDP2 train what one process trains; DDP's part is in test_accumulation.py."""

import math
import shutil

import pytest
import torch
from process_launcher import run_two_processes
from sharded_models import CHECKPOINTS, blank_model, load_checkpoint, make_model, make_optimizer, train, weights
from sharded_trainers import train_whole

from modeling_astrobio import AstroLLMForCausalLM
from modeling_astrobio.training.errors import HardwareError
from modeling_astrobio.training.sharding import shard_model


SCENARIOS = ("adamw", "torchao", "rounding", "accumulation", "variants", "checkpoint", "mistakes", "fsdp2_trainer")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two processes under torchrun found."""
    pytest.importorskip("torchao", reason="torchao is not installed: pip install torchao")
    return run_two_processes("sharding_worker.py", tmp_path_factory.mktemp("sharding"), *SCENARIOS)


def assert_trained_alike(run: dict, *, loss: float, norm: float, weight: float) -> None:
    """Loss and norm of each step agree by a share, and the weights by a share of the farthest way one of them went."""
    assert run["moved"] > 1e-3
    assert len(run["figures"]) == len(run["expected_figures"]) > 0
    for (found_loss, found_norm), (expected_loss, expected_norm) in zip(
        run["figures"], run["expected_figures"], strict=True
    ):
        assert found_loss == pytest.approx(expected_loss, rel=loss)
        assert found_norm == pytest.approx(expected_norm, rel=norm)
    for name, expected in run["expected_weights"].items():
        torch.testing.assert_close(run["weights"][name], expected, rtol=0, atol=weight * run["moved"], msg=name)


def assert_trainers_alike(run: dict, found: dict, expected: dict, *, share: float, weight: float) -> None:
    """Losses and norms agree by a share, weights by a difference."""
    assert len(run["figures"]) == len(expected["figures"]) == 5
    for of_two, of_one in zip(run["figures"], expected["figures"], strict=True):
        assert of_two == pytest.approx(of_one, rel=share)
    assert found.keys() == expected["weights"].keys()
    for name, value in expected["weights"].items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=weight, msg=name)


def test_two_processes_ran(found):
    assert found["world_size"] == 2
    assert found["backend"] == "gloo"


@pytest.mark.parametrize("shape", ["even", "uneven_tied"])
def test_sharded_training_equals_one_process(found, shape):
    run = found["adamw"][shape]
    assert run["dtensors"] == run["parameters"] > 0
    assert run["state_dtensors"]
    # Each holds half of the bytes, but for the row that an odd number has over.
    assert sum(run["local_bytes"]) == run["whole_bytes"]
    assert max(run["local_bytes"]) <= 0.501 * run["whole_bytes"]
    assert run["state_bytes"] == run["planned_bytes"]
    # All norms are above the limit, so that each step is clipped. float64: sums in another order.
    assert min(norm for _, norm in run["figures"]) > 0.5
    assert_trained_alike(run, loss=1e-12, norm=1e-12, weight=1e-10)


@pytest.mark.parametrize("run", ["same_sums", "same_sums_bfloat16"])
def test_eight_bit_states_of_whole_blocks_are_those_of_one_process_to_the_bit(found, run):
    run = found["torchao"][run]
    assert run["dtensors"] == run["parameters"]
    assert run["moved"] > 1e-3
    for name, expected in run["expected_weights"].items():
        assert torch.equal(run["weights"][name], expected), name


def test_eight_bit_states_are_dtensors_of_the_planned_bytes(found):
    for run in found["torchao"].values():
        assert run["state_dtensors"]
        assert run["state_bytes"] == run["planned_bytes"]
    for types in found["torchao"]["same_sums"]["state_types"]:
        assert set(types.values()) == {"OptimState8bit"}
    run = found["torchao"]["same_sums"]
    assert max(run["state_bytes"]) < 0.6 * run["whole_bytes"] / 2


def test_eight_bit_training_equals_one_process_but_for_the_codes(found):
    # Gradients summed in another order are quantised to another code now and then, 1 of 256: some per cent of a step.
    assert_trained_alike(found["torchao"]["other_sums"], loss=1e-4, norm=1e-4, weight=0.1)


def test_half_blocks_of_a_shard_are_not_quantised(found):
    run = found["torchao"]["uneven"]
    # 139 rows of 128 end in half a block, so the first process keeps float32; the second has 138 and 8 bits; alone
    # 277 rows end in half a block too.
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        assert [types[name] for types in run["state_types"]] == ["Tensor", "OptimState8bit"]
    assert_trained_alike(run, loss=1e-3, norm=1e-2, weight=1.0)


def test_stochastic_rounding_keeps_small_changes_on_the_average(found):
    sums = {"nearest": [0.0, 0.0, 0.0], "stochastic": [0.0, 0.0, 0.0]}
    for name, totals in sums.items():
        run = found["rounding"][name]
        for key, change in run["change"].items():
            before, after = run["before"][key].double(), run["after"][key].double()
            mantissa, exponent = torch.frexp(before)
            spacing = torch.ldexp(torch.ones_like(before), exponent - 8)
            # Too small to be rounded to; below a power of two the spacing is another.
            is_small = (change.abs() < 0.49 * spacing) & (mantissa.abs() != 0.5) & (before != 0)
            share = (change.abs() / spacing)[is_small]
            totals[0] += share.sum().item()
            totals[1] += (share * (1 - share)).sum().item()
            totals[2] += (after != before)[is_small].sum().item()
            # One step of the grid towards the change, or none.
            assert ((after - before).abs() <= spacing * 1.001)[is_small].all(), key
            assert ((after - before) * change >= 0)[is_small].all(), key
    expected, variance, changed = sums["stochastic"]
    assert sums["nearest"][2] == 0
    assert expected > 1000
    assert abs(changed - expected) < 5 * math.sqrt(variance)


def test_stochastic_rounding_trains_as_float32_does(found):
    losses, expected = found["rounding"]["losses"], found["rounding"]["expected_losses"]
    # bfloat16 has 8 bits: 0.4 % in each product.
    assert losses == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("way", ["each", "once", "once_kept"])
def test_accumulated_gradients_equal_one_batch(found, way):
    run = found["accumulation"][way]
    assert run["difference"] < 1e-12
    assert run["dtensors"]
    # Reduced only at the end, gradients are kept whole until then, on every process.
    assert (run["sharded_before_last"] > 0) == (way != "once")


@pytest.mark.parametrize(
    ("variant", "tolerance"), [("checkpointed", 1e-12), ("offloaded", 1e-12), ("mesh", 1e-12), ("float32", 1e-4)]
)
def test_variants_have_the_gradients_of_one_process(found, variant, tolerance):
    assert found["variants"]["is_checkpointed"]
    assert found["variants"][variant] < tolerance
    # Computed in float32, they cannot be those of float64.
    assert (found["variants"][variant] > 1e-9) == (variant == "float32")


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoint_of_two_processes_continues_on_two_and_on_one(found, name):
    run = found["checkpoint"][name]
    assert run["states_equal"] == [True, True]
    model = blank_model(*CHECKPOINTS[name])
    optimizer = make_optimizer(model, "adamw_torchao_8bit")
    # To find out what to load, torch steps a fresh optimizer once.
    with torch.compiler.set_stance("force_eager"):
        load_checkpoint(run["folder"], model, optimizer)
        alone = weights(model)
        train(model, optimizer, False, range(3, 4), rows=2, max_norm=float("inf"))
    after = weights(model)
    for key, saved in run["saved"].items():
        assert torch.equal(run["loaded"][key], saved), key
        assert torch.equal(alone[key], saved), key
        assert torch.equal(run["loaded_next"][key], run["next"][key]), key
        assert torch.equal(after[key], run["next"][key]), key
    assert not torch.equal(run["next"]["lm_head.weight"], run["saved"]["lm_head.weight"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_trainer_under_fsdp2_of_accelerate_shards_model_and_states(found, dtype):
    run = found["fsdp2_trainer"][str(dtype).removeprefix("torch.")]
    # The optimizer was made before the parameters were replaced by their shards.
    assert run["updates_the_model"]
    assert run["dtensors"] == run["parameters"] > 0
    assert run["dtypes"] == {dtype}
    assert run["state_types"] == {("DTensor", "OptimState8bit"), ("DTensor", "Tensor")}
    assert run["local_bytes"] == [sum(value.nbytes for value in run["weights"].values()) / 2] * 2


def test_trainer_under_fsdp2_trains_as_one_process(found, tmp_path):
    run = found["fsdp2_trainer"]["float32"]
    with torch.compiler.set_stance("force_eager"):
        expected = train_whole(tmp_path, "adamw_torchao_8bit")
    # As above: now and then another code. Steps are of 1e-3.
    assert_trainers_alike(run, run["weights"], expected, share=1e-4, weight=5e-4)


def test_trainer_under_fsdp2_resumes_to_the_bit(found):
    run, resumed = found["fsdp2_trainer"]["bfloat16"], found["fsdp2_trainer"]["resumed"]
    assert resumed["figures"] == run["figures"]
    for name, weight in run["weights"].items():
        assert torch.equal(resumed["weights"][name], weight), name


def test_trainer_under_fsdp2_saves_the_whole_model(found):
    run = found["fsdp2_trainer"]["resumed"]
    model = AstroLLMForCausalLM.from_pretrained(run["folder"])
    assert model.dtype == torch.bfloat16
    assert model.state_dict().keys() == run["weights"].keys()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, run["weights"][name]), name


def test_models_that_cannot_be_sharded_are_refused(found):
    assert "must not be sharded already" in found["mistakes"]["twice"]
    assert "got ['Block'] for Unnamed, which has no such module" in found["mistakes"]["blocks"]
    assert "got [] for Linear" in found["mistakes"]["linear"]


def test_sharding_without_processes_is_refused():
    with pytest.raises(HardwareError, match="needs a process group; got none"):
        shard_model(make_model())


@pytest.mark.slow
def test_compiled_and_eager_steps_differ_by_rounding_alone(tmp_path):
    pytest.importorskip("torchao", reason="torchao is not installed: pip install torchao")
    compiled = run_two_processes("sharding_worker.py", tmp_path, "compiled")["compiled"]
    for dtype, tolerance in ((torch.float32, 1e-3), (torch.bfloat16, 1e-2)):
        for name, expected in compiled["force_eager", dtype].items():
            torch.testing.assert_close(compiled["default", dtype][name], expected, rtol=0, atol=tolerance, msg=name)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="DeepSpeed compiles its Adam, and g++ is absent")
def test_trainer_under_zero3_with_offload_trains_as_one_process_and_resumes(tmp_path):
    pytest.importorskip("deepspeed", reason="deepspeed is not installed: pip install deepspeed")
    found = run_two_processes("sharding_worker.py", tmp_path, "zero3_trainer", timeout=900)
    assert (found["world_size"], found["backend"]) == (2, "gloo")
    run, resumed = found["zero3_trainer"]["whole_run"], found["zero3_trainer"]["resumed"]
    assert run["engine"] == "DeepSpeedEngine"
    expected = train_whole(tmp_path / "one", "adamw")
    numbers = sum(value.numel() for value in expected["weights"].values())
    assert run["held_numbers"] == [numbers / 2] * 2
    saved = AstroLLMForCausalLM.from_pretrained(run["folder"]).state_dict()
    # float32 sums in another order, which Adam's division carries into the weights; steps are of 1e-3.
    assert_trainers_alike(run, saved, expected, share=1e-5, weight=2e-5)
    assert resumed["figures"] == run["figures"]


@pytest.mark.slow
def test_bitsandbytes_fails_on_shards_and_is_refused(tmp_path):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install bitsandbytes")
    messages = run_two_processes("sharding_worker.py", tmp_path, "bitsandbytes")["bitsandbytes"]
    for name in ("AdamW8bit", "PagedAdamW8bit", "Lion8bit"):
        assert "got mixed torch.Tensor and DTensor" in messages.pop(name)
    assert "optimizer_update_32bit.default does not have a sharding strategy" in messages.pop("Lion")
    for name, message in messages.items():
        assert f"strategy.optimizer={name!r} cannot update the DTensor parameters of FSDP2" in message

"""The launcher's sharding against the strategy's."""

import re

import pytest

from modeling_astrobio.training.errors import StrategyError
from modeling_astrobio.training.launch import launched_sharding, resolve_strategy
from modeling_astrobio.training.strategy import Strategy


FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "false"}
OFFLOADED = {**FSDP2, "FSDP_OFFLOAD_PARAMS": "true"}
ZERO3 = {
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3",
    "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "cpu",
    "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "cpu",
}


@pytest.mark.parametrize(
    ("processes", "environment", "expected"),
    [
        (1, {}, ("none", False)),
        (3, {}, ("ddp", False)),
        (2, {"ACCELERATE_USE_FSDP": "false"}, ("ddp", False)),
        (2, FSDP2, ("fsdp2", False)),
        (1, OFFLOADED, ("fsdp2", True)),
        (2, ZERO3, ("zero3", True)),
        (2, {**ZERO3, "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "none"}, ("zero3", False)),
    ],
)
def test_launched_sharding(processes, environment, expected):
    assert launched_sharding(processes, environment) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "fsdp_version must be 2; got 1. Launch with --config_file"),
        ({**FSDP2, "FSDP_VERSION": "1"}, "fsdp_version must be 2; got 1"),
        ({**ZERO3, "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}, "zero_stage must be 3; got 2"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "zero_stage must be 3; got unknown"),
    ],
)
def test_other_engines_are_refused(environment, message):
    with pytest.raises(StrategyError, match=re.escape(message)):
        launched_sharding(2, environment)


def test_auto_takes_what_was_launched():
    assert resolve_strategy(Strategy(), 1, {}) == Strategy(sharding="none")
    assert resolve_strategy(Strategy(), 2, OFFLOADED) == Strategy(sharding="fsdp2", parameter_offload=True)
    assert resolve_strategy(Strategy(), 2, ZERO3) == Strategy(
        sharding="zero3", parameter_offload=True, optimizer_offload=True
    )


def test_what_was_launched_is_left_alone():
    wanted = Strategy(sharding="fsdp2", optimizer="adamw_torchao_8bit")
    assert resolve_strategy(wanted, 2, FSDP2) == wanted


@pytest.mark.parametrize(
    ("strategy", "processes", "environment", "remedy"),
    [
        (Strategy(sharding="fsdp2"), 2, {}, "Launch with --config_file recipes/hardware/fsdp2.yaml"),
        (Strategy(sharding="fsdp2"), 2, OFFLOADED, "Launch with --config_file recipes/hardware/fsdp2.yaml"),
        (Strategy(sharding="fsdp2", parameter_offload=True), 2, FSDP2, "recipes/hardware/fsdp2_offload.yaml"),
        (Strategy(sharding="zero3", parameter_offload=True), 2, FSDP2, "recipes/hardware/zero3_offload.yaml"),
        (Strategy(sharding="ddp"), 1, {}, "recipes/hardware/ddp.yaml"),
        (Strategy(sharding="none"), 2, FSDP2, "recipes/hardware/one_gpu.yaml"),
        (Strategy(parameter_offload=True), 1, {}, "Choose another strategy"),
    ],
)
def test_another_sharding_than_was_launched_is_refused(strategy, processes, environment, remedy):
    with pytest.raises(StrategyError, match=rf"must be what was launched; got .*{re.escape(remedy)}"):
        resolve_strategy(strategy, processes, environment)

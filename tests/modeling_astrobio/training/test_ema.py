"""The average of the weights is that of the formula, is evaluated and saved, and survives a stop."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from modeling_astrobio.training.ema import WeightAverage
from modeling_astrobio.training.errors import CheckpointError


def small(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3)).to(dtype)
    model[1].bias.requires_grad_(False)
    return model


def move(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator).to(weight.dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_average_is_that_of_the_formula(dtype):
    model = small(dtype)
    average = WeightAverage(model, 0.9)
    wide = torch.float64 if dtype is torch.float64 else torch.float32
    expected = model[0].weight.detach().to(wide).clone()
    for step in range(1, 40):
        move(model, step)
        average.update()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model[0].weight.detach().to(wide)
    assert average.averages.keys() == {"0.weight", "0.bias", "1.weight"}
    assert average.averages["0.weight"].dtype is wide
    torch.testing.assert_close(average.averages["0.weight"], expected, rtol=1e-5, atol=1e-5)


def test_average_stands_in_for_the_weights_and_gives_them_back():
    model = small()
    average = WeightAverage(model, 0.5)
    move(model, 1)
    average.update()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def fail() -> None:
        with average.in_place():
            assert torch.equal(model[0].weight, average.averages["0.weight"])
            assert torch.equal(model[1].bias, before["1.bias"])
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_average_is_saved_and_loaded(tmp_path: Path):
    model = small(torch.bfloat16)
    average = WeightAverage(model, 0.99)
    for step in range(3):
        move(model, step)
        average.update()
    average.save(tmp_path, writes=False)
    assert not any(tmp_path.iterdir())
    average.save(tmp_path, writes=True)
    assert load_file(tmp_path / "weight_average.safetensors")["0.weight"].dtype is torch.float32
    other = WeightAverage(small(torch.bfloat16), 0.99)
    other.load(tmp_path)
    assert other.updates == 3
    assert all(torch.equal(other.averages[name], value) for name, value in average.averages.items())


def test_average_of_other_weights_is_refused(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"ema_decay=0.9 needs weight_average.safetensors .* Set ema_decay=0"):
        WeightAverage(small(), 0.9).load(tmp_path)
    WeightAverage(small(), 0.9).save(tmp_path, writes=True)
    with pytest.raises(CheckpointError, match="must average the trained weights; got others, such as "):
        WeightAverage(nn.Linear(7, 5), 0.9).load(tmp_path)

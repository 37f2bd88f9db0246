"""AstroDatacube's block against a block of global attention and one of three-dimensional windows, of equal parameters.

    python recipes/benchmarks/compare_window_blocks.py [--rounds 15] [--width 128]

One thread, float32, forward and backward. The rivals are written as their papers have them: attention of all tokens
to all (ClimaX, Nguyen et al. 2023, arXiv:2301.10343), and windows in level, latitude and longitude that are shifted
with a mask and a learned bias of relative position (Aurora, Bodnar et al. 2024, arXiv:2405.13063; Liu et al. 2021,
arXiv:2103.14030). Neither is told of a planet. The whole step is that of a trunk whose window blocks are replaced by
the rival's. Writes recipes/benchmarks/results/compare_window_blocks_cpu.json.
"""

import argparse
import itertools
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from interleaved import compare, write_benchmark
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from modeling_astrobio import AstroDatacubeConfig, AstroDatacubeModel
from modeling_astrobio.datacube_blocks import WindowBlock
from modeling_astrobio.datacube_grid import work_grid


# Latent levels, rows and columns of the finest feature grid; and the windows of the rival.
GRID, WINDOW = (4, 32, 64), (2, 4, 8)


class Feed(nn.Sequential):
    def __init__(self, width: int, inner: int):
        super().__init__(nn.LayerNorm(width), nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))


class GlobalRival(nn.Module):
    """Attention of all tokens of a cube to all."""

    def __init__(self, width: int, heads: int, inner: int, is_shifted: bool = False):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = Feed(width, inner)

    def forward(self, states: torch.Tensor, *_) -> torch.Tensor:
        tokens = states.flatten(1, 3)
        query, key, value = (
            part.transpose(1, 2) for part in self.qkv(self.norm(tokens)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        )
        attended = nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + self.out(attended)
        return (tokens + self.mlp(tokens)).view(states.shape)


class WindowRival(nn.Module):
    """Attention in windows of levels, rows and columns; circular in longitude, masked at other edges."""

    def __init__(self, width: int, heads: int, inner: int, is_shifted: bool = False):
        super().__init__()
        self.heads, self.is_shifted = heads, is_shifted
        self.norm = nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = Feed(width, inner)
        spans = [2 * size - 1 for size in WINDOW]
        self.table = nn.Parameter(torch.zeros(heads, spans[0] * spans[1] * spans[2]))
        places = torch.tensor(list(itertools.product(*(range(size) for size in WINDOW))))
        apart = places[:, None] - places[None] + torch.tensor([size - 1 for size in WINDOW])
        self.register_buffer("index", (apart[..., 0] * spans[1] + apart[..., 1]) * spans[2] + apart[..., 2])

    def cut(self, states: torch.Tensor) -> torch.Tensor:
        batch, levels, rows, columns, width = states.shape
        first, second, third = WINDOW
        cut = states.view(batch, levels // first, first, rows // second, second, columns // third, third, width)
        return cut.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, first * second * third, width)

    def glue(self, windows: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        batch, levels, rows, columns, width = shape
        first, second, third = WINDOW
        cut = windows.view(batch, levels // first, rows // second, columns // third, first, second, third, width)
        return cut.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(shape)

    def mask(self, shape: torch.Size) -> torch.Tensor:
        """Where two tokens of a shifted window were not neighbours, shape (windows, 1, T, T)."""
        _, levels, rows, columns, _ = shape
        marks = torch.zeros(1, levels, rows, columns, 1)
        marks[:, -(WINDOW[0] // 2) :] += 1
        marks[:, :, -(WINDOW[1] // 2) :] += 2
        regions = self.cut(marks)[..., 0]
        return (regions[:, None, :] != regions[:, :, None])[:, None].float() * -1e4

    def forward(self, states: torch.Tensor, *_) -> torch.Tensor:
        shift = tuple(size // 2 for size in WINDOW)
        normed = self.norm(states)
        bias = self.table[:, self.index][None]
        if self.is_shifted:
            normed = normed.roll([-each for each in shift], (1, 2, 3))
            bias = bias + self.mask(states.shape).repeat(len(states), 1, 1, 1)
        query, key, value = (
            part.transpose(1, 2) for part in self.qkv(self.cut(normed)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        )
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        attended = self.glue(self.out(attended.transpose(1, 2).flatten(2)), states.shape)
        if self.is_shifted:
            attended = attended.roll(shift, (1, 2, 3))
        states = states + attended
        return states + self.mlp(states)


RIVALS: dict[str, Callable[..., nn.Module]] = {"global_attention": GlobalRival, "windows_3d": WindowRival}


def number(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def equal(make: Callable[[int], nn.Module], wanted: int) -> nn.Module:
    """The module whose number of parameters, linear in its inner width, is nearest to the one wanted."""
    base, slope = number(make(8)), number(make(9)) - number(make(8))
    return make(max(8, 8 + round((wanted - base) / slope)))


def backward(module: nn.Module, *inputs: Any) -> Callable[[], None]:
    states = inputs[0].detach().clone().requires_grad_()
    sent_back = torch.randn_like(states)

    def step() -> None:
        module(states, *inputs[1:]).backward(sent_back)
        module.zero_grad(set_to_none=True)
        states.grad = None

    return step


def trunk_step(model: nn.Module, batch: dict[str, torch.Tensor]) -> Callable[[], None]:
    sent_back = torch.randn_like(model(**batch).last_hidden_state)

    def step() -> None:
        model(**batch).last_hidden_state.backward(sent_back)
        model.zero_grad(set_to_none=True)

    return step


def gemm_rate() -> float:
    """Floating-point operations a second of a product of square matrices, the best of some."""
    first, second = torch.randn(2, 1024, 1024)
    seconds = compare({"gemm": lambda: first @ second}, 9, "gemm")["seconds"]["gemm"]
    return 2 * 1024**3 / min(seconds)


def flops(step: Callable[[], None]) -> int:
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def cubes(config: AstroDatacubeConfig, rows: int, columns: int, levels: int) -> dict[str, torch.Tensor]:
    return {
        "level_fields": torch.randn(1, len(config.level_variables), 1, levels, rows, columns),
        "surface_fields": torch.randn(1, len(config.surface_variables), 1, rows, columns),
        "forcing_fields": torch.randn(1, len(config.forcing_variables), rows, columns),
        "levels": torch.linspace(0.1, 0.95, levels, dtype=torch.float64)[None],
        "latitude_deg": torch.linspace(90 - 90 / rows, 90 / rows - 90, rows, dtype=torch.float64)[None],
        "longitude_deg": (torch.arange(columns, dtype=torch.float64) * 360 / columns)[None],
        "planet": torch.rand(1, len(config.planet_parameters)),
    }


def with_rival(config: AstroDatacubeConfig, make: Callable[..., nn.Module]) -> AstroDatacubeModel:
    """A trunk whose window blocks are a rival's, of as many parameters each."""
    model = AstroDatacubeModel(config)
    width, heads = config.hidden_sizes[1], config.num_attention_heads[1]

    def rival(block: WindowBlock) -> nn.Module:
        return equal(lambda inner: make(width, heads, inner, block.is_shifted), number(block))

    for blocks in (*model.down_blocks, *model.up_blocks):
        for place, block in enumerate(blocks):
            if isinstance(block, WindowBlock):
                blocks[place] = rival(block)
    return model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--width", type=int, default=128)
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    load = os.getloadavg()[0]
    width, heads = parsed.width, parsed.width // 16
    config = AstroDatacubeConfig.from_preset(
        "nano",
        hidden_sizes=[width // 2, width, 2 * width],
        num_attention_heads=[heads // 2, heads, heads],
        num_latent_levels=GRID[0],
        window_size=list(WINDOW[1:]),
    )
    batch = cubes(config, 4 * GRID[1], 4 * GRID[2], 10)
    states = torch.randn(1, *GRID, width)
    geometry = work_grid(batch["latitude_deg"][0], batch["longitude_deg"][0], config).scale(1, states)
    condition = torch.randn(1, config.conditioning_size)
    steps, parameters = {}, {}
    for is_shifted in (False, True):
        ours = WindowBlock(width, heads, config, is_shifted)
        blocks = {"astro": ours}
        blocks |= {
            name: equal(lambda inner, make=make: make(width, heads, inner, is_shifted), number(ours))  # noqa: B023
            for name, make in RIVALS.items()
        }
        kind = "shifted" if is_shifted else "plain"
        parameters[kind] = {name: number(block) for name, block in blocks.items()}
        rivals = {name: backward(block, states, condition, geometry) for name, block in blocks.items()}
        steps[kind] = compare(rivals, parsed.rounds, "windows_3d")
        steps[kind]["flops"] = {name: flops(step) for name, step in rivals.items()}
    small = cubes(config, GRID[1] * 2, GRID[2] * 2, 10)
    trunks = {"astro": AstroDatacubeModel(config)}
    trunks |= {name: with_rival(config, make) for name, make in RIVALS.items()}
    whole = compare({name: trunk_step(model, small) for name, model in trunks.items()}, parsed.rounds, "windows_3d")
    whole["parameters"] = {name: number(model) for name, model in trunks.items()}
    rate = gemm_rate()
    result = {
        "status": "finished",
        "dtype": "float32",
        "threads": 1,
        "grid": GRID,
        "windows": WINDOW,
        "parameters": parameters,
        "blocks": steps,
        "whole_step": whole,
        "gemm_flops_per_second": rate,
        "share_of_gemm_rate": {
            kind: {name: each["flops"][name] / each["median_seconds"][name] / rate for name in each["flops"]}
            for kind, each in steps.items()
        },
        "load_average_before_and_after": (load, os.getloadavg()[0]),
    }
    path = write_benchmark("compare_window_blocks_cpu", result)
    for kind, each in {**steps, "whole step": whole}.items():
        speeds = {name: round(value, 2) for name, value in each["speed_up_median_of_rounds"].items()}
        print(f"{kind}: times as fast as windows_3d {speeds}")
    print(f"share of the GEMM rate: {result['share_of_gemm_rate']} -> {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

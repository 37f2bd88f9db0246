"""The picture of molecules: its size, and that each cell shows what it should."""

import numpy as np
import pytest


pytest.importorskip("rdkit", reason="the extra chem is not installed")
pytest.importorskip("evaluate", reason="evaluate is not installed: pip install evaluate")
from PIL import Image

from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.graph_metrics.molecule_grid import draw_molecule_grid


def cells(path, rows, columns):
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape == (rows * 200, columns * 200, 3)
    return pixels.reshape(rows, 200, columns, 200, 3).swapaxes(1, 2).reshape(rows * columns, 200, 200, 3)


def test_each_molecule_has_a_cell_and_invalid_ones_say_so(tmp_path):
    path = tmp_path / "grid.png"
    draw_molecule_grid(["c1ccccc1", None, "CC.O", "C1=CC=CC=C1", "CCO", "", "C"], path, columns=3)
    found = cells(path, 3, 3)
    benzene, invalid, salt, again, ethanol, empty, methane, *rest = found
    np.testing.assert_array_equal(benzene, again)
    np.testing.assert_array_equal(invalid, salt)
    np.testing.assert_array_equal(invalid, empty)
    for one, other in ((benzene, invalid), (benzene, ethanol), (ethanol, methane), (methane, invalid)):
        assert (one != other).any()
    # A frame around each, and something in its middle; nothing where there is no molecule.
    for cell in found[:7]:
        assert (cell[0] < 255).all()
        assert (cell[60:140, 40:160] < 128).any()
    assert (np.stack(rest) == 255).all()


def test_fewer_molecules_than_columns(tmp_path):
    draw_molecule_grid(["C", None], tmp_path / "two.png")
    assert len(cells(tmp_path / "two.png", 1, 2)) == 2


def test_nothing_to_draw_is_refused(tmp_path):
    with pytest.raises(DataError, match="got 0 molecules"):
        draw_molecule_grid([], tmp_path / "none.png")
    with pytest.raises(DataError, match="columns=0"):
        draw_molecule_grid(["C"], tmp_path / "none.png", columns=0)
    assert not list(tmp_path.iterdir())

"""Five modalities in one batch: what is absent is masked, what is there is where the row has it."""

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from modeling_astrobio.training.loading import MODALITIES, UnifiedBatchCollator


rng = np.random.default_rng(0)


def planet(**changes) -> dict:
    cube = rng.standard_normal((3, 2, 3, 4, 5)).astype(np.float32)
    cube[1, 0, 2, 1, 4] = np.nan
    return {
        "planet_parameters": np.array([1.5, np.nan, 3.0]),
        "planet_parameters_quality": 2 / 3,
        "climate": cube,
        "climate_variables": ["ta", "ps", "ua"],
        "climate_quality": 0.9,
    } | changes


def organism(nodes: int, edges: int) -> dict:
    return {
        "node_features": rng.standard_normal((nodes, 2)).astype(np.float32),
        "edge_index": rng.integers(0, nodes, (2, edges)),
        "edge_features": rng.standard_normal((edges, 1)).astype(np.float32),
        "metabolic_graph_quality": 0.5,
        "text": "an organism",
        "text_quality": 1.0,
    }


def spectrum(length: int) -> dict:
    flux = rng.standard_normal(length)
    flux[1] = np.nan
    error = np.abs(rng.standard_normal(length))
    error[2] = np.nan
    return {
        "wavelength_um": np.linspace(1, 2, length),
        "flux": flux,
        "flux_error": error,
        "spectrum_mask": np.arange(length) != 0,
        "spectrum_quality": 0.8,
    }


def test_nothing_there_is_all_masked():
    batch = UnifiedBatchCollator()([{}, {"text": None}])
    assert set(batch) == {f"{modality}_{end}" for modality in MODALITIES for end in ("present", "quality")}
    assert not any(batch[f"{modality}_present"].any() or batch[f"{modality}_quality"].any() for modality in MODALITIES)


def test_cubes_of_other_grids_are_padded_and_variables_go_by_name():
    small = rng.standard_normal((2, 1, 3, 2, 6)).astype(np.float32)
    rows = [planet(), {}, planet(climate=small, climate_variables=["ua", "hus"])]
    batch = UnifiedBatchCollator(["ua", "ta", "wap"])(rows)
    assert batch["climate"].shape == batch["climate_mask"].shape == (3, 3, 2, 3, 4, 6)
    assert batch["climate_shape"].tolist() == [[3, 2, 3, 4, 5], [0, 0, 0, 0, 0], [3, 1, 3, 2, 6]]
    expected, mask = np.zeros((3, 3, 2, 3, 4, 6), np.float32), np.zeros((3, 3, 2, 3, 4, 6), bool)
    cube = rows[0]["climate"]
    expected[0, 0, :, :, :, :5], mask[0, 0, :, :, :, :5] = cube[2], True
    expected[0, 1, :, :, :, :5], mask[0, 1, :, :, :, :5] = cube[0], True
    expected[2, 0, :1, :, :2, :], mask[2, 0, :1, :, :2, :] = small[0], True
    np.testing.assert_array_equal(batch["climate"], expected)
    np.testing.assert_array_equal(batch["climate_mask"], mask)
    # The missing value of `ps` is in no chosen variable; that of a chosen one is masked and 0.
    chosen = UnifiedBatchCollator(["ps"])(rows[:1])
    assert not chosen["climate_mask"][0, 0, 0, 2, 1, 4]
    assert chosen["climate_mask"].sum() == 2 * 3 * 4 * 5 - 1
    assert torch.isfinite(chosen["climate"]).all()


def test_parameters_that_are_not_known_are_masked():
    batch = UnifiedBatchCollator()([{}, planet()])
    assert batch["planet_parameters"].tolist() == [[0, 0, 0], [1.5, 0, 3.0]]
    assert batch["planet_parameters_mask"].tolist() == [[False] * 3, [True, False, True]]
    assert batch["planet_parameters_quality"].tolist() == pytest.approx([0, 2 / 3])


def test_graphs_keep_their_nodes():
    rows = [organism(4, 6), planet(), organism(3, 1), organism(1, 0)]
    batch = UnifiedBatchCollator()(rows)
    assert batch["metabolic_graph_present"].tolist() == [True, False, True, True]
    assert batch["node_row"].tolist() == [0, 0, 0, 0, 2, 2, 2, 3]
    assert batch["edge_row"].tolist() == [0] * 6 + [2]
    for number in (0, 2, 3):
        nodes, edges = batch["node_row"] == number, batch["edge_row"] == number
        np.testing.assert_array_equal(batch["node_features"][nodes], rows[number]["node_features"])
        np.testing.assert_array_equal(batch["edge_features"][edges], rows[number]["edge_features"])
        first = int(nodes.nonzero()[0])
        np.testing.assert_array_equal(batch["edge_index"][:, edges] - first, rows[number]["edge_index"])


def test_spectra_are_padded_and_unusable_points_masked():
    rows = [spectrum(5), {}, spectrum(3)]
    batch = UnifiedBatchCollator()(rows)
    # Masked by the archive, without flux; without an error a point stays.
    assert batch["spectrum_mask"].tolist() == [
        [False, False, True, True, True],
        [False] * 5,
        [False, False, True, False, False],
    ]
    np.testing.assert_allclose(batch["flux"][0, 2:], rows[0]["flux"][2:], rtol=1e-6)
    assert batch["flux_error"][0, 2] == 0
    assert all(torch.isfinite(batch[name]).all() for name in ("wavelength_um", "flux", "flux_error"))


def test_an_absent_text_has_no_tokens(tokenizer):
    batch = UnifiedBatchCollator(tokenizer=tokenizer, max_length=16)([organism(2, 1), planet()])
    assert batch["text_present"].tolist() == [True, False]
    assert batch["attention_mask"][0].sum() > 0
    assert batch["attention_mask"][1].sum() == 0
    assert tokenizer.decode(batch["input_ids"][0][batch["attention_mask"][0].bool()]).strip() == "an organism"
    assert not UnifiedBatchCollator()([organism(2, 1)])["text_present"].any()


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "an": 2, "organism": 3}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([planet(climate_quality=None)], "climate_quality of row 0 must be from 0 to 1; got None"),
        ([planet(planet_parameters_quality=1.5)], "planet_parameters_quality of row 0 must be from 0 to 1; got 1.5"),
        (
            [planet(), planet(planet_parameters=np.ones(4))],
            "planet_parameters must be of one size .*; it is 3, and 4 in row 1",
        ),
        ([planet(climate=np.ones(7))], r"climate of row 0 must have the axes \(V, T, L, Y, X\)"),
        ([planet(climate_variables=["ta"])], "a name for each of V; got"),
        ([{**organism(3, 2), "edge_index": np.array([[0], [3]])}], "edge_index of row 0 must name nodes from 0 to 2"),
        ([{**organism(3, 2), "edge_features": None}], "row 0 must have all of .* or none; edge_features is absent"),
        ([{**spectrum(4), "flux": np.ones(3)}], "spectrum of row 0 must have columns of one length"),
    ],
)
def test_rows_that_do_not_fit_are_named(rows, message):
    with pytest.raises(ValueError, match=message):
        UnifiedBatchCollator()(rows)


def test_variables_must_be_different():
    with pytest.raises(ValueError, match="climate_variables must be different names"):
        UnifiedBatchCollator(["ta", "ta"])

"""The processor reads molecules in every form, names the items it cannot read, and writes what it read."""

import gzip
import json

import numpy as np
import pytest
import torch
from graph_vae_models import SMILES, processor_of, tiny_config, tiny_model
from metabolic_models import small_network
from rdkit import Chem
from transformers import AutoProcessor

from modeling_astrobio import AstroGraphVAEProcessor
from modeling_astrobio.graph_features import NODE_FEATURES
from modeling_astrobio.graph_record import GraphError, GraphRecord
from modeling_astrobio.metabolic_files import network_to_cobra
from modeling_astrobio.metabolic_tensors import network_record
from modeling_astrobio.molecule_tensors import canonical_molecule


WHY_GEOMETRIC = "torch_geometric is not installed"


@pytest.fixture
def processor() -> AstroGraphVAEProcessor:
    return processor_of(tiny_config())


def canonical(smiles: str) -> str:
    return Chem.MolToSmiles(canonical_molecule(smiles))


def test_metabolic_models_are_read_beside_molecules(processor, tmp_path):
    cobra = pytest.importorskip("cobra", reason="cobra is not installed")
    model = network_to_cobra(small_network())
    path = tmp_path / "glycolysis.xml.gz"
    cobra.io.write_sbml_model(model, str(tmp_path / "glycolysis.xml"))
    path.write_bytes(gzip.compress((tmp_path / "glycolysis.xml").read_bytes()))
    expected = network_record(small_network(), processor.atom_types)
    records, problems = processor.read([model, "CCO", str(path), path, tmp_path / "absent.json"])
    assert list(problems) == [4]
    assert "absent.json" in problems[4]
    for place in (0, 2, 3):
        assert records[place].node_types.tolist() == expected.node_types.tolist()
        assert np.array_equal(records[place].edge_features, expected.edge_features)
    batch = processor.pad(records)
    config = tiny_config()
    kinds = batch["node_types"][:, 0].tolist()
    assert kinds[0] == config.compound_type
    # Encoded like any graph, but no molecule that could be drawn.
    model = tiny_model()
    assert model.encode(**batch).mean.shape == (4, 2, 10)
    with pytest.raises(ValueError, match=r"at most max_nodes \(13\) atoms"):
        model(**processor(path))


def assert_batches_equal(found, expected) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_batch_has_the_shapes_and_types_that_the_model_reads(processor):
    batch = processor(["CCO", "c1ccccc1C", "C"])
    assert {name: (tuple(value.shape), value.dtype) for name, value in batch.items()} == {
        "node_types": ((3, 7), torch.int64),
        "node_features": ((3, 7, len(NODE_FEATURES)), torch.float32),
        "edge_index": ((3, 2, 7), torch.int64),
        "edge_types": ((3, 7), torch.int64),
        "edge_features": ((3, 7, 1), torch.float32),
        "motif_types": ((3, 2), torch.int64),
        "motif_nodes": ((3, 2, 7), torch.bool),
    }
    assert (batch["node_types"] > 0).sum(1).tolist() == [3, 7, 1]
    assert (batch["edge_types"] > 0).sum(1).tolist() == [2, 7, 0]
    assert (batch["motif_types"] > 0).sum(1).tolist() == [1, 2, 1]
    padding = batch["node_types"] == 0
    assert not batch["node_features"][padding].any()
    assert not batch["motif_nodes"].transpose(1, 2)[padding].any()


def test_batch_comes_back(processor):
    batch = processor(list(SMILES))
    assert processor.batch_decode(**batch) == [canonical(each) for each in SMILES]
    assert [Chem.MolToSmiles(each) for each in processor.to_mols(**batch)] == processor.batch_decode(**batch)
    assert processor.decode(**processor("OCC")) == "CCO"


def test_one_graph_a_list_and_any_sequence_are_read(processor):
    expected = processor(["CCO", "CC"])
    assert_batches_equal(processor(("CCO", "CC")), expected)
    assert_batches_equal(processor([Chem.MolFromSmiles("OCC"), np.str_("CC")]), expected)
    assert_batches_equal(processor(processor.read(["CCO", "CC"])[0]), expected)
    assert_batches_equal(processor("CCO"), processor(["CCO"]))


def test_column_of_a_dataset_is_read(processor):
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"smiles": ["CCO", "CC"]})
    assert_batches_equal(processor(table["smiles"]), processor(["CCO", "CC"]))


def test_data_of_from_smiles_with_and_without_its_smiles(processor):
    utils = pytest.importorskip("torch_geometric.utils", reason=WHY_GEOMETRIC)
    expected = processor(list(SMILES))
    graphs = [utils.from_smiles(each) for each in SMILES]
    assert_batches_equal(processor(graphs), expected)
    for graph in graphs:
        del graph.smiles
    assert_batches_equal(processor(graphs), expected)


def test_data_with_smiles_alone_and_batches_of_it(processor):
    geometric = pytest.importorskip("torch_geometric.data", reason=WHY_GEOMETRIC)
    graphs = [geometric.Data(smiles=each, num_nodes=1) for each in SMILES]
    assert_batches_equal(processor(graphs), processor(list(SMILES)))
    assert_batches_equal(processor(geometric.Batch.from_data_list(graphs)), processor(list(SMILES)))
    assert_batches_equal(processor(graphs[0]), processor(SMILES[0]))


def test_data_goes_out_and_comes_in_again(processor):
    pytest.importorskip("torch_geometric.data", reason=WHY_GEOMETRIC)
    batch = processor(list(SMILES))
    graphs = processor.to_data(batch)
    sizes = (batch["node_types"] > 0).sum(1).tolist()
    assert [graph.num_nodes for graph in graphs] == sizes
    assert graphs[0].edge_index.shape == (2, 2)
    assert_batches_equal(processor(graphs), batch)


def test_data_that_is_no_molecule_is_named_and_the_others_are_read(processor):
    geometric = pytest.importorskip("torch_geometric.data", reason=WHY_GEOMETRIC)
    out = processor.to_data(processor(["CCO"]))[0]
    damaged = []
    for name, change in {
        "node_features": lambda value: value.fill_(float("nan")),
        "edge_features": lambda value: value.fill_(float("inf")),
        "edge_index": lambda value: value + 7,
        "motif_nodes": lambda value: value[:, :2],
        "node_types": lambda value: value[:0],
    }.items():
        graph = out.clone()
        graph[name] = change(graph[name])
        damaged.append(graph)
    incomplete = out.clone()
    del incomplete.edge_types
    bare = geometric.Data(x=torch.zeros(3, 2), edge_index=torch.tensor([[0], [1]]))
    wrong = geometric.Data(smiles=7)
    records, problems = processor.read([out, *damaged, incomplete, bare, wrong, "CC"])
    assert len(records) == 2
    expected = {
        1: "node_features must be finite; got NaN",
        2: "edge_features must be finite",
        3: "edge_index must be of nodes 0 to 2; got 7 to 9",
        4: "motif_nodes must have the shape (1, 3); got (1, 2)",
        5: "at least one node; got none",
        6: "it has no ['edge_types']",
        7: "a PyTorch Geometric Data must have smiles, or x and edge_attr as from_smiles makes them",
        8: "got int",
    }
    assert problems.keys() == expected.keys()
    assert [problems[place] for place, text in expected.items() if text not in problems[place]] == []


BAD = {
    1: ("C(", "does not parse"),
    3: ("[Fe]", "has Fe with charge 0"),
    4: ("C.C", "in one piece"),
    5: ("", "at least one atom"),
    7: ("C" * 14, "at most 13 atoms"),
    8: (None, "a cobra model or the path of one; got NoneType"),
    9: (5, "got int"),
    10: (b"CC", "got bytes"),
    11: ("c1cccc1", "Can't kekulize"),
}


def test_items_that_cannot_be_read_are_named_and_the_others_are_unharmed(processor):
    good = ["CCO", "C", "c1ccccc1"]
    others = iter(good)
    items = [BAD[place][0] if place in BAD else next(others) for place in range(12)]
    records, problems = processor.read(items)
    assert problems.keys() == BAD.keys()
    for place, (_, message) in BAD.items():
        assert message in problems[place]
    assert_batches_equal(processor.pad(records), processor(good))


def test_the_call_names_the_first_items_and_counts_the_others(processor):
    with pytest.raises(ValueError, match=r"item 1: the SMILES 'C\(' does not parse.*Use processor.read") as caught:
        processor(["C", "C(", "CC"])
    assert "item 0" not in str(caught.value)
    with pytest.raises(ValueError, match=r"item 4: .*; and 3 more. Use processor.read to get the others"):
        processor(["C("] * 8)
    with pytest.raises(ValueError, match="graphs must hold at least one graph; got none"):
        processor([])
    with pytest.raises(ValueError, match="return_tensors must be 'pt'; got 'np'"):
        processor("C", return_tensors="np")


def test_what_was_drawn_but_is_no_molecule_is_none(processor):
    batch = processor(["CCO", "CC"])
    batch["edge_types"][1, 0] = 4
    assert processor.batch_decode(**batch) == ["CCO", None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"node_types": np.zeros(0, dtype=np.int64)}, "at least one node; got none"),
        ({"node_features": np.full((2, len(NODE_FEATURES)), np.nan, dtype=np.float32)}, "must be finite; got NaN"),
        ({"edge_features": np.array([[-np.inf]], dtype=np.float32)}, "edge_features must be finite"),
        ({"node_features": np.zeros((2, 3), dtype=np.float32)}, r"node_features must have the shape \(2, \d+\); got"),
        ({"edge_index": np.array([[0, 1]])}, r"edge_index must have the shape \(2, 1\); got \(1, 2\)"),
        ({"edge_index": np.array([[0], [2]])}, "edge_index must be of nodes 0 to 1; got 0 to 2"),
        ({"edge_index": np.array([[0], [-1]])}, "edge_index must be of nodes 0 to 1; got -1 to 0"),
        ({"edge_types": np.zeros(2, dtype=np.int64)}, r"edge_index must have the shape \(2, 2\)"),
        ({"motif_nodes": np.zeros((1, 3), dtype=bool)}, r"motif_nodes must have the shape \(1, 2\); got \(1, 3\)"),
    ],
)
def test_arrays_that_are_no_graph_are_refused(processor, change, message):
    (graph,), _ = processor.read("CO")
    arrays = {name: getattr(graph, name) for name in processor.model_input_names}
    assert GraphRecord(**arrays).size == 2
    with pytest.raises(GraphError, match=message):
        GraphRecord(**{**arrays, **change})


def test_processor_is_saved_and_loaded(tmp_path):
    processor = AstroGraphVAEProcessor([[6, 0, 0, 4], [8, 0, 0, 2]], max_nodes=5)
    processor.save_pretrained(tmp_path)
    tiny_config().save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert (saved["atom_types"], saved["max_nodes"]) == ([[6, 0, 0, 4], [8, 0, 0, 2]], 5)
    for loaded in (AstroGraphVAEProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert type(loaded) is AstroGraphVAEProcessor
        assert (loaded.atom_types, loaded.max_nodes) == (processor.atom_types, 5)
        assert_batches_equal(loaded("CCO"), processor("CCO"))
        loaded.save_pretrained(tmp_path / "again")
        assert json.loads((tmp_path / "again" / "processor_config.json").read_text()) == saved


def test_atom_types_are_those_given():
    processor = AstroGraphVAEProcessor([[8, 0, 0, 2], [6, 0, 0, 4]], max_nodes=5)
    assert processor("CO")["node_types"].tolist() == [[2, 1]]
    with pytest.raises(ValueError, match=r"item 0: .*Add \[7, 0, 0, 3\]"):
        processor("CN")

"""The comparison of generators: every row on a small set, the file that they end up in, and training for a time."""

import gzip
import itertools
import json
import math
import time

import pytest
import torch


pytest.importorskip("rdkit", reason="the extra chem is not installed")
pytest.importorskip("evaluate", reason="evaluate is not installed: pip install evaluate")
from PIL import Image
from rdkit import Chem

from modeling_astrobio.graph_features import DEFAULT_ATOM_TYPES
from modeling_astrobio.processing_astro_graph_vae import AstroGraphVAEProcessor
from modeling_astrobio.training.errors import DataError, TrainingFault
from modeling_astrobio.training.graph_metrics.molecule_set import canonical_smiles


MOLECULES = 500


@pytest.fixture
def benchmarks(request, monkeypatch):
    monkeypatch.syspath_prepend(str(request.config.rootpath / "recipes" / "benchmarks"))


def made_up_molecules():
    """Different molecules of at most nine heavy atoms: heads, chains and tails put together."""
    heads = ("[NH3+]", "C", "N", "O", "F", "N#C", "O=C", "C1CC1", "C1CO1", "c1cocc1", "C1CCC1", "CC(C)")
    chains = ("C", "CC", "C(=O)", "C(O)C", "CN", "C=C", "C(C)", "CO", "C#C")
    tails = ("C", "N", "O", "C(C)C", "C#N", "C=O", "C1CC1", "OC")
    found = {}
    for head, chain, tail in itertools.product(heads, chains, tails):
        smiles = canonical_smiles(head + chain + tail)
        if smiles and Chem.MolFromSmiles(smiles).GetNumAtoms() <= 9:
            found[smiles] = None
    return list(found)[:MOLECULES]


@pytest.fixture(scope="module")
def smiles_file(tmp_path_factory):
    molecules = made_up_molecules()
    assert len(molecules) == MOLECULES
    path = tmp_path_factory.mktemp("molecules") / "made_up.txt.gz"
    with gzip.open(path, "wt") as file:
        # Other spellings of molecules that are there, and lines that are none, add nothing.
        file.write("\n".join([*molecules, "OCC", "C(C)O", "C.C", "C1CC", ""]))
    return path


@pytest.mark.usefixtures("benchmarks")
def test_every_row_ends_in_one_file_and_its_pictures(smiles_file, tmp_path):
    import qm9_generation

    out = tmp_path / "folder" / "generation.json"
    fixed = ["--smiles", str(smiles_file), "--samples=60", "--reconstructions=20", "--preset=tiny", "--minutes=0.1"]
    fixed += [
        "--out",
        str(out),
        "--batch-nodes=72",
        "--rnn-batch-size=8",
        "--kl-weight=0.01",
        "--config",
        '{"max_nodes": 9}',
    ]
    for row in qm9_generation.ROWS:
        assert qm9_generation.main([*fixed, "--row", row]) == 0, row
    content = json.loads(out.read_text())
    assert list(content["table"]) == [run["row"] for run in content["runs"]] == list(qm9_generation.ROWS)
    runs = {run["row"]: run for run in content["runs"]}
    for row, values in content["table"].items():
        assert values["samples"] == 60
        assert all(value is None or math.isfinite(value) for value in values.values())
        assert (values["reconstruction"] is None) == (row not in ("one_shot", "unmasked", "ours"))
        assert runs[row]["data"] == {"training": MOLECULES - 120, "held_out": 60, "reference": 60}
        assert runs[row]["hardware"]["torch_threads"] == 1
        assert str(tmp_path) not in json.dumps(runs[row])
        assert str(smiles_file) not in json.dumps(runs[row])
        assert runs[row]["arguments"]["smiles"] == smiles_file.name
    for row in ("char_rnn", "one_shot", "unmasked", "ours"):
        assert 5.7 <= content["table"][row]["training (s)"] < 12
        seconds, losses = zip(*runs[row]["training"]["losses"], strict=True)
        assert runs[row]["training"]["steps"] >= len(losses) > 9
        assert list(seconds) == sorted(seconds)
        assert sum(losses[-3:]) < sum(losses[:3])
        assert math.isfinite(runs[row]["held_out_nats"])
        assert len(runs[row]["first_samples"]) == 48
    # Valid molecules are what the masks leave, and the network is not needed for that.
    assert all(content["table"][row]["valid"] == 1 for row in ("floor", "null_random", "null_uniform", "ours"))
    assert content["table"]["floor"]["unique"] == content["table"]["floor"]["novel"] == 1
    distances = {row: values["descriptor distance (sd)"] for row, values in content["table"].items()}
    assert distances["floor"] < min(distances["null_random"], distances["null_uniform"])
    ours, rnn = (content["table"][row]["parameters"] for row in ("ours", "char_rnn"))
    assert abs(ours - rnn) <= 0.02 * ours
    assert content["table"]["unmasked"]["parameters"] == ours
    assert runs["ours"]["processor_coverage"] == 1
    assert "first_samples" not in runs["floor"]
    drawn = {path.name for path in out.parent.iterdir()}
    rows_drawn = [row for row in qm9_generation.ROWS if row != "floor"]
    assert drawn == {out.name, "generation.png", *(f"generation_{row}.png" for row in rows_drawn)}
    with Image.open(out.parent / "generation_ours.png") as picture:
        assert picture.size == (8 * 200, 6 * 200)


@pytest.mark.usefixtures("benchmarks")
def test_a_run_that_fails_stays_in_the_file(smiles_file, tmp_path, capsys):
    import qm9_generation

    out = tmp_path / "generation.json"
    arguments = [f"--smiles={smiles_file}", f"--out={out}", "--row=null_uniform", "--preset=tiny"]
    assert qm9_generation.main([*arguments, "--samples=250"]) == 1
    (failed,) = json.loads(out.read_text())["runs"]
    assert failed["status"] == "failed"
    assert "more than 500 different molecules" in failed["error"]
    assert qm9_generation.main([*arguments, "--samples=40"]) == 0
    assert qm9_generation.main([*arguments, "--samples=30", "--seed=1"]) == 0
    content = json.loads(out.read_text())
    assert [run["status"] for run in content["runs"]] == ["failed", "finished", "finished"]
    assert content["table"]["null_uniform"]["samples"] == 30
    assert "| null_uniform | 1.000 |" in capsys.readouterr().out


@pytest.mark.usefixtures("benchmarks")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--row=none"], "invalid choice: 'none'"),
        (["--row=ours", "--minutes=0"], "--minutes must be above 0; got 0.0"),
        (["--row=ours", "--samples=0"], "--samples must be at least 1; got 0"),
        (["--row=ours", "--config={"], "invalid loads value"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message, capsys):
    import qm9_generation

    with pytest.raises(SystemExit, match="2"):
        qm9_generation.main(["--smiles=x.txt", *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("benchmarks")
def test_sets_are_disjoint_and_atom_types_are_those_of_the_training_set(smiles_file, tmp_path):
    from held_out_molecules import Molecules

    molecules = Molecules.read(smiles_file, 60)
    sets = [set(each) for each in (molecules.training, molecules.held_out, molecules.reference)]
    assert [len(each) for each in sets] == [MOLECULES - 120, 60, 60]
    assert set.union(*sets) == set(made_up_molecules())
    assert Molecules.read(smiles_file, 60) == molecules
    assert [6, 0, 0, 4] in molecules.atom_types
    assert [7, 1, 0, 4] in molecules.atom_types
    records, problems = AstroGraphVAEProcessor(molecules.atom_types).read(molecules.training)
    assert not problems
    used = {code for record in records for code in record.node_types.tolist()}
    assert used == set(range(1, len(molecules.atom_types) + 1))
    kinds = [tuple(kind) for kind in molecules.atom_types]
    assert kinds == [kind for kind in DEFAULT_ATOM_TYPES if kind in kinds]
    with pytest.raises(DataError, match="more than 500 different molecules, twice as many as are held out; got 500"):
        Molecules.read(smiles_file, 250)


@pytest.mark.usefixtures("benchmarks")
def test_an_epoch_holds_each_graph_once_in_batches_of_like_size(smiles_file):
    import qm9_generation
    from held_out_molecules import Molecules

    processor = AstroGraphVAEProcessor(max_nodes=9)
    records, _ = processor.read(Molecules.read(smiles_file, 60).training)
    batches = qm9_generation.graph_batches(processor, records, 90, seed=2)
    epochs = []
    for _ in range(2):
        epoch, seen = [], 0
        while seen < len(records):
            epoch.append(next(batches)["node_types"])
            seen += len(epoch[-1])
        assert seen == len(records)
        rows = sorted([code for code in row.tolist() if code] for batch in epoch for row in batch)
        assert rows == sorted(record.node_types.tolist() for record in records)
        assert all(batch.numel() <= 90 for batch in epoch)
        assert sum((batch == 0).sum().item() for batch in epoch) < 0.05 * sum(batch.numel() for batch in epoch)
        epochs.append([batch.tolist() for batch in epoch])
    assert epochs[0] != epochs[1]


@pytest.mark.usefixtures("benchmarks")
def test_training_takes_the_time_that_it_is_given():
    from timed_training import rate_share, train_for

    assert rate_share(0) == 0
    assert rate_share(0.01) == pytest.approx(0.5)
    assert rate_share(0.02) == pytest.approx(1)
    assert rate_share(0.51) == pytest.approx(0.5)
    assert rate_share(1) == pytest.approx(0)
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    wanted = torch.tensor([[1.0, -2.0, 0.5]])
    shares = []

    def loss_of(inputs, elapsed):
        shares.append(elapsed)
        return (model(inputs) - inputs @ wanted.T - 3).square().mean()

    inputs = iter(lambda: torch.randn(13, 3), None)
    found = train_for(1.5, model, inputs, loss_of, learning_rate=0.05, clock=time.process_time)
    assert 1.5 <= found["cpu_seconds"] < 2
    started = time.monotonic()
    short = train_for(0.2, torch.nn.Linear(3, 1), inputs, lambda batch, elapsed: model(batch).mean(), learning_rate=0)
    assert 0.2 <= short["seconds"] <= time.monotonic() - started
    assert found["steps"] == len(shares) > 100
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.2 < 0.8 < shares[-1] < 1
    assert not model.training
    assert found["losses"][0][1] > 1 > 0.01 > found["losses"][-1][1]
    torch.testing.assert_close(model.weight.detach(), wanted, atol=0.02, rtol=0)
    with pytest.raises(TrainingFault, match="must be finite; got nan in step 1"):
        train_for(1, model, inputs, lambda batch, elapsed: model(batch).mean() * math.nan, learning_rate=0.1)

"""What the grammar admits always ends in a valid, connected molecule, and it admits every molecule."""

import pytest
import torch
from graph_vae_models import SMILES, molecule_batch, tiny_config
from rdkit import Chem

from modeling_astrobio.graph_features import DEFAULT_ATOM_TYPES
from modeling_astrobio.molecule_grammar import MoleculeGrammar, MoleculeState
from modeling_astrobio.molecule_tensors import canonical_molecule, molecule_of


def draw(grammar: MoleculeGrammar, batch: int, scale: float, stop: float, seed: int) -> MoleculeState:
    """Draw molecules by logits that are random in each step; `stop` is added to that of the stop."""
    generator = torch.Generator().manual_seed(seed)
    state = MoleculeState(grammar, batch)
    for _ in range(grammar.max_nodes * (grammar.max_nodes + 1) // 2 + 1):
        admitted = state.admitted()
        assert admitted.any(-1).all()
        logits = torch.randn(admitted.shape, generator=generator) * scale
        logits[:, grammar.stop] += stop
        chances = logits.masked_fill(~admitted, -torch.inf).softmax(-1)
        state.apply(torch.multinomial(chances, 1, generator=generator)[:, 0])
        if state.is_done.all():
            return state
    raise AssertionError("a molecule did not stop")


def molecules(state: MoleculeState, atom_types) -> list:
    """Molecules that were drawn, None for what RDKit does not accept."""
    graphs = state.graphs()
    arrays = (graphs[name].tolist() for name in ("node_types", "edge_index", "edge_types"))
    return [molecule_of(*graph, atom_types) for graph in zip(*arrays, strict=True)]


@pytest.mark.parametrize(
    ("max_nodes", "scale", "stop"),
    [(40, 0.0, 0.0), (20, 1.0, -2.0), (12, 3.0, -4.0), (40, 10.0, 0.0), (9, 1.0, -6.0)],
)
def test_what_random_logits_draw_is_valid_and_connected(max_nodes, scale, stop):
    # 20,000 in all.
    config = tiny_config(max_nodes=max_nodes)
    drawn = molecules(draw(MoleculeGrammar(config), 4000, scale, stop, seed=max_nodes), config.atom_types)
    assert len(drawn) == 4000
    assert sum(molecule is None for molecule in drawn) == 0
    smiles = [Chem.MolToSmiles(molecule) for molecule in drawn]
    assert [each for each in smiles if "." in each or Chem.MolFromSmiles(each) is None] == []
    sizes = torch.tensor([molecule.GetNumAtoms() for molecule in drawn])
    assert sizes.min() >= 1
    assert sizes.max() <= max_nodes
    # Not a handful of molecules again and again.
    assert len(set(smiles)) > 2000


def test_what_is_drawn_has_the_valences_of_its_atom_types():
    # RDKit writes P(=O)=C, which is admitted, as [P+]([O-])=C.
    config = tiny_config(atom_types=[kind for kind in DEFAULT_ATOM_TYPES if kind != (15, 0, 0, 5)])
    state = draw(MoleculeGrammar(config), 500, 1.0, -3.0, seed=3)
    for codes, molecule in zip(
        state.graphs()["node_types"].tolist(), molecules(state, config.atom_types), strict=True
    ):
        kinds = [tuple(config.atom_types[code - 1]) for code in codes if code]
        Chem.Kekulize(molecule, clearAromaticFlags=True)
        found = [
            (
                atom.GetAtomicNum(),
                atom.GetFormalCharge(),
                atom.GetNumRadicalElectrons(),
                atom.GetTotalNumHs() + int(sum(bond.GetBondTypeAsDouble() for bond in atom.GetBonds())),
            )
            for atom in molecule.GetAtoms()
        ]
        assert found == kinds


@pytest.mark.parametrize(
    "atom_types",
    [
        [[6, 0, 0, 4], [18, 0, 0, 0], [9, 0, 0, 1]],
        [[18, 0, 0, 0]],
        [[9, 0, 0, 1]],
        [[7, 0, 0, 3]],
    ],
)
@pytest.mark.parametrize("max_nodes", [1, 2, 5])
def test_few_atom_types_and_atoms_that_bond_to_nothing(atom_types, max_nodes):
    config = tiny_config(atom_types=atom_types, max_nodes=max_nodes)
    drawn = molecules(draw(MoleculeGrammar(config), 300, 1.0, -2.0, seed=1), config.atom_types)
    smiles = {Chem.MolToSmiles(molecule) for molecule in drawn}
    assert not [each for each in smiles if "." in each or ("Ar" in each and each != "[Ar]")]
    if [18, 0, 0, 0] in atom_types:
        assert "[Ar]" in smiles
    assert max(molecule.GetNumAtoms() for molecule in drawn) == (
        1 if atom_types == [[18, 0, 0, 0]] else max_nodes
    ) or (atom_types == [[9, 0, 0, 1]] and smiles == ({"F"} if max_nodes == 1 else {"F", "FF"}))


def assert_states_equal(grammar: MoleculeGrammar, graphs: dict[str, torch.Tensor]) -> MoleculeState:
    """States before each action, computed at one time, are those of drawing action by action."""
    sequences = grammar.sequences(graphs["node_types"], graphs["edge_index"], graphs["edge_types"])
    nodes = graphs["node_types"].shape[1]
    whole = grammar.admitted(*sequences[2:6])
    state = MoleculeState(grammar, len(graphs["node_types"]))
    row_end = torch.zeros_like(graphs["node_types"])
    for step in range(sequences.actions.shape[1]):
        live = sequences.is_action[:, step]
        for name in ("node_count", "row_bonds", "last_target"):
            assert torch.equal(getattr(state, name)[live], getattr(sequences, name)[live, step]), (name, step)
        assert torch.equal(state.residual[live, :nodes], sequences.residual[live, step])
        admitted = state.admitted()[live]
        assert torch.equal(admitted[:, : whole.shape[-1]], whole[live, step])
        assert not admitted[:, whole.shape[-1] :].any()
        assert whole[live, step].gather(-1, sequences.actions[live, step][:, None]).all()
        for row in live.nonzero()[:, 0].tolist():
            action = int(sequences.actions[row, step])
            if action != grammar.stop:
                place = int(state.node_count[row]) - (action > grammar.stop)
                row_end[row, place] = step
        # Those that have stopped take no action, whichever is given.
        state.apply(torch.where(live, sequences.actions[:, step], 0))
    assert state.is_done.all()
    assert torch.equal(row_end, sequences.row_end)
    assert (sequences.actions == grammar.stop).sum(1).eq(1).all()
    return state


def test_states_of_whole_sequences_equal_those_step_by_step():
    config = tiny_config()
    assert_states_equal(MoleculeGrammar(config), molecule_batch())


def test_states_of_drawn_molecules_equal_those_step_by_step():
    config = tiny_config(max_nodes=7)
    grammar = MoleculeGrammar(config)
    graphs = draw(grammar, 200, 1.0, -4.0, seed=5).graphs()
    again = assert_states_equal(grammar, graphs).graphs()
    assert all(torch.equal(again[name], graphs[name]) for name in graphs)


def test_a_molecule_is_one_sequence_and_comes_back():
    config = tiny_config()
    graphs = molecule_batch()
    state = assert_states_equal(MoleculeGrammar(config), graphs)
    found = [Chem.MolToSmiles(molecule) for molecule in molecules(state, config.atom_types)]
    assert found == [Chem.MolToSmiles(canonical_molecule(each)) for each in SMILES]
    for name, value in state.graphs().items():
        assert torch.equal(value, graphs[name][..., : value.shape[-1]])
        assert not graphs[name][..., value.shape[-1] :].any()


def test_order_of_the_bonds_does_not_matter():
    grammar = MoleculeGrammar(tiny_config())
    graphs = molecule_batch()
    shuffled = torch.randperm(graphs["edge_types"].shape[1], generator=torch.Generator().manual_seed(0))
    expected = grammar.sequences(graphs["node_types"], graphs["edge_index"], graphs["edge_types"])
    found = grammar.sequences(
        graphs["node_types"], graphs["edge_index"][..., shuffled].flip(1), graphs["edge_types"][:, shuffled]
    )
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_sequence_of_formamide_is_the_one_written_out():
    grammar = MoleculeGrammar(tiny_config(atom_types=[[6, 0, 0, 4], [7, 0, 0, 3], [8, 0, 0, 2]], max_nodes=5))
    # N, C-N, O=C.
    found = grammar.sequences(torch.tensor([[2, 1, 3]]), torch.tensor([[[1, 2], [0, 1]]]), torch.tensor([[1, 2]]))
    assert found.actions.tolist() == [[1, 0, 4, 2, 8, 3]]
    assert found.residual[0].tolist() == [[0, 0, 0], [3, 0, 0], [3, 4, 0], [2, 3, 0], [2, 3, 2], [2, 1, 0]]
    assert found.row_end.tolist() == [[0, 2, 4]]
    admitted = grammar.admitted(*found[2:6])[0]
    # Anything but a stop or a bond at first; a bond to N after C; no bond of order 3 from O to C.
    assert admitted[0].tolist() == [True] * 3 + [False] * 10
    assert admitted[2].nonzero()[:, 0].tolist() == [4, 5, 6]
    assert admitted[4].nonzero()[:, 0].tolist() == [4, 5, 7, 8]
    assert admitted[5].nonzero()[:, 0].tolist() == [0, 1, 2, 3]


def test_unconstrained_actions_are_those_that_mean_anything():
    config = tiny_config(max_nodes=4)
    grammar = MoleculeGrammar(config)
    state = MoleculeState(grammar, 400)
    generator = torch.Generator().manual_seed(0)
    for _ in range(15):
        expressible = state.expressible()
        assert not (state.admitted() & ~expressible).any()
        bonds = expressible[:, grammar.first_bond :].unflatten(-1, (4, 3))
        earlier = torch.arange(4) < state.node_count[:, None] - 1
        assert torch.equal(bonds, earlier[..., None].expand_as(bonds))
        assert torch.equal(expressible[:, : grammar.stop].all(-1), state.node_count < 4)
        assert torch.equal(expressible[:, : grammar.stop].any(-1), state.node_count < 4)
        assert expressible[:, grammar.stop].all()
        chances = torch.rand(expressible.shape, generator=generator) * expressible
        state.apply(torch.multinomial(chances, 1, generator=generator)[:, 0])
    unfinished = ~state.is_done
    assert 0 < unfinished.sum() < 400
    graphs = state.graphs()
    assert graphs["node_types"].max() == len(config.atom_types)
    assert not graphs["node_types"][unfinished].any()
    assert not graphs["edge_types"][unfinished].any()


def test_nothing_drawn_is_an_empty_batch():
    graphs = MoleculeState(MoleculeGrammar(tiny_config()), 3).graphs()
    assert {name: tuple(value.shape) for name, value in graphs.items()} == {
        "node_types": (3, 1),
        "edge_index": (3, 2, 0),
        "edge_types": (3, 0),
    }

"""Molecules as the arrays of a graph, and back.

Atoms stand in the order in which the decoder draws them: Cuthill and McKee 1969 (breadth first, neighbours by degree)
with ties broken by the order of the canonical SMILES. The reversed order, which is as narrow, would begin with atoms
that have no bond to one another. Stereo, isotopes and atom maps are not kept.
"""

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

from .graph_features import FORMULA_ELEMENTS, MOTIF_TYPES, NODE_FEATURES, NUM_PLACE_WAVES
from .graph_record import GraphError, GraphRecord


try:
    from rdkit import Chem, rdBase
    from rdkit.Chem import BRICS
except ImportError:
    Chem = None


__all__ = ["canonical_molecule", "molecule_of", "molecule_record", "require_rdkit"]

AtomTypes = Sequence[Sequence[int]]

_MOST_SHOWN = 100  # characters of a SMILES in a message
_ORDERS = {"SINGLE": 1, "DOUBLE": 2, "TRIPLE": 3}
_MOTIF = {name: code for code, name in enumerate(MOTIF_TYPES)}
_FEATURE = {name: place for place, name in enumerate(NODE_FEATURES)}
_RING_MOTIFS = {3: "ring_system_small", 4: "ring_system_small", 5: "ring_system_5", 6: "ring_system_6"}


def require_rdkit() -> None:
    """Raise an ImportError that says what to install, where RDKit is absent."""
    if Chem is None:
        raise ImportError("reading and writing molecules needs RDKit; install it with: pip install rdkit")


def canonical_molecule(molecule: "str | Chem.Mol", max_nodes: int | None = None) -> "Chem.Mol":
    """Return a molecule without stereo, isotopes and atom maps, its atoms in the order of its canonical SMILES.

    Args:
        molecule: SMILES, or a molecule of RDKit, which is left as it is.
        max_nodes: Most atoms, hydrogens that are no part of others left out; `None` is any number.

    Raises:
        GraphError: If it does not parse, has no atom or too many, or is in several pieces.
    """
    require_rdkit()
    if isinstance(molecule, str) and len(molecule.split()) > 1:
        # RDKit would take what follows a space for a name.
        raise GraphError(f"a SMILES must have no spaces; got {_shown(molecule)}")
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(molecule, sanitize=False) if isinstance(molecule, str) else Chem.Mol(molecule)
        # Before the checks, which take seconds for thousands of atoms.
        if max_nodes is not None and mol is not None and mol.GetNumHeavyAtoms() > max_nodes:
            raise GraphError(
                f"a molecule must have at most {max_nodes} atoms; {_shown(molecule)} has {mol.GetNumHeavyAtoms()}"
            )
        if isinstance(molecule, str):
            mol = Chem.MolFromSmiles(molecule)
        if mol is None:
            raise GraphError(f"the SMILES {_shown(molecule)} does not parse: {_problem(molecule)}")
        for atom in mol.GetAtoms():
            atom.SetIsotope(0)
            atom.SetAtomMapNum(0)
        Chem.RemoveStereochemistry(mol)
        try:
            mol = Chem.MolFromSmiles(Chem.MolToSmiles(Chem.RemoveHs(mol)))
        except (ValueError, RuntimeError) as error:
            raise GraphError(f"the molecule has no canonical SMILES: {error}") from error
    if mol is None or not mol.GetNumAtoms():
        raise GraphError(f"a molecule must have at least one atom; got {_shown(molecule)}")
    pieces = len(Chem.GetMolFrags(mol))
    if pieces > 1:
        raise GraphError(
            f"a molecule must be in one piece; {Chem.MolToSmiles(mol)} is in {pieces}. Pass each on its own"
        )
    return mol


def _shown(molecule: "str | Chem.Mol") -> str:
    if not isinstance(molecule, str):
        return "an RDKit molecule"
    return repr(molecule) if len(molecule) <= _MOST_SHOWN else f"{molecule[:_MOST_SHOWN]!r}..."


def _problem(smiles: str) -> str:
    unchecked = Chem.MolFromSmiles(smiles, sanitize=False)
    problems = [] if unchecked is None else [each.Message() for each in Chem.DetectChemistryProblems(unchecked)]
    return "; ".join(dict.fromkeys(problems)) or "it is no SMILES"


def molecule_record(molecule: "str | Chem.Mol", atom_types: AtomTypes, max_nodes: int) -> GraphRecord:
    """Return the graph of a molecule.

    Args:
        molecule: SMILES, or a molecule of RDKit.
        atom_types: As of `AstroGraphVAEConfig`.
        max_nodes: Most atoms.

    Raises:
        GraphError: If it is no molecule in one piece, has an atom or a bond of another kind, or too many atoms.
    """
    mol = canonical_molecule(molecule, max_nodes)
    smiles = Chem.MolToSmiles(mol)
    if mol.GetNumAtoms() > max_nodes:
        raise GraphError(f"a molecule must have at most {max_nodes} atoms; {smiles} has {mol.GetNumAtoms()}")
    is_aromatic = [atom.GetIsAromatic() for atom in mol.GetAtoms()]
    rings = [set(ring) for ring in mol.GetRingInfo().AtomRings()]
    motifs = _motifs(mol, rings)
    is_aromatic_bond = [bond.GetIsAromatic() for bond in mol.GetBonds()]
    Chem.Kekulize(mol, clearAromaticFlags=True)
    order = _drawing_order(mol)
    place = {atom: at for at, atom in enumerate(order)}
    bonds = sorted((*_bond(bond, place, smiles), is_aromatic_bond[bond.GetIdx()]) for bond in mol.GetBonds())
    orders = [1.5 if bond[3] else bond[2] for bond in bonds]
    codes = {tuple(kind): code for code, kind in enumerate(atom_types, start=1)}
    atoms = [mol.GetAtomWithIdx(atom) for atom in order]
    features = np.zeros((len(order), len(NODE_FEATURES)), dtype=np.float32)
    for at, atom in enumerate(atoms):
        in_ring = any(atom.GetIdx() in ring for ring in rings)
        features[at] = _features(atom, is_aromatic[atom.GetIdx()], in_ring)
    features[:, _FEATURE["place_sin_0"] :] = _place_waves(len(order))
    members = np.zeros((len(motifs), len(order)), dtype=bool)
    for row, (_, inside) in enumerate(motifs):
        members[row, [place[atom] for atom in inside]] = True
    by_place = sorted(range(len(motifs)), key=lambda row: (motifs[row][0], [-int(each) for each in members[row]]))
    return GraphRecord(
        node_types=np.array([_atom_type(atom, codes, smiles) for atom in atoms], dtype=np.int64),
        node_features=features,
        edge_index=np.array([bond[:2] for bond in bonds], dtype=np.int64).reshape(-1, 2).T,
        edge_types=np.array([bond[2] for bond in bonds], dtype=np.int64),
        edge_features=np.log1p(np.array(orders, dtype=np.float32)).reshape(-1, 1),
        motif_types=np.array([motifs[row][0] for row in by_place], dtype=np.int64),
        motif_nodes=members[by_place],
    )


def _drawing_order(mol: "Chem.Mol") -> list[int]:
    degree = [atom.GetDegree() for atom in mol.GetAtoms()]
    start = min(range(len(degree)), key=lambda atom: (degree[atom], atom))
    order, seen, waiting = [], {start}, deque([start])
    while waiting:
        atom = waiting.popleft()
        order.append(atom)
        near = [other.GetIdx() for other in mol.GetAtomWithIdx(atom).GetNeighbors() if other.GetIdx() not in seen]
        for other in sorted(near, key=lambda each: (degree[each], each)):
            seen.add(other)
            waiting.append(other)
    return order


def _bond(bond: "Chem.Bond", place: dict[int, int], smiles: str) -> tuple[int, int, int]:
    name = str(bond.GetBondType())
    if name not in _ORDERS:
        raise GraphError(f"bonds must be single, double or triple; {smiles} has one of type {name}")
    first, second = sorted((place[bond.GetBeginAtomIdx()], place[bond.GetEndAtomIdx()]))
    return second, first, _ORDERS[name]


def _atom_type(atom: "Chem.Atom", codes: dict[tuple[int, ...], int], smiles: str) -> int:
    valence = atom.GetTotalNumHs() + sum(_ORDERS[str(bond.GetBondType())] for bond in atom.GetBonds())
    kind = (atom.GetAtomicNum(), atom.GetFormalCharge(), atom.GetNumRadicalElectrons(), valence)
    if kind not in codes:
        raise GraphError(
            f"atoms must be of config.atom_types; {smiles} has {atom.GetSymbol()} with charge {kind[1]}, "
            f"{kind[2]} radical electrons and valence {kind[3]}. Add {list(kind)} to a new model's atom_types"
        )
    return codes[kind]


def _features(atom: "Chem.Atom", is_aromatic: bool, in_ring: bool) -> np.ndarray:
    row = np.zeros(len(NODE_FEATURES), dtype=np.float32)
    element = atom.GetSymbol() if atom.GetSymbol() in FORMULA_ELEMENTS else "other"
    counts = {"H": atom.GetTotalNumHs()}
    counts[element] = counts.get(element, 0) + 1
    for name, count in counts.items():
        row[_FEATURE[f"log_count_{name}"]] = math.log1p(count)
    charge = atom.GetFormalCharge()
    row[_FEATURE["signed_log_charge"]] = math.copysign(math.log1p(abs(charge)), charge)
    row[_FEATURE["radical_electrons"]] = atom.GetNumRadicalElectrons()
    row[_FEATURE["aromatic"]] = is_aromatic
    row[_FEATURE["in_ring"]] = in_ring
    return row


def _place_waves(count: int) -> np.ndarray:
    """Return sine and cosine of the places 0 to count - 1, shape (count, 2 * NUM_PLACE_WAVES)."""
    angles = np.arange(count)[:, None] / 128.0 ** (np.arange(NUM_PLACE_WAVES) / NUM_PLACE_WAVES)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(count, -1)


def _motifs(mol: "Chem.Mol", rings: list[set[int]]) -> list[tuple[int, tuple[int, ...]]]:
    """Return code and atoms of ring systems, and of the fragments between the bonds that BRICS would cut."""
    systems: list[tuple[set[int], int]] = []
    for ring in rings:
        joined = [each for each in systems if each[0] & ring]
        systems = [each for each in systems if not each[0] & ring]
        systems.append((ring.union(*(each[0] for each in joined)), 1 + sum(each[1] for each in joined)))
    found = {
        tuple(sorted(atoms)): "fused_ring_system"
        if count > 1
        else _RING_MOTIFS.get(len(atoms), "ring_system_7_or_more")
        for atoms, count in systems
    }
    cut = [mol.GetBondBetweenAtoms(*bond).GetIdx() for bond, _ in BRICS.FindBRICSBonds(mol)]
    if cut:
        pieces = Chem.GetMolFrags(Chem.FragmentOnBonds(mol, cut, addDummies=False), sanitizeFrags=False)
    else:
        pieces = (tuple(range(mol.GetNumAtoms())),)
    ring_atoms = set().union(*rings)
    for piece in pieces:
        inside = ring_atoms.intersection(piece)
        found.setdefault(tuple(sorted(piece)), "mixed_fragment" if inside else "acyclic_fragment")
    return [(_MOTIF[name], atoms) for atoms, name in found.items()]


def molecule_of(
    node_types: Sequence[int],
    edge_index: Sequence[Sequence[int]],
    edge_types: Sequence[int],
    atom_types: AtomTypes,
) -> "Chem.Mol | None":
    """Return the molecule of a graph, or None if RDKit does not accept it or a valence is exceeded.

    Args:
        node_types: Shape (N,), 0 is padding.
        edge_index: Shape (2, E).
        edge_types: Shape (E,), 0 is padding.
        atom_types: As of `AstroGraphVAEConfig`.
    """
    require_rdkit()
    atoms = [at for at, code in enumerate(node_types) if code]
    if not atoms or max(node_types) > len(atom_types):
        return None
    used = dict.fromkeys(atoms, 0)
    bonds = {}
    for first, second, order in zip(*edge_index, edge_types, strict=True):
        if order:
            ends = frozenset((first, second))
            if len(ends) < 2 or ends in bonds or not ends <= used.keys() or order > len(_ORDERS):
                return None
            bonds[ends] = order
            used[first] += order
            used[second] += order
    mol = Chem.RWMol()
    place = {}
    for at in atoms:
        number, charge, radicals, valence = atom_types[node_types[at] - 1]
        if used[at] > valence:
            return None
        atom = Chem.Atom(number)
        atom.SetFormalCharge(charge)
        atom.SetNumRadicalElectrons(radicals)
        atom.SetNoImplicit(True)
        atom.SetNumExplicitHs(valence - used[at])
        place[at] = mol.AddAtom(atom)
    for ends, order in bonds.items():
        first, second = (place[at] for at in sorted(ends))
        mol.AddBond(first, second, Chem.BondType.values[order])
    with rdBase.BlockLogs():
        try:
            Chem.SanitizeMol(mol)
        except ValueError:
            return None
    return mol.GetMol()

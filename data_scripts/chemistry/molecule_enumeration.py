"""All small molecules of carbon, nitrogen, oxygen and fluorine that simple rules of stability admit.

The way of GDB (Fink and Reymond, J. Chem. Inf. Model. 47, 342, 2007): connected graphs grow by an atom and the rings
that it closes; bonds are made double or triple and atoms replaced in every way that valence allows and that symmetry
does not repeat; then what is known not to last is left out. The rules here are fewer and simpler than those of GDB.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rdkit import Chem
from rdkit.Chem import rdMolDescriptors


__all__ = ["UNSTABLE", "enumerate_molecules", "is_stable"]

_VALENCE = {"C": 4, "N": 3, "O": 2, "F": 1}
_MOST_NEIGHBORS = 4
_MOST_RINGS = 3
_MOST_SYMMETRIES = 10_000

UNSTABLE = {
    "cumulated double bonds": "*=*=*",
    "triple bond in a ring": "*#;@*",
    "double bond at a ring of three": "[r3]=*",
    "two double bonds in a ring of four": "*1=*~*=*~1",
    "aromatic ring of other than five or six atoms": "[a;!r5;!r6]",
    "two heteroatoms beside each other in a ring of three or four": "[!#6;r3,r4]@[!#6;r3,r4]",
    "peroxide": "O-O",
    "fluorine on a heteroatom": "F-[O,N,n]",
    "nitrogen with oxygen, but in an oxime or an aromatic ring": "[NX3,n]-O",
    "nitrogen with nitrogen, but in a hydrazone or an aromatic ring": "[NX3,n]-[NX3]",
    "two heteroatoms beside each other in an aromatic ring, both without a double bond": "[nX3,o]:[nX3,o]",
    "azo or nitroso group": "N=[N,O]",
    "chain of three heteroatoms outside an aromatic ring": "[!#6]~[!#6]~[!#6;A]",
    "imine without a group on nitrogen, but in an amidine": "[NX2H]=[C;!$(C-N)]",
    "imine of an aromatic ring, a tautomer of its amine": "N=c",
    "enol": "[OX2H]-C=[C,N]",
    "enamine with hydrogen on nitrogen": "[NX3;!H0]-C=C",
    "hemiacetal, aminal or geminal diol": "[OX2H,NX3;!H0]-[CX4]-[O,N]",
    "fluorine beside oxygen or nitrogen on a saturated carbon": "F-[CX4]-[O,N]",
    "orthoester or orthoamide": "[O,N]-[CX4](-[O,N])-[O,N]",
    "heteroatom on an alkyne": "[O,N,F]-C#C",
    "cyanate or cyanogen fluoride": "[O,F]-C#N",
    "acyl or imidoyl fluoride": "F-C=[O,N]",
    "carbonic or carbamic acid": "[OX2H]-C(=O)-[O,N]",
}
"""What does not last, or changes into a tautomer that is here too: SMARTS by name."""

_PATTERNS = {name: Chem.MolFromSmarts(smarts) for name, smarts in UNSTABLE.items()}


def is_stable(mol: Chem.Mol) -> bool:
    """Whether no pattern of `UNSTABLE` is in a molecule."""
    return not any(mol.HasSubstructMatch(pattern) for pattern in _PATTERNS.values())


def enumerate_molecules(most_heavy_atoms: int) -> list[str]:
    """Return canonical SMILES, without stereo, of all molecules that the rules admit.

    Args:
        most_heavy_atoms: Largest number of atoms that are not hydrogen, at least 1.

    Returns:
        Each molecule once, by number of atoms and then in the order of the alphabet; all Kekule forms of an aromatic
        molecule are one.

    Raises:
        ValueError: If `most_heavy_atoms` is below 1.
    """
    if most_heavy_atoms < 1:
        raise ValueError(f"most_heavy_atoms must be at least 1; got {most_heavy_atoms}. 7 gives some thousands.")
    found: list[str] = []
    skeletons = {"C": _Skeleton(1, ())}
    for _ in range(most_heavy_atoms):
        of_size = {smiles for skeleton in skeletons.values() for smiles in _molecules_of(skeleton)}
        found += sorted(of_size)
        skeletons = {key: grown for skeleton in skeletons.values() for key, grown in _grown(skeleton)}
    return found


@dataclass(frozen=True)
class _Skeleton:
    """A connected graph: atoms counted from 0, and the two atoms of each bond."""

    atoms: int
    bonds: tuple[tuple[int, int], ...]

    def to_mol(self, elements: Sequence[str] | None = None, orders: Sequence[int] | None = None) -> Chem.Mol:
        mol = Chem.RWMol()
        for element in elements or "C" * self.atoms:
            mol.AddAtom(Chem.Atom(element))
        for (first, second), order in zip(self.bonds, orders or [1] * len(self.bonds), strict=True):
            mol.AddBond(first, second, Chem.BondType.values[order])
        Chem.SanitizeMol(mol)
        return mol


def _grown(skeleton: _Skeleton) -> Iterator[tuple[str, _Skeleton]]:
    """Skeletons with one more atom, which is bonded to one or more of the others, by their canonical SMILES."""
    degrees = [0] * skeleton.atoms
    for bond in skeleton.bonds:
        for atom in bond:
            degrees[atom] += 1
    free = [atom for atom, degree in enumerate(degrees) if degree < _MOST_NEIGHBORS]
    rings = len(skeleton.bonds) - skeleton.atoms + 1
    for count in range(1, min(_MOST_NEIGHBORS, _MOST_RINGS - rings + 1) + 1):
        for neighbors in itertools.combinations(free, count):
            bonds = (*skeleton.bonds, *((atom, skeleton.atoms) for atom in neighbors))
            grown = _Skeleton(skeleton.atoms + 1, bonds)
            yield Chem.MolToSmiles(grown.to_mol()), grown


def _is_strained(mol: Chem.Mol) -> bool:
    """Whether a ring of three or four has a bond in common with another, or an atom with another such ring."""
    rings = [set(ring) for ring in mol.GetRingInfo().AtomRings()]
    return any(
        len(one & two) > 1 if max(len(one), len(two)) > 4 else bool(one & two)
        for one, two in itertools.combinations(rings, 2)
        if min(len(one), len(two)) <= 4
    )


def _molecules_of(skeleton: _Skeleton) -> set[str]:
    mol = skeleton.to_mol()
    if _is_strained(mol):
        return set()
    found = set()
    for orders, elements in _decorated(skeleton, mol):
        molecule = skeleton.to_mol(elements, orders)
        if is_stable(molecule):
            found.add(Chem.MolToSmiles(molecule))
    return found


def _decorated(skeleton: _Skeleton, mol: Chem.Mol) -> Iterator[tuple[tuple[int, ...], tuple[str, ...]]]:
    """Bond orders and elements in all ways that valence allows, one of those that symmetry makes equal."""
    bridgeheads: list[int] = []
    rdMolDescriptors.CalcNumBridgeheadAtoms(mol, bridgeheads)  # type: ignore[arg-type]
    ring_bonds = [mol.GetBondWithIdx(place).IsInRing() for place in range(len(skeleton.bonds))]
    place_of = {frozenset(bond): place for place, bond in enumerate(skeleton.bonds)}
    symmetries = [
        (atoms, tuple(place_of[frozenset(atoms[atom] for atom in bond)] for bond in skeleton.bonds))
        for atoms in mol.GetSubstructMatches(mol, uniquify=False, maxMatches=_MOST_SYMMETRIES)
    ]
    neighbors: list[list[tuple[int, int]]] = [[] for _ in range(skeleton.atoms)]
    for place, (first, second) in enumerate(skeleton.bonds):
        neighbors[first].append((second, place))
        neighbors[second].append((first, place))
    for orders in _bond_orders(skeleton, ring_bonds, set(bridgeheads)):
        if any(tuple(orders[place] for place in bonds) < orders for _, bonds in symmetries):
            continue
        same = [atoms for atoms, bonds in symmetries if tuple(orders[place] for place in bonds) == orders]
        for elements in _elements(neighbors, orders, ring_bonds):
            if all(tuple(elements[atom] for atom in atoms) >= elements for atoms in same):
                yield orders, elements


def _bond_orders(skeleton: _Skeleton, ring_bonds: list[bool], bridgeheads: set[int]) -> Iterator[tuple[int, ...]]:
    """Orders of which an atom has at most one above 1; none of a bridgehead (Bredt), no triple bond in a ring."""

    def extend(orders: tuple[int, ...], taken: frozenset[int]) -> Iterator[tuple[int, ...]]:
        place = len(orders)
        if place == len(skeleton.bonds):
            yield orders
            return
        yield from extend((*orders, 1), taken)
        ends = skeleton.bonds[place]
        if not taken.intersection(ends) and not bridgeheads.intersection(ends):
            for order in (2,) if ring_bonds[place] else (2, 3):
                yield from extend((*orders, order), taken.union(ends))

    return extend((), frozenset())


def _elements(
    neighbors: list[list[tuple[int, int]]], orders: tuple[int, ...], ring_bonds: list[bool]
) -> Iterator[tuple[str, ...]]:
    """Elements that have the valence for their bonds, and no bond of two heteroatoms that never lasts."""
    used = [sum(orders[place] for _, place in around) for around in neighbors]

    def may_bond(one: str, two: str, place: int) -> bool:
        if "C" in (one, two):
            return True
        if orders[place] == 1:
            return {one, two} in ({"N"}, {"N", "O"})
        return one == two == "N" and ring_bonds[place]

    def extend(elements: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        atom = len(elements)
        if atom == len(neighbors):
            yield elements
            return
        before = [(elements[other], place) for other, place in neighbors[atom] if other < atom]
        for element, valence in _VALENCE.items():
            if used[atom] <= valence and all(may_bond(element, other, place) for other, place in before):
                yield from extend((*elements, element))

    return extend(())

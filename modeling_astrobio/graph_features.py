"""What the numbers of a graph mean: kinds of nodes, edges and motifs, and the features of a node.

Molecules and metabolic networks share one form. An atom is described by the formula it brings, its hydrogens
included, as a compound is by its own.
"""

__all__ = [
    "DEFAULT_ATOM_TYPES",
    "EDGE_TYPES",
    "FORMULA_ELEMENTS",
    "MOTIF_TYPES",
    "NODE_FEATURES",
    "NUM_PLACE_WAVES",
]


# Elements of QM9, ZINC and of the formulas in metabolic models; all others are counted together.
FORMULA_ELEMENTS = (
    *("H", "B", "C", "N", "O", "F", "Na", "Mg", "Si", "P", "S", "Cl", "K", "Ca", "Mn", "Fe", "Co", "Ni", "Cu", "Zn"),
    *("Se", "Br", "Mo", "I", "W", "other"),
)
# Of the place in which the decoder draws an atom, counted from 0: sin and cos of place / 128^(i / 6) (after Vaswani et
# al. 2017, arXiv:1706.03762); 0 in networks, which have no such order. It belongs to the atom, whatever the order of
# the arrays, so that nothing depends on that; with it a latent can say what is drawn when.
NUM_PLACE_WAVES = 6
# Counts are log(1 + count), the charge is sign(q) log(1 + |q|), the others are 0 or 1 but for the radical electrons.
NODE_FEATURES = (
    *(f"log_count_{element}" for element in FORMULA_ELEMENTS),
    "signed_log_charge",
    "radical_electrons",
    "aromatic",
    "in_ring",
    "reaction_reversible",
    "compound_external",
    "candidate",
    *(f"place_{wave}_{number}" for number in range(NUM_PLACE_WAVES) for wave in ("sin", "cos")),
)
# Code of an edge is its place; bonds are those of the Kekule form. Code 0 is padding, or no edge.
EDGE_TYPES = ("none", "single", "double", "triple", "substrate", "product")
MOTIF_TYPES = (
    "none",
    "ring_system_small",
    "ring_system_5",
    "ring_system_6",
    "ring_system_7_or_more",
    "fused_ring_system",
    "acyclic_fragment",
    "mixed_fragment",
    "pathway",
)
# Atomic number, formal charge, radical electrons, total valence: the orders of all bonds, those to hydrogens included.
DEFAULT_ATOM_TYPES = (
    *((5, 0, 0, 3), (5, -1, 0, 4)),
    *((6, 0, 0, 4), (6, -1, 0, 3), (6, 1, 0, 3), (6, 0, 1, 3), (6, 0, 2, 2)),
    *((7, 0, 0, 3), (7, 1, 0, 4), (7, -1, 0, 2), (7, 0, 1, 2), (7, 0, 2, 1)),
    *((8, 0, 0, 2), (8, -1, 0, 1), (8, 1, 0, 3), (8, 0, 1, 1)),
    (9, 0, 0, 1),
    (14, 0, 0, 4),
    *((15, 0, 0, 3), (15, 0, 0, 5), (15, 1, 0, 4)),
    *((16, 0, 0, 2), (16, 0, 0, 4), (16, 0, 0, 6), (16, -1, 0, 1), (16, 1, 0, 3)),
    (17, 0, 0, 1),
    (34, 0, 0, 2),
    (35, 0, 0, 1),
    (53, 0, 0, 1),
)

"""Molecules as sequences of actions: draw an atom, bond it to earlier atoms, draw the next one, stop.

Atoms come in an order in which each has a bond to an earlier one; the bonds of an atom follow it, by ascending place
of the earlier atom. So a molecule in a given order is one sequence, and its probability is that of the sequence.
Hydrogens are what is left of the valence at the end.

Shape suffixes: B molecules, N atoms, S actions, A atom types, C = A + 1 + 3 N actions that there are.
"""

from typing import NamedTuple

import torch
from torch.nn.functional import pad

from .configuration_astro_graph_vae import AstroGraphVAEConfig


__all__ = ["BOND_ORDERS", "ActionSequences", "MoleculeGrammar", "MoleculeState", "are_atoms_and_bonds"]

BOND_ORDERS = 3


def are_atoms_and_bonds(
    node_types: torch.LongTensor, edge_index: torch.LongTensor, edge_types: torch.LongTensor, num_atom_types: int
) -> torch.BoolTensor:
    """Return whether graphs have nothing but atoms, padding after them, and bonds of two of them, each once.

    Args:
        node_types: Shape (B, N), 0 is padding.
        edge_index: Shape (B, 2, E).
        edge_types: Shape (B, E), 0 is padding.
        num_atom_types: Node types above are no atoms.

    Returns:
        Shape (B,).
    """
    batch, nodes = node_types.shape
    is_atom, is_bond = node_types > 0, edge_types > 0
    rows = torch.arange(batch, device=node_types.device)[:, None].expand_as(edge_types)
    later, earlier = edge_index.amax(1), edge_index.amin(1)
    times_BNN = torch.zeros(batch, nodes, nodes, dtype=torch.long, device=node_types.device)
    times_BNN = times_BNN.index_put((rows, later, earlier), is_bond.long(), accumulate=True)
    joins_atoms = is_atom.gather(1, later) & (later > earlier) & (edge_types <= BOND_ORDERS)
    return (
        (node_types <= num_atom_types).all(-1)
        & (is_atom[:, :-1] | ~is_atom[:, 1:]).all(-1)
        & (joins_atoms | ~is_bond).all(-1)
        & (times_BNN <= 1).flatten(1).all(-1)
    )


class ActionSequences(NamedTuple):
    """The actions of molecules, and what was there before each of them.

    Attributes:
        actions: Codes of actions, int64, shape (B, S); the stop is the last, and what follows it is 0.
        is_action: Whether there is an action, bool, shape (B, S).
        node_count: Atoms before the action, int64, shape (B, S).
        row_bonds: Bonds of the last atom before the action, int64, shape (B, S).
        last_target: Place of the atom of the latest of these, -1 if there is none, int64, shape (B, S).
        residual: Valence that each atom has left before the action, 0 where there is no atom yet, int64, shape
            (B, S, N).
        row_end: Place in the sequence of the last action that is about an atom, int64, shape (B, N); 0 where there is
            no atom.
    """

    actions: torch.LongTensor
    is_action: torch.BoolTensor
    node_count: torch.LongTensor
    row_bonds: torch.LongTensor
    last_target: torch.LongTensor
    residual: torch.LongTensor
    row_end: torch.LongTensor


class MoleculeGrammar:
    """Which actions may follow which.

    An action is an integer: `a` draws an atom of type `a` (from 0), `num_atom_types` stops, and
    `num_atom_types + 1 + 3 * j + order - 1` bonds the last atom to the one at place `j`.

    Args:
        config: Atom types and the most atoms of a molecule.
    """

    def __init__(self, config: AstroGraphVAEConfig):
        self.num_atom_types = len(config.atom_types)
        self.stop = self.num_atom_types
        self.first_bond = self.num_atom_types + 1
        self.max_nodes = config.max_nodes
        self.valences = [kind[3] for kind in config.atom_types]

    def valence_table(self, device: torch.device | None = None) -> torch.LongTensor:
        """Return the total valence of each atom type, shape (A,)."""
        return torch.tensor(self.valences, device=device)

    def admitted(
        self,
        node_count: torch.LongTensor,
        row_bonds: torch.LongTensor,
        last_target: torch.LongTensor,
        residual: torch.LongTensor,
    ) -> torch.BoolTensor:
        """Return the actions after which every valence holds and a connected molecule can still be reached.

        Some action is always admitted, and a stop admits no other.

        Args:
            node_count: Atoms so far, shape (...).
            row_bonds: Bonds of the last atom so far, shape (...).
            last_target: Place of the atom of the latest of these, or -1, shape (...).
            residual: Valence left of each atom, shape (..., N).

        Returns:
            Shape (..., C).
        """
        device, nodes = residual.device, residual.shape[-1]
        places = torch.arange(nodes, device=device)
        last = node_count - 1
        is_empty, is_first = node_count == 0, node_count == 1
        # An atom must be bonded before anything else; the first one has nothing to be bonded to.
        is_bonded = is_first | (row_bonds > 0)
        has_room = node_count < self.max_nodes
        may_grow = is_empty | (is_bonded & has_room & (residual.sum(-1) > 0))
        bonds_itself = self.valence_table(device) > 0
        atoms = may_grow[..., None] & (bonds_itself | is_empty[..., None])
        stop = is_bonded & ~is_empty
        free = torch.minimum(residual.gather(-1, last.clamp(min=0)[..., None]), residual)
        is_target = (places < last[..., None]) & (places > last_target[..., None])
        orders = torch.arange(1, BOND_ORDERS + 1, device=device)
        bonds = is_target[..., None] & (orders <= free[..., None])
        return torch.cat([atoms, stop[..., None], bonds.flatten(-2)], dim=-1)

    def expressible(self, node_count: torch.LongTensor, nodes: int) -> torch.BoolTensor:
        """Return the actions that mean anything: atoms that there is room for, bonds to atoms that are there, a stop.

        Args:
            node_count: Atoms so far, shape (...).
            nodes: Size of N.

        Returns:
            Shape (..., C).
        """
        places = torch.arange(nodes, device=node_count.device)
        atoms = (node_count < self.max_nodes)[..., None].expand(*node_count.shape, self.num_atom_types)
        stop = torch.ones_like(node_count, dtype=torch.bool)[..., None]
        bonds = (places < node_count[..., None] - 1)[..., None].expand(*node_count.shape, nodes, BOND_ORDERS)
        return torch.cat([atoms, stop, bonds.flatten(-2)], dim=-1)

    def sequences(
        self, node_types: torch.LongTensor, edge_index: torch.LongTensor, edge_types: torch.LongTensor
    ) -> ActionSequences:
        """Return the actions that draw molecules.

        Args:
            node_types: Shape (B, N), 0 is padding, `i + 1` is atom type `i`; in the order of drawing.
            edge_index: Places of the two atoms of a bond, shape (B, 2, E).
            edge_types: Bond orders, shape (B, E), 0 is padding.
        """
        batch, nodes = node_types.shape
        device = node_types.device
        rows = torch.arange(batch, device=device)[:, None].expand_as(edge_types)
        later, earlier = edge_index.amax(1), edge_index.amin(1)
        # Bond orders by later and earlier atom; padding adds nothing.
        orders_BNN = torch.zeros(batch, nodes, nodes, dtype=torch.long, device=device)
        orders_BNN = orders_BNN.index_put((rows, later, earlier), edge_types, accumulate=True)
        is_atom, is_bond = node_types > 0, orders_BNN > 0
        bonds_of_row = is_bond.sum(-1)
        rank_BNN = is_bond.flatten(1).cumsum(-1).view_as(orders_BNN)
        places = torch.arange(nodes, device=device)
        # An atom comes after the atoms and the bonds of all rows before its own.
        atom_step = places + bonds_of_row.cumsum(-1) - bonds_of_row
        bond_step = places[:, None] + rank_BNN
        counts = is_atom.sum(-1)
        stop_step = counts + bonds_of_row.sum(-1)
        # From the shapes, so that nothing waits for values.
        steps = nodes + edge_types.shape[1] + 1
        # One step more takes what is no action.
        codes = torch.zeros(batch, steps + 1, dtype=torch.long, device=device)
        codes = codes.scatter(1, torch.where(is_atom, atom_step, steps), node_types - 1)
        bond_codes = self.first_bond + BOND_ORDERS * places + orders_BNN - 1
        codes = codes.scatter(1, torch.where(is_bond, bond_step, steps).flatten(1), bond_codes.flatten(1))
        codes = codes.scatter(1, stop_step[:, None], self.stop)[:, :steps]
        is_action = torch.arange(steps, device=device) <= stop_step[:, None]
        return self._with_states(torch.where(is_action, codes, 0), is_action, node_types, atom_step + bonds_of_row)

    def _with_states(
        self, codes: torch.LongTensor, is_action: torch.BoolTensor, node_types: torch.LongTensor, row_end: torch.Tensor
    ) -> ActionSequences:
        """Add what was there before each action: sums over the actions before it."""
        nodes = node_types.shape[1]
        is_atom = is_action & (codes < self.stop)
        is_bond = is_action & (codes >= self.first_bond)
        target = (codes - self.first_bond).clamp(min=0) // BOND_ORDERS
        order = torch.where(is_bond, (codes - self.first_bond) % BOND_ORDERS + 1, 0)
        count_after = is_atom.long().cumsum(-1)
        node_count = count_after - is_atom.long()
        last_after = (count_after - 1).clamp(min=0)
        used = torch.zeros(*codes.shape, nodes, dtype=torch.long, device=codes.device)
        used = used.scatter_add(-1, target[..., None], order[..., None])
        used = used.scatter_add(-1, last_after[..., None], order[..., None])
        used_before = used.cumsum(1) - used
        there = torch.arange(nodes, device=codes.device) < node_count[..., None]
        valence = torch.cat([codes.new_zeros(1), self.valence_table(codes.device)])[
            torch.where(node_types <= self.num_atom_types, node_types, 0)
        ]
        residual = torch.where(there, valence[:, None] - used_before, 0)
        bonds_before = is_bond.long().cumsum(-1) - is_bond.long()
        # Those that were there when the row was opened; counts never fall, so the largest is the latest.
        at_opening = pad(torch.where(is_atom, bonds_before, 0), (1, -1)).cummax(-1).values
        last_target = torch.where(pad(is_bond, (1, -1)), pad(target, (1, -1)), -1)
        end = torch.where(node_types > 0, row_end, 0)
        return ActionSequences(codes, is_action, node_count, bonds_before - at_opening, last_target, residual, end)


class MoleculeState:
    """Molecules that are being drawn, all by one action at a time.

    Args:
        grammar: What the actions mean.
        batch: Number of molecules.
        device: Where its tensors are.

    Attributes:
        node_types: Shape (B, N), 0 where there is no atom yet.
        node_count: Shape (B,).
        row_bonds: Bonds of the last atom, shape (B,).
        last_target: Place of the atom of the latest of these, or -1, shape (B,).
        residual: Valence left of each atom, shape (B, N); below 0 where a bond was drawn that the valence forbids.
        is_done: Whether a molecule has stopped, shape (B,).
    """

    def __init__(self, grammar: MoleculeGrammar, batch: int, device: torch.device | None = None):
        self.grammar = grammar
        zeros = torch.zeros(batch, grammar.max_nodes, dtype=torch.long, device=device)
        self.node_types, self.residual = zeros, zeros.clone()
        self.node_count, self.row_bonds = zeros[:, 0].clone(), zeros[:, 0].clone()
        self.last_target = torch.full_like(self.node_count, -1)
        self.is_done = torch.zeros_like(self.node_count, dtype=torch.bool)
        self._valence = grammar.valence_table(device)
        self._bonds: list[torch.Tensor] = []

    def admitted(self) -> torch.BoolTensor:
        """Return the actions that may come next, shape (B, C)."""
        return self.grammar.admitted(self.node_count, self.row_bonds, self.last_target, self.residual)

    def expressible(self) -> torch.BoolTensor:
        """Return the actions that mean anything, shape (B, C)."""
        return self.grammar.expressible(self.node_count, self.grammar.max_nodes)

    def apply(self, actions: torch.LongTensor) -> None:
        """Take an action of each molecule, shape (B,); one that has stopped takes none."""
        grammar = self.grammar
        goes_on = ~self.is_done
        is_atom = goes_on & (actions < grammar.stop)
        is_bond = goes_on & (actions >= grammar.first_bond)
        self.is_done = self.is_done | (actions == grammar.stop)
        place = torch.where(is_atom, self.node_count, 0)[:, None]
        atom = actions.clamp(max=grammar.num_atom_types - 1)
        fill = is_atom[:, None] & (torch.arange(grammar.max_nodes, device=actions.device) == place)
        self.node_types = torch.where(fill, atom[:, None] + 1, self.node_types)
        self.residual = torch.where(fill, self._valence[atom][:, None], self.residual)
        self.node_count = self.node_count + is_atom
        target = torch.where(is_bond, (actions - grammar.first_bond) // BOND_ORDERS, 0)
        order = torch.where(is_bond, (actions - grammar.first_bond) % BOND_ORDERS + 1, 0)
        last = (self.node_count - 1).clamp(min=0)
        self.residual = self.residual.scatter_add(1, torch.stack([last, target], 1), -torch.stack([order, order], 1))
        self.row_bonds = torch.where(is_atom, 0, self.row_bonds + is_bond)
        self.last_target = torch.where(is_atom, -1, torch.where(is_bond, target, self.last_target))
        self._bonds.append(torch.stack([last, target, order], -1))

    def graphs(self) -> dict[str, torch.Tensor]:
        """Return the molecules that have stopped as `node_types` (B, N), `edge_index` (B, 2, E), `edge_types` (B, E).

        One that has not is empty. Bonds that were drawn twice stand twice.
        """
        done = self.is_done[:, None]
        bonds = torch.stack(self._bonds, 1) if self._bonds else self.node_types.new_zeros(len(self.is_done), 0, 3)
        orders = torch.where(done, bonds[..., 2], 0)
        # Bonds to the front, in the order in which they were drawn.
        front = (orders == 0).long().argsort(dim=1, stable=True)
        most = int((orders > 0).sum(1).max()) if orders.numel() else 0
        front = front[:, :most]
        orders = orders.gather(1, front)
        ends = bonds[..., :2].gather(1, front[..., None].expand(-1, -1, 2)) * (orders > 0)[..., None]
        nodes = torch.where(done, self.node_types, 0)
        return {
            "node_types": nodes[:, : max(1, int((nodes > 0).sum(1).max()))],
            "edge_index": ends.transpose(1, 2),
            "edge_types": orders,
        }

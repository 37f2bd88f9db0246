"""Decoder of molecules: a causal transformer over the actions that draw them, after the latent tokens.

The scores of bonds point at earlier atoms; the scores of all actions are normalised together, over those that valence
and connectedness admit, so that the likelihood is exact on valid molecules and every sample is one.

Shape suffixes: B molecules, N atoms, K latent tokens, S actions, D width, H heads, A atom types, C actions that there
are.
"""

import math
from typing import NamedTuple

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import is_tracing

from .configuration_astro_graph_vae import AstroGraphVAEConfig
from .molecule_grammar import BOND_ORDERS, ActionSequences, MoleculeGrammar, MoleculeState, are_atoms_and_bonds


__all__ = ["DecodedMolecules", "MoleculeDecoder", "MoleculeDecoderLayer", "checked_most_atoms", "draw_choices"]

_MOST_VALENCE = 8
_FARTHEST = 31  # atoms; how far back a bond reaches is told apart up to here


class DecodedMolecules(NamedTuple):
    """What a decoder says of molecules.

    Attributes:
        log_likelihood: Of the atoms and bonds, given the latent tokens, shape (B,), nats.
        violation: Minus the logarithm of the probability that no action breaks valence or connectedness, if it were
            not excluded, along the molecules' own actions, shape (B,), nats. 0 is best.
    """

    log_likelihood: torch.Tensor
    violation: torch.Tensor


def checked_most_atoms(temperature: float, max_nodes: int | None, limit: int) -> int:
    """Return the most atoms of a molecule that is drawn: `max_nodes`, or `limit`, that of the config.

    Raises:
        ValueError: If `temperature` or `max_nodes` is out of range.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(
            f"temperature must be above 0 and finite; got {temperature}. Pass greedy=True for the likeliest."
        )
    most = limit if max_nodes is None else max_nodes
    if not 1 <= most <= limit:
        raise ValueError(f"max_nodes must be from 1 to {limit}, that of the config; got {max_nodes}.")
    return most


def draw_choices(
    scores: torch.Tensor, temperature: float, greedy: bool, generator: torch.Generator | None
) -> torch.LongTensor:
    """Return a choice for each row of scores (..., C), drawn with the softmax of scores / temperature, or the best."""
    if greedy:
        return scores.argmax(-1)
    # The best score is 0, so that no temperature makes it infinite.
    chances = ((scores - scores.amax(-1, keepdim=True)) / temperature).softmax(-1)
    return torch.multinomial(chances.flatten(0, -2), 1, generator=generator).view(scores.shape[:-1])


class MoleculeDecoderLayer(GradientCheckpointingLayer):
    """Attention to what came before, then a feed-forward block, each added to its input after a norm.

    Args:
        config: Sizes.
        layer_idx: Which layer it is, for the cache.
        is_causal: Whether a position sees only those before it and itself.
    """

    def __init__(self, config: AstroGraphVAEConfig, layer_idx: int, is_causal: bool = True):
        super().__init__()
        width = config.hidden_size
        self.layer_idx, self.num_heads, self.is_causal = layer_idx, config.num_attention_heads, is_causal
        self.attention_dropout = config.attention_dropout
        self.attention_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_output = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = nn.Sequential(
            nn.Linear(width, config.intermediate_size), nn.GELU(), nn.Linear(config.intermediate_size, width)
        )
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, states_BSD: torch.Tensor, cache: Cache | None = None) -> torch.Tensor:
        """Return new states; `cache` holds keys and values of the positions before these, and gets theirs."""
        heads = (3, self.num_heads, states_BSD.shape[-1] // self.num_heads)
        qkv = self.query_key_value(self.attention_norm(states_BSD)).unflatten(-1, heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
        attended = nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            dropout_p=self.attention_dropout if self.training else 0.0,
            # One new position sees all; several new ones are the first ones.
            is_causal=self.is_causal and query.shape[2] > 1,
        )
        states_BSD = states_BSD + self.dropout(self.attention_output(attended.transpose(1, 2).flatten(2)))
        return states_BSD + self.dropout(self.mlp(self.mlp_norm(states_BSD)))


class MoleculeDecoder(nn.Module):
    """Score molecules by the actions that draw them, and draw new ones.

    Args:
        config: Sizes, atom types, and whether actions that break valence or connectedness are excluded.
    """

    def __init__(self, config: AstroGraphVAEConfig):
        super().__init__()
        self.grammar = MoleculeGrammar(config)
        self.is_constrained = config.constrain_decoding
        width = config.hidden_size
        self.atom_embedding = nn.Embedding(self.grammar.num_atom_types, width)
        self.bond_embedding = nn.Embedding(BOND_ORDERS, width)
        self.place_embedding = nn.Embedding(config.max_nodes, width)
        self.target_embedding = nn.Embedding(config.max_nodes, width)
        self.valence_embedding = nn.Embedding(_MOST_VALENCE + 1, width)
        self.layers = nn.ModuleList(
            MoleculeDecoderLayer(config, layer_idx) for layer_idx in range(config.num_decoder_layers)
        )
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.atom_head = nn.Linear(width, self.grammar.num_atom_types + 1)
        self.bond_query = nn.Linear(width, BOND_ORDERS * width)
        self.bond_key = nn.Linear(width, width)
        self.valence_bias = nn.Embedding(_MOST_VALENCE + 1, BOND_ORDERS)
        self.distance_bias = nn.Embedding(_FARTHEST + 1, BOND_ORDERS)

    def forward(
        self,
        tokens: torch.Tensor,
        node_types: torch.LongTensor,
        edge_index: torch.LongTensor,
        edge_types: torch.LongTensor,
    ) -> DecodedMolecules:
        """Score molecules.

        Args:
            tokens: Opened latent tokens, shape (B, K, D).
            node_types: Shape (B, N), 0 is padding; in the order of drawing.
            edge_index: Shape (B, 2, E).
            edge_types: Bond orders, shape (B, E), 0 is padding.

        Raises:
            ValueError: If a graph is no molecule that can be drawn; the message names the first one.
        """
        sequences = self._sequences(node_types, edge_index, edge_types)
        states_BSD = self._read(tokens, sequences)
        keys_BND = self._atom_keys(states_BSD, sequences.row_end)
        scores_BSC = self._scores(states_BSD, keys_BND, sequences.node_count, sequences.residual)
        expressible = self.grammar.expressible(sequences.node_count, node_types.shape[1])
        admitted = self._admitted(sequences)
        chosen = scores_BSC.gather(-1, sequences.actions[..., None])[..., 0]
        whole = scores_BSC.masked_fill(~expressible, -torch.inf).logsumexp(-1)
        within = scores_BSC.masked_fill(~admitted, -torch.inf).logsumexp(-1)
        normaliser = within if self.is_constrained else whole
        none = torch.zeros((), dtype=chosen.dtype, device=chosen.device)
        return DecodedMolecules(
            torch.where(sequences.is_action, chosen - normaliser, none).sum(-1),
            torch.where(sequences.is_action, whole - within, none).sum(-1),
        )

    def _sequences(
        self, node_types: torch.LongTensor, edge_index: torch.LongTensor, edge_types: torch.LongTensor
    ) -> ActionSequences:
        grammar = self.grammar
        if node_types.shape[1] > grammar.max_nodes:
            raise ValueError(
                f"node_types must have at most max_nodes ({grammar.max_nodes}) atoms; got {node_types.shape[1]}."
            )
        sequences = grammar.sequences(node_types, edge_index, edge_types)
        possible = self._admitted(sequences).gather(-1, sequences.actions[..., None])[..., 0] | ~sequences.is_action
        is_drawn = are_atoms_and_bonds(node_types, edge_index, edge_types, grammar.num_atom_types) & possible.all(-1)
        if not is_tracing(node_types) and not is_drawn.all():
            raise ValueError(
                f"graphs must be molecules of config.atom_types in the order of the processor; graph "
                f"{int((~is_drawn).long().argmax())} is none that can be drawn. Pass what the processor gives."
            )
        return sequences

    def _admitted(self, sequences: ActionSequences) -> torch.BoolTensor:
        # Padding admits all, so that no row is without an action.
        admitted = self.grammar.admitted(
            sequences.node_count, sequences.row_bonds, sequences.last_target, sequences.residual
        )
        return admitted | ~sequences.is_action[..., None]

    def _read(self, tokens: torch.Tensor, sequences: ActionSequences) -> torch.Tensor:
        """Return the states from which each action is chosen, shape (B, S, D): before the first stand the tokens."""
        embedded = self._embed(
            sequences.actions[:, :-1],
            sequences.node_count[:, 1:] - 1,
            sequences.residual[:, 1:],
        )
        states = torch.cat([tokens, embedded], dim=1)
        for layer in self.layers:
            states = layer(states)
        return self.norm(states[:, tokens.shape[1] - 1 :])

    def _embed(self, actions: torch.Tensor, last: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Embed actions (...) by what they are, and by the last atom and its valence left after them."""
        grammar = self.grammar
        last = last.clamp(0, grammar.max_nodes - 1)
        is_atom = (actions < grammar.stop)[..., None]
        bond = (actions - grammar.first_bond).clamp(min=0)
        atom = self.atom_embedding(actions.clamp(max=grammar.num_atom_types - 1))
        to = self.bond_embedding(bond % BOND_ORDERS) + self.target_embedding(bond // BOND_ORDERS)
        left = residual.gather(-1, last.clamp(max=residual.shape[-1] - 1)[..., None])[..., 0]
        placed = self.place_embedding(last) + self.valence_embedding(left.clamp(0, _MOST_VALENCE))
        return torch.where(is_atom, atom, to) + placed

    def _atom_keys(self, states_BSD: torch.Tensor, row_end: torch.LongTensor) -> torch.Tensor:
        """Return what bonds point at, shape (B, N, D): the state after the last action about each atom."""
        at = (row_end + 1).clamp(max=states_BSD.shape[1] - 1)
        return self.bond_key(states_BSD.gather(1, at[..., None].expand(-1, -1, states_BSD.shape[-1])))

    def _scores(
        self,
        states_BSD: torch.Tensor,
        keys_BND: torch.Tensor,
        node_count: torch.LongTensor,
        residual: torch.LongTensor,
    ) -> torch.Tensor:
        """Return the scores of all actions, shape (B, S, C), at least in float32."""
        width, nodes = states_BSD.shape[-1], keys_BND.shape[1]
        query = self.bond_query(states_BSD).unflatten(-1, (BOND_ORDERS, width))
        bonds = torch.einsum("bsod,bnd->bsno", query, keys_BND) / width**0.5
        places = torch.arange(nodes, device=states_BSD.device)
        back = (node_count[..., None] - 1 - places).clamp(0, _FARTHEST)
        bonds = bonds + self.distance_bias(back) + self.valence_bias(residual.clamp(0, _MOST_VALENCE))
        scores = torch.cat([self.atom_head(states_BSD), bonds.flatten(-2)], dim=-1)
        return scores.to(torch.promote_types(scores.dtype, torch.float32))

    @torch.no_grad()
    def sample(
        self,
        tokens: torch.Tensor,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        greedy: bool = False,
        max_nodes: int | None = None,
    ) -> dict[str, torch.Tensor]:
        """Draw a molecule of each row of latent tokens.

        Args:
            tokens: Opened latent tokens, shape (B, K, D).
            generator: Of the random numbers, on the device of the tokens.
            temperature: Divides the scores.
            greedy: Whether to take the likeliest action each time instead of drawing one.
            max_nodes: Most atoms of a molecule, at most that of the config.

        Returns:
            `node_types` (B, N), `edge_index` (B, 2, E) and `edge_types` (B, E), 0 is padding. Without the constraint
            a molecule that did not stop in time is empty.

        Raises:
            ValueError: If `temperature` or `max_nodes` is out of range.
        """
        grammar = self.grammar
        most = checked_most_atoms(temperature, max_nodes, grammar.max_nodes)
        state = MoleculeState(grammar, len(tokens), tokens.device)
        keys = tokens.new_zeros(len(tokens), grammar.max_nodes, tokens.shape[-1])
        cache = DynamicCache()
        states = tokens
        # Valid molecules end by themselves; others get five actions an atom.
        for _ in range(most * (most + 1) // 2 + 1 if self.is_constrained else 5 * most):
            for layer in self.layers:
                states = layer(states, cache)
            last = self.norm(states[:, -1:])
            is_last = torch.arange(grammar.max_nodes, device=tokens.device) == state.node_count[:, None] - 1
            keys = torch.where(is_last[..., None], self.bond_key(last), keys)
            scores = self._scores(last, keys, state.node_count[:, None], state.residual[:, None])[:, 0]
            allowed = state.admitted() if self.is_constrained else state.expressible()
            allowed[:, : grammar.num_atom_types] &= (state.node_count < most)[:, None]
            scores = scores.masked_fill(~allowed, -torch.inf)
            actions = draw_choices(scores, temperature, greedy, generator)
            state.apply(torch.where(state.is_done, grammar.stop, actions))
            if state.is_done.all():
                break
            states = self._embed(actions, state.node_count - 1, state.residual)[:, None]
        return state.graphs()

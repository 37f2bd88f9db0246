"""AstroGraphVAE that completes metabolic networks: ranks missing reactions, gives directions, picks compounds.

All three read the graph around a reaction, the first node of its graph (`reaction_neighbourhood.NeighbourhoodIndex`).

Shape suffixes: B graphs, N nodes, E edges, M motifs, D width, G questions, P prior features, C compounds.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers.utils import ModelOutput, can_return_tuple, is_tracing
from transformers.utils.output_capturing import capture_outputs

from .configuration_astro_graph_vae import AstroGraphVAEConfig
from .graph_encoder import GraphEncoder
from .modeling_astro_graph_vae import AstroGraphVAEPreTrainedModel


__all__ = ["DIRECTIONS", "PRIOR_FEATURES", "AstroGraphVAEForReactionCompletion", "ReactionCompletionOutput"]

DIRECTIONS = ("backward", "reversible", "forward")
# Logarithms of the share of known organisms that have a candidate, and of that share weighted by their similarity; how
# many compounds a candidate would bring into the network, and how many it would make or use that nothing else does.
PRIOR_FEATURES = ("log_share", "log_similar_share", "new_compounds", "mended_dead_ends")
_PRIOR_WEIGHTS = (0.5, 1.0, -1.0, 1.0)
# A compound of one reaction is in one of some hundreds, ATP in one of three.
_DEGREE_SCALE = (1.0, -6.0)


@dataclass
class ReactionCompletionOutput(ModelOutput):
    """What the model says of reactions.

    Attributes:
        loss: Sum of the losses of the labels that were given, nats.
        candidate_loss: Cross-entropy of the candidates of a question, mean of the questions, nats.
        direction_loss: Cross-entropy of the direction, mean of the labelled reactions, nats.
        pointer_loss: Of compounds and their coefficients, mean of the graphs.
        candidate_logits: How much each reaction fits the network, shape (B,).
        direction_logits: Of `DIRECTIONS`, shape (B, 3).
        pointer_logits: Whether a compound belongs to the reaction, shape (B, C).
        pointer_coefficients: Stoichiometric coefficient if it does, negative if consumed, shape (B, C).
        expected_stoichiometry: Probability times coefficient, shape (B, C).
    """

    loss: torch.Tensor | None = None
    candidate_loss: torch.Tensor | None = None
    direction_loss: torch.Tensor | None = None
    pointer_loss: torch.Tensor | None = None
    candidate_logits: torch.Tensor | None = None
    direction_logits: torch.Tensor | None = None
    pointer_logits: torch.Tensor | None = None
    pointer_coefficients: torch.Tensor | None = None
    expected_stoichiometry: torch.Tensor | None = None


class CompoundPointer(nn.Module):
    """Scores every compound of a network for a reaction of which one compound is known.

    To what the graph says it adds the logarithm of the number of a compound's reactions, with a learned factor.
    """

    def __init__(self, config: AstroGraphVAEConfig):
        super().__init__()
        width = config.hidden_size
        self.key_mlp = nn.Sequential(
            nn.Linear(config.num_node_features + 1, width), nn.GELU(), nn.Linear(width, width)
        )
        self.query_proj = nn.Linear(width, 2 * width)
        self.key_bias = nn.Linear(width, 2)
        self.degree_scale = nn.Parameter(torch.tensor(_DEGREE_SCALE))

    def forward(
        self, states_BD: torch.Tensor, features_CF: torch.Tensor, degrees_C: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and signed logarithms of coefficients, each (B, C)."""
        logarithms_C = degrees_C.log1p().to(states_BD.dtype)
        described = torch.cat((features_CF.to(states_BD.dtype), logarithms_C[:, None]), dim=-1)
        keys_CD = self.key_mlp(described)
        queries_B2D = self.query_proj(states_BD).unflatten(-1, (2, -1))
        scores_B2C = queries_B2D @ keys_CD.T * keys_CD.shape[-1] ** -0.5 + self.key_bias(keys_CD).T
        factor, offset = self.degree_scale
        return scores_B2C[:, 0] + factor * logarithms_C + offset, scores_B2C[:, 1]


class AstroGraphVAEForReactionCompletion(AstroGraphVAEPreTrainedModel):
    """Encoder with heads for the candidates of a gap, the direction of a reaction, and the compounds of a new one.

    The encoder is that of `AstroGraphVAEModel`, whose weights can be loaded into it. How many known organisms have a
    candidate, and which direction it has there, are added to the scores with learned factors.
    """

    # The loss is a mean over the batch: the Trainer must divide it by the number of batches accumulated.
    accepts_loss_kwargs = False
    _keys_to_ignore_on_load_unexpected = [r"^(latents|decoder|latent_prior)\.", r"^encoder\.edge_"]

    def __init__(self, config: AstroGraphVAEConfig):
        super().__init__(config)
        width = config.hidden_size
        self.encoder = GraphEncoder(config, with_edge_tokens=False)
        self.candidate_head = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, 1, bias=False))
        self.direction_head = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, len(DIRECTIONS)))
        self.prior_weight = nn.Parameter(torch.tensor(_PRIOR_WEIGHTS))
        self.direction_prior_weight = nn.Parameter(torch.ones(()))
        self.pointer = CompoundPointer(config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            nn.init.ones_(self.direction_prior_weight)
            with torch.no_grad():
                self.prior_weight.copy_(torch.tensor(_PRIOR_WEIGHTS))
        if isinstance(module, CompoundPointer):
            with torch.no_grad():
                module.degree_scale.copy_(torch.tensor(_DEGREE_SCALE))

    def save_pretrained(self, save_directory, **kwargs):
        """Save as `AstroGraphVAEModel` does, with the class that reads these weights in the map."""
        modeling = AstroGraphVAEForReactionCompletion.__module__.rsplit(".", 1)[-1]
        self.config.auto_map = {
            **(getattr(self.config, "auto_map", None) or {}),
            "AutoModelForMultipleChoice": f"{modeling}.AstroGraphVAEForReactionCompletion",
        }
        return super().save_pretrained(save_directory, **kwargs)

    @can_return_tuple
    @capture_outputs
    def forward(
        self,
        node_types: torch.LongTensor,
        node_features: torch.Tensor,
        edge_index: torch.LongTensor,
        edge_types: torch.LongTensor,
        edge_features: torch.Tensor,
        motif_types: torch.LongTensor,
        motif_nodes: torch.BoolTensor,
        prior_features: torch.Tensor | None = None,
        candidate_labels: torch.LongTensor | None = None,
        candidate_offsets: torch.Tensor | None = None,
        direction_prior: torch.Tensor | None = None,
        direction_labels: torch.LongTensor | None = None,
        compound_features: torch.Tensor | None = None,
        compound_degrees: torch.Tensor | None = None,
        pointer_labels: torch.Tensor | None = None,
        **kwargs,
    ) -> ReactionCompletionOutput:
        """Judge the reaction that is the first node of each graph.

        Args:
            node_types: Shape (B, N), 0 is padding.
            node_features: Shape (B, N, F).
            edge_index: Shape (B, 2, E).
            edge_types: Shape (B, E), 0 is padding.
            edge_features: Shape (B, E, 1).
            motif_types: Shape (B, M), 0 is padding.
            motif_nodes: Shape (B, M, N).
            prior_features: As `PRIOR_FEATURES`, shape (B, P); without them nothing is added.
            candidate_labels: Shape (G,), which of its B / G candidates answers a question; the candidates of a
                question stand one after another.
            candidate_offsets: Added to the logits in the loss alone, shape (B,): minus the logarithm of how many times
                each was expected to be drawn, so that a few candidates stand for all (Bengio and Senecal 2003).
            direction_prior: Log-probabilities of `DIRECTIONS` in known organisms, shape (B, 3).
            direction_labels: Places in `DIRECTIONS`, shape (B,); -100 is not known.
            compound_features: Of the compounds to point at, shape (C, F).
            compound_degrees: Number of reactions of each, shape (C,).
            pointer_labels: Their coefficients in the reaction, shape (B, C), negative if consumed, 0 if not in it.

        Raises:
            ValueError: If a first node is no reaction, or the candidates are not as many for each question.
        """
        self._check_first_nodes(node_types)
        encoding = self.encoder(
            node_types=node_types,
            node_features=node_features,
            edge_index=edge_index,
            edge_types=edge_types,
            edge_features=edge_features,
            motif_types=motif_types,
            motif_nodes=motif_nodes,
        )
        asked_BD = encoding.token_states[:, 1 + motif_types.shape[1]]
        states = torch.cat((encoding.token_states[:, 0], asked_BD), dim=-1)
        candidate_logits = self.candidate_head(states)[:, 0]
        if prior_features is not None:
            candidate_logits = candidate_logits + prior_features.to(candidate_logits) @ self.prior_weight
        direction_logits = self.direction_head(states)
        if direction_prior is not None:
            direction_logits = direction_logits + self.direction_prior_weight * direction_prior.to(direction_logits)
        pointer_logits = coefficients = expected = None
        if compound_features is not None:
            if compound_degrees is None:
                raise ValueError("compound_degrees must be given with compound_features; got none.")
            pointer_logits, logarithms = self.pointer(asked_BD, compound_features, compound_degrees)
            coefficients = logarithms.sign() * logarithms.abs().expm1()
            expected = pointer_logits.sigmoid() * coefficients
        candidate_loss = direction_loss = pointer_loss = None
        if candidate_labels is not None:
            offset_logits = candidate_logits if candidate_offsets is None else candidate_logits + candidate_offsets
            candidate_loss = _question_loss(offset_logits, candidate_labels)
        if direction_labels is not None:
            direction_loss = nn.functional.cross_entropy(direction_logits, direction_labels, ignore_index=-100)
        if pointer_labels is not None:
            if pointer_logits is None:
                raise ValueError("compound_features must be given with pointer_labels; got none.")
            pointer_loss = _pointer_loss(pointer_logits, logarithms, pointer_labels)
        losses = [each for each in (candidate_loss, direction_loss, pointer_loss) if each is not None]
        return ReactionCompletionOutput(
            loss=torch.stack(losses).sum() if losses else None,
            candidate_loss=candidate_loss,
            direction_loss=direction_loss,
            pointer_loss=pointer_loss,
            candidate_logits=candidate_logits,
            direction_logits=direction_logits,
            pointer_logits=pointer_logits,
            pointer_coefficients=coefficients,
            expected_stoichiometry=expected,
        )

    def _check_first_nodes(self, node_types: torch.LongTensor) -> None:
        if is_tracing(node_types):
            return
        other = (node_types[:, 0] != self.config.reaction_type).nonzero()
        if len(other):
            row = int(other[0])
            raise ValueError(
                f"the first node of each graph must be a reaction (type {self.config.reaction_type}); graph {row} has "
                f"type {int(node_types[row, 0])}. Make graphs with NeighbourhoodIndex.record."
            )


def _question_loss(logits_B: torch.Tensor, labels_G: torch.LongTensor) -> torch.Tensor:
    if not len(labels_G) or len(logits_B) % len(labels_G):
        raise ValueError(
            f"candidates must be as many for each question; got {len(logits_B)} graphs for {len(labels_G)} questions."
        )
    return nn.functional.cross_entropy(logits_B.view(len(labels_G), -1), labels_G)


def _pointer_loss(logits_BC: torch.Tensor, logarithms_BC: torch.Tensor, labels_BC: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of membership, and squared error of the members' signed logarithms, both summed over C."""
    is_member = labels_BC != 0
    membership = nn.functional.binary_cross_entropy_with_logits(logits_BC, is_member.to(logits_BC), reduction="none")
    wanted = labels_BC.sign() * labels_BC.abs().log1p()
    error = (logarithms_BC - wanted.to(logarithms_BC)).square() * is_member
    return (membership + error).sum(-1).mean()

"""AstroLLM: a causal decoder with rotary positions, grouped-query attention, RMSNorm and SwiGLU.

Weights are named as in transformers' Llama, so checkpoints convert without touching a tensor. Numerics follow the
input's precision: where Llama casts to float32, this promotes to at least float32, so that float64 stays float64.

Shape suffixes: B batch, N heads, T tokens, D head width.
"""

from collections.abc import Callable

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation import GenerationMixin
from transformers.integrations import use_kernel_forward_from_hub
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.modeling_layers import GenericForSequenceClassification, GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, dynamic_rope_update
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple
from transformers.utils.generic import is_flash_attention_requested, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .attention_eager import eager_attention_forward
from .attention_packing import document_positions, flash_varlen_arguments
from .configuration_astro_llm import AstroLLMConfig
from .gate_swiglu import swiglu
from .loss_chunked_cross_entropy import (
    ChunkedLossHead,
    chunked_head_cross_entropy,
    cross_entropy,
    shift_labels_left,
)
from .norm_rms import rms_norm


__all__ = [
    "AstroLLMForCausalLM",
    "AstroLLMForSequenceClassification",
    "AstroLLMModel",
    "AstroLLMPreTrainedModel",
]


@use_kernel_forward_from_hub("RMSNorm")
class AstroLLMRMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension (Zhang and Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, hidden_size: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.variance_epsilon = eps

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return rms_norm(hidden_states, self.weight, self.variance_epsilon)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, eps={self.variance_epsilon}"


class AstroLLMRotaryEmbedding(nn.Module):
    """Cosines and sines of the rotary position embedding (Su et al. 2021, arXiv:2104.09864)."""

    def __init__(self, config: AstroLLMConfig):
        super().__init__()
        self.config = config
        self.max_seq_len_cached = config.max_position_embeddings
        self.original_max_seq_len = config.max_position_embeddings
        self.rope_type = config.rope_parameters["rope_type"]
        init: Callable = self.compute_default_rope_parameters
        if self.rope_type != "default":
            init = ROPE_INIT_FUNCTIONS[self.rope_type]
        inv_freq, self.attention_scaling = init(config)
        self.inv_freq = nn.Buffer(inv_freq, persistent=False)
        self.original_inv_freq = nn.Buffer(inv_freq.clone(), persistent=False)

    def _apply(self, fn, recurse=True):
        """Move with the model, but never below float32: bfloat16 frequencies put place 4000 radians off."""
        tables = {name: getattr(self, name) for name in ("inv_freq", "original_inv_freq")}
        super()._apply(fn, recurse)
        for name, table in tables.items():
            moved = getattr(self, name)
            if torch.promote_types(moved.dtype, torch.float32) != moved.dtype:
                setattr(self, name, table.to(moved.device))
        return self

    @staticmethod
    def compute_default_rope_parameters(config: AstroLLMConfig, **kwargs) -> tuple[torch.Tensor, float]:
        """Return theta^(-2i / head_dim) for i = 0, 1, ..., shape (head_dim / 2,), and the scale of cosines, 1."""
        exponent = torch.arange(0, config.head_dim, 2, dtype=torch.float) / config.head_dim
        return 1.0 / (config.rope_parameters["rope_theta"] ** exponent), 1.0

    @torch.no_grad()
    @dynamic_rope_update
    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and sines, each (B or 1, T, head_dim) in `x`'s dtype, for int64 positions (B or 1, T)."""
        wide = torch.promote_types(x.dtype, torch.float32)
        angles = position_ids[..., None].to(wide) * self.inv_freq.to(device=x.device, dtype=wide)
        angles = torch.cat((angles, angles), dim=-1)
        return (angles.cos() * self.attention_scaling).to(x.dtype), (angles.sin() * self.attention_scaling).to(x.dtype)


def rotate(x_BNTD: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate each pair (i, i + D/2) of the last dimension by its angle; `cos` and `sin` are (B or 1, 1, T, D)."""
    first, second = x_BNTD.chunk(2, dim=-1)
    return x_BNTD * cos + torch.cat((-second, first), dim=-1) * sin


def grouped_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Unpack[TransformersKwargs],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention written out, of groups of query heads; the oracle of the other kernels.

    Args:
        query: Shape (B, N, T, D).
        key: Shape (B, N_kv, S, D); each head serves N / N_kv query heads.
        value: As `key`.
        attention_mask: Added to the scores, shape (B or 1, 1, T, S): 0 keeps, a large negative number hides.
        scaling: Multiplies the scores.
        dropout: Probability of dropping an attention weight.

    Returns:
        Output, shape (B, T, N, D), and attention weights, shape (B, N, T, S).
    """
    groups = module.num_key_value_groups
    key, value = (heads.repeat_interleave(groups, dim=1) for heads in (key, value))
    return eager_attention_forward(module, query, key, value, attention_mask, scaling, dropout)


class AstroLLMAttention(nn.Module):
    """Grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245), full or in a sliding window."""

    def __init__(self, config: AstroLLMConfig, layer_idx: int):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_dropout
        self.is_causal = True
        self.sliding_window = config.sliding_window if config.layer_types[layer_idx] == "sliding_attention" else None

        query_width = config.num_attention_heads * self.head_dim
        key_value_width = config.num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, query_width, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.hidden_size, key_value_width, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.hidden_size, key_value_width, bias=config.attention_bias)
        self.o_proj = nn.Linear(query_width, config.hidden_size, bias=config.attention_output_bias)
        self.use_qk_norm = config.use_qk_norm
        if self.use_qk_norm:
            self.q_norm = AstroLLMRMSNorm(self.head_dim, eps=config.rms_norm_eps)
            self.k_norm = AstroLLMRMSNorm(self.head_dim, eps=config.rms_norm_eps)

    def rotate(
        self, query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Rotate queries (B, N, T, D) and keys (B, N_kv, T, D); cosines and sines are (B or 1, T, D)."""
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        return rotate(query, cos, sin), rotate(key, cos, sin)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend; `hidden_states` is (B, T, H), `position_embeddings` the cosines and sines, (B or 1, T, D)."""
        input_shape = hidden_states.shape[:-1]
        head_shape = (*input_shape, -1, self.head_dim)
        query_BTND = self.q_proj(hidden_states).view(head_shape)
        key_BTND = self.k_proj(hidden_states).view(head_shape)
        value_BNTD = self.v_proj(hidden_states).view(head_shape).transpose(1, 2)
        if self.use_qk_norm:
            query_BTND, key_BTND = self.q_norm(query_BTND), self.k_norm(key_BTND)

        query_BNTD, key_BNTD = self.rotate(query_BTND.transpose(1, 2), key_BTND.transpose(1, 2), *position_embeddings)
        if past_key_values is not None:
            key_BNTD, value_BNTD = past_key_values.update(key_BNTD, value_BNTD, self.layer_idx)

        attend: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, grouped_attention_forward
        )
        output_BTND, weights = attend(
            self,
            query_BNTD,
            key_BNTD,
            value_BNTD,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            sliding_window=self.sliding_window,
            **kwargs,
        )
        return self.o_proj(output_BTND.reshape(*input_shape, -1).contiguous()), weights


class AstroLLMMLP(nn.Module):
    """SwiGLU feed-forward block (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, config: AstroLLMConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)
        self.act_fn = ACT2FN[config.hidden_act]
        self.is_swiglu = config.hidden_act == "silu"

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        gate, up = self.gate_proj(hidden_states), self.up_proj(hidden_states)
        return self.down_proj(swiglu(gate, up) if self.is_swiglu else self.act_fn(gate) * up)


class AstroLLMDecoderLayer(GradientCheckpointingLayer):
    """Pre-norm residual layer: attention, then feed-forward."""

    def __init__(self, config: AstroLLMConfig, layer_idx: int):
        super().__init__()
        self.self_attn = AstroLLMAttention(config, layer_idx)
        self.mlp = AstroLLMMLP(config)
        self.input_layernorm = AstroLLMRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = AstroLLMRMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        attended, _ = self.self_attn(
            self.input_layernorm(hidden_states),
            position_embeddings=position_embeddings,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            **kwargs,
        )
        hidden_states = hidden_states + attended
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))


class AstroLLMPreTrainedModel(PreTrainedModel):
    """Weights, initialisation and saving shared by the AstroLLM classes."""

    config: AstroLLMConfig
    config_class = AstroLLMConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["AstroLLMDecoderLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _can_compile_fullgraph = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": AstroLLMDecoderLayer, "attentions": AstroLLMAttention}

    def save_pretrained(self, save_directory, **kwargs):
        """Save as `PreTrainedModel.save_pretrained` does, with the whole map of auto classes in the config.

        Shards are of 5 GB unless `max_shard_size` says otherwise, so that a download can go on where it broke off.
        transformers writes into `auto_map` only the class that is saved, so that `AutoModel` could not open a saved
        `AstroLLMForCausalLM` where this package is not installed.
        """
        modeling = AstroLLMPreTrainedModel.__module__.rsplit(".", 1)[-1]
        configuration = AstroLLMConfig.__module__.rsplit(".", 1)[-1]
        self.config.auto_map = {
            **(getattr(self.config, "auto_map", None) or {}),
            "AutoConfig": f"{configuration}.AstroLLMConfig",
            "AutoModel": f"{modeling}.AstroLLMModel",
            "AutoModelForCausalLM": f"{modeling}.AstroLLMForCausalLM",
            "AutoModelForSequenceClassification": f"{modeling}.AstroLLMForSequenceClassification",
        }
        return super().save_pretrained(save_directory, **{"max_shard_size": "5GB", **kwargs})


class AstroLLMModel(AstroLLMPreTrainedModel):
    """The decoder without a head."""

    def __init__(self, config: AstroLLMConfig):
        super().__init__(config)
        self.padding_idx = config.pad_token_id
        self.vocab_size = config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, self.padding_idx)
        self.layers = nn.ModuleList(AstroLLMDecoderLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = AstroLLMRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = AstroLLMRotaryEmbedding(config)
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPast:
        """Run the decoder.

        Args:
            input_ids: Token ids, shape (B, T), int64; either these or `inputs_embeds`.
            attention_mask: Shape (B, S), nonzero where a token is real, over past and present; or a complete mask of
                rank 4; or one such mask for each layer type.
            position_ids: Shape (B or 1, T), int64. Without a cache, positions that start again begin a new document,
                and no document sees another. `None` counts from the end of the cache.
            past_key_values: Keys and values of earlier tokens.
            inputs_embeds: Shape (B, T, H).
            use_cache: Whether to return keys and values.

        Returns:
            `last_hidden_state`, shape (B, T, H), and `past_key_values`.

        Raises:
            ValueError: If not exactly one of `input_ids` and `inputs_embeds` is given.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("You must specify exactly one of input_ids or inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)

        documents = None
        if past_key_values is None and not isinstance(attention_mask, dict):
            documents = document_positions(position_ids, attention_mask, inputs_embeds.shape[0])
        if documents is not None and "cu_seq_lens_q" not in kwargs and is_flash_attention_requested(self.config):
            kwargs = {**flash_varlen_arguments(documents), **kwargs}

        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            seen = past_key_values.get_seq_length() if past_key_values is not None else 0
            position_ids = (torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device) + seen).unsqueeze(0)

        masks = self._attention_masks(inputs_embeds, attention_mask, position_ids, past_key_values, documents)
        position_embeddings = self.rotary_emb(inputs_embeds, position_ids=position_ids)
        hidden_states = inputs_embeds
        for layer, layer_type in zip(self.layers, self.config.layer_types, strict=True):
            hidden_states = layer(
                hidden_states,
                attention_mask=masks[layer_type],
                past_key_values=past_key_values,
                position_embeddings=position_embeddings,
                **kwargs,
            )
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden_states), past_key_values=past_key_values)

    def _attention_masks(self, inputs_embeds, attention_mask, position_ids, past_key_values, documents) -> dict:
        """The mask of each layer type in use, in the form the attention kernel wants."""
        if isinstance(attention_mask, dict):
            return attention_mask
        arguments = {
            "config": self.config,
            "inputs_embeds": inputs_embeds,
            "attention_mask": attention_mask if documents is None else None,
            "position_ids": position_ids if documents is None else documents,
            # A cache that begins here is empty, and with one no border between documents would be drawn.
            "past_key_values": past_key_values if documents is None else None,
        }
        create = {"full_attention": create_causal_mask, "sliding_attention": create_sliding_window_causal_mask}
        return {layer_type: create[layer_type](**arguments) for layer_type in set(self.config.layer_types)}


class AstroLLMForCausalLM(AstroLLMPreTrainedModel, GenerationMixin):
    """The decoder with a language-modelling head."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}
    _pp_plan = {"lm_head": (["hidden_states"], ["logits"])}
    _fsdp_plan = {"lm_head": "keep_full_weight"}

    def __init__(self, config: AstroLLMConfig):
        super().__init__(config)
        self.model = AstroLLMModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = ChunkedLossHead(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        skip_logits: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CausalLMOutputWithPast:
        """Predict the next token at each place.

        Args:
            input_ids: Token ids, shape (B, T), int64; either these or `inputs_embeds`.
            attention_mask: Shape (B, S), nonzero where a token is real.
            position_ids: Shape (B or 1, T), int64; positions that start again begin a new document.
            past_key_values: Keys and values of earlier tokens.
            inputs_embeds: Shape (B, T, H).
            labels: Shape (B, T), int64, not shifted; -100 where no prediction counts.
            use_cache: Whether to return keys and values.
            logits_to_keep: Logits of only the last so many places, or of the places indexed; 0 means all.
            skip_logits: Whether to return `logits=None` and compute the loss in chunks of
                `config.loss_chunk_size` tokens; `None` means in training. Ignored without `labels`.
            **kwargs: `num_items_in_batch` divides the sum of the loss; `shift_labels`, shape (B, T), are labels
                already shifted; others go to the attention kernel.

        Returns:
            `loss` where labels are given, `logits`, shape (B, T, V), or `None`, and `past_key_values`.
        """
        outputs: BaseModelOutputWithPast = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state
        wants_loss = labels is not None or kwargs.get("shift_labels") is not None
        if skip_logits is None:
            skip_logits = self.training

        loss = logits = None
        if not (wants_loss and skip_logits and self.config.loss_chunk_size > 0):
            if isinstance(logits_to_keep, int):
                logits_to_keep = slice(-logits_to_keep, None) if logits_to_keep else slice(None)
            logits = self.lm_head(hidden_states[:, logits_to_keep, :])
        if wants_loss:
            loss = self._loss(hidden_states, logits, labels, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _get_resized_lm_head(self, old_lm_head, *args, **kwargs):
        """Keep the class of the head, which transformers makes a plain linear layer."""
        resized = super()._get_resized_lm_head(old_lm_head, *args, **kwargs)
        if resized is old_lm_head:
            return resized
        head = ChunkedLossHead(resized.in_features, resized.out_features, bias=False, device="meta")
        head.weight = resized.weight
        head._is_hf_initialized = True  # or the next initialisation would draw its weights anew
        return head

    def _loss(
        self, hidden_states, logits, labels, num_items_in_batch=None, shift_labels=None, ignore_index=-100, **_
    ) -> torch.Tensor:
        """The loss from the logits, or in chunks from the hidden states where `logits` is `None`."""
        if shift_labels is None:
            shift_labels = shift_labels_left(labels, ignore_index)
        if logits is not None:
            return cross_entropy(logits, shift_labels, num_items_in_batch, ignore_index)
        return chunked_head_cross_entropy(
            self.lm_head,
            hidden_states,
            shift_labels,
            chunk_size=self.config.loss_chunk_size,
            num_items_in_batch=num_items_in_batch,
            ignore_index=ignore_index,
            fused=self._tp_size is None,
        )


class AstroLLMForSequenceClassification(GenericForSequenceClassification, AstroLLMPreTrainedModel):
    """The decoder with a linear classifier on the last real token of each sequence."""

    # The loss is a mean over the batch: the Trainer must divide it by the number of batches accumulated.
    accepts_loss_kwargs = False

    def __init__(self, config: AstroLLMConfig):
        # The generic constructor asks AutoModel, which does not know this class where the code came from the Hub.
        AstroLLMPreTrainedModel.__init__(self, config)
        self.num_labels = config.num_labels
        self.model = AstroLLMModel(config)
        self.score = nn.Linear(config.hidden_size, self.num_labels, bias=False)
        self.post_init()

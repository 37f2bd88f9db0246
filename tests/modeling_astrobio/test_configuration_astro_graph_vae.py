"""Presets have the sizes they promise, and a configuration whose sizes do not fit is refused."""

import json

import pytest
import torch
from graph_vae_models import tiny_config
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModel

from modeling_astrobio import ASTRO_GRAPH_VAE_PRESETS, AstroGraphVAEConfig, AstroGraphVAEModel, AstroLLMConfig
from modeling_astrobio.graph_features import DEFAULT_ATOM_TYPES


def test_1b2_has_the_promised_parameters():
    with torch.device("meta"):
        parameters = AstroGraphVAEModel(AstroGraphVAEConfig.from_preset("1b2")).num_parameters()
    assert 1.195e9 <= parameters < 1.205e9


@pytest.mark.parametrize("preset", sorted(ASTRO_GRAPH_VAE_PRESETS))
def test_every_preset_builds_the_same_architecture(preset):
    tiny = AstroGraphVAEConfig.from_preset("tiny")
    config = AstroGraphVAEConfig.from_preset(preset)
    sizes = {"hidden_size", "intermediate_size", "num_attention_heads", "num_encoder_layers", "num_decoder_layers"}
    sizes |= {
        "num_latent_tokens",
        "latent_size",
        "num_prior_components",
        "max_nodes",
        "max_distance",
    }
    changed = {name for name, value in config.to_dict().items() if tiny.to_dict()[name] != value}
    assert changed <= sizes | {"free_bits", "num_random_walk_steps", "num_prior_components", "initializer_range"}
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    assert type(model) is AstroGraphVAEModel


@pytest.mark.parametrize("preset", sorted(ASTRO_GRAPH_VAE_PRESETS))
def test_saved_configuration_round_trips(preset, tmp_path):
    config = AstroGraphVAEConfig.from_preset(
        preset, atom_types=[(6, 0, 0, 4), (8, 0, 0, 2)], structural_encodings=("degree",), free_bits=2
    )
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["atom_types"] == [[6, 0, 0, 4], [8, 0, 0, 2]]
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is AstroGraphVAEConfig
    loaded.name_or_path = config.name_or_path
    assert {**loaded.to_dict(), "auto_map": None} == {**config.to_dict(), "auto_map": None}


def test_node_types_follow_the_atom_types():
    config = tiny_config(atom_types=[[6, 0, 0, 4], [8, 0, 0, 2]])
    assert (config.compound_type, config.reaction_type, config.num_node_types) == (3, 4, 5)
    assert tiny_config().atom_types == [list(kind) for kind in DEFAULT_ATOM_TYPES]
    assert config.num_hidden_layers == config.num_encoder_layers == 3


def test_default_atom_types_of_one_configuration_are_its_own():
    tiny_config().atom_types.append([2, 0, 0, 0])
    tiny_config().atom_types[0][0] = 99
    assert tiny_config().atom_types == [list(kind) for kind in DEFAULT_ATOM_TYPES]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        *(
            ({name: 0}, f"{name} must be at least 1; got 0")
            for name in (
                *("hidden_size", "intermediate_size", "num_attention_heads", "num_encoder_layers"),
                *("num_decoder_layers", "num_latent_tokens", "latent_size", "max_nodes", "max_distance"),
                *("num_random_walk_steps", "num_node_features"),
            )
        ),
        ({"num_attention_heads": 5}, r"hidden_size must be a multiple of num_attention_heads \(5\); got 24"),
        ({"num_edge_types": 5}, "num_edge_types must be at least 6 and num_motif_types at least"),
        ({"num_motif_types": 0}, r"num_motif_types at least \d; got 6 and 0"),
        ({"decoder_type": "twoshot"}, "decoder_type must be autoregressive or one_shot; got 'twoshot'"),
        ({"structural_encodings": ["degree", "laplace"]}, "structural_encodings must be of .*; got 'laplace'"),
        ({"atom_types": []}, "atom_types must name at least one atom type; got none"),
        ({"atom_types": [[6, 0, 4]]}, r"atom_types must hold \[atomic number.*; got \[6, 0, 4\]"),
        ({"atom_types": [[0, 0, 0, 4]]}, r"got \[0, 0, 0, 4\]"),
        ({"atom_types": [[119, 0, 0, 4]]}, r"got \[119, 0, 0, 4\]"),
        ({"atom_types": [[6, 0, -1, 4]]}, r"got \[6, 0, -1, 4\]"),
        ({"atom_types": [[6, 0, 0, 9]]}, r"got \[6, 0, 0, 9\]"),
        ({"atom_types": [[6, 0, 0, -1]]}, r"got \[6, 0, 0, -1\]"),
        ({"atom_types": [[6, 0, 0, 4.0]]}, r"got \[6, 0, 0, 4.0\]"),
        ({"atom_types": [[6, 0, 0, 4], [6, 0, 0, 4]]}, "atom_types must name each atom type once; got one twice"),
        ({"hidden_dropout": 1.5}, "hidden_dropout"),
        ({"attention_dropout": -0.1}, "attention_dropout"),
        ({"layer_norm_eps": -1e-5}, "layer_norm_eps"),
        ({"initializer_range": 2.0}, "initializer_range"),
        ({"free_bits": -1.0}, "free_bits"),
        ({"kl_weight": -1.0}, "kl_weight"),
        ({"hidden_size": 24.5}, "hidden_size"),
        ({"constrain_decoding": "yes"}, "constrain_decoding"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(overrides, message):
    with pytest.raises(StrictDataclassError, match=message):
        tiny_config(**overrides)


def test_size_that_no_longer_fits_is_refused_before_saving(tmp_path):
    config = tiny_config()
    config.num_attention_heads = 5
    with pytest.raises(StrictDataclassError, match="hidden_size must be a multiple"):
        config.save_pretrained(tmp_path)


@pytest.mark.parametrize("config_class", [AstroGraphVAEConfig, AstroLLMConfig])
@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("huge", {}, r"preset must be one of \['.*'nano'.*'tiny'\]; got 'huge'"),
        ("tiny", {"hiden_size": 48}, "'hiden_size' is not a field of Astro.*Config. Did you mean 'hidden_size'"),
        ("tiny", {"zzz": 48}, "'zzz' is not a field of Astro.*Config.$"),
    ],
)
def test_unknown_preset_or_field_is_refused(config_class, preset, overrides, message):
    with pytest.raises(ValueError, match=message):
        config_class.from_preset(preset, **overrides)


def test_preset_takes_the_number_of_labels():
    assert AstroGraphVAEConfig.from_preset("tiny", num_labels=3).num_labels == 3

"""A text that names a star is found by any of the star's names."""

import pyarrow as pa
import pytest

from data_scripts.derived.mentioned_stars import MentionedStars
from data_scripts.identity import IdentityTable
from data_scripts.splits import SPLIT_NAMES, split_of


TABLE = pa.table(
    {
        "kepid": [900000001, 900000002],
        "kepoi_name": ["K30001.01", "K30002.01"],
        "pl_name": ["Testar-107 b", "GJ 99667 C c"],
        "hostname": ["Testar-107", "GJ 99667 C"],
    }
)


@pytest.fixture(scope="module")
def mentioned():
    return MentionedStars(IdentityTable.from_tables({"made.up": TABLE}))


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("same period as KOI-30001, see KIC 1", "testar-107"),
        ("blend with KIC 900000001.", "testar-107"),
        ("Transits of Testar-107b: a search", "testar-107"),
        ("(Testar 107 b)", "testar-107"),
        ("refer to 900000001 as on-target", "testar-107"),
        ("ephemeris match on 12/Testar 107", "testar-107"),
        ("Testar-107A is near", "testar-107"),
        ("K30002.01 has it too", "gj 99667 c"),
        ("light of GJ 99667 C c; nothing else", "gj 99667 c"),
    ],
)
def test_names_are_found_in_a_text(mentioned, text, host):
    own = split_of(host)
    assert [mentioned.elsewhere(text, split) for split in SPLIT_NAMES] == [split != own for split in SPLIT_NAMES]


@pytest.mark.parametrize(
    "text", ["", "  ,; ", "a V-shaped transit", "KIC 900000003", "900000003 counts", "107 b", "30001"]
)
def test_other_words_name_no_star(mentioned, text):
    assert not any(mentioned.elsewhere(text, split) for split in SPLIT_NAMES)


def test_two_stars_of_two_splits_are_elsewhere_in_each():
    names = {
        split: next(f"Testar-{n}" for n in range(200) if split_of(f"Testar-{n}") == split) for split in SPLIT_NAMES
    }
    mentioned = MentionedStars(IdentityTable.from_tables({"made.up": pa.table({"hostname": list(names.values())})}))
    text = f"{names['train']} and {names['test']}"
    assert [mentioned.elsewhere(text, split) for split in SPLIT_NAMES] == [True, True, True]
    assert [mentioned.elsewhere(names["test"], split) for split in SPLIT_NAMES] == [True, True, False]

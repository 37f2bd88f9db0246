"""Species of an organism's scientific name, so that strains of one species are one object."""

import re
from collections.abc import Sequence


__all__ = ["species_name"]

# Words that stand where an epithet would: the species is not determined.
OPEN_NAMES = {"aff.", "archaeon", "bacterium", "cf.", "clone", "phage", "sp.", "spp.", "symbiont", "virus"}


def species_name(organism: str | None, lineage: Sequence[str] = ()) -> str | None:
    """Return the binomial of an organism, or its whole name where the species is not determined.

    Archives give a strain its own taxon, and most do not say of which species it is. The genus stands in the lineage,
    the species is genus and epithet: "Escherichia coli str. K-12" is Escherichia coli.

    Args:
        organism: Scientific name, with or without strain.
        lineage: Taxa above the organism; a first word that is not among them is not taken as a genus.
    """
    if not organism:
        return None
    name, within = organism, 1
    while within:
        # Parentheses stand within parentheses in names of viruses: "Influenza A virus (A/Brisbane/59/2007(H1N1))".
        name, within = re.subn(r"\s*\([^()]*\)", "", name)
    name = name.strip() or organism
    words = name.split()
    before = words[:1] if words[0] == "Candidatus" else []
    words = words[len(before) :]
    if len(words) > 1 and words[1] in OPEN_NAMES:
        return organism
    if len(words) < 2 or not re.fullmatch(r"[a-z][a-z-]+", words[1]):
        return name
    genus = words[0].strip("[]'\"")
    if not genus[:1].isupper() or (lineage and not any(genus in taxon.split() for taxon in lineage)):
        return name
    return " ".join([*before, *words[:2]])

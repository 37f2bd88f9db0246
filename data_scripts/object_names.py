"""One spelling for the names of stars and species."""

import re
import unicodedata


__all__ = ["normalise_species", "normalise_star_name", "plain_text", "star_of_planet"]

_DASHES = re.compile("[\u2010-\u2015\u2212\ufe63\uff0d]")
# Abbreviations of the NASA Exoplanet Archive, in the order of the alphabet.
_GREEK = {
    "alpha": ("α", "alf"),
    "beta": ("β", "bet"),
    "gamma": ("γ", "gam"),
    "delta": ("δ", "del"),
    "epsilon": ("ε", "eps"),
    "zeta": ("ζ", "zet"),
    "eta": ("η", "eta"),
    "theta": ("θ", "the"),
    "iota": ("ι", "iot"),
    "kappa": ("κ", "kap"),
    "lambda": ("λ", "lam"),
    "mu": ("μ", "mu"),
    "nu": ("ν", "nu"),
    "xi": ("ξ", "xi"),
    "omicron": ("ο", "omi"),
    "pi": ("π", "pi"),
    "rho": ("ρ", "rho"),
    "sigma": ("σ", "sig"),
    "tau": ("τ", "tau"),
    "upsilon": ("υ", "ups"),
    "phi": ("φ", "phi"),
    "chi": ("χ", "chi"),
    "psi": ("ψ", "psi"),
    "omega": ("ω", "ome"),
}
_GREEK_SPELLINGS = {spelling: short for name, (letter, short) in _GREEK.items() for spelling in (name, letter, short)}
_GREEK_NAME = re.compile(
    rf"({'|'.join(sorted(_GREEK_SPELLINGS, key=len, reverse=True))})[ -]*(\d?)[ -]+([a-z]{{3}}\b.*)"
)
_ZONE_NAME = re.compile(r"(bd|cd|cpd)\s*([+-])\s*(\d{1,2})[\s°d]\s*0*(\d+)(.*)")
# Words of names that are no species of cellular life, or no species at all; the name then counts as a whole.
_UNDIVIDED_NAME = re.compile(
    r"virus|phage|viroid|satellite|plasmid|vector|synthetic|uncultured|unidentified|unclassified|metagenome|"
    r"environmental|\bsp\.?(?= |$)|\b(?:bacterium|archaeon)\b"
)


def plain_text(text: str) -> str:
    """Return the text in Unicode's compatible form, with plain hyphens, spaces for underscores, no needless space."""
    if not text.isascii():
        text = _DASHES.sub("-", unicodedata.normalize("NFKC", text))
    return " ".join(text.replace("_", " ").split())


def star_of_planet(planet_name: str) -> str:
    """Return the star of a planet's or candidate's name.

    The planet's letter goes, `Kepler-90 b` and `WASP-94Ab`, and the candidate's number, `KOI-351.01`; letters of
    binary components stay: `HD 41004 A b` is a planet of `HD 41004 A`.
    """
    name = re.sub(r"\s*\(AB\)", "", planet_name)
    name = re.sub(r"(?<=\d)\.\d\d$", "", name)
    name = re.sub(r"(?<=\S)\s+[b-z]$", "", name)
    return re.sub(r"(?<=\d)[b-i]$|(?<=\d[A-D])[b-i]$|(?<=\d\s[A-D])[b-i]$", "", name)


def normalise_star_name(name: str) -> str:
    """Return a key that is equal for spellings of one star's name.

    `WASP-12`, `WASP 12` and `Wasp12` are one, as are `β Pic`, `beta Pic` and `bet Pic`. The key is for comparison and
    is not a name that a catalogue uses.
    """
    name = re.sub(r"^(?:\*\*?|V\*|NAME)\s+", "", plain_text(name))
    name = re.sub(r"(?<=\d)([A-D])$", r" \1", name).casefold()
    zone = _ZONE_NAME.fullmatch(name)
    if zone:
        # The sign belongs to the declination; it is no hyphen.
        return f"{zone[1]}{zone[2]}{int(zone[3]):02d} {zone[4]}{zone[5]}".rstrip()
    greek = _GREEK_NAME.fullmatch(name)
    if greek:
        return f"{_GREEK_SPELLINGS[greek[1]]}{greek[2]} {greek[3]}"
    name = re.sub(r"^k2[ -]+(?=\d)", "k2#", name)
    return re.sub(r"(?<=[a-z])[ -]+(?=\d)", "", name).replace("k2#", "k2-")


def normalise_species(organism: str) -> str:
    """Return the species of an organism's name in lower case, without strain, brackets and `Candidatus`.

    `Escherichia coli (strain K12)`, `Escherichia coli O157:H7 str. Sakai` and `escherichia_coli` are one species.
    Names of viruses and of unnamed species (`Vibrio sp. EX25`, `uncultured archaeon`) are kept whole but for a last
    part in parentheses.
    """
    written = re.sub(r"[\[\]']", "", plain_text(organism).split(" (")[0])
    written = re.sub(r"^candidatus ", "", written, flags=re.IGNORECASE).strip()
    name = written.casefold()
    words = written.split()
    if len(words) < 2 or _UNDIVIDED_NAME.search(name) or not re.fullmatch(r"[a-z×][a-z-]*", words[1]):
        return name
    # Names of genomes in Ensembl are all lower case; elsewhere a genus has a capital, "marine archaeon" has none.
    if name != written and not words[0][0].isupper():
        return name
    is_hybrid = words[1] in ("x", "×") and len(words) > 2
    return " ".join(words[: 3 if is_hybrid else 2]).casefold()

"""Small metabolic networks: real reactions of the start of glycolysis and around, with BiGG's formulas and charges."""

from fractions import Fraction

from modeling_astrobio.metabolic_network import Compound, MetabolicNetwork, NetworkReaction


FORMULAS = {
    "glc": ("C6H12O6", 0),
    "g6p": ("C6H11O9P", -2),
    "f6p": ("C6H11O9P", -2),
    "fdp": ("C6H10O12P2", -4),
    "dhap": ("C3H5O6P", -2),
    "g3p": ("C3H5O6P", -2),
    "13dpg": ("C3H4O10P2", -4),
    "3pg": ("C3H4O7P", -3),
    "2pg": ("C3H4O7P", -3),
    "pep": ("C3H2O6P", -3),
    "pyr": ("C3H3O3", -1),
    "lac": ("C3H5O3", -1),
    "atp": ("C10H12N5O13P3", -4),
    "adp": ("C10H12N5O10P2", -3),
    "amp": ("C10H12N5O7P", -2),
    "nad": ("C21H26N7O14P2", -1),
    "nadh": ("C21H27N7O14P2", -2),
    "pi": ("HO4P", -2),
    "h": ("H", 1),
    "h2o": ("H2O", 0),
}
# Reaction to compounds on the left, on the right, and whether it is reversible.
REACTIONS = {
    "HEX": ("atp glc", "adp g6p h", False),
    "PGI": ("g6p", "f6p", True),
    "PFK": ("atp f6p", "adp fdp h", False),
    "FBP": ("fdp h2o", "f6p pi", False),
    "FBA": ("fdp", "dhap g3p", True),
    "TPI": ("dhap", "g3p", True),
    "GAPD": ("g3p nad pi", "13dpg h nadh", True),
    "PGK": ("13dpg adp", "3pg atp", True),
    "PGM": ("3pg", "2pg", True),
    "ENO": ("2pg", "h2o pep", True),
    "PYK": ("adp h pep", "atp pyr", False),
    "LDH": ("h nadh pyr", "lac nad", True),
    "ADK": ("adp adp", "amp atp", True),
    "ATPM": ("atp h2o", "adp h pi", False),
    "PPS": ("atp h2o pyr", "amp h h pep pi", False),
}


def compound(name: str, compartment: str = "c") -> Compound:
    """A compound of the table, as BiGG names it."""
    formula, charge = FORMULAS[name]
    return Compound.of(f"{name}_{compartment}", formula, charge, compartment)


def stoichiometry(left: str, right: str, compartment: str = "c") -> dict[str, Fraction]:
    """Coefficients of names that stand as often as they take part."""
    numbers: dict[str, Fraction] = {}
    for side, sign in ((left, -1), (right, 1)):
        for name in side.split():
            key = f"{name}_{compartment}"
            numbers[key] = numbers.get(key, Fraction()) + sign
    return numbers


def small_network(name: str = "small", leave_out=(), exchanges=("glc", "lac")) -> MetabolicNetwork:
    """The reactions, with a transport and an exchange of what comes in and goes out; the objective is ATPM."""
    reactions = {
        key: NetworkReaction(key, stoichiometry(left, right), -1000.0 if both else 0.0, 1000.0, "Glycolysis")
        for key, (left, right, both) in REACTIONS.items()
        if key not in leave_out
    }
    used = {part.removesuffix("_c") for each in reactions.values() for part in each.stoichiometry}
    compounds = {f"{each}_c": compound(each) for each in sorted(used)}
    for each in exchanges:
        compounds[f"{each}_e"] = compound(each, "e")
        inside, outside = f"{each}_c", f"{each}_e"
        compounds.setdefault(inside, compound(each))
        reactions[f"{each}t"] = NetworkReaction(
            f"{each}t", {outside: Fraction(-1), inside: Fraction(1)}, -1000.0, 1000.0, ""
        )
        reactions[f"EX_{each}"] = NetworkReaction(f"EX_{each}", {outside: Fraction(-1)}, -10.0, 1000.0, "")
    objective = {"ATPM": 1.0} if "ATPM" in reactions else {}
    return MetabolicNetwork(name, compounds, reactions, objective)

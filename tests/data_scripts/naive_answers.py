"""A second, independent way to the answers: reads the context's text and the question's words, nothing else."""

import re


DOES_NOT_SAY = "The record does not say."

# First match wins. A planet's name is replaced by X before.
LABEL_OF_WORDS = (
    (r"life on|moons|albedo|liquid water|atmosphere|How old|rotation|magnetic", None),
    (r"Which star|host star|Around which", "Host star"),
    (r"method|How was", "Discovery method"),
    (r"When was|In which year|discovery year", "Discovery year"),
    (
        r"spectral class|star temperature|temperature of the star|hot is the star|hotter|°C has the star",
        "Star temperature",
    ),
    (r"star radius|radius of the star|large is the star|star of X (larger|smaller)|star of X larger", "Star radius"),
    (r"star mass|mass of the star|massive is the star|star of X (heavier|lighter)", "Star mass"),
    (r"insolation|starlight", "Insolation"),
    (r"equilibrium|warm", "Equilibrium temperature"),
    (r"semi-major axis|from its star|At what distance", "Semi-major axis"),
    (r"orbital period|orbit its star|a year on|shorter year|faster", "Orbital period"),
    (r"distance to|away|to us", "Distance"),
    (r"mass|heav", "Mass"),
    (r"radi|large|size class|kind of planet", "Radius"),
)
# Question word, factor from the unit of the context, unit of the answer.
CONVERSIONS = (
    ("hours", 24.0, "hours"),
    ("light-years", 3.261563777, "light-years"),
    ("million km", 149.5978707, "million km"),
    ("Jupiter radii", 6378.1 / 71492.0, "Jupiter radii"),
    ("Jupiter masses", 3.986004e14 / 1.2668653e17, "Jupiter masses"),
    ("km", 6378.1, "km"),
)


def parse_context(context):
    """Return one dictionary of label to text per planet, in order."""
    planets = []
    for line in context.split("\n"):
        label, value = line.split(": ", 1)
        if label == "Planet":
            planets.append({})
        planets[-1][label] = value
    return planets


def asked_label(question, names):
    for name in sorted(names, key=len, reverse=True):
        question = question.replace(name, "X")
    for words, label in LABEL_OF_WORDS:
        if re.search(words, question):
            return label, question
    raise AssertionError(f"no rule for {question!r}")


def number(text):
    return float(text.split(" ")[0])


def check_answer(context, question, answer):
    """Raise AssertionError unless the answer is what the context says."""
    planets = parse_context(context)
    label, words = asked_label(question, [planet["Planet"] for planet in planets])
    if len(planets) == 2:
        values = [number(planet[label]) for planet in planets]
        smallest_wins = re.search(r"shorter|faster|nearer|closer", words) is not None
        best = min(values) if smallest_wins else max(values)
        assert values[0] != values[1]
        assert answer == planets[values.index(best)]["Planet"]
        return
    (planet,) = planets
    assert planet["Planet"] in question
    if label not in planet:
        assert answer == DOES_NOT_SAY
        return
    shown = planet[label]
    for word, factor, unit in CONVERSIONS:
        if re.search(rf"\b{word}\b", words):
            assert answer.endswith(f" {unit}")
            _check_three_digits(answer.removesuffix(f" {unit}"), number(shown) * factor)
            return
    if "°C" in words:
        assert re.fullmatch(r"-?\d+ °C", answer)
        # Half a degree, and no tie: the context's kelvins have at most one decimal.
        assert abs(number(answer) - (number(shown) - 273.15)) <= 0.5
        return
    if "size class" in words or "kind of planet" in words:
        limits = ((1.25, "Earth-sized"), (1.8, "super-Earth"), (4, "sub-Neptune"), (6, "Neptune-sized"))
        assert answer == next((name for limit, name in limits if number(shown) < limit), "giant planet")
    elif "spectral class" in words:
        limits = ((3700, "M"), (5200, "K"), (6000, "G"), (7500, "F"), (10_000, "A"))
        assert answer == next(name for limit, name in limits if number(shown) < limit)
    elif "more or less" in words or "less or more" in words:
        assert answer == ("more than Earth" if number(shown) > 1 else "less than Earth")
    elif multiple := re.search(r"more than (\d+) times", words):
        assert answer == ("yes" if number(shown) > float(multiple[1]) else "no")
    elif " or " in words:
        # What the context's unit makes 1 is the reference, except for Jupiter, the year and the Sun's temperature.
        reference = {"Orbital period": 365.25, "Star temperature": 5772.0}.get(label, 1.0)
        if "Jupiter" in words:
            reference = {"Radius": 11.209, "Mass": 317.83}[label]
        bigger = {"larger", "heavier", "longer", "hotter"}
        smaller = {"smaller", "lighter", "shorter", "cooler"}
        assert answer in words
        assert answer in (bigger if number(shown) > reference else smaller)
    else:
        assert answer == shown


def _check_three_digits(text, expected):
    assert re.fullmatch(r"\d+(\.\d+)?", text)
    digits = text.replace(".", "").lstrip("0")
    assert len(digits) == 3 or (len(digits) > 3 and "." not in text and set(digits[3:]) == {"0"})
    exponent = len(f"{float(text):.0f}") - 3 if float(text) >= 100 else -len(text.partition(".")[2])
    assert abs(float(text) - expected) <= 0.5 * 10**exponent * (1 + 1e-6)

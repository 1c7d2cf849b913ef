"""Random container names: an adjective and a surname, as Docker's users know them."""

from __future__ import annotations

import random
from collections.abc import Container

# The lists are our own; the form adjective_surname is Docker's.
ADJECTIVES = ["able", "agile", "amber", "ardent", "bold", "brave", "breezy", "bright", "brisk", "calm", "candid", "careful", "cheerful", "clever", "cosy", "crisp", "curious", "daring", "deft", "eager", "earnest", "easy", "elegant", "faithful", "festive", "fluent", "focused", "fond", "frank", "friendly", "gallant", "gentle", "gifted", "glad", "golden", "graceful", "happy", "hardy", "helpful", "honest", "hopeful", "humble", "inspiring", "jolly", "jovial", "keen", "kind", "lively", "logical", "loyal", "lucid", "merry", "mindful", "modest", "neat", "nimble", "noble", "open", "patient", "peaceful", "playful", "polite", "practical", "proud", "quick", "quiet", "quirky", "radiant", "ready", "relaxed", "serene", "sharp", "silent", "sincere", "sleepy", "smart", "steady", "stoic", "sunny", "sweet", "swift", "tender", "thoughtful", "tidy", "trusting", "upbeat", "vibrant", "vigilant", "vivid", "warm", "wise", "witty", "wonderful", "zealous", "zen"]
SURNAMES = ["abel", "agnesi", "babbage", "bardeen", "bell", "bhabha", "bohr", "boole", "bose", "brahmagupta", "cantor", "carson", "cerf", "chandrasekhar", "curie", "darwin", "dijkstra", "dirac", "easley", "einstein", "elion", "engelbart", "euclid", "euler", "faraday", "fermat", "fermi", "feynman", "franklin", "galileo", "galois", "gauss", "germain", "goldberg", "goodall", "hamilton", "hawking", "heisenberg", "hertz", "herschel", "hodgkin", "hopper", "hypatia", "johnson", "joliot", "kalam", "kepler", "khorana", "kilby", "knuth", "kowalevski", "lalande", "lamarr", "lamport", "leakey", "leavitt", "liskov", "lovelace", "lumiere", "mayer", "mcclintock", "mclean", "meitner", "mendel", "mendeleev", "mirzakhani", "morse", "napier", "nash", "newton", "nobel", "noether", "pascal", "pasteur", "payne", "perlman", "pike", "poincare", "ptolemy", "raman", "ramanujan", "ride", "ritchie", "robinson", "rosalind", "rubin", "saha", "shannon", "shaw", "sinoussi", "swartz", "tesla", "thompson", "torvalds", "turing", "varahamihira", "villani", "wiles", "williams", "wilson", "wing", "wozniak", "wright", "yalow", "yonath"]


def random_name(taken: Container[str], *, source: random.Random | None = None) -> str:
    """Return a name that is not in ``taken``; after a few tries a digit is appended, as Docker does."""
    pick = source or random.Random()  # noqa: S311
    for attempt in range(1000):
        name = f"{pick.choice(ADJECTIVES)}_{pick.choice(SURNAMES)}"
        if attempt > 5:
            name += str(pick.randrange(10 ** (attempt // 100 + 1)))
        if name not in taken:
            return name
    raise RuntimeError("no free random name after 1000 tries")

"""The source set `ner`: English sentences with entity tags, drawn from a grammar of our own (rules.txt, lexicon.txt).

A sentence is one derivation of a probabilistic context-free grammar that carries the form of a verb (tense, number)
down the tree. Only ``random.Random.random`` is drawn from, whose sequence Python promises: a corpus is the same
everywhere.
"""

from __future__ import annotations

import functools
import hashlib
import random
import re
from bisect import bisect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import accumulate

from orca import runtime
from orca.sources.corpus import Corpus

SENTENCES = 5000
ENGINE = 1  # raise it when this file changes what a grammar yields
ENTITIES = ("PER", "LOC", "ORG", "MISC")
FORMS = "bdngsq"  # base, past, participle, gerund, third person or plural, past plural
OPTIONAL = 0.35  # how often a symbol with a question mark is there
LONGEST = 48  # words of a sentence; a longer one is drawn anew

_LINE = re.compile(r"(\w+) ([=:]) (.*)")
_WEIGHT = re.compile(r"(\d+)\* (.*)")
_SYMBOL = re.compile(r"\$(\w+)(?:\.([bdngsq*]))?(\?)?")
_AN = re.compile(r"(?!(eu|uni|one|us))([aeiou]|8|11$|18$|hour|honest|honour)", re.IGNORECASE)

Words = tuple[str, ...]
Draw = Callable[[], float]


@dataclass(frozen=True)
class Rule:
    """Alternatives with cumulative weights; a lexicon lists them for each form, a rule has the same for all."""

    bounds: tuple[int, ...]
    alternatives: Mapping[str, tuple[Words, ...]]

    def choose(self, form: str, draw: Draw) -> Words:
        """One alternative, in proportion to its weight."""
        return self.alternatives[form][bisect(self.bounds, int(draw() * self.bounds[-1]))]


def _forms(entry: str) -> list[str]:
    """The six forms of a lexicon's entry, regular ones made by rule."""
    base, *given = entry.split(":")
    if given == ["_"]:
        return [base] * len(FORMS)
    soft = base.endswith("y") and base[-2:-1] not in "aeiou"
    past = base + "d" if base.endswith("e") else base[:-1] + "ied" if soft else base + "ed"
    gerund = (base[:-1] if base.endswith("e") and not base.endswith("ee") else base) + "ing"
    plural = base[:-1] + "ies" if soft else base + "es" if base.endswith(("s", "sh", "ch", "x", "z")) else base + "s"
    past, participle, gerund, plural, many = (
        word or regular
        for word, regular in zip(given + [""] * (5 - len(given)), (past, "", gerund, plural, ""), strict=True)
    )
    return [base, past, participle or past, gerund, plural, many or past]


def _lexicon(text: str) -> Rule:
    entries = [_forms(entry) for entry in text.split()]
    words = {form: tuple(tuple(entry[i].split("_")) for entry in entries) for i, form in enumerate(FORMS)}
    return Rule(tuple(range(1, len(entries) + 1)), words)


def _rule(text: str) -> Rule:
    weights, alternatives = [], []
    for part in text.split(" | "):
        match = _WEIGHT.fullmatch(part.strip())
        weights.append(int(match[1]) if match else 1)
        alternatives.append(tuple((match[2] if match else part).split()))
    return Rule(tuple(accumulate(weights)), dict.fromkeys(FORMS, tuple(alternatives)))


def parse_grammar(text: str) -> dict[str, Rule]:
    """Rules and lexicons by name; the notation is described at the heads of rules.txt and lexicon.txt.

    Raises:
        ValueError: a line is neither a rule nor its continuation, a name is there twice, or a symbol has no rule.
    """
    joined = re.sub(r"\n +", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    rules: dict[str, Rule] = {}
    for line in filter(None, joined.split("\n")):
        match = _LINE.fullmatch(line)
        if match is None or match[1] in rules:
            raise ValueError(f"not a rule with a name of its own: {line[:60]}")
        rules[match[1]] = (_rule if match[2] == "=" else _lexicon)(match[3])
    used = {
        match[1]
        for rule in rules.values()
        for words in rule.alternatives["b"]
        for match in map(_SYMBOL.match, words)
        if match
    }
    if used - rules.keys():
        raise ValueError(f"symbols without a rule: {', '.join(sorted(used - rules.keys()))}")
    return rules


def _source() -> str:
    here = resources.files("orca.sources")
    return "".join(here.joinpath(name).read_text(encoding="utf-8") for name in ("rules.txt", "lexicon.txt"))


@functools.cache
def _grammar() -> dict[str, Rule]:
    return parse_grammar(_source())


def _derive(rules: Mapping[str, Rule], draw: Draw) -> tuple[list[tuple[str, int]], list[str]] | None:
    """Expands ``S`` from left to right.

    Returns:
        The tokens, each with the number of the entity it is in (0: none), and the kind of each entity by number;
        None if the sentence grows too long.
    """
    tokens: list[tuple[str, int]] = []
    kinds = ["O"]
    stack = [("$S", "b", 0)]
    while stack:
        if len(tokens) + len(stack) > LONGEST:
            return None
        item, form, entity = stack.pop()
        match = _SYMBOL.fullmatch(item)
        if match is None:
            tokens.append((item, entity))
            continue
        name, own, optional = match.groups()
        if optional and draw() >= OPTIONAL:
            continue
        form = form if own == "*" else own or "b"
        kind = name.partition("_")[0]
        if not entity and kind in ENTITIES:
            kinds.append(kind)
            entity = len(kinds) - 1
        stack.extend((part, form, entity) for part in reversed(rules[name].choose(form, draw)))
    return tokens, kinds


def _join(tokens: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Carries out the marks ``~`` and ``^`` and drops a comma before other punctuation."""
    words: list[tuple[str, int]] = []
    glue, capital = False, True  # a sentence starts with a capital
    for token, entity in tokens:
        if token == "~":
            glue = True
        elif token == "^":
            capital = True
        elif glue:
            words[-1] = (words[-1][0] + token, words[-1][1])
            glue = False
        else:
            if words and words[-1] == (",", 0) and token in (".", ",", ";", "?", "!"):
                words.pop()
            if token == "the" and (not words or words[-1][1] != entity):
                entity = 0  # an article before a name is no part of it, as in CoNLL-2003
            words.append((token[0].upper() + token[1:] if capital else token, entity))
            capital = False
    return words


def _label(words: list[tuple[str, int]], kinds: list[str]) -> tuple[list[str], list[str]]:
    """Words, with `a` or `an` as they need it, and IOB2 tags."""
    sentence, tags, last = [], [], 0
    for i, (word, entity) in enumerate(words):
        if word in ("a", "A") and i + 1 < len(words) and _AN.match(words[i + 1][0]):
            word += "n"
        sentence.append(word)
        tags.append("O" if not entity else f"{'I' if entity == last else 'B'}-{kinds[entity]}")
        last = entity
    return sentence, tags


def make_corpus(*, seed: int = 0, sentences: int = SENTENCES) -> Corpus:
    """Draws a corpus from the grammar; tags are IOB2 over PER, LOC, ORG and MISC.

    Args:
        seed: decides the corpus entirely.
        sentences: how many; a shorter corpus is the start of a longer one.
    """
    draw = random.Random(f"orca ner {seed}").random
    corpus = Corpus([], [])
    while len(corpus.sentences) < sentences:
        derived = _derive(_grammar(), draw)
        if derived is not None:
            words, tags = _label(_join(derived[0]), derived[1])
            corpus.sentences.append(words)
            corpus.tags.append(tags)
    return corpus


def grammar_fingerprint(seed: int) -> str:
    """Names the corpus of that seed: changes with the grammar, the engine and the number of sentences."""
    text = hashlib.sha256(_source().encode()).hexdigest()
    return runtime.digest({"source": "ner", "grammar": text, "engine": ENGINE, "sentences": SENTENCES, "seed": seed})

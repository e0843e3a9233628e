"""Random requests: valid pieces, combined and then broken by one or two changes.

The pieces come from the parts of YQL and JSON that the engine supports; unsupported features have
cases of their own in `front_door_cases`.
"""

import json
import random
import re
import urllib.parse

from front_door import Case

__all__ = ["random_cases"]

JSON = (("Content-Type", "application/json"),)
FIELDS = (*"title contents default doc_id".split() * 4, "token_fingerprint", "nothing")
WORDS = (*('"fox"', "'red fox'", '"covid-19"', "@word", r'"a\"b"') * 4, '""', '"..."', r'"a\q"')
NUMBERS = (*("5", "-5", "- 5", "5L") * 4, "5.5", "@number", '"7"', "9" * 20, "1e3", ".5")
SIGNS = (*("=", "<", ">", "<=", ">=") * 4, "!=", "==", "<>")
NOTES = ("{weight:5}", "{ranked:false}", "[{filter:true}]", "{}")
CLAUSES = (" limit 5", " limit 5 offset 2", " order by doc_id", " timeout 20000", ";", " offset 1")
TOKENS = re.compile(r"""\s+|"(?:[^"\\]|\\.)*"|'[^']*'|[\w-]+|.""", re.DOTALL)
EXTRA = (
    *"( ) { } [ ] , ; : ! = < > + - * / . @ \" ' | # &".split(),
    *"and or not in contains true false null userQuery() limit order by 5 -5".split(),
    " ",
)


def random_cases(count: int, *, seed: int) -> list[Case]:
    """Return `count` cases, two thirds of them queries in YQL."""
    chance = random.Random(seed)
    makers = (_yql, _yql, _body)
    return [makers[n % 3](chance, f"random {seed} {n}") for n in range(count)]


def _yql(chance: random.Random, id_: str) -> Case:
    condition = _expression(chance, 3)
    if chance.random() < 0.3:
        condition += chance.choice(CLAUSES)
    for _ in range(chance.choice((0, 1, 1, 2))):
        condition = _changed(chance, condition)
    statement = f"select * from doc where {condition}"
    pairs = {"yql": statement, "query": "red fox", "word": "a b", "number": "7", "list": "5,6"}
    return Case(id_, "GET", f"/search/?{urllib.parse.urlencode(pairs)}")


def _expression(chance: random.Random, depth: int) -> str:
    kind = chance.random() if depth else 0.5 + chance.random() / 2
    if kind < 0.3:
        sign = chance.choice((" and ", " or ", " AND "))
        parts = (_expression(chance, depth - 1) for _ in range(chance.choice((2, 2, 3))))
        return sign.join(parts)
    if kind < 0.4:
        return f"({_expression(chance, depth - 1)})"
    if kind < 0.5:
        name = chance.choice(("weakAnd", "rank", "nonEmpty", "!", "and !"))
        prefix = "true " if name == "and !" else ""
        return f"{prefix}{name}({_expression(chance, depth - 1)})"
    return chance.choice(NOTES) * (chance.random() < 0.1) + _leaf(chance)


def _leaf(chance: random.Random) -> str:
    field, word, number = chance.choice(FIELDS), chance.choice(WORDS), chance.choice(NUMBERS)
    return chance.choice(
        (
            f"{field} contains {word}",
            f"{field} contains ({chance.choice(NOTES)}{word})",
            f"contents contains phrase({word}, {chance.choice(WORDS)})",
            f"{chance.choice(('title', 'contents'))} contains text({word})",
            f"token_fingerprint {chance.choice(SIGNS)} {number}",
            f"{number} {chance.choice(SIGNS)} token_fingerprint",
            f"token_fingerprint in ({number}, {chance.choice(NUMBERS)})",
            f"doc_id in ({word}, {chance.choice(WORDS)})",
            "token_fingerprint in (@list)",
            f"range(token_fingerprint, {number}, {chance.choice(NUMBERS)})",
            "userQuery()",
            f"userInput({word})",
            f'({{grammar:"all"}}userInput({word}))',
            "true",
        )
    )


def _changed(chance: random.Random, text: str) -> str:
    """Return the text with one token removed, doubled, swapped, replaced or inserted."""
    tokens = TOKENS.findall(text) or [""]
    place = chance.randrange(len(tokens))
    match chance.randrange(5):
        case 0:
            del tokens[place]
        case 1:
            tokens.insert(place, tokens[place])
        case 2 if place + 1 < len(tokens):
            tokens[place : place + 2] = reversed(tokens[place : place + 2])
        case 3:
            tokens[place] = chance.choice(EXTRA)
        case _:
            tokens.insert(place, chance.choice(EXTRA))
    return "".join(tokens)


def _body(chance: random.Random, id_: str) -> Case:
    if chance.random() < 0.5:
        values: object = {"yql": "select * from doc where userQuery()", "query": "red", "hits": 3}
        method, target = "POST", "/search/"
    else:
        values = {"fields": {"title": "a", "doc_id": "b", "text": None}}
        method, target = chance.choice(("POST", "PUT")), "/document/v1/ns/doc/docid/1?timeout=1s"
        if method == "PUT":
            values = {"fields": {"title": {"assign": "a"}, "text": {"assign": None}}}
    text = json.dumps(values)
    for _ in range(chance.choice((1, 1, 2))):
        text = _changed(chance, text)
    return Case(id_, method, target, text.encode(), JSON)

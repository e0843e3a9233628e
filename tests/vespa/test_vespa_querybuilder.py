"""YQL as pyvespa's query builder writes it: what it means, by brute force, and what is refused.

A random condition is built twice: with `vespa.querybuilder`, and as a plain Python predicate over
the documents.  The engine must find exactly the documents for which the predicate holds.
"""

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import vespa.querybuilder as qb
from clients_support import VOCABULARY, documents, ledger_of, vespa_of
from vespa.exceptions import VespaError

TREES = 400
SORTED = 60


@dataclasses.dataclass(frozen=True)
class Row:
    """A document as the test sees it."""

    id: str
    doc_id: str | None
    title: tuple[str, ...]
    contents: tuple[str, ...]
    number: int | None


ledger, count = ledger_of("pyvespa's query builder")


@pytest.fixture(scope="module")
def rows(encoder):
    """Make documents of few words; some lack id field or tokens, some ids differ only by case."""
    number = encoder.spec.fingerprint_number
    found = []
    for n, document in enumerate(documents(160, seed=21, prefix="")):
        title = tuple(document.title.split())
        name = None if n % 13 == 0 else f"{'aAbB'[n % 4]}{n // 4}"
        spec = None if n % 5 == 0 else number
        found.append(Row(f"r{n}", name, title, title + tuple(document.text.split()), spec))
    return found


@pytest.fixture(scope="module")
def app(url, rows, ledger):
    with httpx.Client(base_url=url) as client:
        for row in rows:
            title, text = row.title, row.contents[len(row.title) :]
            fields = {"title": " ".join(title), "text": " ".join(text)}
            fields |= {"doc_id": row.doc_id, "token_fingerprint": row.number}
            path = f"/document/v1/ranker/doc/docid/{row.id}"
            assert client.post(path, json={"fields": fields}).status_code == 200
    return ledger.watched(vespa_of(url))


# --- random conditions ---------------------------------------------------------------------------

Predicate = Callable[[Row], bool]


@dataclasses.dataclass
class Built:
    """A condition in both forms, and the parameters that it refers to."""

    condition: Any
    holds: Predicate


class Builder:
    """Random conditions; the parameters that they need are collected."""

    def __init__(self, pick: random.Random, number: int) -> None:
        self.pick = pick
        self.number = number
        self.parameters: dict[str, str] = {}

    def tree(self, depth: int) -> Built:
        """Return a condition of at most this depth."""
        if depth and self.pick.random() < 0.7:
            kinds = (self.both, self.either, self.without, self.negation, self.rank, self.weak_and)
            return self.pick.choice(kinds)(depth - 1)
        leaves = (self.word, self.phrase, self.user_input, self.name, self.range, self.constant)
        return self.pick.choices(leaves, (4, 2, 3, 2, 2, 0.5))[0]()

    def both(self, depth):
        a, b = self.tree(depth), self.tree(depth)
        return Built(a.condition & b.condition, lambda row: a.holds(row) and b.holds(row))

    def either(self, depth):
        parts = [self.tree(depth) for _ in range(self.pick.randint(2, 3))]
        return Built(
            qb.any(*(part.condition for part in parts)),
            lambda row: any(part.holds(row) for part in parts),
        )

    def without(self, depth):
        a, b = self.tree(depth), self.tree(depth)
        return Built(
            qb.all(a.condition, ~b.condition), lambda row: a.holds(row) and not b.holds(row)
        )

    def negation(self, depth):
        inner = self.tree(depth)
        return Built(~inner.condition, lambda row: not inner.holds(row))

    def rank(self, depth):
        first, other = self.tree(depth), self.tree(depth)
        return Built(qb.rank(first.condition, other.condition), first.holds)

    def weak_and(self, depth):
        parts = [self.tree(depth) for _ in range(self.pick.randint(1, 3))]
        condition = qb.weakAnd(*(part.condition for part in parts), annotations={"targetHits": 9})
        return Built(condition, lambda row: any(part.holds(row) for part in parts))

    def field(self):
        name = self.pick.choice(("contents", "title", "default"))
        words = (lambda row: row.title) if name == "title" else (lambda row: row.contents)
        return qb.QueryField(name), words

    def words(self, least, most):
        return self.pick.choices(VOCABULARY, k=self.pick.randint(least, most))

    def word(self):
        field, words = self.field()
        (word,) = self.words(1, 1)
        shown = self.pick.choice((word, word.upper(), f"{word}!"))
        return Built(field.contains(shown), lambda row: word in words(row))

    def phrase(self):
        field, words = self.field()
        terms = self.words(2, 3)
        forms = (qb.phrase(*terms), "-".join(terms), " ".join(terms))
        condition = field.contains(self.pick.choice(forms))
        return Built(condition, lambda row: follows(words(row), terms))

    def user_input(self):
        field, words = self.field()
        terms = self.words(1, 3)
        name = f"p{len(self.parameters)}"
        self.parameters[name] = " ".join(terms)
        grammar = self.pick.choice((None, "weakAnd", "any", "tokenize", "all", "phrase"))
        notes = {"defaultIndex": field.name, "targetHits": 5}
        notes |= {"grammar": grammar} if grammar else {}
        condition = qb.userInput(f"@{name}", annotations=notes)
        if grammar == "phrase":
            return Built(condition, lambda row: follows(words(row), terms))
        test = all if grammar == "all" else any
        return Built(condition, lambda row: test(term in words(row) for term in terms))

    def name(self):
        names = [f"{self.pick.choice('aAbBc')}{self.pick.randrange(42)}" for _ in range(3)]
        field = qb.QueryField("doc_id")
        if self.pick.random() < 0.5:
            names = names[:1]
            condition = field.contains(names[0])
        else:
            condition = field.in_(*names)
        folded = {name.lower() for name in names}
        return Built(condition, lambda row: row.doc_id is not None and row.doc_id.lower() in folded)

    def range(self):
        field, low, high = (
            qb.QueryField("token_fingerprint"),
            *sorted(self.near() for _ in range(2)),
        )
        at = self.near()
        condition, test = self.pick.choice(
            (
                (field == at, lambda n: n == at),
                (field < at, lambda n: n < at),
                (field <= at, lambda n: n <= at),
                (field > at, lambda n: n > at),
                (field >= at, lambda n: n >= at),
                (field.in_(at, low), lambda n: n in (at, low)),
                (field.in_range(low, high), lambda n: low <= n <= high),
                (
                    field.in_range(low, high, annotations={"bounds": "open"}),
                    lambda n: low < n < high,
                ),
                (
                    field.in_range(low, high, annotations={"bounds": "leftOpen"}),
                    lambda n: low < n <= high,
                ),
            )
        )
        return Built(condition, lambda row: row.number is not None and test(row.number))

    def near(self):
        """Return a number near the one that the documents have."""
        return self.number + self.pick.randint(-1, 1)

    def constant(self):
        verdict = self.pick.random() < 0.5
        return Built(qb.true() if verdict else qb.false(), lambda row: verdict)


def follows(words, terms):
    """Return True if the terms follow one another."""
    return any(list(words[at : at + len(terms)]) == list(terms) for at in range(len(words)))


def short(answer):
    """Return the users' ids of the hits."""
    return [hit["id"].rpartition(":")[2] for hit in answer.hits]


def test_random_conditions_match_what_a_plain_evaluation_does(app, rows):
    pick = random.Random(2024)
    number = next(row.number for row in rows if row.number is not None)
    bodies, expected = [], []
    for n in range(TREES):
        builder = Builder(pick, number)
        built = builder.tree(depth=n % 4)
        yql = str(qb.select("*").from_("doc").where(built.condition).set_limit(400))
        bodies.append({"yql": yql, "ranking": "unranked", **builder.parameters})
        expected.append({row.id for row in rows if built.holds(row)})
    sizes = {0 < len(ids) < len(rows) for ids in expected}
    assert sizes == {True, False} and sum(0 < len(i) < len(rows) for i in expected) > TREES / 2
    for body, ids, answer in zip(bodies, expected, app.query_many(bodies), strict=True):
        assert answer.status_code == 200, (body, answer.json)
        assert set(short(answer)) == ids, body
        assert answer.number_documents_retrieved == len(ids), body


def test_random_orders_and_pages(app, rows):
    """An attribute without a value sorts like the smallest value."""
    pick = random.Random(7)
    by_id = {row.id: row for row in rows}
    keys = {
        "doc_id": lambda row: (row.doc_id or "").lower(),
        "token_fingerprint": lambda row: row.number or 0,
    }
    for _ in range(SORTED):
        (word,) = pick.choices(VOCABULARY)
        query = qb.select("*").from_("doc").where(qb.QueryField("contents").contains(word))
        found = [row for row in rows if word in row.contents]
        clauses = [(name, pick.random() < 0.5) for name in pick.sample([*keys], pick.randint(1, 2))]
        for name, ascending in clauses:
            query = query.orderByAsc(name) if ascending else query.orderByDesc(name)
        for name, ascending in reversed(clauses):
            found.sort(key=keys[name], reverse=not ascending)
        limit, offset = pick.randint(1, 30), pick.randint(0, 8)
        query = query.set_limit(limit + offset).set_offset(offset).set_timeout(5000)
        answer = app.query(yql=str(query), ranking="unranked")
        assert answer.number_documents_retrieved == len(found)
        # Rows whose keys are equal may come in any order.
        shown = [[keys[name](by_id[id_]) for name, _ in clauses] for id_ in short(answer)]
        page = found[offset : offset + limit]
        assert shown == [[keys[name](row) for name, _ in clauses] for row in page], query
        assert len(set(short(answer))) == len(page)


# --- what the issue names, one by one ------------------------------------------------------------


def test_each_form_by_name(app, rows):
    title, contents = qb.QueryField("title"), qb.QueryField("contents")
    name, number = qb.QueryField("doc_id"), qb.QueryField("token_fingerprint")
    spec = next(row.number for row in rows if row.number is not None)

    def ids(holds):
        return {row.id for row in rows if holds(row)}

    fox = ids(lambda row: "fox" in row.contents)
    any_of_two = ids(lambda row: {"fox", "dog"} & set(row.contents))
    cases = [
        (qb.userQuery(), {"query": "fox dog"}, any_of_two),
        (qb.userInput("@q"), {"q": "fox dog"}, any_of_two),
        (qb.userInput("fox"), {}, fox),
        (
            qb.userInput("@q", annotations={"grammar": "all"}),
            {"q": "fox dog"},
            ids(lambda row: {"fox", "dog"} <= set(row.contents)),
        ),
        (qb.userInput("@q").annotate({"targetHits": 5}), {"q": "fox"}, fox),
        (
            qb.weakAnd(contents.contains("fox"), contents.contains("dog")),
            {},
            any_of_two,
        ),
        (contents.contains("@q"), {"q": "fox"}, fox),
        (contents.contains("fox", annotations={"ranked": False}), {}, fox),
        (contents.contains("fox", filter=True), {}, fox),
        (
            contents.contains(qb.phrase("red", "fox")),
            {},
            ids(lambda row: follows(row.contents, ["red", "fox"])),
        ),
        (
            title.contains("fox") & ~contents.contains("red"),
            {},
            ids(lambda row: "fox" in row.title and "red" not in row.contents),
        ),
        (number == spec, {}, ids(lambda row: row.number == spec)),
        (number > spec, {}, set()),
        (number.in_range(spec - 1, spec), {}, ids(lambda row: row.number == spec)),
        (name.in_("a1", "B2"), {}, ids(lambda row: (row.doc_id or "").lower() in ("a1", "b2"))),
        (
            qb.rank(qb.userQuery(), title.contains("red")),
            {"query": "fox"},
            fox,
        ),
        (qb.nonEmpty(contents.contains("fox")), {}, fox),
        (True, {}, ids(lambda row: True)),
        (False, {}, set()),
    ]
    for source in ("doc", "sources *", "content"):
        for condition, parameters, expected in cases:
            yql = str(
                qb.select("*").from_(source).where(condition).set_limit(400).set_timeout(9000)
            )
            answer = app.query(body={"yql": yql, "ranking": "unranked", **parameters})
            assert set(short(answer)) == expected, yql


def test_summary_fields(app):
    query = qb.select(["title", "documentid"]).from_("doc").where(True).set_limit(50)
    for hit in app.query(yql=str(query)).hits:
        assert set(hit["fields"]) <= {"title", "documentid"}


def test_the_score_of_a_rank_clause(app):
    """The other operands of `rank` count for the score and not for the match."""
    first = qb.QueryField("contents").contains("fox")
    plain = qb.select("*").from_("doc").where(first).set_limit(400)
    more = qb.rank(first, qb.QueryField("contents").contains("red"))
    ranked = qb.select("*").from_("doc").where(more).set_limit(400)
    before, after = (
        {hit["id"]: hit["relevance"] for hit in app.query(yql=str(q), ranking="bm25").hits}
        for q in (plain, ranked)
    )
    assert set(before) == set(after)
    assert all(after[id_] >= before[id_] for id_ in before)
    assert any(after[id_] > before[id_] for id_ in before)


FIELD = qb.QueryField("contents")
REFUSED = {
    "near": FIELD.contains(qb.near("red", "fox")),
    "onear": FIELD.contains(qb.onear("red", "fox")),
    "equiv": FIELD.contains(qb.equiv("red", "fox")),
    "sameElement": FIELD.contains(qb.sameElement(FIELD.contains("red"))),
    "uri": FIELD.contains(qb.uri("red.fox")),
    "fuzzy": FIELD.contains(qb.fuzzy("red")),
    "matches": FIELD.matches("re.*"),
    "prefix": FIELD.contains("re", annotations={"prefix": True}),
    "stem": FIELD.contains("foxes", stem=False),
    "wand": qb.wand("contents", {"red": 1}),
    "dotProduct": qb.dotProduct("contents", {"red": 1}),
    "weightedSet": qb.weightedSet("contents", {"red": 1}),
    "geoLocation": qb.geoLocation("contents", 1.0, 2.0, "5 km"),
    "nearestNeighbor": qb.nearestNeighbor("doc_token_ids", "q"),
    "predicate": qb.predicate("contents", {"a": "b"}, {"c": 1}),
    "not equal": qb.QueryField("token_fingerprint") != 5,
    "text equals": qb.QueryField("title") == "red",
    "string equals": qb.QueryField("doc_id") == "a1",
    "string greater": qb.QueryField("doc_id") > "a1",
    "number in strings": qb.QueryField("token_fingerprint").in_("5"),
    "string in numbers": qb.QueryField("doc_id").in_(5),
    "text in": qb.QueryField("title").in_("red"),
    "range of a text": FIELD.in_range(1, 5),
    "hit limit": qb.QueryField("token_fingerprint").in_range(1, 5, annotations={"hitLimit": 5}),
    "summary field": qb.QueryField("text").contains("red"),
    "tensor": qb.QueryField("doc_token_ids").contains("red"),
    "unknown field": qb.QueryField("nosuch").contains("red"),
    "unset parameter": qb.userInput("@nothing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_forms_are_refused(app, name):
    yql = str(qb.select("*").from_("doc").where(REFUSED[name]))
    with pytest.raises(VespaError) as caught:
        app.query(yql=yql)
    (error,) = caught.value.args[0]
    # As in Vespa: the YQL is read without the schema's types, which are checked later.
    assert error["code"] == (17 if name == "tensor" else 4), yql


def test_clauses_that_are_not_supported_are_refused(app):
    everything = qb.select("*").from_("doc").where(True)
    grouping = qb.Grouping
    for query, code in (
        (everything.groupby(grouping.all(grouping.group("doc_id"))), 4),
        (qb.select("*").from_("doc").where(True).order_by("title"), 4),
        (
            qb.select("*")
            .from_("doc")
            .where(True)
            .order_by("doc_id", annotations={"locale": "en"}),
            4,
        ),
        (qb.select("*").from_("music").where(True), 4),
        (qb.select("*").from_("doc").where(True).set_limit(401), 4),
        (qb.select("*").from_("doc").where(True).set_limit(1).set_offset(2), 17),
    ):
        with pytest.raises(VespaError) as caught:
            app.query(yql=str(query))
        assert caught.value.args[0][0]["code"] == code, query

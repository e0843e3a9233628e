"""YQL and typed queries to trees.

The expected trees of typed queries come from the trace of Vespa's own container (8.700.24), with
this package's field names and terms; `|` after a word means that it does not count for the score.
"""

from types import SimpleNamespace

import pytest

from ranker.engine.errors import QueryError
from ranker.engine.query.tree import (
    And,
    AndNot,
    Everything,
    Nothing,
    Or,
    Phrase,
    Range,
    Rank,
    Strings,
    match,
)
from ranker.engine.query.yql import Context, parse_yql


def shown(node):
    match node:
        case None:
            return "-"
        case Phrase(field, terms, ranked):
            name = "" if field == "contents" else f"{field}:"
            words = terms[0] if len(terms) == 1 else f'"{" ".join(terms)}"'
            return name + words + ("" if ranked else "|")
        case Range(field, low, high):
            return f"{field}:[{'' if low is None else low};{'' if high is None else high}]"
        case Strings(field, values):
            return f"{field}:{{{','.join(sorted(values))}}}"
        case And(children):
            return f"(AND {' '.join(map(shown, children))})"
        case Or(children):
            return f"(OR {' '.join(map(shown, children))})"
        case AndNot(positive, negatives):
            return f"(+{shown(positive)}" + "".join(f" -{shown(n)}" for n in negatives) + ")"
        case Rank(first, others):
            return f"(RANK {' '.join(map(shown, (first, *others)))})"
        case Everything():
            return "TRUE"
        case Nothing():
            return "FALSE"


def parse(yql, *, query="q fox", type_="weakAnd", **parameters):
    context = Context(
        parameters=parameters,
        query=query,
        type=type_,
        default="default",
        sources=("doc", "content", "content.doc"),
    )
    return parse_yql(yql, context)


def where(expression, **keywords):
    return shown(parse(f"select * from doc where {expression}", **keywords).tree)


@pytest.mark.parametrize(
    ("query", "tree"),
    [
        ("red fox", "(OR red fox)"),
        ("covid-19 don't U.S.A", "(OR (AND covid 19) (AND don t) (AND u s a))"),
        ("red -fox", "(+red -fox)"),
        ("+red fox", "(OR red fox)"),
        ('"red fox" dog', '(OR "red fox" dog)'),
        ("title:red fox", "(OR title:red fox)"),
        ('title:"red fox" x', '(OR title:"red fox" x)'),
        ("title:a-b", "(AND title:a title:b)"),
        ("title: red", "red"),
        ("title:(a b) c", "(OR title:a b c)"),
        ("contents:red default:red", "(OR red red)"),
        ("(red fox) dog", "(OR red fox dog)"),
        ("red* *args", "(OR red arg)"),
        ("red!150 fox! big!dog", "(OR red fox big dog)"),
        ("", "-"),
        ("...", "-"),
        ("()", "-"),
        ("-fox", "(+TRUE -fox)"),
        ("--fox", "(+TRUE -fox)"),
        ("-a-b", "(+TRUE -(AND a b))"),
        ("a -b c-d", "(+(OR a (AND c d)) -b)"),
        ("a -b -c", "(+a -b -c)"),
        ("+-a b", "(+b -a)"),
        ("a:b", "(AND a b)"),
        ("nosuch:red", "(AND nosuch red)"),
        ("http://x.y/z", "(AND http x y z)"),
        ("red AND fox", "(OR red and fox)"),
        ("what is (x)?", "(OR what is x)"),
        ("foo(bar) x", "(OR foo bar x)"),
        ("f(x,y)", "(OR f (AND x y))"),
        ("a(b", "(OR a b)"),
        ("a)b", "(OR a b)"),
        ("foo.bar_baz()", "(AND foo bar baz)"),
        ("doc_id:A-1 red", "(OR doc_id:{a-1} red)"),
        ("token_fingerprint:5 red", "(OR token_fingerprint:[5;5] red)"),
        ("token_fingerprint:>5 red", "(OR token_fingerprint:[6;] red)"),
        ("token_fingerprint:[1;5] red", "(OR token_fingerprint:[1;5] red)"),
        ("token_fingerprint:abc red", "(OR FALSE red)"),
        ("text:red fox", "(OR FALSE fox)"),
        ('"red', "red"),
        ('"a b"c', '(OR "a b" c)'),
        ('red "..." x', "(OR red x)"),
        ("C++ c#", "(OR c c)"),
        ("red - fox", "(OR red fox)"),
        ("a -", "a"),
        ('-"red fox" dog', '(+dog -"red fox")'),
        ("red -(fox dog)", "(+red -(OR fox dog))"),
        ("a (b -c)", "(OR a (+b -c))"),
        ("red & fox", "(OR red fox)"),
        ("a\nb\tc", "(OR a b c)"),
        ("café naïve ﬁne", "(OR cafe naive fine)"),
        ("☃ ☃man", "(OR ☃ (AND ☃ man))"),
        ("日本語 テスト", "(OR 日本語 テスト)"),
        ("it's -5 warm", "(OR (AND it s) -5 warm)"),
        ("x=-1", "(AND x 1)"),
        ("what -x y", "(+(OR what y) -x)"),
    ],
)
def test_typed_queries(query, tree):
    assert where("userQuery()", query=query) == tree


@pytest.mark.parametrize(
    ("type_", "query", "tree"),
    [
        ("all", "red -fox", "(+red -fox)"),
        ("all", "(red fox) dog", "(AND (OR red fox) dog)"),
        ("all", "+a b", "(AND a b)"),
        ("all", "a,b c", "(AND (AND a b) c)"),
        ("all", 'red "x y"', '(AND red "x y")'),
        ("any", "red -fox", "(+red -fox)"),
        ("any", "+a b", "(RANK a b)"),
        ("any", "+a +b c", "(RANK (AND a b) c)"),
        ("any", "(red fox) dog", "(OR red fox dog)"),
        ("web", "+a b -c", "(+(AND a b) -c)"),
        ("web", "(a b)", "(AND a b)"),
        ("phrase", "covid-19 fox -dog", '"covid 19 fox dog"'),
        ("tokenize", 'a -b "c d" title:e', "(OR a b c d title e)"),
        ("linguistics", "covid-19 -dog", "(OR covid 19 dog)"),
        ("raw", "a -b", "(AND a b)"),
    ],
)
def test_grammars(type_, query, tree):
    assert where("userQuery()", query=query, type_=type_) == tree
    assert where(f'({{grammar:"{type_}"}}userInput(@q))', q=query) == tree


@pytest.mark.parametrize(
    ("expression", "tree"),
    [
        ("true", "TRUE"),
        ("false", "FALSE"),
        ('contents contains "red"', "red"),
        ("contents contains 'red'", "red"),
        ('contents contains "Red-Fox"', '"red fox"'),
        ('default contains "red"', "red"),
        ('contents contains "..."', "FALSE"),
        ('contents contains phrase("red-fox","dog")', '"red fox dog"'),
        ("contents contains phrase()", "-"),
        ("contents contains text(@a)", "(OR covid 19 fox)"),
        ("contents contains @b", "red"),
        ('contents contains ({ranked:false}"red")', "red|"),
        ('contents contains ({filter:true}"red")', "red|"),
        ('contents contains ({weight:200}"red")', "red"),
        ('contents contains "a\\"b"', '"a b"'),
        ('doc_id contains "A1"', "doc_id:{a1}"),
        ("doc_id in (\"A1\",'b')", "doc_id:{a1,b}"),
        ("doc_id in (@list)", "doc_id:{x,y}"),
        ("!(({allowEmpty:true}userInput(@dots)))", "TRUE"),
        ("({ranked:false}token_fingerprint > 5)", "token_fingerprint:[6;]"),
        ('contents contains phrase("red","...")', "FALSE"),
        ("range(token_fingerprint,5,1)", "token_fingerprint:[1;5]"),
        ("range(token_fingerprint,Infinity,5)", "token_fingerprint:[5;]"),
        ('({bounds:"closed"}range(token_fingerprint,5,1))', "token_fingerprint:[5;1]"),
        ("token_fingerprint in (1,2)", "(OR token_fingerprint:[1;1] token_fingerprint:[2;2])"),
        ("token_fingerprint = -5", "token_fingerprint:[-5;-5]"),
        ("token_fingerprint = 1.5", "FALSE"),
        ("token_fingerprint > 5", "token_fingerprint:[6;]"),
        ("5 < token_fingerprint", "token_fingerprint:[6;]"),
        ("token_fingerprint > - 5 // all", "token_fingerprint:[-4;]"),
        ("token_fingerprint = 5e3 # all", "token_fingerprint:[5000;5000]"),
        ("/* all */ token_fingerprint >= 5.", "token_fingerprint:[5;]"),
        ('("title") contains (("a"))', "title:a"),
        ('contents contains "a\\u0062\\\\c"', '"ab c"'),
        ("doc_id in (@quoted, 'e')", "doc_id:{a, b,c,d,e}"),
        ("doc_id in (@nothing)", "FALSE"),
        ("token_fingerprint >= 5", "token_fingerprint:[5;]"),
        ("token_fingerprint < 5", "token_fingerprint:[;4]"),
        ("token_fingerprint <= 5.5", "token_fingerprint:[;5]"),
        ("range(token_fingerprint,1,5)", "token_fingerprint:[1;5]"),
        ("range(token_fingerprint,1L,Infinity)", "token_fingerprint:[1;]"),
        ("range(token_fingerprint,-Infinity,5)", "token_fingerprint:[;5]"),
        ('({bounds:"open"}range(token_fingerprint,1,5))', "token_fingerprint:[2;4]"),
        ('!(contents contains "a")', "(+TRUE -a)"),
        ('contents contains "a" and !(contents contains "b")', "(+a -b)"),
        (
            'contents contains "a" and contents contains "b" or contents contains "c"',
            "(OR (AND a b) c)",
        ),
        (
            'contents contains "a" AND (contents contains "b" OR contents contains "c")',
            "(AND a (OR b c))",
        ),
        (
            'rank(contents contains "a", title contains "b", userQuery())',
            "(RANK a title:b (OR q fox))",
        ),
        ('({targetHits:5}weakAnd(contents contains "a", title contains "b"))', "(OR a title:b)"),
        ('{targetHits:5}weakAnd(contents contains "a")', "a"),
        ('[{"targetHits":5}]weakAnd(contents contains "a")', "a"),
        ("weakAnd(userInput(@a), contents contains 'b')", "(OR (OR (AND covid 19) fox) b)"),
        ('nonEmpty(contents contains "a")', "a"),
        ("userInput(@a)", "(OR (AND covid 19) fox)"),
        ('({grammar:"tokenize"}userInput(@a))', "(OR covid 19 fox)"),
        ('({defaultIndex:"title"}userInput(@b))', "title:red"),
        ("({allowEmpty:true}userInput(@dots))", "-"),
        ("(({targetHits: 5}userInput('red fox')))", "(OR red fox)"),
        ("userQuery() and token_fingerprint > 3", "(AND (OR q fox) token_fingerprint:[4;])"),
    ],
)
def test_expressions(expression, tree):
    words = {"a": "covid-19 fox", "b": "red", "list": "X,y", "dots": "..."}
    assert where(expression, quoted="'a, b', \"C\",d", nothing="", **words) == tree


@pytest.mark.parametrize(
    ("yql", "message"),
    [
        ("hello", "YQL: unexpected 'hello' in line 1, column 1"),
        ("select", "YQL: the statement is incomplete"),
        ("select * from doc", "YQL: the statement is incomplete"),
        ("select * where true", "YQL: unexpected 'where' in line 1, column 10"),
        ("select and from doc where true", "YQL: unexpected 'and' in line 1, column 8"),
        ("select * from doc where", "YQL: the statement is incomplete"),
        ("select * from nosuch where true", "unknown source 'nosuch'; expected one of doc,"),
    ],
)
def test_statements_that_are_refused(yql, message):
    with pytest.raises(QueryError) as caught:
        parse(yql)
    assert caught.value.code == 4
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("true order   by doc_id", "YQL: unexpected 'order' in line 1, column 30"),
        ("true limit 99999999999", "YQL: expected a limit of 32 bits, got 99999999999"),
        ("token_fingerprint in ()", "YQL: unexpected ')' in line 1, column 47"),
        ('title contains "a\\qb"', "YQL: unexpected '\"a\\\\qb\"' in line 1, column 40"),
        ('title contains {weight:5}"a"', "YQL: unexpected '{weight:5}\"a\"' in line 1, column 40"),
        ("{weight:'a'}title contains 'b'", "'weight' takes a value of type integer, got 'a'"),
        ("token_fingerprint in (@quote)", 'expected a comma after each item of a list, got "\'1"'),
        ("!title contains 'a'", "YQL: expected a field, got '!'"),
        ("token_fingerprint = 1 + 2", "and a value around '=', got token_fingerprint and '+'"),
        ("token_fingerprint not in (1)", "a condition such as FIELD contains WORD, got 'not in'"),
        ("token_fingerprint in (99999999999999999999)", "in 64 bits, got '99999999999999999999'"),
        ("- -5 < token_fingerprint", "YQL: expected a number that fits in 64 bits, got '--5'"),
        ("true ortrue", "YQL: unexpected 'ortrue' in line 1, column 30"),
        ("title is not null", "a condition such as FIELD contains WORD, got 'is not null'"),
        ("{targetHits:5}", "YQL: expected a condition such as FIELD contains WORD, got 'map'"),
        ("a.b-c contains 'x'", "unknown field 'a.b-c'; expected one of title, contents, doc_id,"),
        ("(true", "YQL: the statement is incomplete"),
        ("true garbage", "YQL: unexpected 'garbage' in line 1, column 30"),
        ("true timeout 100 limit 3", "YQL: unexpected 'limit' in line 1, column 42"),
        ('contents contains "a', "YQL: unexpected '\"a' in line 1, column 43"),
        ("true order by title", "YQL: expected order by doc_id or token_fingerprint, got 'title'"),
        ('true order by [{"function":"uca"}]doc_id', "annotations in"),
        ("true | all(group(doc_id) each(output(count())))", "this grouping is not supported by"),
        ('nosuch contains "a"', "unknown field 'nosuch'; expected one of title, contents, doc_id,"),
        ('text contains "a"', "the field 'text' is not indexed; search 'contents', which includes"),
        ('contents contains ""', "YQL: expected a word after contains, got an empty text"),
        ("contents contains 5", "YQL: expected a text in quotes or a parameter like @name, got 5"),
        ("userInput(@zz)", "YQL: @zz is not set; add the request parameter 'zz'"),
        ("contents contains @zz", "YQL: @zz is not set; add the request parameter 'zz'"),
        ("userInput(@dots)", "userInput got '...', which has no word; {allowEmpty:true} allows it"),
        ("userInput()", "userInput needs an argument"),
        ("token_fingerprint != 5", "expected a condition such as FIELD contains WORD, got '!='"),
        ("token_fingerprint = 99999999999999999999", "fits in 64 bits, got '99999999999999999999'"),
        ("token_fingerprint in ('1')", "YQL: expected a whole number, got '1'"),
        ("token_fingerprint in (1.5)", "YQL: expected a whole number, got 1.5"),
        ("token_fingerprint in (@half)", "YQL: expected a whole number, got '1.5'"),
        ("doc_id in (1)", "YQL: expected a text in quotes or a parameter like @name, got 1"),
        ('doc_id = "A 1"', "YQL: expected a number that fits in 64 bits, got 'A 1'"),
        ('doc_id <= "A"', "YQL: expected a number that fits in 64 bits, got 'A'"),
        ('title = "A"', "YQL: expected a number that fits in 64 bits, got 'A'"),
        ("doc_id = 5", "'doc_id = 5' is not supported by the embedded engine"),
        ("({hitLimit:5}token_fingerprint > 5)", "the annotation 'hitLimit' is not supported by"),
        ("({bogus:5}doc_id in ('a'))", "the annotation 'bogus' is not supported by the embedded"),
        ("range(token_fingerprint, 'a', 'b')", "expected a number as a bound of range, got 'a'"),
        ('contents contains phrase("")', "YQL: expected a word after contains, got an empty text"),
        ("range(token_fingerprint, 5)", "YQL: range takes 3 arguments, got 2"),
        ("range(contents, 1, 5)", "not supported by the embedded engine"),
        ("contents = 5", "not supported by the embedded engine"),
        ("title in ('red')", "not supported by the embedded engine"),
        ('contents matches "a.*"', "'matches' is not supported"),
        ('contents contains near("a","b")', "'near' is not supported by the embedded engine"),
        ('contents contains ({prefix:true}"re")', "annotation 'prefix'"),
        ('contents contains ({stem:false}"red")', "annotation 'stem'"),
        ("({bogus:true}userInput(@a))", "annotation 'bogus'"),
        ("nearestNeighbor(doc_token_ids,q)", "'nearestNeighbor' is not"),
        ('wand(contents,{"a":1})', "'wand' is not supported"),
        ("bogus(true)", "YQL: unknown function 'bogus'; expected one of userQuery,"),
        ("weakAnd('a')", "YQL: expected a condition such as FIELD contains WORD, got 'a'"),
        ('({grammar:"bogus"}userInput(@a))', "phrase, tokenize, linguistics, raw, got 'bogus'"),
        ('({grammar:"adv"}userInput(@a))', "web, phrase, tokenize, linguistics, raw, got 'adv'"),
        ('({defaultIndex:"text"}userInput(@a))', "the field 'text' is not indexed; search"),
    ],
)
def test_conditions_that_are_refused(condition, message):
    with pytest.raises(QueryError) as caught:
        where(condition, a="x", dots="...", half="1.5", quote="'1")
    assert caught.value.code == 4
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("rest", "hits", "offset", "timeout_s", "order"),
    [
        ("", None, None, None, ()),
        ("limit 3", 3, 0, None, ()),
        ("limit 3 offset 2", 1, 2, None, ()),  # Vespa's limit counts from the first hit
        ("offset 2", None, 2, None, ()),
        ("limit 3 offset 2 timeout 100;", 1, 2, 0.1, ()),
        (
            "order by token_fingerprint desc, doc_id asc",
            None,
            None,
            None,
            (("token_fingerprint", True), ("doc_id", False)),
        ),
    ],
)
def test_clauses(rest, hits, offset, timeout_s, order):
    statement = parse(f"select * from sources * where true {rest}")
    assert (statement.hits, statement.offset, statement.timeout_s, statement.order) == (
        hits,
        offset,
        timeout_s,
        order,
    )


def test_fields_and_sources():
    assert parse("select title, doc_id from doc where true").fields == ("title", "doc_id")
    assert parse("SELECT * FROM sources content.doc, doc WHERE true").fields is None


def view(text, title=""):
    words, titles = text.split(), title.split()
    return SimpleNamespace(
        terms={
            "contents": f" {'  '.join(words)} " if words else "",
            "title": f" {'  '.join(titles)} " if titles else "",
        },
        attributes={"token_fingerprint": 7, "doc_id": "A1"},
    )


@pytest.mark.parametrize(
    ("expression", "document", "counted"),
    [
        ('contents contains "a"', "a b a", {"a": 2}),
        ('contents contains "a"', "ab ba", None),
        ('contents contains phrase("a","a")', "a a a", {"a a": 2}),
        ('contents contains phrase("a","b")', "b a b a b", {"a b": 2}),
        ('contents contains phrase("a","b")', "a x b", None),
        # Words under a part that does not hold do not count, as in Vespa.
        (
            '(contents contains "a" and contents contains "b") or contents contains "c"',
            "a c c",
            {"c": 2},
        ),
        ('rank(contents contains "a", contents contains "c")', "a c", {"a": 1, "c": 1}),
        ('rank(contents contains "a", contents contains "c")', "a", {"a": 1}),
        ('rank(contents contains "a", contents contains "c")', "c", None),
        ('contents contains "a" and !(contents contains "c")', "a c", None),
        ('contents contains "a" and !(contents contains "c")', "a", {"a": 1}),
        ('contents contains "a" and token_fingerprint = 7', "a", {"a": 1}),
        ('contents contains "a" and token_fingerprint = 8', "a", None),
        ('doc_id contains "a1"', "x", {}),
        ('contents contains ({ranked:false}"a")', "a", {}),
    ],
)
def test_match(expression, document, counted):
    tree = parse(f"select * from doc where {expression}").tree
    counts = match(tree, view(document))
    assert counts is None if counted is None else counts is not None
    if counts is not None:
        assert {" ".join(leaf.terms): count for leaf, count in counts} == counted


def test_a_tensor_field_is_a_bad_request():
    with pytest.raises(QueryError, match="is a tensor, in which no words") as caught:
        parse('select * from doc where doc_token_ids contains "a"')
    assert caught.value.code == 17

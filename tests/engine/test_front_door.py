"""The embedded engine and Vespa's real container answer the same bad requests in the same way.

The HTTP status, the error codes of a search, and the keys and types of the JSON are compared; the
wording of messages is each side's own.  Deliberate differences are listed in `DIFFERENT` with their
reason, and in the docstring of `ranker.engine`; a difference that is not listed fails, and so does
an entry whose difference is gone.
"""

import functools
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import figures
import pytest
from engine_support import make_app, running_engine
from front_door import Answer, Case, ask
from front_door_cases import CASES
from front_door_random import random_cases

from ranker import engine
from ranker.errors import MissingTool
from ranker.verify import container

pytestmark = pytest.mark.java

AT_A_TIME = 16
RANDOM = random_cases(300, seed=20261121)

REFUSED_BY_NAME = re.compile(r"Extra data|is not set|is not supported by the embedded engine")
"""Messages of the deliberate refusals that a random request may run into."""

# A config server tells the container about the content cluster; without one, the package must,
# or every visit ends with "no content clusters".
CLUSTERS = """<container id="default" version="1.0">
    <config name="cloud.config.cluster-list">
        <storage><item><name>content</name><configid>content</configid></item></storage>
    </config>
    <config name="vespa.config.content.all-clusters-bucket-spaces">
        <cluster><item key="content"><documentType><item key="doc">
            <bucketSpace>default</bucketSpace>
        </item></documentType></item></cluster>
    </config>
"""

DIFFERENT = {
    "an unsupported feature is refused by name, before its argument is read": (
        "yql matches an empty pattern",
        "yql nearest neighbour on a text",
        "yql nearest neighbour of no field",
        "yql sameElement of a text",
        "yql fuzzy on a number",
        "yql grouping of nothing",
        "filter",
        "filter of signs",
        "recall",
        "sorting by no attribute",
        "sorting nonsense",
        "sorting with a global phase",
        "location nonsense",
        "collapse without a size",
        "select nonsense",
        "select not closed",
        "select unknown",
        "select.foo",
        "grouping nonsense",
        "grouping unknown",
        "streaming.foo",
        "listFeatures is a word",
        "language unknown",
        "doc visit selection regular expression",
        "doc visit selection arithmetic",
        "doc visit selection now",
        "doc visit selection hash",
        "doc visit includeRemoves is a word",
    ),
    "an unknown property is refused; Vespa ignores it": (
        "template unknown",
        "model.foo",
        "model.querystring",
        "presentation.foo",
        "presentation.format.foo",
        "trace.foo",
    ),
    "an unknown name is refused; Vespa finds nothing, or searches the rest": (
        "yql field unknown as default of userInput",
        "yql sources, one unknown",
        "query in no field",
        "query in no field, full name",
        "sources, one unknown",
        "restrict unknown",
        "restrict, one unknown",
    ),
    "an input that Vespa would silently reinterpret is refused": (
        "yql two statements",  # the second is ignored
        "yql in unset reference",  # an empty list
        "yql in a list, empty item",
        "timeout of an unknown unit",  # seconds
        "timeout of two numbers",
        "timeout with a comma",
        "plus is a space",
        "post two objects, the first bad",  # the second is ignored
        "post object and nonsense",
        "input list with a null",  # 0
        "input object",  # no cells
        "input spec is a list",
        "doc POST create is a word",  # false
        "doc put field computed",
        "doc put field tokens an empty object",  # no cells
        "doc put field tokens of another key",
        "doc put field tokens cells is a number",
        "doc put field tokens cells of numbers",
        "path state",  # an empty page
    ),
    "a client's error is a 4xx with a reason; Vespa answers 500": (
        "format unknown",
        "format empty",
        "input literal below 0",
        "input literal with a word as address",
        "input embed",
        "post deeply nested",
        "post lists deeply nested",
        "post gzip that is none",
        "post cut off",
        "doc put cut off",
        "doc put gzip that is none",
        "doc put field tokens too long",
        "doc put field tokens too long a list",
        "doc put field tokens below 0",
        "doc put field tokens at a word",
        "doc put field tokens cells short, a word",
        "doc put field tokens type of another size",
    ),
    "the engine is its own content node, which makes these checks in Vespa": (
        "summary unknown",
        "doc path type unknown",
        "doc path type unknown, remove",
        "doc path type in capitals",
        "doc GET fieldSet unknown",
        "doc POST condition broken",
        "doc DELETE condition broken",
        "doc condition broken",
        "doc condition another type",
        "doc condition another field",
        "doc put condition is broken",
        "doc visit selection word",
        "doc visit selection another type",
        "doc visit selection another field",
        "doc visit selection field without a type",
        "doc visit selection number",
        "doc visit selection string",
        "doc visit selection unknown function",
        "doc visit selection unknown part of the id",
        "doc visit selection escape",
        "doc visit bucketSpace unknown",
        "doc visit fieldSet of another type",
        "doc visit fieldSet of an unknown kind",
        "doc visit fieldSet unknown",
    ),
    "an `or` of parts that are all false matches nothing; Vespa removes it from the query": (
        "yql false or false",
    ),
    "the HTTP server's own limit on headers is larger": ("header above the limit",),
}
"""Reason → ids of the cases that differ for that reason, in status, codes or shape."""


@pytest.fixture(scope="module")
def answers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, tuple[Answer, Answer]]]:
    """Return the container's answer and the engine's for each case."""
    folder = tmp_path_factory.mktemp("front-door")
    app = make_app(folder / "app")
    try:
        with container(_with_clusters(app, folder / "clusters")) as url:
            theirs = _asked(url)
    except MissingTool as error:
        pytest.skip(str(error))
    with running_engine(app, folder / "data") as url:
        ours = _asked(url)
    found = {id_: (theirs[id_], ours[id_]) for id_ in theirs}
    yield found
    _record({case.id: found[case.id] for case in CASES})


def _with_clusters(app: Path, folder: Path) -> Path:
    """Return a copy of the package that names the content cluster to the container."""
    shutil.copytree(app, folder)
    services = folder / "services.xml"
    text, count = re.subn('<container id="default" version="1.0">', CLUSTERS, services.read_text())
    assert count == 1
    services.write_text(text)
    return folder


def _asked(url: str) -> dict[str, Answer]:
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        cases = (*CASES, *RANDOM)
        found = pool.map(functools.partial(ask, url), cases)
        return {case.id: answer for case, answer in zip(cases, found, strict=True)}


def _record(found: dict[str, tuple[Answer, Answer]]) -> None:
    different = sum(not _same(*pair) for pair in found.values())
    figures.record(
        "front door",
        f"{len(found)} requests compared with Vespa's container, {len(found) - different} answered "
        f"with the same status, codes and JSON shape, {different} different on purpose; "
        f"{len(RANDOM)} random requests",
    )


def _same(theirs: Answer, ours: Answer) -> bool:
    if theirs.taken or ours.taken:
        return theirs.taken and ours.taken
    return (theirs.status, theirs.codes, theirs.shape) == (ours.status, ours.codes, ours.shape)


def _listed() -> set[str]:
    ids = [id_ for group in DIFFERENT.values() for id_ in group]
    assert len(set(ids)) == len(ids), "listed twice"
    return set(ids)


def test_the_cases_are_many_and_distinct() -> None:
    assert len(CASES) > 700
    assert len({case.id for case in CASES}) == len(CASES)
    wire = {case.wire("host") + b"%d" % case.cut for case in CASES}
    assert len(wire) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_answers(case: Case, answers: dict[str, tuple[Answer, Answer]]) -> None:
    theirs, ours = answers[case.id]
    if case.id in _listed():
        assert not _same(theirs, ours), "the difference is gone: take it out of DIFFERENT"
        return
    assert _same(theirs, ours), f"\nVespa  {theirs}\nengine {ours}"


def test_random_requests(answers: dict[str, tuple[Answer, Answer]]) -> None:
    taken, different = 0, []
    for case in RANDOM:
        theirs, ours = answers[case.id]
        taken += theirs.taken
        if ours.status == 400 and any(map(REFUSED_BY_NAME.search, ours.words)):
            continue
        if not _same(theirs, ours):
            different.append((case, theirs, ours))
    assert different == []
    assert len(RANDOM) * 0.1 < taken < len(RANDOM) * 0.9


def test_the_differences_are_of_cases_and_documented() -> None:
    assert _listed() <= {case.id for case in CASES}
    documented = " ".join((engine.__doc__ or "").split()).lower()
    assert [reason for reason in DIFFERENT if reason.lower() not in documented] == []

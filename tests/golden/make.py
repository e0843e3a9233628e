"""Write the golden data of `tests/lexical/test_lexical.py`: texts and Vespa's index terms.

Needs a JDK, and Maven for the first build of Vespa's class path.  Run it from the root::

    python tests/golden/make.py

`words.tsv` holds words of the demonstration's documents, the docstrings of Python's own library
(words only, no text of them), and every word that our stemmer has an own entry for.  `texts.jsonl`
holds sentences written for this project (the demonstration's questions, its documentation, its
own docstrings) and texts that were made to be nasty.
"""

import ast
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from ranker.files import write_text
from ranker.lexical.terms import _OTHER_STEMS
from ranker.verify import VespaProcess

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
DOCUMENTATION = ("README.md", "ARCHITECTURE.md", "docs/judging.md", "benchmarks/RESULTS.md")

LEAST_OCCURRENCES = 3
"""Of a word in the docstrings; rarer ones are mostly names."""

NASTY = [
    # accents, composed and not, and marks without a letter
    "Café NAÏVE façade Ångström", "Cafe\u0301 NAI\u0308VE", "\u0301 alone a\u0301\u0302b",
    "résumés élèves",
    # other scripts
    "東京タワー and 北京大学 towers", "서울특별시 대한민국", "한국\u1112\u1161\u11ab",
    "ภาษาไทย", "हिन्दी में लिखना",
    "مرحبا بالعالم", "ﷺ ﷲ \ufe70 \u037a", "שָׁלוֹם עולם", "Привет МИР ёлка йод", "ΌΔΟΣ Σ ΣΑΣ ὀδυσσεύς",
    # emoji and symbols
    "I ♥ ☃ and 👍🏽 👨‍👩‍👧 🇫🇷", "♥♥♥", "© 2024 ® ™ № ℃ ⓐ", "→ ≤ ± ∑ ∞ € $ £ `^~ | + = < >",
    # digits
    "covid-19 covid19 19-covid 3.14 1,000,000 0x1F 007 1e5", "½ ⅓ ①② ⅷ Ⅳ ² x² H₂O", "٣٤ 一二三 ๔๕",
    # signs between letters
    "U.S.A. U.S.A e.g. i.e.", "don't can't won’t O'Neill's rock'n'roll",
    "well-known state-of-the-art",
    "snake_case __init__ _a_ a__b", "foo.bar/baz:qux@example.com#tag", "AT&T C++ C# .NET R&D",
    "a·b a‧b",
    # invisible signs
    "soft\u00adhyphen zero\u200bwidth zero\u200djoin\u200cer \ufeffbom word\u2060joiner",
    "no\u00a0break\u3000wide\u2009thin",
    "tab\there line\nthere return\rhere", "left\u200eto\u200fright \u202eover\u202c",
    # other forms of the same letters
    "ＡＢＣ ｆｕｌｌ ｗｉｄｔｈ１２３ ｶﾞ", "ﬁnding eﬃcient ﬂies ﬆ", "𝐁𝐨𝐥𝐝 𝒮𝒸𝓇𝒾𝓅𝓉 𝔉𝔯𝔞𝔨𝔱𝔲𝔯 𝟏𝟐",
    "Ⓐⓑⓒ 🅰 ㎏ ㍿ ﹫",
    # case
    "İstanbul ISPARTA ıspanak I i", "STRASSE Straße ẞ ß", "Ǆ ǅ ǆ ŉ ǰ", "MiXeD CaSe RUNNING Studies",
    # stems
    "running runs ran runner jumping jumped leaves wolves dogs cats foxes women mice",
    "organization organizations organizing organized organizational", "happily happiness happier",
    "conflated conflation generically generic generously",
    "american americans italian dutch siamese",
    "aging ages going goes lying lies using used dying dies",
    "bootstrapped bootstrapping bootstraps",
    "ies es s ed ing ied ying yes us is as bus", "pneumonoultramicroscopicsilicovolcanoconiosis",
    "x" * 24 + " " + "x" * 49 + " " + "y" * 60,
    # nothing to index
    "", " ", "...!?", "\u0301", "-- ' \" _",
]  # fmt: skip


def main() -> None:
    """Ask Vespa and write both files."""
    words, texts = demo_words(), [*sentences(), *NASTY]
    with VespaProcess() as vespa_process:
        stems = vespa_process.ask("terms", texts=words)
        terms = vespa_process.ask("terms", texts=texts)
    lines = [f"{word}\t{' '.join(stem)}" for word, stem in zip(words, stems, strict=True)]
    write_text(HERE / "words.tsv", "".join(f"{line}\n" for line in lines))
    rows = [{"text": text, "terms": made} for text, made in zip(texts, terms, strict=True)]
    write_text(HERE / "texts.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    print(f"{len(words)} words, {len(texts)} texts")  # noqa: T201


def demo_words() -> list[str]:
    """Words of the demonstration's documents, and those with a stem of their own, sorted."""
    with tempfile.TemporaryDirectory() as name:
        script = ROOT / "pipelines" / "stdlib_corpus.py"
        subprocess.run([sys.executable, script, "--out", name], check=True, capture_output=True)
        corpus = (Path(name) / "corpus.jsonl").read_text(encoding="utf-8")
    counts: Counter[str] = Counter()
    for line in corpus.splitlines():
        document = json.loads(line)
        counts.update(re.findall(r"[a-z]{2,24}", f"{document['title']} {document['text']}".lower()))
    often = {word for word, count in counts.items() if count >= LEAST_OCCURRENCES}
    return sorted(often | set(_OTHER_STEMS))


def sentences() -> list[str]:
    """Questions of the demonstration, and sentences of our documentation and docstrings."""
    queries = (ROOT / "pipelines" / "stdlib" / "queries.jsonl").read_text(encoding="utf-8")
    found = [json.loads(line)["text"] for line in queries.splitlines()]
    blocks = [(ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTATION]
    for path in sorted((ROOT / "ranker").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        blocks.append(ast.get_docstring(tree) or "")
    for block in blocks:
        for part in re.split(r"\n\s*\n|(?<=[.:!?])\s+(?=[A-Z`])", block):
            text = " ".join(part.split())
            if text.count(" ") >= 4:
                found.append(text)
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    main()

"""The embedded engine: an application package served over Vespa's HTTP API, in one process.

Useful for laptops, tests, CI and collections up to some hundred thousand documents.  Not useful
past one machine: the same package, feed and queries go to Vespa then.

How it works
    `server` opens a package and a data folder.  `documents` turns requests into `operations`;
    `commits` puts many of them into one transaction of `store` (SQLite, the truth), and
    acknowledges them when it is on disk.  `index` (tantivy) follows on a thread of its own and is
    built anew from the documents where it is missing or damaged.  `search` parses a `request`
    (`parameters`, `tensors`, `yql`, `userquery`), lets the index choose candidates, scores them
    exactly (`matching`), has the model rerank them (`ranking`) and `render`s Vespa's JSON.

The same as Vespa (each checked with Vespa's own container, 8.700.24, or read in its source)
    - paths, parameters and aliases, JSON bodies, status and error codes, shapes of answers;
    - trees of typed queries: `covid-19` needs both words, `-x` excludes, `+` has no meaning;
    - bm25 of a field: the formula, idf per live document, repeated words count repeatedly, words
      of a part of the query that does not hold do not count, bm25(title) is 0 unless the query
      searches `title`;
    - phases: the rerank counts, and how scores of documents below them are moved;
    - token ids: as many cells are used as there are above 0;
    - test-and-set conditions, partial updates with `assign`, visits with continuation, slices,
      selections and streams; a query sees what was acknowledged before it;
    - `limit 3 offset 2` is one hit.

Different, on purpose
    - A query without token ids, or with those of another contract, is refused (400, code 4);
      Vespa scores it as an empty text.  So are documents of another contract, and documents
      with tokens that do not say which.
    - weakAnd is exact: every document that matches any word is counted and scored; Vespa's
      `targetHits`, and its knobs of speed and approximation, have no meaning here.
    - A parameter, annotation or piece of YQL that is not supported is refused by name, also
      where Vespa ignores an unknown one.  There are no grouping, sorting by text functions,
      prefix, regular expression, near, nearest neighbour, `weightedSet`, `wand`.
    - A request that names no rank profile is ranked by bm25(contents): there is no nativeRank.
    - A result sorted by an attribute is not reranked, and shows first-phase scores.
    - Terms are stemmed by Snowball's English stemmer, not by KStem; the average length of a field
      is the true mean, not a moving one.  A phrase has the document frequency of its rarest word.
    - attribute(token_spec) of a document without one is 0; in Vespa it is not a number.
    - A document's tensor must be complete: `values` that are too few are refused, as newer
      versions of Vespa do.  Token ids must be whole numbers inside the vocabulary.
    - Timeouts are checked between steps, as in Vespa, and after each 128 reranked documents.
    - One document type, one content cluster (`content`), one node; no `/document/v1` operations
      on many documents at once, no update operations but `assign`.

Durability
    SQLite in WAL mode with synchronous=FULL: an acknowledged document survives a kill and a power
    failure.  A full disk is 507, and nothing of that transaction is stored.  The index is behind
    by what was not committed to it, and catches up at the next start.
"""

from ranker.engine.server import serve

__all__ = ["serve"]

"""The embedded engine: an application package served over Vespa's HTTP API, in one process.

Useful for laptops, tests, CI and collections up to some hundred thousand documents.  Not useful
past one machine: the same package, feed and queries go to Vespa then.

How it works
    `server` opens a data folder: a `container` with the documents and the application that serves
    them.  `config_server` takes packages; `deployments` checks each (`admission`), keeps it
    (`sessions`) and switches the container to it, while queries and feeds go on.  `documents` turns
    requests into `operations`; `commits` puts many of them into one transaction of `store` (SQLite,
    the truth), and acknowledges them when it is on disk.  `index` (tantivy) follows on a thread of
    its own and is built anew from the documents where it is missing or damaged.  `search` parses a
    `request` (`uris`, `parameters`, `properties`, `tensors`, `yql`, `userquery`), lets the index
    choose candidates, scores them exactly (`matching`), has the model rerank them (`ranking`) and
    `render`s Vespa's JSON.

The same as Vespa (each checked with Vespa's own container, 8.700.24, or read in its source)
    - paths, parameters and aliases, JSON bodies, status and error codes, shapes of answers;
    - index terms: Vespa's tokenizer and stemmer for English (`ranker.lexical.terms`), which the
      schema and the client ask for, whatever language a text may be in;
    - trees of typed queries: `covid-19` needs both words, `-x` excludes, `+` has no meaning;
    - bm25 of a field: the formula, idf per live document, repeated words count repeatedly, words
      of a part of the query that does not hold do not count, bm25(title) is 0 unless the query
      searches `title`;
    - phases: the rerank counts, and how scores of documents below them are moved;
    - token ids: as many cells are used as there are above 0;
    - test-and-set conditions, whose comparisons may be invalid besides true and false; partial
      updates, by every operation that a type of this schema has; removing and updating by
      selection; visits with continuation, slices, selections and streams; a query sees what was
      acknowledged before it;
    - `limit 3 offset 2` is one hit;
    - deploying: `prepareandactivate`, sessions, `serviceconverge`, the config server's errors.

Different, on purpose
    - A query without token ids, or with those of another contract, is refused (400, code 4);
      Vespa scores it as an empty text.  So are documents of another contract, documents with
      tokens that do not say which, and updates that would make one of either.
    - weakAnd is exact: every document that matches any word is counted and scored; Vespa's
      `targetHits`, and its knobs of speed and approximation, have no meaning here.
    - What is not supported is refused by name, before its argument is looked at: a parameter, an
      annotation, a piece of YQL or of a selection.  There are no grouping but the one of
      `grouping`, sorting by text functions, prefix, regular expression, near, nearest neighbour,
      `weightedSet`, `wand`, and no language but English.
    - A property that does not exist is refused; Vespa leaves it aside.
    - A name that nothing has is refused; Vespa finds nothing, or searches the rest: a source, a
      schema, a default index.
    - What Vespa would read as something else is refused: what follows a first statement or JSON
      object, an unset or empty list in `in (@name)`, a time of an unknown unit (seconds there), a
      flag that is neither true nor false, a null in a tensor (0 there), a tensor without cells.
    - A client's error is a 4xx with a reason; Vespa's is a 500 for a body that is cut off, broken
      gzip, an unknown format, deep nesting, and a tensor that is too long.
    - The engine is its own content node, which is who refuses it in Vespa: conditions, selections,
      field sets, summary classes and document types are checked at the door.
    - An `or` of parts that are all false finds nothing; Vespa takes it out of the query, which may
      then match more.
    - The HTTP server's own limit on headers is larger.  (`tests/engine/test_front_door.py` puts
      hundreds of bad requests to both; all else that it compares is the same.)
    - From `trace.level` 6 on, the trace shows what the model got for each hit: input ids, mask,
      segment ids (`ranker verify` reads them).
    - A request that names no rank profile is ranked by bm25(contents): there is no nativeRank.
    - A result sorted by an attribute is not reranked, and shows first-phase scores.
    - The average length of a field is the true mean, not a moving one.  A phrase has the document
      frequency of its rarest word.  A text is indexed whole; Vespa stops at a million characters
      and at 10,000 occurrences of a word.
    - attribute(token_fingerprint) of a document without one is 0; in Vespa it is not a number.
    - A document's tensor must be complete: `values` that are too few are refused, as newer
      versions of Vespa do.  Token ids must be whole numbers inside the vocabulary.
    - Timeouts are checked between steps, as in Vespa, and after each 128 reranked documents.
    - Packages of `ranker package` only, as zip files, one application; a file in them that Vespa
      would act on and `ranker package` did not write is refused, as is any package before it
      changes anything.  One with another token contract needs an engine without documents.  A
      broken zip file is a 400, where Vespa says 500.
    - One document type, one content cluster (`content`), one node; no copying from cluster to
      cluster, no visits by time.  A label of a tensor's cell that is no number is refused in an
      update, where Vespa leaves the cell aside.

Durability
    SQLite in WAL mode with synchronous=FULL: an acknowledged document survives a kill and a power
    failure, and so does an activated application.  A full disk is 507, and nothing of that
    transaction is stored.  The index is behind by what was not committed to it, and catches up at
    the next start.

Access
    Who reaches the port may deploy, feed, query and remove: there are no passwords, as at Vespa's
    own ports.  The default address is this machine's.
"""

from ranker.engine.server import serve

__all__ = ["serve"]

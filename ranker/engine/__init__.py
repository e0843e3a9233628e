"""The embedded engine: an application package served over Vespa's HTTP API, in one process.

Useful for laptops, tests, CI and collections of up to a few hundred thousand documents.  Not useful
beyond one machine: deploy the same package, feed and queries to Vespa instead.

How it works
    `server` opens a data folder and serves it until it is told to stop.  `vespa_compat` takes
    packages as Vespa's config server does, checks and keeps them, and switches the application
    server to a new one while queries and feeds continue.  `http` turns requests into document
    operations and searches.  `documents` says what an operation does to a document; `storage`
    commits many operations in one transaction of SQLite, the source of truth, and acknowledges
    them once they are on disk.  The tantivy index follows on a thread of its own and is rebuilt
    from the documents if it is missing or damaged.  `query` parses a search; `rank` lets the index
    choose candidates, scores them exactly and has the model rerank them.  The folders import in
    one order: documents, query, storage, rank, http, vespa_compat, server.

The same as in Vespa (each checked against Vespa's own container, 8.700.24, or read in its source)
    - Paths, parameters and their aliases, JSON bodies, HTTP statuses, error codes and the shape of
      every response.  Messages are the engine's own.
    - Index terms: Vespa's tokenizer and stemmer for English (`ranker.lexical.terms`), which the
      schema and the client ask for, regardless of the language of a text.
    - Trees of typed queries: `covid-19` needs both words, `-x` excludes, `+` has no meaning.
    - bm25 of a field: the formula; idf over live documents; repeated words count repeatedly; words
      do not count where the part of the query around them does not match; bm25(title) is 0 unless
      the query searches `title`.
    - Phases: the rerank counts, and how the scores of documents below them are shifted.
    - Token ids: as many cells are used as there are above 0.
    - Test-and-set conditions, whose comparisons can be invalid as well as true and false; partial
      updates with every operation of this schema's types; removing and updating by selection;
      visits with continuation, slices, selections and streams.  A query sees everything that was
      acknowledged before it.
    - `limit 3 offset 2` is one hit.
    - Deployment: `prepareandactivate`, sessions, `serviceconverge` and the config server's errors.

Different on purpose
    - A query without token ids, or with those of another contract, is refused (400, code 4); Vespa
      scores it as an empty text.  Documents of another contract, documents with tokens but without
      a contract, and updates that would produce either are refused as well.
    - weakAnd is exact: every document that matches any word is counted and scored.  Vespa's
      `targetHits` and its other controls of speed and approximation have no effect.
    - An unsupported feature is refused by name, before its argument is read: a parameter, an
      annotation, a part of YQL or of a selection.  Unsupported are groupings other than the one in
      `query.grouping`, sorting by functions, prefixes, regular expressions, near, nearest
      neighbours, `weightedSet`, `wand`, and languages other than English.
    - An unknown property is refused; Vespa ignores it.
    - An unknown name is refused; Vespa finds nothing, or searches the rest: a source, a schema, a
      default index.
    - An input that Vespa would silently reinterpret is refused: text after the first statement or
      JSON object, an unset or empty list in `in (@name)`, a time in an unknown unit (seconds in
      Vespa), a flag that is neither true nor false, a null in a tensor (0 in Vespa), a tensor
      without cells.
    - A client's error is a 4xx with a reason; Vespa answers 500 for a body that is cut off, broken
      gzip, an unknown format, deep nesting, and a tensor that is too long.
    - The engine is its own content node, which makes these checks in Vespa: conditions, selections,
      field sets, summary classes and document types are checked when the request arrives.
    - An `or` of parts that are all false matches nothing; Vespa removes it from the query, which
      may then match more.
    - The HTTP server's own limit on headers is larger.  (`tests/engine/test_front_door.py` sends
      hundreds of bad requests to both; everything else that it compares is the same.)
    - From `trace.level` 6 on, the trace shows the model's inputs for each hit: input ids, mask and
      segment ids (`ranker verify` reads them).
    - A request that names no rank profile is ranked by bm25(contents), as there is no nativeRank.
    - A result sorted by an attribute is not reranked and shows first-phase scores.
    - The average length of a field is the true mean, not a moving one.  A phrase has the document
      frequency of its rarest word.  A text is indexed completely; Vespa stops at a million
      characters and at 10,000 occurrences of a word.
    - attribute(token_fingerprint) of a document without one is 0; in Vespa it is not a number.
    - A document's tensor must be complete: too few `values` are refused, as in newer versions of
      Vespa.  Token ids must be whole numbers within the vocabulary.
    - Timeouts are checked between steps, as in Vespa, and after every 128 reranked documents.
    - Only packages of `ranker package` are accepted, as zip files, one application at a time.  A
      package with a file that Vespa would act on and `ranker package` did not write is refused
      before anything changes.  A package with another token contract needs an engine without
      documents.  A broken zip file is a 400; Vespa answers 500.
    - There is one document type, one content cluster (`content`) and one node, no copying between
      clusters, and no visiting by time.  A cell label that is not a number is refused in an update;
      Vespa ignores the cell.

Durability
    SQLite runs in WAL mode with synchronous=FULL: acknowledged documents and activated applications
    survive a kill and a power failure.  A full disk is a 507, and nothing of that transaction is
    stored.  After a crash the index may lack the last documents; it catches up at the next start.

Access
    Anyone who reaches the port can deploy, feed, query and remove: there are no passwords, as at
    Vespa's own ports.  The default address accepts connections from this machine only.
"""

from ranker.engine.server import serve

__all__ = ["serve"]

rank-profile blend inherits cross {
    # BM25 and cross-encoder together; the weight was learned on training queries.
    second-phase {
        rerank-count: 100
        expression: bm25(contents) + 1 * logit
    }
}

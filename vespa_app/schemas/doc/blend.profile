rank-profile blend inherits cross {
    # Reranks the best documents of the first phase, on the content nodes.
    second-phase {
        rerank-count: 100
        expression: bm25(contents) + logit
    }
}

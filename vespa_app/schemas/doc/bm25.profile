rank-profile bm25 {
    # First phase of every profile.
    first-phase {
        expression: bm25(contents)
    }
    match-features: bm25(contents) bm25(title)
}

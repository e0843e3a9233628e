rank-profile base {
  first-phase {
    expression: bm25(headline) + bm25(story)
  }
}

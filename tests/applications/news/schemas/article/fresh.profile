rank-profile fresh inherits base {
  function age() {
    expression: freshness(published)
  }
  first-phase {
    expression: bm25(headline) + bm25(story) + 3 * age
  }
  match-features {
    age
    bm25(story)
  }
}

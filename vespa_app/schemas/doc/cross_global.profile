rank-profile cross_global inherits bm25 {
    # Reranks the best documents of all nodes, in the container; a GPU is possible.
    inputs {
        query(query_token_ids) tensor<float>(d0[30])
        query(token_fingerprint) double
    }
    function input_ids() {
        expression: tokenInputIds(128, query(query_token_ids), attribute(doc_token_ids))
    }
    function attention_mask() {
        expression: tokenAttentionMask(128, query(query_token_ids), attribute(doc_token_ids))
    }
    function token_type_ids() {
        expression: tokenTypeIds(128, query(query_token_ids), attribute(doc_token_ids))
    }
    onnx-model cross_global {
        file: files/cross_encoder.onnx
        input input_ids: input_ids
        input attention_mask: attention_mask
        input token_type_ids: token_type_ids
        output logits: logits
    }
    function logit() {
        expression: onnx(cross_global).logits{d0:0,d1:0}
    }
    global-phase {
        rerank-count: 100
        expression: logit
    }
    match-features: bm25(contents) bm25(title) attribute(token_fingerprint)
}

package ranker.verify;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.yahoo.document.Document;
import com.yahoo.document.DocumentPut;
import com.yahoo.document.DocumentTypeManager;
import com.yahoo.document.config.DocumentmanagerConfig;
import com.yahoo.document.datatypes.TensorFieldValue;
import com.yahoo.document.json.DocumentOperationType;
import com.yahoo.document.json.JsonReader;
import com.yahoo.document.json.ParsedDocumentOperation;
import com.yahoo.vespa.model.VespaModel;
import java.io.ByteArrayInputStream;

/** Vespa's own reader of feed operations, with the document types of one application. */
final class FeedReader {
    private static final JsonFactory JACKSON =
            JsonFactory.builder()
                    .streamReadConstraints(
                            StreamReadConstraints.builder().maxStringLength(Integer.MAX_VALUE).build())
                    .build();

    private final DocumentTypeManager types;

    FeedReader(VespaModel model) {
        var config = new DocumentmanagerConfig.Builder();
        model.getConfig(config, "");
        types = new DocumentTypeManager(config.build());
    }

    /**
     * Reads puts, {"put": id, "fields": {...}} each. An operation gives {"fields": [names set],
     * "cells": {tensor field: [values of all its cells]}} or {"error": [messages]}.
     */
    JsonNode read(JsonNode operations) {
        ArrayNode answers = Main.JSON.createArrayNode();
        for (JsonNode operation : operations) {
            try {
                answers.add(readOne(operation));
            } catch (Exception error) {
                answers.addObject().set("error", Main.causes(error));
            }
        }
        return answers;
    }

    private ObjectNode readOne(JsonNode operation) throws Exception {
        ObjectNode body = Main.JSON.createObjectNode();
        body.set("fields", operation.required("fields"));
        var bytes = new ByteArrayInputStream(Main.JSON.writeValueAsBytes(body));
        ParsedDocumentOperation parsed =
                new JsonReader(types, bytes, JACKSON)
                        .readSingleDocumentStreaming(
                                DocumentOperationType.PUT, operation.required("put").asText());
        return describe(((DocumentPut) parsed.operation()).getDocument());
    }

    private ObjectNode describe(Document document) {
        ObjectNode answer = Main.JSON.createObjectNode();
        ArrayNode fields = answer.putArray("fields");
        ObjectNode cells = answer.putObject("cells");
        for (var fieldValues = document.iterator(); fieldValues.hasNext(); ) {
            var entry = fieldValues.next();
            fields.add(entry.getKey().getName());
            if (entry.getValue() instanceof TensorFieldValue tensor) {
                ArrayNode values = cells.putArray(entry.getKey().getName());
                tensor.getTensor().orElseThrow().valueIterator().forEachRemaining(values::add);
            }
        }
        return answer;
    }
}

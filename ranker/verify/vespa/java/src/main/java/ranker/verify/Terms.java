package ranker.verify;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.yahoo.document.DataType;
import com.yahoo.document.Document;
import com.yahoo.document.DocumentTypeManager;
import com.yahoo.document.Field;
import com.yahoo.document.annotation.Annotation;
import com.yahoo.document.annotation.AnnotationTypes;
import com.yahoo.document.annotation.SpanTree;
import com.yahoo.document.annotation.SpanTrees;
import com.yahoo.document.config.DocumentmanagerConfig;
import com.yahoo.document.datatypes.FieldValue;
import com.yahoo.document.datatypes.StringFieldValue;
import com.yahoo.language.Language;
import com.yahoo.language.Linguistics;
import com.yahoo.language.opennlp.OpenNlpLinguistics;
import com.yahoo.language.process.StemMode;
import com.yahoo.vespa.configdefinition.IlscriptsConfig;
import com.yahoo.vespa.indexinglanguage.FieldValuesFactory;
import com.yahoo.vespa.indexinglanguage.expressions.Expression;
import com.yahoo.vespa.indexinglanguage.expressions.ScriptExpression;
import com.yahoo.vespa.indexinglanguage.expressions.StatementExpression;
import com.yahoo.vespa.indexinglanguage.linguistics.AnnotatorConfig;
import com.yahoo.vespa.indexinglanguage.linguistics.LinguisticsAnnotator;
import com.yahoo.vespa.model.VespaModel;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;

/** The index terms that Vespa makes of texts, by its default linguistics. */
final class Terms {
    private static final Linguistics LINGUISTICS = new OpenNlpLinguistics();

    private final DocumentTypeManager types;
    private final String type;
    private final ScriptExpression script;

    /** For the first document type of an application. */
    Terms(VespaModel model) throws Exception {
        var documents = new DocumentmanagerConfig.Builder();
        model.getConfig(documents, "");
        types = new DocumentTypeManager(documents.build());
        var config = new IlscriptsConfig.Builder();
        model.getSearchClusters().get(0).getDocumentDbs().get(0).getConfig(config);
        var scripts = config.build().ilscript(0);
        type = scripts.doctype();
        List<StatementExpression> statements = new ArrayList<>();
        for (String content : scripts.content()) {
            statements.add(
                    StatementExpression.fromString(content, LINGUISTICS, Map.of(), Map.of(), Map.of()));
        }
        script = new ScriptExpression(statements);
        script.resolve(types.getDocumentType(type));
    }

    /** Returns the terms of English texts, [[term]]: stemmed in the mode `best`, without accents. */
    static JsonNode english(JsonNode texts) {
        var config = new AnnotatorConfig();
        config.setLanguage(Language.ENGLISH).setStemMode(StemMode.BEST).setRemoveAccents(true);
        var annotator = new LinguisticsAnnotator(LINGUISTICS, config);
        ArrayNode answer = Main.JSON.createArrayNode();
        for (JsonNode text : texts) {
            var value = new StringFieldValue(text.asText());
            annotator.annotate(value, null, false);
            answer.add(terms(value));
        }
        return answer;
    }

    /** Returns the terms of documents, [{field: text}], by the application's indexing scripts. */
    JsonNode index(JsonNode documents) {
        ArrayNode answer = Main.JSON.createArrayNode();
        for (JsonNode fields : documents) {
            Document document = new Document(types.getDocumentType(type), "id:a:" + type + "::1");
            fields.fields()
                    .forEachRemaining(
                            field ->
                                    document.setFieldValue(
                                            field.getKey(), field.getValue().asText()));
            Document indexed = script.execute(new FieldValuesFactory(), document);
            ObjectNode byField = answer.addObject();
            for (var fieldValues = indexed.iterator(); fieldValues.hasNext(); ) {
                Map.Entry<Field, FieldValue> entry = fieldValues.next();
                if (entry.getValue() instanceof StringFieldValue value) {
                    byField.set(entry.getKey().getName(), terms(value));
                }
            }
        }
        return answer;
    }

    /** Returns the terms of an annotated text in the order of the text. */
    private static ArrayNode terms(StringFieldValue value) {
        ArrayNode answer = Main.JSON.createArrayNode();
        SpanTree tree = value.getSpanTree(SpanTrees.LINGUISTICS);
        if (tree == null) {
            return answer;
        }
        List<Annotation> annotations = new ArrayList<>();
        tree.iterator().forEachRemaining(annotations::add);
        annotations.removeIf(annotation -> !annotation.getType().equals(AnnotationTypes.TERM));
        annotations.sort(Comparator.comparingInt(term -> term.getSpanNode().getFrom()));
        for (Annotation annotation : annotations) {
            FieldValue term = annotation.getFieldValue();
            answer.add(
                    term != null
                            ? ((StringFieldValue) term).getString()
                            : annotation.getSpanNode().getText(value.getString()).toString());
        }
        return answer;
    }
}

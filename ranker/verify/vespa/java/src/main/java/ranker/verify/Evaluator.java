package ranker.verify;

import ai.vespa.modelintegration.evaluator.EmbeddedOnnxRuntime;
import ai.vespa.models.evaluation.FunctionEvaluator;
import ai.vespa.models.evaluation.LazyArrayContext;
import ai.vespa.models.evaluation.ModelsEvaluator;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.yahoo.filedistribution.fileacquirer.MockFileAcquirer;
import com.yahoo.tensor.IndexedTensor;
import com.yahoo.tensor.Tensor;
import com.yahoo.tensor.TensorType;
import com.yahoo.vespa.config.search.RankProfilesConfig;
import com.yahoo.vespa.config.search.core.OnnxModelsConfig;
import com.yahoo.vespa.config.search.core.RankingConstantsConfig;
import com.yahoo.vespa.config.search.core.RankingExpressionsConfig;
import com.yahoo.vespa.model.VespaModel;
import java.io.File;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;

/** Vespa's evaluator of rank-profile functions: the code that runs a global phase. */
final class Evaluator {
    private final ModelsEvaluator models;

    /** The rank profiles of one schema; an empty name is the first one. */
    Evaluator(File folder, VespaModel model, String schema) {
        var database =
                model.getSearchClusters().stream()
                        .flatMap(cluster -> cluster.getDocumentDbs().stream())
                        .filter(candidate -> schema.isEmpty() || schema.equals(candidate.getSchemaName()))
                        .findFirst()
                        .orElseThrow(
                                () -> new IllegalArgumentException("no indexed schema " + schema));
        var profiles = new RankProfilesConfig.Builder();
        var constants = new RankingConstantsConfig.Builder();
        var expressions = new RankingExpressionsConfig.Builder();
        var onnx = new OnnxModelsConfig.Builder();
        database.getConfig(profiles);
        database.getConfig(constants);
        database.getConfig(expressions);
        database.getConfig(onnx);
        Map<String, File> files = new HashMap<>();
        for (var entry : onnx.build().model()) {
            String name = entry.fileref().value();
            files.put(name, new File(folder, name));
        }
        models =
                new ModelsEvaluator(
                        profiles.build(),
                        constants.build(),
                        expressions.build(),
                        onnx.build(),
                        MockFileAcquirer.returnFiles(files),
                        EmbeddedOnnxRuntime.createTestInstance());
    }

    /**
     * Evaluates functions of a rank profile for many bindings: {"profile", "functions": [name],
     * "bindings": [{"query(x)": [numbers] or number}]} gives a row for each binding with a
     * {"type", "values"} for each function. Bindings that a function does not take are ignored.
     * A function that the first one calls has the value of that call, so that an input of the model
     * is what the model received. All cores work; the rows have the order of the bindings.
     */
    JsonNode evaluate(JsonNode request) {
        String profile = request.required("profile").asText();
        JsonNode functions = request.required("functions");
        JsonNode bindings = request.required("bindings");
        List<ArrayNode> rows =
                IntStream.range(0, bindings.size())
                        .parallel()
                        .mapToObj(index -> row(profile, functions, bindings.get(index)))
                        .toList();
        return Main.JSON.createArrayNode().addAll(rows);
    }

    private ArrayNode row(String profile, JsonNode functions, JsonNode bindings) {
        ArrayNode row = Main.JSON.createArrayNode();
        LazyArrayContext context = null;
        for (JsonNode function : functions) {
            String inner = "rankingExpression(" + function.asText() + ")";
            if (context != null && context.names().contains(inner)) {
                row.add(render(context.get(inner).asTensor()));
                continue;
            }
            // An evaluator is single use; making one is cheap, the model is shared.
            FunctionEvaluator evaluator = models.evaluatorOf(profile, function.asText());
            bind(bindings, evaluator);
            row.add(render(evaluator.evaluate()));
            context = context == null ? evaluator.context() : context;
        }
        return row;
    }

    private static void bind(JsonNode bindings, FunctionEvaluator evaluator) {
        Map<String, TensorType> arguments = evaluator.function().argumentTypes();
        for (Iterator<Map.Entry<String, JsonNode>> fields = bindings.fields(); fields.hasNext(); ) {
            Map.Entry<String, JsonNode> binding = fields.next();
            TensorType type = arguments.get(binding.getKey());
            if (type != null) {
                evaluator.bind(binding.getKey(), tensor(type, binding.getValue()));
            }
        }
    }

    private static Tensor tensor(TensorType type, JsonNode value) {
        if (!value.isArray()) {
            return Tensor.from(value.asDouble());
        }
        long cells = 1;
        for (TensorType.Dimension dimension : type.dimensions()) {
            cells = Math.multiplyExact(cells, dimension.size().orElse(0L));
        }
        if (value.size() != cells) {
            throw new IllegalArgumentException(
                    "expected " + cells + " values for " + type + ", got " + value.size());
        }
        double[] values = new double[value.size()];
        for (int i = 0; i < values.length; i++) {
            values[i] = value.get(i).asDouble();
        }
        return IndexedTensor.Builder.of(type, values).build();
    }

    private static JsonNode render(Tensor tensor) {
        ObjectNode node = Main.JSON.createObjectNode();
        node.put("type", tensor.type().toString());
        ArrayNode values = node.putArray("values");
        tensor.valueIterator().forEachRemaining(values::add);
        return node;
    }
}

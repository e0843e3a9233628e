package ranker.verify;

import ai.vespa.rankingexpression.importer.onnx.OnnxImporter;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.yahoo.component.Version;
import com.yahoo.config.model.NullConfigModelRegistry;
import com.yahoo.config.model.api.ValidationParameters;
import com.yahoo.config.model.api.ValidationParameters.CheckRouting;
import com.yahoo.config.model.api.ValidationParameters.FailOnIncompatibleChange;
import com.yahoo.config.model.api.ValidationParameters.IgnoreValidationErrors;
import com.yahoo.config.model.application.provider.ApplicationPackageXmlFilesValidator;
import com.yahoo.config.model.application.provider.FilesApplicationPackage;
import com.yahoo.config.model.application.provider.MockFileRegistry;
import com.yahoo.config.model.deploy.DeployState;
import com.yahoo.config.model.deploy.TestProperties;
import com.yahoo.vespa.model.VespaModel;
import com.yahoo.vespa.model.application.validation.Validation;
import java.io.File;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.logging.Level;

/** An application package as Vespa's config model sees it. Building it writes into the folder. */
final class Package {
    private static final ValidationParameters PARAMETERS =
            new ValidationParameters(
                    IgnoreValidationErrors.FALSE, FailOnIncompatibleChange.FALSE, CheckRouting.FALSE);

    private final File folder;
    private final VespaModel model;
    private final Map<String, Evaluator> evaluators = new HashMap<>();
    private FeedReader feedReader;
    private Terms terms;

    private Package(File folder, VespaModel model) {
        this.folder = folder;
        this.model = model;
    }

    static Package build(File folder) throws Exception {
        DeployState state = state(folder, new ArrayList<>());
        return new Package(folder, new VespaModel(new NullConfigModelRegistry(), state));
    }

    /** Runs the config server's validators: {"errors": [...], "warnings": [...]}. */
    static JsonNode validate(File folder) {
        List<String> warnings = new ArrayList<>();
        ObjectNode answer = Main.JSON.createObjectNode();
        answer.putArray("errors");
        try {
            ApplicationPackageXmlFilesValidator.create(folder, new Version(8)).checkApplication();
            DeployState state = state(folder, warnings);
            VespaModel model = new VespaModel(new NullConfigModelRegistry(), state);
            new Validation().validate(model, PARAMETERS, state);
        } catch (Exception error) {
            answer.set("errors", Main.causes(error));
        }
        answer.set("warnings", Main.JSON.valueToTree(warnings));
        return answer;
    }

    /** The evaluator of a schema's rank profiles; an empty name is the first schema. */
    Evaluator evaluator(String schema) {
        return evaluators.computeIfAbsent(schema, name -> new Evaluator(folder, model, name));
    }

    FeedReader feedReader() {
        if (feedReader == null) {
            feedReader = new FeedReader(model);
        }
        return feedReader;
    }

    Terms terms() throws Exception {
        if (terms == null) {
            terms = new Terms(model);
        }
        return terms;
    }

    /** Reads the package and resolves all types: errors of schemas and rank profiles appear here. */
    private static DeployState state(File folder, List<String> warnings) {
        return new DeployState.Builder()
                .applicationPackage(FilesApplicationPackage.fromDir(folder, Map.of()))
                .properties(new TestProperties())
                .fileRegistry(new MockFileRegistry()) // a file reference is the path in the folder
                .modelImporters(List.of(new OnnxImporter()))
                .deployLogger((level, message) -> note(level, message, warnings))
                .build(PARAMETERS);
    }

    private static void note(Level level, String message, List<String> warnings) {
        if (level.intValue() >= Level.WARNING.intValue()) {
            warnings.add(message);
        }
    }
}

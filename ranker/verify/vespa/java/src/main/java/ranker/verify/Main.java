package ranker.verify;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.yahoo.application.Application;
import com.yahoo.application.Networking;
import java.io.BufferedReader;
import java.io.File;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;

/**
 * Answers requests about application packages with Vespa's own code: reads one JSON object a line
 * from stdin and writes one to stdout, until stdin ends. An answer is {"ok": ...} or {"error": [messages, the
 * outermost first], "kind": exception class}. Everything else goes to stderr.
 */
public final class Main {
    static final ObjectMapper JSON = new ObjectMapper();

    private final Map<File, Package> packages = new HashMap<>();
    private Application container;

    public static void main(String[] arguments) throws Exception {
        PrintStream out =
                new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
        System.setOut(System.err); // libraries that print must not break the protocol
        BufferedReader in =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        Main main = new Main();
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            out.println(main.answer(line));
        }
        main.stop();
        System.exit(0); // Vespa leaves threads behind
    }

    private String answer(String line) throws Exception {
        ObjectNode answer = JSON.createObjectNode();
        try {
            answer.set("ok", ask(JSON.readTree(line)));
        } catch (Throwable error) { // also NoClassDefFoundError and the like: the process lives on
            answer.set("error", causes(error));
            answer.put("kind", error.getClass().getName());
        }
        return JSON.writeValueAsString(answer);
    }

    private JsonNode ask(JsonNode request) throws Exception {
        return switch (request.path("op").asText()) {
            case "validate" -> Package.validate(folder(request));
            case "evaluate" -> open(request).evaluator(request.path("schema").asText()).evaluate(request);
            case "feed" -> open(request).feedReader().read(request.path("operations"));
            case "terms" -> Terms.english(request.required("texts"));
            case "index" -> open(request).terms().index(request.required("documents"));
            case "trees" -> Queries.trees(container, request.required("requests"));
            case "http" -> start(request);
            case "stop" -> stop();
            default -> throw new IllegalArgumentException("unknown op " + request.path("op"));
        };
    }

    private Package open(JsonNode request) throws Exception {
        File folder = folder(request);
        if (!packages.containsKey(folder)) {
            packages.put(folder, Package.build(folder));
        }
        return packages.get(folder);
    }

    /**
     * Starts Vespa's real container on the port that services.xml names, without content nodes. The
     * process must run with the folder as working directory, where the container looks for models.
     */
    private JsonNode start(JsonNode request) {
        stop();
        Path folder = folder(request).toPath();
        container = Application.fromApplicationPackage(folder, Networking.enable);
        return JSON.getNodeFactory().nullNode();
    }

    private JsonNode stop() {
        if (container != null) {
            container.close();
            container = null;
        }
        return JSON.getNodeFactory().nullNode();
    }

    private static File folder(JsonNode request) {
        return new File(request.required("app").asText());
    }

    /** Returns messages of an exception and its causes, except those that repeat their cause. */
    static ArrayNode causes(Throwable error) {
        ArrayNode messages = JSON.createArrayNode();
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            String message =
                    cause.getMessage() == null ? cause.getClass().getName() : cause.getMessage();
            boolean repeats =
                    cause.getCause() != null && message.equals(cause.getCause().toString());
            if (!repeats) {
                messages.add(message);
            }
        }
        return messages;
    }
}

package ranker.verify;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.yahoo.application.Application;
import com.yahoo.component.ComponentSpecification;
import com.yahoo.container.jdisc.HttpRequest;
import com.yahoo.jdisc.http.HttpRequest.Method;
import com.yahoo.prelude.query.CompositeItem;
import com.yahoo.prelude.query.IndexedItem;
import com.yahoo.prelude.query.Item;
import com.yahoo.search.Query;
import com.yahoo.search.Result;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * The trees that the running container makes of search requests, as content nodes get them. For
 * packages of `ranker package`, whose clusters are `default` and `content`.
 */
final class Queries {
    private static final int NO_BACKEND = 0;
    private static final int COMMUNICATION = 10;

    private Queries() {}

    /**
     * Returns the trees of requests, [{parameter: value}]. A request gives {"tree": {"item": kind, "field",
     * "term", "children"}} or {"error": message}; a missing content node is not an error here.
     */
    static JsonNode trees(Application container, JsonNode requests) {
        if (container == null) {
            throw new IllegalStateException("no container runs: ask for `http` first");
        }
        ArrayNode answer = Main.JSON.createArrayNode();
        for (JsonNode request : requests) {
            Query query = query(container, request);
            var error = process(container, "vespa", query).hits().getError();
            if (error != null && error.getCode() != NO_BACKEND && error.getCode() != COMMUNICATION) {
                answer.addObject().put("error", error.getDetailedMessage());
                continue;
            }
            process(container, "content", query); // the cluster's own searchers, which stem
            answer.addObject().set("tree", tree(query.getModel().getQueryTree().getRoot()));
        }
        return answer;
    }

    private static Result process(Application container, String chain, Query query) {
        var search = container.getJDisc("default").search();
        return search.process(ComponentSpecification.fromString(chain), query);
    }

    /** A request as the search handler reads it, with the application's default query profile. */
    private static Query query(Application container, JsonNode request) {
        String uri = "/search/?" + parameters(request);
        return new Query.Builder()
                .setRequest(HttpRequest.createTestRequest(uri, Method.GET))
                .setQueryProfile(
                        container.getCompiledQueryProfileRegistry().findQueryProfile("default"))
                .build();
    }

    private static String parameters(JsonNode request) {
        List<String> pairs = new ArrayList<>();
        for (var names = request.fieldNames(); names.hasNext(); ) {
            String name = names.next();
            pairs.add(encoded(name) + "=" + encoded(request.get(name).asText()));
        }
        return String.join("&", pairs);
    }

    private static String encoded(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8);
    }

    private static ObjectNode tree(Item item) {
        ObjectNode node = Main.JSON.createObjectNode().put("item", item.getName());
        if (item instanceof IndexedItem indexed) {
            node.put("field", indexed.getIndexName());
        }
        if (item instanceof CompositeItem composite) {
            ArrayNode children = node.putArray("children");
            for (Item child : composite.items()) {
                children.add(tree(child));
            }
        } else if (item instanceof IndexedItem indexed) {
            node.put("term", indexed.getIndexedString());
        }
        return node;
    }
}

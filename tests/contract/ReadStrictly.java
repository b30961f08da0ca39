import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.dataformat.yaml.YAMLFactory;
import io.strimzi.api.kafka.model.kafka.Kafka;
import io.strimzi.api.kafka.model.topic.KafkaTopic;
import io.strimzi.api.kafka.model.user.KafkaUser;

import java.io.File;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;

/**
 * Reads YAML files with Strimzi's own model of its resources. Fails for each property that the model does not have, and for each value
 * that it does not keep, such as an operation that Kafka does not know.
 */
public class ReadStrictly {
    private static final Map<String, Class<?>> KINDS =
        Map.of("Kafka", Kafka.class, "KafkaTopic", KafkaTopic.class, "KafkaUser", KafkaUser.class);
    private static final ObjectMapper MAPPER = new ObjectMapper(new YAMLFactory());

    public static void main(String[] files) throws Exception {
        List<String> problems = new ArrayList<>();
        int documents = 0;
        for (String file : files) {
            try (var found = MAPPER.readerFor(JsonNode.class).<JsonNode>readValues(new File(file))) {
                while (found.hasNextValue()) {
                    JsonNode document = found.nextValue();
                    if (document.isNull() || document.isMissingNode()) {
                        continue;
                    }
                    documents++;
                    for (String problem : problems(document)) {
                        problems.add(file + ": " + problem);
                    }
                }
            }
        }
        problems.forEach(System.err::println);
        if (documents == 0) {
            System.err.println("no document to read");
        }
        System.out.println(documents + " documents, " + problems.size() + " problems");
        System.exit(documents > 0 && problems.isEmpty() ? 0 : 1);
    }

    private static List<String> problems(JsonNode document) {
        List<String> problems = new ArrayList<>();
        String kind = document.path("kind").asText();
        Class<?> type = KINDS.get(kind);
        if (type == null) {
            return List.of("kind " + kind + " is none of " + KINDS.keySet());
        }
        String version = document.path("apiVersion").asText();
        if (!List.of("kafka.strimzi.io/v1", "kafka.strimzi.io/v1beta2").contains(version)) {
            problems.add("apiVersion " + version);
        }
        try {
            Object model = MAPPER.treeToValue(document, type);
            unknown(model, kind, problems);
            ((ObjectNode) document).remove("apiVersion"); // This model writes some kinds in v1beta2 whatever they were read from.
            lost(document, MAPPER.valueToTree(model), kind, problems);
        } catch (Exception e) {
            problems.add(e.getMessage().lines().findFirst().orElse("") + " (" + e.getClass().getSimpleName() + ")");
        }
        return problems;
    }

    /** Properties that the model kept because it does not know them. */
    private static void unknown(Object value, String path, List<String> problems) throws IllegalAccessException {
        if (value instanceof Collection<?> values) {
            int place = 0;
            for (Object each : values) {
                unknown(each, path + "[" + place++ + "]", problems);
            }
        } else if (value != null && isModel(value.getClass())) {
            for (Class<?> type = value.getClass(); type != Object.class; type = type.getSuperclass()) {
                for (Field field : type.getDeclaredFields()) {
                    if (Modifier.isStatic(field.getModifiers()) || !isModel(type)) {
                        continue;
                    }
                    field.setAccessible(true);
                    Object held = field.get(value);
                    if (!field.getName().equals("additionalProperties")) {
                        unknown(held, path + "." + field.getName(), problems);
                    } else if (held instanceof Map<?, ?> more) {
                        more.keySet().forEach(key -> problems.add("unknown property " + path + "." + key));
                    }
                }
            }
        }
    }

    private static boolean isModel(Class<?> type) {
        return !type.isEnum() && (type.getName().startsWith("io.strimzi.") || type.getName().startsWith("io.fabric8."));
    }

    /** Values that differ, or are gone, once the model is written again. */
    private static void lost(JsonNode written, JsonNode read, String path, List<String> problems) {
        if (written.isObject()) {
            written.fields().forEachRemaining(field ->
                lost(field.getValue(), read.path(field.getKey()), path + "." + field.getKey(), problems));
        } else if (written.isArray()) {
            for (int place = 0; place < written.size(); place++) {
                lost(written.get(place), read.path(place), path + "[" + place + "]", problems);
            }
        } else if (!written.asText().equals(read.asText())) {
            problems.add("value of " + path + ": " + written + " is read as " + (read.isMissingNode() ? "nothing" : read));
        }
    }
}

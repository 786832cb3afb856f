package com.onboardflow.examples;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import java.io.PrintStream;
import java.util.LinkedHashMap;
import java.util.Map;

/** Prints what came of a call: for people, or as the line of JSON that the interop test compares between languages. */
record Report(String rpc, String callId, String requestId, boolean json) {
  private static final PrintStream OUT = new PrintStream(System.out, true, UTF_8);

  void success(Message event) throws InvalidProtocolBufferException {
    JsonObject recorded = JsonParser.parseString(JsonFormat.printer().print(event)).getAsJsonObject();
    if (json) {
      var line = line("OK");
      line.put("event", recorded);
      OUT.println(new Gson().toJson(line));
    } else if (recorded.has("id")) {
      OUT.printf("%s: done, event %s%n", rpc, recorded.get("id").getAsString());
    } else { // a delete's reply may have no event
      OUT.printf("%s: done%n", rpc);
    }
  }

  void failure(Failure failure) {
    if (json) {
      OUT.println(new Gson().toJson(failureLine(failure)));
      return;
    }
    OUT.printf("%s failed: %s: %s%n", rpc, failure.code(), failure.message());
    if (!failure.reason().isEmpty()) {
      OUT.printf("  reason: %s%n", failure.reason());
    }
    failure.violations().forEach(v -> OUT.printf("  %s: %s%n", v.getField(), v.getDescription()));
    OUT.println(
        switch (failure.write()) {
          case "not_sent", "rejected" -> "  nothing was written";
          case "applied" -> "  it was written: do not repeat it";
          default -> "  it may have been written: repeat it only with the same request_id, " + requestId;
        });
    failure.retryAfter().ifPresent(after -> OUT.printf("  try again after %s%n", after));
  }

  private Map<String, Object> failureLine(Failure failure) {
    var line = line(failure.code().name());
    line.put("message", failure.message());
    line.put("reason", failure.reason());
    line.put("write", failure.write());
    line.put("metadata", failure.metadata());
    line.put(
        "violations",
        failure.violations().stream()
            .map(v -> Map.of("field", v.getField(), "description", v.getDescription()))
            .toList());
    failure.retryAfter().ifPresent(after -> line.put("retry_after_ms", after.toMillis()));
    return line;
  }

  private Map<String, Object> line(String code) {
    var line = new LinkedHashMap<String, Object>();
    line.put("call", rpc);
    line.put("call_id", callId);
    line.put("request_id", requestId);
    line.put("code", code);
    return line;
  }
}

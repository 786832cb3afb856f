package com.onboardflow.examples;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.gson.Gson;
import com.google.gson.JsonParser;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.util.JsonFormat;
import com.onboardflow.customer.v1.CustomerEvent;
import java.io.PrintStream;
import java.util.LinkedHashMap;
import java.util.Map;

/** Prints what came of a call: for people, or as the line of JSON that the interop test compares between languages. */
final class Report {
  private final PrintStream out = new PrintStream(System.out, true, UTF_8);
  private final boolean json;

  Report(boolean json) {
    this.json = json;
  }

  void success(String call, String requestId, CustomerEvent event) throws InvalidProtocolBufferException {
    if (!json) {
      if (event.getId() == 0) {
        out.printf("%s: done%n", call);
      } else {
        out.printf("%s: %s, event %d%n", call, event.getEventMeta().getType(), event.getId());
      }
      return;
    }
    var line = line(call, requestId);
    line.put("code", "OK");
    line.put("event", JsonParser.parseString(JsonFormat.printer().print(event)));
    out.println(new Gson().toJson(line));
  }

  void failure(String call, String requestId, Failure failure) {
    if (json) {
      out.println(new Gson().toJson(failureLine(call, requestId, failure)));
      return;
    }
    out.printf("%s failed: %s: %s%n", call, failure.code(), failure.message());
    if (!failure.reason().isEmpty()) {
      out.printf("  reason: %s%n", failure.reason());
    }
    failure.violations().forEach(v -> out.printf("  %s: %s%n", v.getField(), v.getDescription()));
    out.println(
        switch (failure.write()) {
          case "not_sent", "rejected" -> "  nothing was written";
          case "applied" -> "  it was written all the same: don't repeat it";
          default -> "  it may have been written: look in the pages of OnboardFlow before you repeat a create";
        });
    failure.retryAfter().ifPresent(after -> out.printf("  worth another try after %s%n", after));
  }

  private static Map<String, Object> failureLine(String call, String requestId, Failure failure) {
    var line = line(call, requestId);
    line.put("code", failure.code().name());
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

  private static Map<String, Object> line(String call, String requestId) {
    var line = new LinkedHashMap<String, Object>();
    line.put("call", call);
    line.put("request_id", requestId);
    return line;
  }
}

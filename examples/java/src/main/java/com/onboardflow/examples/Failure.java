package com.onboardflow.examples;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.util.Durations;
import com.google.rpc.BadRequest;
import com.google.rpc.BadRequest.FieldViolation;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * What the gateway says about a failed call, beyond its code: a status with its google.rpc details. One without an
 * ErrorInfo was not made by the gateway (the deadline passed here, say, or the gateway couldn't be reached), so it
 * doesn't tell what became of the write.
 *
 * @param reason ErrorInfo.reason: INVALID_REQUEST, UPSTREAM_MAINTENANCE, …
 * @param metadata ErrorInfo.metadata: write, http_status, request_id
 * @param violations BadRequest: every field at fault
 * @param retryAfter RetryInfo
 */
record Failure(
    Status.Code code,
    String message,
    String reason,
    Map<String, String> metadata,
    List<FieldViolation> violations,
    Optional<Duration> retryAfter) {

  static Failure of(StatusRuntimeException error) {
    var status = StatusProto.fromThrowable(error);
    var info = detail(status, ErrorInfo.class).orElse(ErrorInfo.getDefaultInstance());
    var badRequest = detail(status, BadRequest.class).orElse(BadRequest.getDefaultInstance());
    return new Failure(
        error.getStatus().getCode(),
        status.getMessage(),
        info.getReason(),
        info.getMetadataMap(),
        badRequest.getFieldViolationsList(),
        detail(status, RetryInfo.class).map(retry -> Duration.ofNanos(Durations.toNanos(retry.getRetryDelay()))));
  }

  private static <M extends com.google.protobuf.Message> Optional<M> detail(com.google.rpc.Status status, Class<M> type) {
    for (Any detail : status.getDetailsList()) {
      if (detail.is(type)) {
        try {
          return Optional.of(detail.unpack(type));
        } catch (InvalidProtocolBufferException garbled) {
          return Optional.empty();
        }
      }
    }
    return Optional.empty();
  }

  /** What became of the write: not_sent, rejected, unknown or applied. */
  String write() {
    return metadata.getOrDefault("write", "");
  }
}

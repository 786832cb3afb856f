// What the gateway says about a failed call, beyond its code.

import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack, durationMs } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "./gen/google/rpc/status_pb.js";

/**
 * A status with its google.rpc details. One without an ErrorInfo was not made by the gateway (the deadline passed here,
 * say, or the gateway couldn't be reached), so it doesn't tell what became of the write.
 */
export class Failure {
  /** @type {string} as the gRPC specification writes it: DEADLINE_EXCEEDED */
  code;
  /** @type {string} */
  message;
  /** ErrorInfo.reason: INVALID_REQUEST, UPSTREAM_MAINTENANCE, … */
  reason = "";
  /** ErrorInfo.metadata: write, http_status, request_id */
  metadata = {};
  /** @type {{field: string, description: string}[]} BadRequest: every field at fault */
  violations = [];
  /** @type {number | undefined} RetryInfo, in milliseconds */
  retryAfter;

  /** @param {grpc.ServiceError} error */
  static of(error) {
    const failure = new Failure();
    failure.code = grpc.status[error.code];
    failure.message = error.details;
    const [bytes] = error.metadata?.get("grpc-status-details-bin") ?? [];
    for (const detail of bytes ? fromBinary(StatusSchema, bytes).details : []) {
      failure.#read(detail);
    }
    return failure;
  }

  #read(detail) {
    const info = anyUnpack(detail, ErrorInfoSchema);
    if (info) [this.reason, this.metadata] = [info.reason, info.metadata];

    const bad = anyUnpack(detail, BadRequestSchema);
    if (bad) this.violations = bad.fieldViolations.map(({ field, description }) => ({ field, description }));

    const retry = anyUnpack(detail, RetryInfoSchema);
    if (retry?.retryDelay) this.retryAfter = durationMs(retry.retryDelay);
  }

  /** What became of the write: not_sent, rejected, unknown or applied. */
  get write() {
    return this.metadata.write ?? "";
  }
}

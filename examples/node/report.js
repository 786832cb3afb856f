// Prints what came of a call: for people, or as the line of JSON that the interop test compares between languages.

import { toJson } from "@bufbuild/protobuf";

import { CustomerEventSchema } from "./gen/onboardflow/customer/v1/customer_pb.js";

const fate = {
  not_sent: "nothing was written",
  rejected: "nothing was written",
  applied: "it was written all the same: don't repeat it",
};

export function printText(call, requestId, event, failure) {
  if (!failure) {
    console.log(event ? `${call}: ${event.eventMeta?.type}, event ${event.id}` : `${call}: done`);
    return;
  }
  console.log(`${call} failed: ${failure.code}: ${failure.message}`);
  if (failure.reason) console.log(`  reason: ${failure.reason}`);
  for (const { field, description } of failure.violations) console.log(`  ${field}: ${description}`);
  console.log(`  ${fate[failure.write] ?? "it may have been written: look in the pages of OnboardFlow before you repeat a create"}`);
  if (failure.retryAfter !== undefined) console.log(`  worth another try after ${failure.retryAfter / 1000} s`);
}

export function printJson(call, requestId, event, failure) {
  const outcome = !failure
    ? { code: "OK", event: event && toJson(CustomerEventSchema, event) }
    : {
        code: failure.code,
        message: failure.message,
        reason: failure.reason,
        write: failure.write,
        metadata: failure.metadata,
        violations: failure.violations,
        retry_after_ms: failure.retryAfter,
      };
  console.log(JSON.stringify({ call, request_id: requestId, ...outcome }));
}

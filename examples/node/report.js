// Prints what came of a call: for people, or as the line of JSON that the interop test compares between languages.

import { createRegistry, toJson } from "@bufbuild/protobuf";

import { file_onboardflow_customer_v1_customer } from "./gen/onboardflow/customer/v1/customer_pb.js";
import { file_onboardflow_event_v1_event } from "./gen/onboardflow/event/v1/event_pb.js";
import { file_onboardflow_subscription_v1_subscription } from "./gen/onboardflow/subscription/v1/subscription_pb.js";

const types = createRegistry(
  file_onboardflow_customer_v1_customer,
  file_onboardflow_event_v1_event,
  file_onboardflow_subscription_v1_subscription,
);

export function printText({ name, requestId }, event, failure) {
  if (!failure) {
    console.log(event ? `${name}: done, event ${event.id}` : `${name}: done`);
    return;
  }
  console.log(`${name} failed: ${failure.code}: ${failure.message}`);
  if (failure.reason) console.log(`  reason: ${failure.reason}`);
  for (const { field, description } of failure.violations) console.log(`  ${field}: ${description}`);
  const fate = {
    not_sent: "nothing was written",
    rejected: "nothing was written",
    applied: "it was written: do not repeat it",
  };
  const unknown = `it may have been written: repeat it only with the same request_id, ${requestId}`;
  console.log(`  ${fate[failure.write] ?? unknown}`);
  if (failure.retryAfter !== undefined) console.log(`  try again after ${failure.retryAfter / 1000} s`);
}

export function printJson({ name, callId, requestId }, event, failure) {
  const outcome = !failure
    ? { code: "OK", event: event && toJson(types.getMessage(event.$typeName), event) }
    : {
        code: failure.code,
        message: failure.message,
        reason: failure.reason,
        write: failure.write,
        metadata: failure.metadata,
        violations: failure.violations,
        retry_after_ms: failure.retryAfter,
      };
  console.log(JSON.stringify({ call: name, call_id: callId, request_id: requestId, ...outcome }));
}

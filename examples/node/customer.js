// Creates, updates or deletes a customer through onboardflow-gateway.
//
// client.js is the part to copy: the channel, the deadline, the request id, and what may be repeated. failure.js reads
// the gateway's error details. This file is only the command line.

import { randomUUID } from "node:crypto";
import { parseArgs } from "node:util";

import { create } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";

import { Client } from "./client.js";
import { Failure } from "./failure.js";
import {
  CreateCustomerRequestSchema,
  DeleteCustomerRequestSchema,
  UpdateCustomerRequestSchema,
} from "./gen/onboardflow/customer/v1/customer_pb.js";
import { printJson, printText } from "./report.js";

const usage = `Usage: node customer.js [options] [create] [update] [delete]     default: create update

  --target HOST:PORT       the gateway (127.0.0.1:50051)
  --tls-ca FILE            PEM of the CA that signed the gateway's certificate; turns TLS on
  --tls-cert, --tls-key    PEM of our own certificate and its key, for mTLS
  --compression none|gzip  (none)
  --timeout SECONDS        that a call may take, repeats included (5)
  --site-key KEY           OnboardFlow site key
  --customer-id, --email, --image-url
  --json                   print a line of JSON per call`;

const parameters = {
  target: { type: "string", default: "127.0.0.1:50051" },
  "tls-ca": { type: "string" },
  "tls-cert": { type: "string" },
  "tls-key": { type: "string" },
  compression: { type: "string", default: "none" },
  timeout: { type: "string", default: "5" },
  "site-key": { type: "string", default: "f37F2PPh" },
  "customer-id": { type: "string", default: "cus_123XYZ" },
  email: { type: "string", default: "zoe@example.com" },
  "image-url": { type: "string" },
  json: { type: "boolean", default: false },
  help: { type: "boolean", default: false },
};

function commandLine() {
  try {
    const { values, positionals } = parseArgs({ options: parameters, allowPositionals: true });
    const unknown = positionals.find((call) => !["create", "update", "delete"].includes(call));
    if (unknown) throw new Error(`no call is named ${unknown}: create, update, delete`);
    if (!["none", "gzip"].includes(values.compression)) throw new Error("--compression: none or gzip");
    return { options: values, calls: positionals.length > 0 ? positionals : ["create", "update"] };
  } catch (error) {
    console.error(`customer: ${error.message}\n${usage}`);
    process.exit(64);
  }
}

/** A customer who has just started a trial. */
function createRequest(options) {
  return create(CreateCustomerRequestSchema, {
    siteKey: options["site-key"],
    eventDate: timestampNow(),
    customer: { ...customerOf(options), hasPaymentMethod: false },
    customProperties: { plan: "trial", qty_tasks: 2 },
  });
}

/** The same customer after adding a payment method. An update carries the customer whole: what it leaves out is unset. */
function updateRequest(options) {
  return create(UpdateCustomerRequestSchema, {
    siteKey: options["site-key"],
    eventDate: timestampNow(),
    customer: { ...customerOf(options), lastName: "Müller", hasPaymentMethod: true },
  });
}

/** The customer has left. */
function deleteRequest(options) {
  return create(DeleteCustomerRequestSchema, {
    siteKey: options["site-key"],
    customerId: options["customer-id"],
    userId: "user_123XYZ",
  });
}

function customerOf(options) {
  return {
    id: options["customer-id"],
    userId: "user_123XYZ",
    email: options.email,
    firstName: "Zoë",
    imageUrl: options["image-url"] || undefined,
  };
}

const { options, calls } = commandLine();
if (options.help) {
  console.log(usage);
  process.exit();
}
const client = new Client(options.target, {
  ca: options["tls-ca"],
  cert: options["tls-cert"],
  key: options["tls-key"],
  compression: options.compression,
  timeout: Number(options.timeout),
});
const make = {
  create: (requestId) => client.create(createRequest(options), requestId),
  update: (requestId) => client.update(updateRequest(options), requestId),
  delete: (requestId) => client.delete(deleteRequest(options), requestId),
};
const print = options.json ? printJson : printText;
for (const call of calls) {
  const requestId = randomUUID();
  try {
    print(call, requestId, await make[call](requestId));
  } catch (error) {
    if (!(error.code in status)) throw error;
    print(call, requestId, undefined, Failure.of(error));
    process.exitCode = 1;
  }
}
client.close();

// Tells OnboardFlow about a customer, through onboardflow-gateway: one call for each RPC that it names.
//
// client.js is the part to copy: the channel, the deadline, and what is repeated. failure.js reads the gateway's error
// details, and requests.js has a request for each RPC. This file is only the command line.

import { randomUUID } from "node:crypto";
import { parseArgs } from "node:util";

import { status } from "@grpc/grpc-js";

import { Client } from "./client.js";
import { Failure } from "./failure.js";
import { requestOf, rpcs } from "./requests.js";
import { printJson, printText } from "./report.js";

const usage = `Usage: node customer.js [options] [RPC...]     default: CreateCustomer UpdateCustomer
RPCs: ${Object.keys(rpcs).join(", ")}

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
    const unknown = positionals.find((name) => !(name in rpcs));
    if (unknown) throw new Error(`no such RPC: ${unknown}`);
    if (!["none", "gzip"].includes(values.compression)) throw new Error("--compression: none or gzip");
    return { options: values, names: positionals.length > 0 ? positionals : ["CreateCustomer", "UpdateCustomer"] };
  } catch (error) {
    console.error(`customer: ${error.message}\n${usage}`);
    process.exit(64);
  }
}

const { options, names } = commandLine();
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
const print = options.json ? printJson : printText;
for (const name of names) {
  const rpc = rpcs[name];
  // Names this write in each attempt at it, those of the channel too. Store it where your own program may repeat the
  // write later.
  const requestId = randomUUID();
  const callId = randomUUID();
  const call = { name, callId, requestId };
  try {
    const { event } = await client.call(rpc[0], requestOf(rpc, options, requestId), callId);
    print(call, event);
  } catch (error) {
    if (!(error.code in status)) throw error;
    print(call, undefined, Failure.of(error));
    process.exitCode = 1;
  }
}
client.close();

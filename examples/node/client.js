// The client: how to connect, and how to make a call so that it neither hangs nor records anything twice.

import { readFileSync } from "node:fs";
import { promisify } from "node:util";

import { fromBinary, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";

// The channel repeats every call that fails with UNAVAILABLE, creates included. That is safe only because each request
// has a request_id and the gateway keeps a ledger: a gateway without one refuses the call with LEDGER_OFF.
const serviceConfig = readFileSync(new URL("../service-config.json", import.meta.url), "utf8");

// A ping every 30 s, between calls too: a connection that has fallen silent is replaced before the next call needs it.
const pings = {
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
  "grpc.keepalive_permit_without_calls": 1,
};

/** Makes calls over one channel. */
export class Client {
  #channel;
  #timeout;

  /**
   * One client serves the whole program: it balances over every address that the name has, reconnects by itself, and
   * repeats failed calls as the service config says.
   *
   * @param {string} target the gateway's host:port
   * @param {{ca?: string, cert?: string, key?: string, compression?: "none" | "gzip", timeout: number}} options
   *   the files of the certificates; how long a call may take as a whole, in seconds
   */
  constructor(target, { ca, cert, key, compression = "none", timeout }) {
    const credentials = ca
      ? grpc.credentials.createSsl(readFileSync(ca), key && readFileSync(key), cert && readFileSync(cert))
      : grpc.credentials.createInsecure();
    const { identity, gzip } = grpc.compressionAlgorithms;
    this.#channel = new grpc.Client(`dns:///${target}`, credentials, {
      "grpc.service_config": serviceConfig,
      "grpc.default_compression_algorithm": compression === "gzip" ? gzip : identity,
      ...pings,
    });
    this.#timeout = timeout * 1000;
  }

  close() {
    this.#channel.close();
  }

  /**
   * Makes a call, and returns the response. The gateway learns the deadline too, and keeps it for its own call to
   * OnboardFlow. It holds for the call as a whole, repeats included.
   *
   * @param {import("@bufbuild/protobuf").DescMethod} method as protobuf-es generates it
   * @param {string} callId under which the gateway logs the call
   */
  call(method, request, callId) {
    const metadata = new grpc.Metadata();
    metadata.set("x-request-id", callId);
    return promisify(this.#channel.makeUnaryRequest.bind(this.#channel))(
      `/${method.parent.typeName}/${method.name}`,
      (message) => Buffer.from(toBinary(method.input, message)),
      (bytes) => fromBinary(method.output, bytes),
      request,
      metadata,
      { deadline: Date.now() + this.#timeout },
    );
  }
}

// The client: how to connect, and how to make each call so that it neither hangs nor records a customer twice.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

import { fromBinary, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";

import { Failure } from "./failure.js";
import { CustomerService } from "./gen/onboardflow/customer/v1/customer_pb.js";

const serviceConfig = readFileSync(new URL("../service-config.json", import.meta.url), "utf8");

// Bounds a create's tries, the first one included.
const maxAttempts = 3;

// What grpc-js wants to know of a service, out of what protobuf-es generated.
const definition = Object.fromEntries(
  CustomerService.methods.map((method) => [
    method.localName,
    {
      path: `/${CustomerService.typeName}/${method.name}`,
      requestStream: false,
      responseStream: false,
      requestSerialize: (message) => Buffer.from(toBinary(method.input, message)),
      requestDeserialize: (bytes) => fromBinary(method.input, bytes),
      responseSerialize: (message) => Buffer.from(toBinary(method.output, message)),
      responseDeserialize: (bytes) => fromBinary(method.output, bytes),
    },
  ]),
);
const Stub = grpc.makeClientConstructor(definition, CustomerService.typeName);

/** Creates, updates and deletes customers. */
export class Client {
  #stub;
  #timeout;

  /**
   * One client serves the whole program: it balances over every address that the name has, reconnects by itself, and
   * repeats a failed update (not a create), as the service config says.
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
    this.#stub = new Stub(`dns:///${target}`, credentials, {
      "grpc.service_config": serviceConfig,
      "grpc.default_compression_algorithm": compression === "gzip" ? gzip : identity,
    });
    this.#timeout = timeout * 1000;
  }

  close() {
    this.#stub.close();
  }

  /**
   * Records a new customer. A create isn't idempotent, so the service config has no retries for it; it is repeated
   * here, and only where the gateway says that nothing was written.
   */
  async create(request, requestId) {
    const deadline = this.#deadline();
    for (let attempt = 1; ; attempt++) {
      try {
        return (await this.#call("createCustomer", request, requestId, deadline)).event;
      } catch (error) {
        const failure = Failure.of(error);
        const fits = Date.now() + failure.wait < deadline.getTime();
        if (attempt === maxAttempts || !failure.nothingWritten || !fits) throw error;
        await sleep(failure.wait);
      }
    }
  }

  /** Records a changed customer. The same update twice does no harm, so the channel itself repeats it. */
  async update(request, requestId) {
    return (await this.#call("updateCustomer", request, requestId, this.#deadline())).event;
  }

  /**
   * Removes a customer. One that is gone stays gone, so the channel itself repeats it. The event is undefined where
   * OnboardFlow's reply has none.
   */
  async delete(request, requestId) {
    return (await this.#call("deleteCustomer", request, requestId, this.#deadline())).event;
  }

  // The gateway learns the deadline too, and keeps it for its own call to OnboardFlow.
  #deadline() {
    return new Date(Date.now() + this.#timeout);
  }

  // The request id is what the gateway logs the call under.
  #call(method, request, requestId, deadline) {
    const metadata = new grpc.Metadata();
    metadata.set("x-request-id", requestId);
    return promisify(this.#stub[method].bind(this.#stub))(request, metadata, { deadline });
  }
}

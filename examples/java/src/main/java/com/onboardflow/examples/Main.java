package com.onboardflow.examples;

import com.google.protobuf.Message;
import io.grpc.StatusRuntimeException;
import java.io.File;
import java.time.Duration;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.Callable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/**
 * Tells OnboardFlow about a customer, through onboardflow-gateway: one call for each RPC that it names.
 *
 * <p>Client is the part to copy: the channel, the deadline, and what is repeated. Failure reads the gateway's error
 * details, and Requests has a request for each RPC. This class is only the command line.
 */
@Command(name = "customer", description = "Tells OnboardFlow about a customer.", mixinStandardHelpOptions = true)
final class Main implements Callable<Integer> {
  private enum Rpc { CreateCustomer, UpdateCustomer, DeleteCustomer, CreateSubscription, UpdateSubscription, RecordEvent }

  private enum Compression { none, gzip }

  @Parameters(paramLabel = "RPC", description = "${COMPLETION-CANDIDATES}; default: the first two.")
  private List<Rpc> rpcs = List.of(Rpc.CreateCustomer, Rpc.UpdateCustomer);

  @Option(names = "--target", description = "Gateway's host:port.")
  private String target = "127.0.0.1:50051";

  @Option(names = "--tls-ca", description = "PEM of the CA that signed the gateway's certificate; turns TLS on.")
  private File tlsCa;

  @Option(names = "--tls-cert", description = "PEM of our own certificate, for mTLS.")
  private File tlsCert;

  @Option(names = "--tls-key", description = "PEM of its key.")
  private File tlsKey;

  @Option(names = "--compression", description = "${COMPLETION-CANDIDATES}.")
  private Compression compression = Compression.none;

  @Option(names = "--timeout", description = "Seconds that a call may take, repeats included.")
  private double timeout = 5;

  @Option(names = "--site-key", description = "OnboardFlow site key.")
  private String siteKey = "f37F2PPh";

  @Option(names = "--customer-id")
  private String customerId = "cus_123XYZ";

  @Option(names = "--email", description = "Customer's email address.")
  private String email = "zoe@example.com";

  @Option(names = "--image-url", description = "URL of the customer's picture; unset when empty.")
  private String imageUrl = "";

  @Option(names = "--json", description = "Print a line of JSON per call.")
  private boolean json;

  public static void main(String[] args) {
    System.exit(new CommandLine(new Main()).execute(args));
  }

  /** Makes the calls, one after the other. The exit code is 0 when all went well. */
  @Override
  public Integer call() throws Exception {
    var connection = new Client.Connection(target, tlsCa, tlsCert, tlsKey, compression.name());
    int exitCode = 0;
    try (var client = new Client(connection, Duration.ofMillis((long) (timeout * 1000)))) {
      for (Rpc rpc : rpcs) {
        // Names this write in each attempt at it, those of the channel too. Store it where your own program may repeat
        // the write later.
        var requestId = UUID.randomUUID().toString();
        var callId = UUID.randomUUID().toString();
        var report = new Report(rpc.name(), callId, requestId, json);
        try {
          report.success(make(rpc, client, callId, requestId));
        } catch (StatusRuntimeException error) {
          report.failure(Failure.of(error));
          exitCode = 1;
        }
      }
    }
    return exitCode;
  }

  /** Returns the event that OnboardFlow recorded. A delete may have none: the event is empty then. */
  private Message make(Rpc rpc, Client client, String callId, String requestId) {
    var requests = new Requests(siteKey, customerId, email, imageUrl);
    return switch (rpc) {
      case CreateCustomer -> client.customers(callId).createCustomer(requests.createCustomer(requestId)).getEvent();
      case UpdateCustomer -> client.customers(callId).updateCustomer(requests.updateCustomer(requestId)).getEvent();
      case DeleteCustomer -> client.customers(callId).deleteCustomer(requests.deleteCustomer(requestId)).getEvent();
      case CreateSubscription ->
          client.subscriptions(callId).createSubscription(requests.createSubscription(requestId)).getEvent();
      case UpdateSubscription ->
          client.subscriptions(callId).updateSubscription(requests.updateSubscription(requestId)).getEvent();
      case RecordEvent -> client.events(callId).recordEvent(requests.recordEvent(requestId)).getEvent();
    };
  }
}

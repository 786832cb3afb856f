package com.onboardflow.examples;

import com.google.protobuf.Struct;
import com.google.protobuf.util.Timestamps;
import com.google.protobuf.util.Values;
import com.onboardflow.customer.v1.CreateCustomerRequest;
import com.onboardflow.customer.v1.Customer;
import com.onboardflow.customer.v1.CustomerEvent;
import com.onboardflow.customer.v1.DeleteCustomerRequest;
import com.onboardflow.customer.v1.UpdateCustomerRequest;
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
 * Creates, updates or deletes a customer through onboardflow-gateway.
 *
 * <p>CustomerClient is the part to copy: the channel, the deadline, the request id, and what may be repeated. Failure
 * reads the gateway's error details. This class is only the command line.
 */
@Command(name = "customer", description = "Creates, updates or deletes a customer.", mixinStandardHelpOptions = true)
final class Main implements Callable<Integer> {
  private enum Call { create, update, delete }

  private enum Compression { none, gzip }

  @Parameters(paramLabel = "create|update|delete", description = "Which calls; default: create, update.")
  private List<Call> calls = List.of(Call.create, Call.update);

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
    var connection = new CustomerClient.Connection(target, tlsCa, tlsCert, tlsKey, compression.name());
    var report = new Report(json);
    int exitCode = 0;
    try (var client = new CustomerClient(connection, Duration.ofMillis((long) (timeout * 1000)))) {
      for (Call call : calls) {
        var requestId = UUID.randomUUID().toString();
        try {
          report.success(call.name(), requestId, make(call, client, requestId));
        } catch (StatusRuntimeException error) {
          report.failure(call.name(), requestId, Failure.of(error));
          exitCode = 1;
        }
      }
    }
    return exitCode;
  }

  private CustomerEvent make(Call call, CustomerClient client, String requestId) throws InterruptedException {
    return switch (call) {
      case create -> client.create(createRequest(), requestId);
      case update -> client.update(updateRequest(), requestId);
      case delete -> client.delete(deleteRequest(), requestId);
    };
  }

  /** A customer who has just started a trial. */
  private CreateCustomerRequest createRequest() {
    return CreateCustomerRequest.newBuilder()
        .setSiteKey(siteKey)
        .setEventDate(Timestamps.now())
        .setCustomer(customer().setHasPaymentMethod(false))
        .setCustomProperties(
            Struct.newBuilder().putFields("plan", Values.of("trial")).putFields("qty_tasks", Values.of(2)))
        .build();
  }

  /** The same customer after adding a payment method. An update carries it whole: what it leaves out is unset. */
  private UpdateCustomerRequest updateRequest() {
    return UpdateCustomerRequest.newBuilder()
        .setSiteKey(siteKey)
        .setEventDate(Timestamps.now())
        .setCustomer(customer().setLastName("Müller").setHasPaymentMethod(true))
        .build();
  }

  /** The customer has left. */
  private DeleteCustomerRequest deleteRequest() {
    return DeleteCustomerRequest.newBuilder()
        .setSiteKey(siteKey)
        .setCustomerId(customerId)
        .setUserId("user_123XYZ")
        .build();
  }

  private Customer.Builder customer() {
    var customer =
        Customer.newBuilder().setId(customerId).setUserId("user_123XYZ").setEmail(email).setFirstName("Zoë");
    if (!imageUrl.isEmpty()) {
      customer.setImageUrl(imageUrl);
    }
    return customer;
  }
}

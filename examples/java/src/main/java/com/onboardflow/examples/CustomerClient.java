package com.onboardflow.examples;

import static com.onboardflow.customer.v1.CustomerServiceGrpc.newBlockingStub;
import static java.nio.charset.StandardCharsets.UTF_8;
import static java.util.concurrent.TimeUnit.MILLISECONDS;

import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import com.onboardflow.customer.v1.CreateCustomerRequest;
import com.onboardflow.customer.v1.CustomerEvent;
import com.onboardflow.customer.v1.CustomerServiceGrpc.CustomerServiceBlockingStub;
import com.onboardflow.customer.v1.DeleteCustomerRequest;
import com.onboardflow.customer.v1.UpdateCustomerRequest;
import io.grpc.ChannelCredentials;
import io.grpc.Deadline;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.stub.MetadataUtils;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.Map;

/** The client: how to connect, and how to make each call so that it neither hangs nor records a customer twice. */
final class CustomerClient implements AutoCloseable {
  /** Where the gateway is, and how to speak to it. No CA means plaintext. */
  record Connection(String target, File ca, File cert, File key, String compression) {}

  private static final Metadata.Key<String> REQUEST_ID =
      Metadata.Key.of("x-request-id", Metadata.ASCII_STRING_MARSHALLER);

  /** Bounds a create's tries, the first one included. */
  private static final int MAX_ATTEMPTS = 3;

  private final ManagedChannel channel;
  private final CustomerServiceBlockingStub stub;
  private final Duration timeout;

  /**
   * Sets up the channel. One serves the whole program: it balances over every address that the name has, reconnects by
   * itself, and repeats a failed update (not a create), as the service config says.
   *
   * @param timeout how long a call may take, repeats included
   */
  CustomerClient(Connection connection, Duration timeout) throws IOException {
    this.channel =
        Grpc.newChannelBuilder("dns:///" + connection.target(), credentials(connection))
            .defaultServiceConfig(serviceConfig())
            .build();
    var plain = newBlockingStub(channel);
    this.stub = connection.compression().equals("gzip") ? plain.withCompression("gzip") : plain;
    this.timeout = timeout;
  }

  /**
   * Records a new customer. A create isn't idempotent, so the service config has no retries for it; it is repeated here,
   * and only where the gateway says that nothing was written.
   */
  CustomerEvent create(CreateCustomerRequest request, String requestId) throws InterruptedException {
    var deadline = deadline();
    for (int attempt = 1; ; attempt++) {
      try {
        return stub(requestId, deadline).createCustomer(request).getEvent();
      } catch (StatusRuntimeException error) {
        var failure = Failure.of(error);
        long wait = failure.pause().toMillis();
        boolean fits = wait < deadline.timeRemaining(MILLISECONDS);
        if (attempt == MAX_ATTEMPTS || !failure.nothingWritten() || !fits) {
          throw error;
        }
        Thread.sleep(wait);
      }
    }
  }

  /** Records a changed customer. The same update twice does no harm, so the channel itself repeats it. */
  CustomerEvent update(UpdateCustomerRequest request, String requestId) {
    return stub(requestId, deadline()).updateCustomer(request).getEvent();
  }

  /**
   * Removes a customer. One that is gone stays gone, so the channel itself repeats it. The event is empty where
   * OnboardFlow's reply has none.
   */
  CustomerEvent delete(DeleteCustomerRequest request, String requestId) {
    return stub(requestId, deadline()).deleteCustomer(request).getEvent();
  }

  /** The gateway learns the deadline too, and keeps it for its own call to OnboardFlow. */
  private Deadline deadline() {
    return Deadline.after(timeout.toMillis(), MILLISECONDS);
  }

  /** The request id is what the gateway logs the call under. */
  private CustomerServiceBlockingStub stub(String requestId, Deadline deadline) {
    var headers = new Metadata();
    headers.put(REQUEST_ID, requestId);
    return stub.withDeadline(deadline).withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers));
  }

  private static ChannelCredentials credentials(Connection connection) throws IOException {
    if (connection.ca() == null) {
      return InsecureChannelCredentials.create();
    }
    var tls = TlsChannelCredentials.newBuilder().trustManager(connection.ca());
    if (connection.cert() != null) {
      tls.keyManager(connection.cert(), connection.key());
    }
    return tls.build();
  }

  private static Map<String, ?> serviceConfig() throws IOException {
    try (var json = CustomerClient.class.getResourceAsStream("/service-config.json")) {
      return new Gson().fromJson(new InputStreamReader(json, UTF_8), new TypeToken<Map<String, Object>>() {});
    }
  }

  @Override
  public void close() {
    channel.shutdownNow();
  }
}

package com.onboardflow.examples;

import static java.nio.charset.StandardCharsets.UTF_8;
import static java.util.concurrent.TimeUnit.MILLISECONDS;
import static java.util.concurrent.TimeUnit.SECONDS;

import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import com.onboardflow.customer.v1.CustomerServiceGrpc;
import com.onboardflow.customer.v1.CustomerServiceGrpc.CustomerServiceBlockingStub;
import com.onboardflow.event.v1.EventServiceGrpc;
import com.onboardflow.event.v1.EventServiceGrpc.EventServiceBlockingStub;
import com.onboardflow.subscription.v1.SubscriptionServiceGrpc;
import com.onboardflow.subscription.v1.SubscriptionServiceGrpc.SubscriptionServiceBlockingStub;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.TlsChannelCredentials;
import io.grpc.stub.AbstractStub;
import io.grpc.stub.MetadataUtils;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.Map;

/** The client: how to connect, and how to make a call so that it neither hangs nor records anything twice. */
final class Client implements AutoCloseable {
  /** Where the gateway is, and how to speak to it. No CA means plaintext. */
  record Connection(String target, File ca, File cert, File key, String compression) {}

  private static final Metadata.Key<String> CALL_ID =
      Metadata.Key.of("x-request-id", Metadata.ASCII_STRING_MARSHALLER);

  private final ManagedChannel channel;
  private final String compression;
  private final Duration timeout;

  /**
   * Sets up the channel. One serves the whole program: it balances over every address that the name has, reconnects by
   * itself, and repeats failed calls as the service config says.
   *
   * @param timeout how long a call may take, repeats included
   */
  Client(Connection connection, Duration timeout) throws IOException {
    this.channel =
        Grpc.newChannelBuilder("dns:///" + connection.target(), credentials(connection))
            .defaultServiceConfig(serviceConfig())
            // A ping every 30 s, between calls too: a connection that has fallen silent is replaced before the next
            // call needs it.
            .keepAliveTime(30, SECONDS)
            .keepAliveTimeout(10, SECONDS)
            .keepAliveWithoutCalls(true)
            .build();
    this.compression = connection.compression().equals("gzip") ? "gzip" : null;
    this.timeout = timeout;
  }

  CustomerServiceBlockingStub customers(String callId) {
    return forCall(CustomerServiceGrpc.newBlockingStub(channel), callId);
  }

  SubscriptionServiceBlockingStub subscriptions(String callId) {
    return forCall(SubscriptionServiceGrpc.newBlockingStub(channel), callId);
  }

  EventServiceBlockingStub events(String callId) {
    return forCall(EventServiceGrpc.newBlockingStub(channel), callId);
  }

  /**
   * Gives a call its deadline, which the gateway learns too and keeps for its own call to OnboardFlow, and the id under
   * which the gateway logs it. Both hold for the call as a whole, repeats included.
   */
  private <S extends AbstractStub<S>> S forCall(S stub, String callId) {
    var headers = new Metadata();
    headers.put(CALL_ID, callId);
    return stub.withDeadlineAfter(timeout.toMillis(), MILLISECONDS)
        .withCompression(compression)
        .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers));
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

  /**
   * The channel repeats every call that fails with UNAVAILABLE, creates included. That is safe only because each request
   * has a request_id and the gateway keeps a ledger: a gateway without one refuses the call with LEDGER_OFF.
   */
  private static Map<String, ?> serviceConfig() throws IOException {
    try (var json = Client.class.getResourceAsStream("/service-config.json")) {
      return new Gson().fromJson(new InputStreamReader(json, UTF_8), new TypeToken<Map<String, Object>>() {});
    }
  }

  @Override
  public void close() {
    channel.shutdownNow();
  }
}

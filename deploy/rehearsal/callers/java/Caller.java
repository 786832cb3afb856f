import com.google.gson.Gson;
import io.grpc.CallOptions;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.stub.ClientCalls;
import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.util.Base64;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;

/** A caller on grpc-java for scripts/rehearse-cluster. README.md has what all three callers do alike. */
final class Caller {
  private static final Gson GSON = new Gson();

  /** What is printed each second; slowest is in seconds. */
  private int calls;

  private double slowest;
  private final Map<String, Integer> failures = new TreeMap<>();

  public static void main(String[] arguments) throws Exception {
    var seen = new Caller();
    var calls = GSON.fromJson(System.getenv("CALLS"), String[][].class);
    long pause = Long.parseLong(System.getenv("PAUSE_MS"));
    for (int i = Integer.parseInt(System.getenv("CHANNELS")); i > 0; i--) {
      var channel = channel();
      new Thread(() -> seen.callOn(channel, calls, pause)).start();
    }
    while (true) {
      Thread.sleep(1000);
      System.out.println(seen.line());
    }
  }

  private static ManagedChannel channel() throws IOException {
    Map<String, ?> serviceConfig = GSON.<Map<String, ?>>fromJson(System.getenv("SERVICE_CONFIG"), Map.class);
    return Grpc.newChannelBuilder(System.getenv("TARGET"), credentials())
        .defaultServiceConfig(serviceConfig)
        .keepAliveTime(20, TimeUnit.SECONDS)
        .keepAliveTimeout(10, TimeUnit.SECONDS)
        .build();
  }

  private static ChannelCredentials credentials() throws IOException {
    String folder = System.getenv("TLS_DIR");
    if (folder == null) {
      return InsecureChannelCredentials.create();
    }
    return TlsChannelCredentials.newBuilder()
        .trustManager(new File(folder, "ca.crt"))
        .keyManager(new File(folder, "tls.crt"), new File(folder, "tls.key"))
        .build();
  }

  private void callOn(ManagedChannel channel, String[][] calls, long pause) {
    for (int n = 0; ; n++) {
      var call = calls[n % calls.length];
      var options = CallOptions.DEFAULT.withDeadlineAfter(10, TimeUnit.SECONDS);
      long begun = System.nanoTime();
      String failure = null;
      try {
        ClientCalls.blockingUnaryCall(channel, method(call[0]), options, Base64.getDecoder().decode(call[1]));
      } catch (StatusRuntimeException error) {
        failure = error.getStatus().getCode() + ": " + error.getStatus().getDescription();
      }
      note((System.nanoTime() - begun) / 1e9, failure);
      try {
        Thread.sleep(pause);
      } catch (InterruptedException stopped) {
        return;
      }
    }
  }

  private synchronized void note(double took, String failure) {
    calls++;
    slowest = Math.max(slowest, took);
    if (failure != null) {
      failures.merge(failure, 1, Integer::sum);
    }
  }

  private synchronized String line() {
    return GSON.toJson(Map.of("calls", calls, "slowest", slowest, "failures", failures));
  }

  /** Messages are passed on as they are. */
  private static MethodDescriptor<byte[], byte[]> method(String path) {
    return MethodDescriptor.newBuilder(Encoded.INSTANCE, Encoded.INSTANCE)
        .setType(MethodType.UNARY)
        .setFullMethodName(path.substring(1))
        .build();
  }

  private enum Encoded implements MethodDescriptor.Marshaller<byte[]> {
    INSTANCE;

    @Override
    public InputStream stream(byte[] message) {
      return new ByteArrayInputStream(message);
    }

    @Override
    public byte[] parse(InputStream message) {
      try {
        return message.readAllBytes();
      } catch (IOException error) {
        throw new IllegalStateException(error);
      }
    }
  }
}

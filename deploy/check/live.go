// `check live`: one pod of each variant, asked for everything that its manifests promise.

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	firstKey  = "0123456789abcdef0123456789abcdef01234567" // made up, as every key here
	secondKey = "89abcdef0123456789abcdef0123456789abcdef"

	credentialsSecret = "onboardflow-gateway-credentials"
	tlsSecret         = "onboardflow-gateway-tls"
)

// live starts the binary as each variant would, and asks it for everything that the manifests promise.
func live(repo repository, binary string) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	proto, err := repo.contract()
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "check-deploy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)

	var wrong problems
	var trials []*trial
	var running sync.WaitGroup // side by side, as most of a trial is a drain that is waited for
	for i, v := range variants() {
		in, err := repo.installation(v)
		if err != nil {
			return err
		}
		knownFlags(in, binary, &wrong)
		if len(v.components) == 1 {
			continue // all at once is tried too
		}
		t := &trial{in: in, proto: proto, ip: fmt.Sprintf("127.71.1.%d", i+1)}
		trials = append(trials, t)
		running.Go(func() { t.run(binary, filepath.Join(folder, v.name)) })
	}
	running.Wait()
	for _, t := range trials {
		wrong = append(wrong, t.wrong...)
	}
	return wrong.err()
}

// A trial is one variant's pod, started once.
type trial struct {
	in    *installation
	proto *contract
	wrong problems
	ip    string
	pod   *pod
	back  *upstream
	keys  *authority
}

func (t *trial) fail(format string, args ...any) {
	t.wrong.add("%s: %s", t.in.variant.name, fmt.Sprintf(format, args...))
}

func (t *trial) run(binary, folder string) {
	ctx := context.Background()
	begun := time.Now()
	if err := t.start(ctx, binary, folder); err != nil {
		t.fail("%v", err)
		return
	}
	defer t.pod.terminate(t.in.grace())
	ready := time.Since(begun)
	t.probes(ctx)
	t.ports()
	t.metrics(ctx)
	t.calls(ctx)
	if t.in.container().Args[0] == "serve" {
		t.rotation(ctx)
	}
	drained := t.drain(ctx)
	fmt.Printf("%-24s started in %d ms; probes, ports, services, calls and a drain of %.1f s\n",
		t.in.variant.name, ready.Milliseconds(), drained.Seconds())
}

func (t *trial) start(ctx context.Context, binary, folder string) error {
	var err error
	if t.back, err = startUpstream(t.ip+":8080", firstKey, t.in.settings()); err != nil {
		return err
	}
	if t.keys, err = newAuthority(); err != nil {
		return err
	}
	extra := map[string]string{}
	if t.in.container().Args[0] == "serve" {
		extra["ONBOARDFLOW_UPSTREAM_URL"] = t.back.url // nothing here may call the real one
	}
	secrets, err := t.secrets(firstKey)
	if err != nil {
		return err
	}
	if t.pod, err = startPod(t.in, binary, folder, t.in.variant.name, t.ip, secrets, extra); err != nil {
		return err
	}
	return t.pod.started(ctx)
}

func (t *trial) secrets(key string) (map[string]map[string][]byte, error) {
	certificate, err := t.keys.server(t.names())
	return map[string]map[string][]byte{
		credentialsSecret: {"token": []byte(key + "\n")},
		tlsSecret:         certificate,
	}, err
}

// names are those that the manifests' Certificate asks for.
func (t *trial) names() []string {
	for _, certificate := range t.in.find("Certificate") {
		if names, found, _ := unstructured.NestedStringSlice(certificate.Object, "spec", "dnsNames"); found {
			return names
		}
	}
	return nil
}

func (t *trial) probes(ctx context.Context) {
	for name, probe := range t.in.probes() {
		if err := t.pod.probe(ctx, probe); err != nil {
			t.fail("the %s probe: %v", name, err)
		}
	}
}

// ports: each container port is open, and each Service port leads to one.
func (t *trial) ports() {
	open := map[string]bool{}
	for _, port := range t.in.container().Ports {
		connection, err := net.DialTimeout("tcp", t.pod.at(port.ContainerPort), time.Second)
		if err != nil {
			t.fail("the port %s: %v", port.Name, err)
			continue
		}
		_ = connection.Close()
		open[port.Name] = true
	}
	for _, service := range t.in.services {
		for _, port := range service.Spec.Ports {
			if !open[port.TargetPort.String()] {
				t.fail("the Service %s leads to port %s, where nobody answers", service.Name, port.TargetPort.String())
			}
		}
	}
}

func (t *trial) containerPort(name string) int32 {
	for _, port := range t.in.container().Ports {
		if port.Name == name {
			return port.ContainerPort
		}
	}
	return 0
}

// metrics scrapes as the ServiceMonitor says, or where it would.
func (t *trial) metrics(ctx context.Context) {
	port, path := "admin", "/metrics"
	for _, monitor := range t.in.find("ServiceMonitor") {
		endpoints, _, _ := unstructured.NestedSlice(monitor.Object, "spec", "endpoints")
		endpoint := endpoints[0].(map[string]any)
		port, path = endpoint["port"].(string), endpoint["path"].(string)
	}
	for _, path := range []string{path, "/livez", "/readyz"} {
		url := "http://" + t.pod.at(t.containerPort(port)) + path
		request, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.fail("%s: %v", path, err)
			continue
		}
		body, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK || len(body) == 0 && path == "/metrics" {
			t.fail("%s: status %d, %d bytes", path, answer.StatusCode, len(body))
		}
	}
}

func (t *trial) tls() bool { return slices.Contains(t.in.variant.components, "mtls") }

// connect dials the gRPC port as a caller in the cluster would, through the Service's name.
func (t *trial) connect(with credentials.TransportCredentials) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{grpc.WithTransportCredentials(with)}
	if t.tls() {
		options = append(options, grpc.WithAuthority("onboardflow-gateway.onboardflow.svc"))
	}
	return grpc.NewClient("passthrough:///"+t.pod.at(t.containerPort("grpc")), options...)
}

func (t *trial) transport() (credentials.TransportCredentials, error) {
	if !t.tls() {
		return insecure.NewCredentials(), nil
	}
	config, err := t.keys.client()
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(config), nil
}

func (t *trial) calls(ctx context.Context) {
	if err := t.callBoth(ctx); err != nil {
		t.fail("%v", err)
	}
	if !t.tls() {
		return
	}
	refused := map[string]credentials.TransportCredentials{
		"in plaintext":          insecure.NewCredentials(),
		"without a certificate": credentials.NewTLS(&tls.Config{RootCAs: t.keys.pool}),
	}
	for how, with := range refused {
		connection, err := t.connect(with)
		if err != nil {
			t.fail("%v", err)
			continue
		}
		if err := t.within(ctx, connection, "CreateCustomer"); err == nil {
			t.fail("a call %s was taken", how)
		}
		_ = connection.Close()
	}
}

func (t *trial) within(ctx context.Context, connection *grpc.ClientConn, method string) error {
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	return t.proto.call(ctx, connection, method, "cus_123XYZ")
}

func (t *trial) callBoth(ctx context.Context) error {
	with, err := t.transport()
	if err != nil {
		return err
	}
	connection, err := t.connect(with)
	if err != nil {
		return err
	}
	defer connection.Close()
	for _, method := range []string{"CreateCustomer", "UpdateCustomer"} {
		if err := t.within(ctx, connection, method); err != nil {
			return fmt.Errorf("%s: %w", method, err)
		}
	}
	return nil
}

// rotation swaps the mounted files as the kubelet does, key and certificate at once, and expects both to be taken up
// within seconds, by the same process.
func (t *trial) rotation(ctx context.Context) {
	const patience = 15 * time.Second
	renewed, err := newAuthority()
	if err != nil {
		t.fail("%v", err)
		return
	}
	t.keys = renewed
	secrets, err := t.secrets(secondKey)
	if err == nil {
		err = t.pod.mount(secrets)
	}
	if err != nil {
		t.fail("%v", err)
		return
	}
	t.back.accept(firstKey, false)
	t.back.accept(secondKey, true)
	begun := time.Now()
	for {
		err = t.callBoth(ctx)
		if err == nil {
			fmt.Printf("%-24s rotated files taken up within %.1f s\n", t.in.variant.name, time.Since(begun).Seconds())
			return
		}
		if time.Since(begun) > patience {
			t.fail("%v after the mounted files were rotated: %v", patience, err)
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// drain: not ready at once, still serving during the delay, gone with code 0 within the grace period.
func (t *trial) drain(ctx context.Context) time.Duration {
	ended := make(chan time.Duration, 1)
	begun := time.Now()
	go func() {
		t.pod.terminate(t.in.grace())
		ended <- time.Since(begun)
	}()
	time.Sleep(500 * time.Millisecond)
	if err := t.pod.probe(ctx, t.in.container().ReadinessProbe); err == nil {
		t.fail("half a second after SIGTERM the pod is still ready")
	}
	if err := t.callBoth(ctx); err != nil {
		t.fail("a new connection during the drain delay: %v", err)
	}
	took := <-ended
	if t.pod.killed {
		t.fail("not gone after the grace period of %v", t.in.grace())
	} else if code := t.pod.exitCode(); code != 0 {
		t.fail("exit code %d after SIGTERM:\n%s", code, t.pod.lastWords())
	}
	return took
}

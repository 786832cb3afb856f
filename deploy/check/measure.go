// `check measure`: what memory a pod takes.

package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
)

// A measurement is one pod under one load.
type measurement struct {
	connections, inFlight int
	reply                 int                   // bytes, or 0 for the example's
	bound                 *apiresource.Quantity // that its memory must stay under

	in             *installation
	proto          *contract
	binary, folder string
	ip             string

	resident, peak float64 // MiB
	failed         int     // calls
}

// measure prints what docs/kubernetes.md says of a pod's size, and holds the manifest's memory to it: ordinary load fits
// the request, and the worst that the settings let in (every call that is admitted, each with the largest reply) the limit.
func measure(repo repository, binary string) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "measure-pod-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	in, err := repo.installation(variant{name: "production", overlay: "production"})
	if err != nil {
		return err
	}
	proto, err := repo.contract()
	if err != nil {
		return err
	}
	rows, err := loads(in)
	if err != nil {
		return err
	}
	var running errgroup.Group // side by side, as most of the time is waited for
	for i, m := range rows {
		m.in, m.proto, m.binary, m.folder, m.ip = in, proto, binary, folder, fmt.Sprintf("127.71.3.%d", i+1)
		running.Go(m.run)
	}
	if err := running.Wait(); err != nil {
		return err
	}
	return judgeMemory(rows)
}

// loads are those that the pod is measured under.
func loads(in *installation) ([]*measurement, error) {
	settings := in.settings()
	admitted, err := strconv.Atoi(settings["ONBOARDFLOW_MAX_IN_FLIGHT"])
	if err != nil {
		return nil, fmt.Errorf("ONBOARDFLOW_MAX_IN_FLIGHT: %w", err)
	}
	largest, err := apiresource.ParseQuantity(strings.TrimSuffix(settings["ONBOARDFLOW_MAX_RESPONSE_BYTES"], "B"))
	if err != nil {
		return nil, fmt.Errorf("ONBOARDFLOW_MAX_RESPONSE_BYTES: %w", err)
	}
	request, limit := in.container().Resources.Requests.Memory(), in.container().Resources.Limits.Memory()
	return []*measurement{
		{connections: 1, bound: request},
		{connections: 8, inFlight: 64, bound: request},
		{connections: 1000, bound: request},
		{connections: 8, inFlight: admitted, bound: request},
		{connections: 1000, inFlight: admitted, reply: int(largest.Value()), bound: limit},
	}, nil
}

func judgeMemory(rows []*measurement) error {
	var wrong problems
	fmt.Printf("%11s %9s  %-14s %9s %9s %6s\n", "connections", "in flight", "reply", "RSS MiB", "peak MiB", "failed")
	for _, m := range rows {
		kind := "as the example"
		if m.reply > 0 {
			kind = fmt.Sprintf("%d KiB", m.reply>>10)
		}
		fmt.Printf("%11d %9d  %-14s %9.1f %9.1f %6d\n", m.connections, m.inFlight, kind, m.resident, m.peak, m.failed)
		if bound := float64(m.bound.Value()) / (1 << 20); m.peak > bound {
			wrong.add("%.1f MiB with %d connections and %d calls in flight is over %.0f MiB", m.peak, m.connections, m.inFlight, bound)
		}
		if m.failed > 0 {
			wrong.add("with %d connections and %d calls in flight %d calls failed", m.connections, m.inFlight, m.failed)
		}
	}
	return wrong.err()
}

func (m *measurement) run() error {
	back, err := m.slowUpstream()
	if err != nil {
		return err
	}
	defer back.server.Close()
	secrets := map[string]map[string][]byte{credentialsSecret: {"token": []byte(firstKey)}}
	p, err := startPod(m.in, m.binary, m.folder, m.ip, m.ip, secrets, map[string]string{"ONBOARDFLOW_UPSTREAM_URL": back.url})
	if err != nil {
		return err
	}
	defer p.terminate(0)
	if err := p.started(context.Background()); err != nil {
		return err
	}
	opened, err := m.connect(p)
	if err != nil {
		return err
	}
	for range 3 {
		m.failed += m.round(opened)
	}
	m.resident, m.peak = p.memory("VmRSS"), p.memory("VmHWM")
	for _, connection := range opened {
		_ = connection.Close()
	}
	return nil
}

// slowUpstream takes so long that all calls of a round are in flight at once.
func (m *measurement) slowUpstream() (*upstream, error) {
	back, err := startUpstream(m.ip+":8080", firstKey, m.in.settings())
	if err != nil {
		return nil, err
	}
	serve := back.server.Handler
	back.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(2 * time.Second)
		if m.reply > 0 {
			w = &padded{ResponseWriter: w, size: m.reply}
		}
		serve.ServeHTTP(w, r)
	})
	return back, nil
}

// connect opens the connections, and waits until all are in use.
func (m *measurement) connect(p *pod) ([]*grpc.ClientConn, error) {
	var opened []*grpc.ClientConn
	for range m.connections {
		connection, err := grpc.NewClient("passthrough:///"+p.at(50051), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		connection.Connect()
		opened = append(opened, connection)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, connection := range opened {
		for state := connection.GetState(); state != connectivity.Ready; state = connection.GetState() {
			if !connection.WaitForStateChange(ctx, state) {
				return nil, fmt.Errorf("%d connections: one is still %v", m.connections, state)
			}
		}
	}
	return opened, nil
}

func (m *measurement) round(opened []*grpc.ClientConn) (failed int) {
	var calls sync.WaitGroup
	var mutex sync.Mutex
	for n := range m.inFlight {
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			err := m.proto.call(ctx, opened[n%len(opened)], "UpdateCustomer", fmt.Sprintf("cus_%d", n))
			mutex.Lock()
			defer mutex.Unlock()
			if err != nil {
				failed++
			}
		})
	}
	calls.Wait()
	return failed
}

// memory reads one of the process's figures, in MiB.
func (p *pod) memory(field string) float64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	match := regexp.MustCompile(field + `:\s+(\d+) kB`).FindSubmatch(status)
	if match == nil {
		return 0
	}
	kilobytes, _ := strconv.ParseFloat(string(match[1]), 64)
	return kilobytes / 1024
}

// padded makes a reply long: a field that nobody knows, in front of the others.
type padded struct {
	http.ResponseWriter
	size int
}

func (p *padded) Write(reply []byte) (int, error) {
	// A little room is left for the rest, so that the limit on replies is met and not passed.
	filler := fmt.Sprintf(`{"filler":"%s",`, strings.Repeat("x", p.size-2048))
	return p.ResponseWriter.Write(append([]byte(filler), reply[1:]...))
}

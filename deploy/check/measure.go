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

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
)

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
	settings := in.settings()
	admitted, err := strconv.Atoi(settings["ONBOARDFLOW_MAX_IN_FLIGHT"])
	if err != nil {
		return fmt.Errorf("ONBOARDFLOW_MAX_IN_FLIGHT: %w", err)
	}
	largest, err := apiresource.ParseQuantity(strings.TrimSuffix(settings["ONBOARDFLOW_MAX_RESPONSE_BYTES"], "B"))
	if err != nil {
		return fmt.Errorf("ONBOARDFLOW_MAX_RESPONSE_BYTES: %w", err)
	}
	resources := in.container().Resources
	request, limit := resources.Requests.Memory(), resources.Limits.Memory()

	var wrong problems
	fmt.Printf("%12s %10s  %-15s %9s %9s %7s\n", "connections", "in flight", "reply", "RSS MiB", "peak MiB", "failed")
	for i, row := range []struct {
		connections, inFlight, reply int
		bound                        *apiresource.Quantity
	}{
		{1, 0, 0, request},
		{8, 64, 0, request},
		{1000, 0, 0, request},
		{8, admitted, 0, request},
		{1000, admitted, int(largest.Value()), limit},
	} {
		m := &measurement{in: in, proto: proto, binary: binary, folder: folder, ip: fmt.Sprintf("127.71.3.%d", i+1)}
		peak, err := m.run(row.connections, row.inFlight, row.reply)
		if err != nil {
			return err
		}
		if bound := float64(row.bound.Value()) / (1 << 20); peak > bound {
			wrong.add("%.1f MiB at %d in flight is over %.0f MiB", peak, row.inFlight, bound)
		}
	}
	return wrong.err()
}

type measurement struct {
	in             *installation
	proto          *contract
	binary, folder string
	ip             string
}

func (m *measurement) run(connections, inFlight, reply int) (peak float64, err error) {
	back, err := startUpstream(m.ip+":8080", firstKey, m.in.settings())
	if err != nil {
		return 0, err
	}
	defer back.server.Close()
	serve := back.server.Handler
	// Long enough that all calls of a round are in flight at once.
	back.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(2 * time.Second)
		if reply > 0 {
			w = &padded{ResponseWriter: w, size: reply}
		}
		serve.ServeHTTP(w, r)
	})
	secrets := map[string]map[string][]byte{credentialsSecret: {"token": []byte(firstKey)}}
	name := fmt.Sprintf("%d-%d-%d", connections, inFlight, reply)
	p, err := startPod(m.in, m.binary, m.folder, name, m.ip, secrets, map[string]string{"ONBOARDFLOW_UPSTREAM_URL": back.url})
	if err != nil {
		return 0, err
	}
	defer p.terminate(0)
	if err := p.started(context.Background()); err != nil {
		return 0, err
	}
	opened, err := m.connect(p, connections)
	if err != nil {
		return 0, err
	}
	failed := 0
	for range 3 {
		failed += m.round(opened, inFlight)
	}
	kind := "as the example"
	if reply > 0 {
		kind = fmt.Sprintf("%d KiB", reply>>10)
	}
	peak = p.memory("VmHWM")
	fmt.Printf("%12d %10d  %-15s %9.1f %9.1f %7d\n", connections, inFlight, kind, p.memory("VmRSS"), peak, failed)
	for _, connection := range opened {
		_ = connection.Close()
	}
	return peak, nil
}

func (m *measurement) connect(p *pod, connections int) ([]*grpc.ClientConn, error) {
	var opened []*grpc.ClientConn
	for range connections {
		connection, err := grpc.NewClient("passthrough:///"+p.at(50051), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		connection.Connect()
		opened = append(opened, connection)
	}
	time.Sleep(time.Second)
	return opened, nil
}

func (m *measurement) round(opened []*grpc.ClientConn, inFlight int) (failed int) {
	var calls sync.WaitGroup
	var mutex sync.Mutex
	for n := range inFlight {
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

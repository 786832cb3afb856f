// The real binary, run as the kubelet runs a container.

package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
)

// A pod is the real binary, started with the manifest's arguments, settings and mounted files. Two things differ, and
// have to: a pod has an address of its own, so the listening addresses get one out of 127/8; and the mounted files lie
// under a folder of ours.
type pod struct {
	in      *installation
	name    string
	ip      string
	folder  string
	command *exec.Cmd
	done    chan struct{} // closed when the process has ended
	killed  bool
}

// startPod starts one. Secrets are looked up by name; extra settings win over the manifest's.
func startPod(in *installation, binary, folder, name, ip string, secrets map[string]map[string][]byte, extra map[string]string) (*pod, error) {
	p := &pod{in: in, name: name, ip: ip, folder: filepath.Join(folder, name), done: make(chan struct{})}
	if err := os.MkdirAll(p.folder, 0o755); err != nil {
		return nil, err
	}
	if err := p.mount(secrets); err != nil {
		return nil, err
	}
	settings := in.settings()
	maps.Copy(settings, extra)
	args := slices.Clone(in.container().Args)
	p.listenAt("listen", 50051, args, settings)
	p.listenAt("admin-listen", 9090, args, settings)
	for i := range args {
		args[i] = p.inside(args[i])
	}
	p.command = exec.Command(binary, args...)
	p.command.Env = []string{}
	for key, value := range settings {
		p.command.Env = append(p.command.Env, key+"="+p.inside(value))
	}
	log, err := os.Create(p.folder + ".log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.command.Stdout, p.command.Stderr = log, log
	// Nothing of ours outlives us.
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.command.Wait()
		close(p.done)
	}()
	return p, nil
}

// listenAt replaces the host of a listening address, wherever the manifest says one, and says one where it doesn't.
func (p *pod) listenAt(flag string, port int, args []string, settings map[string]string) {
	for i, arg := range args {
		if address, found := strings.CutPrefix(arg, "--"+flag+"="); found {
			args[i] = "--" + flag + "=" + p.rehosted(address)
			return
		}
	}
	variable := variableOf(flag)
	if address, found := settings[variable]; found {
		settings[variable] = p.rehosted(address)
		return
	}
	settings[variable] = fmt.Sprintf("%s:%d", p.ip, port)
}

func (p *pod) rehosted(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return net.JoinHostPort(p.ip, port)
}

// variableOf is the program's rule: --some-name is ONBOARDFLOW_SOME_NAME.
func variableOf(flag string) string {
	return "ONBOARDFLOW_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func (p *pod) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// terminate is what the kubelet does to a pod that is deleted: SIGTERM, the grace period, SIGKILL.
func (p *pod) terminate(grace time.Duration) {
	if !p.running() {
		return
	}
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(grace):
		p.killed = true
		_ = p.command.Process.Kill()
		<-p.done
	}
}

func (p *pod) exitCode() int { return p.command.ProcessState.ExitCode() }

func (p *pod) at(port int32) string { return net.JoinHostPort(p.ip, fmt.Sprint(port)) }

// lastWords is the end of the pod's log, for an error.
func (p *pod) lastWords() string {
	text, _ := os.ReadFile(p.folder + ".log")
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// started waits for the startup probe, for as long as the kubelet would.
func (p *pod) started(ctx context.Context) error {
	probe := p.in.container().StartupProbe
	limit := time.Duration(probe.FailureThreshold*max(probe.PeriodSeconds, 1)) * time.Second
	begun := time.Now()
	for {
		err := p.probe(ctx, probe)
		if err == nil {
			return nil
		}
		if !p.running() {
			return fmt.Errorf("%s ended with code %d:\n%s", p.name, p.exitCode(), p.lastWords())
		}
		if time.Since(begun) > limit {
			return fmt.Errorf("%s: the startup probe failed for %v: %w", p.name, limit, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// probe asks as the kubelet's gRPC probe does: a connection of its own, in plaintext, Check, SERVING or not.
func (p *pod) probe(ctx context.Context, probe *corev1.Probe) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(max(probe.TimeoutSeconds, 1))*time.Second)
	defer cancel()
	connection, err := grpc.NewClient("passthrough:///"+p.at(probe.GRPC.Port),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent("kube-probe/1.37"))
	if err != nil {
		return err
	}
	defer connection.Close()
	service := ""
	if probe.GRPC.Service != nil {
		service = *probe.GRPC.Service
	}
	answer, err := healthpb.NewHealthClient(connection).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		return err
	}
	if answer.Status != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("'%s' is %v", service, answer.Status)
	}
	return nil
}

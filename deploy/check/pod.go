package main

import (
	"context"
	"errors"
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

	corev1 "k8s.io/api/core/v1"
)

// settings is the container's environment as the kubelet would make it, and nothing of ours.
func (in *installation) settings() map[string]string {
	container := in.container()
	settings := map[string]string{}
	for _, from := range container.EnvFrom {
		if config := in.configs[from.ConfigMapRef.Name]; config != nil {
			maps.Copy(settings, config.Data)
		}
	}
	for _, variable := range container.Env {
		settings[variable.Name] = variable.Value
		if source := variable.ValueFrom; source != nil && source.ResourceFieldRef != nil {
			settings[variable.Name] = resource(container, source.ResourceFieldRef)
		}
	}
	return settings
}

// resource divides and rounds up, as the kubelet does.
func resource(container *corev1.Container, reference *corev1.ResourceFieldSelector) string {
	name, found := strings.CutPrefix(reference.Resource, "requests.")
	quantity := container.Resources.Requests[corev1.ResourceName(name)]
	if !found {
		quantity = container.Resources.Limits[corev1.ResourceName(strings.TrimPrefix(name, "limits."))]
	}
	divisor := reference.Divisor.MilliValue()
	if divisor == 0 {
		divisor = 1000
	}
	return fmt.Sprint((quantity.MilliValue() + divisor - 1) / divisor)
}

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

func (p *pod) mounted(mountPath string) string { return filepath.Join(p.folder, mountPath) }

func (p *pod) inside(text string) string {
	for _, mount := range p.in.container().VolumeMounts {
		text = strings.ReplaceAll(text, mount.MountPath+"/", p.mounted(mount.MountPath)+"/")
	}
	return text
}

func (p *pod) mount(secrets map[string]map[string][]byte) error {
	for _, volume := range p.in.deployment.Spec.Template.Spec.Volumes {
		secret := secrets[volume.Secret.SecretName]
		if secret == nil {
			return fmt.Errorf("nobody made the Secret %s", volume.Secret.SecretName)
		}
		files := maps.Clone(secret)
		if len(volume.Secret.Items) > 0 {
			files = map[string][]byte{}
			for _, item := range volume.Secret.Items {
				files[item.Path] = secret[item.Key]
			}
		}
		for _, mount := range p.in.container().VolumeMounts {
			if mount.Name != volume.Name {
				continue
			}
			if err := writeAsKubelet(p.mounted(mount.MountPath), files); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeAsKubelet publishes files the way a Secret volume has them: links into a ..data link that is swapped at once.
func writeAsKubelet(folder string, files map[string][]byte) error {
	fresh := fmt.Sprintf("..%d", time.Now().UnixNano())
	if err := os.MkdirAll(filepath.Join(folder, fresh), 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, fresh, name), content, 0o440); err != nil {
			return err
		}
	}
	before, _ := os.Readlink(filepath.Join(folder, "..data"))
	if err := os.Symlink(fresh, filepath.Join(folder, "..data_tmp")); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(folder, "..data_tmp"), filepath.Join(folder, "..data")); err != nil {
		return err
	}
	for name := range files {
		err := os.Symlink(filepath.Join("..data", name), filepath.Join(folder, name))
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if before != "" {
		return os.RemoveAll(filepath.Join(folder, before))
	}
	return nil
}

// rotate replaces a Secret's files while the pod runs.
func (p *pod) rotate(secrets map[string]map[string][]byte) error { return p.mount(secrets) }

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

func (p *pod) grace() time.Duration {
	return time.Duration(*p.in.deployment.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second
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

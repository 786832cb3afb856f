// The callers that use another implementation of gRPC than Go's: caller.py, and its tally.

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// coreCallers are callers on gRPC's C core, in a process of theirs: caller.py. They go by the headless Service.
type coreCallers struct {
	process *exec.Cmd
	tell    io.WriteCloser
	said    bytes.Buffer
}

func startCoreCallers(repo repository, c *cluster, proto *contract, options rehearsal, target, config string) (*coreCallers, error) {
	calls, err := proto.encoded("cus_core", "CreateCustomer", "UpdateCustomer")
	if err != nil {
		return nil, err
	}
	task, err := json.Marshal(map[string]any{
		"target": target, "service_config": config, "threads": options.callers, "calls": calls,
		"options": map[string]int64{
			"grpc.dns_min_time_between_resolutions_ms": c.pace.of(resolutionWait).Milliseconds(),
		},
	})
	if err != nil {
		return nil, err
	}
	core := &coreCallers{process: exec.Command(options.python, repo.path("deploy", "check", "caller.py"))}
	core.process.Stdout = &core.said
	core.process.Stderr = &core.said
	core.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if core.tell, err = core.process.StdinPipe(); err != nil {
		return nil, err
	}
	if err := core.process.Start(); err != nil {
		return nil, err
	}
	_, err = core.tell.Write(append(task, '\n'))
	return core, err
}

// stop ends the callers and brings their tally into the form of the others'.
func (core *coreCallers) stop() *tally {
	t := &tally{kind: "headless, C core (Python)"}
	_ = core.tell.Close()
	err := core.process.Wait()
	var said struct {
		Calls    int
		Slowest  float64
		Failures map[string]int
	}
	if err == nil {
		err = json.Unmarshal(core.said.Bytes(), &said)
	}
	if err != nil {
		t.failures = []string{fmt.Sprintf("the Python callers: %v\n%s", err, core.said.String())}
		fmt.Println(t.failures[0])
		return t
	}
	t.calls, t.slowest = said.Calls, time.Duration(said.Slowest*float64(time.Second))
	for failure, times := range said.Failures {
		fmt.Printf("FAILED  %s, %d times: %s\n", t.kind, times, failure)
		for range times {
			t.failures = append(t.failures, failure)
		}
	}
	return t
}

// encoded is a request for each method, with its path, as a caller without the proto can send it.
func (c *contract) encoded(customer string, methods ...string) (calls [][2]string, err error) {
	for _, method := range methods {
		request, err := c.request(c.service.Methods().ByName(protoreflect.Name(method)).Input(), customer)
		if err != nil {
			return nil, err
		}
		bytes, err := proto.Marshal(request)
		if err != nil {
			return nil, err
		}
		calls = append(calls, [2]string{c.path(method), base64.StdEncoding.EncodeToString(bytes)})
	}
	return calls, nil
}

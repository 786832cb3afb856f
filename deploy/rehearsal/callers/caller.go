// A caller on grpc-go for scripts/rehearse-cluster, and with the argument `onboardflow` the API behind the gateway.
// deploy/rehearsal/README.md has what all three callers do alike.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// tally is what is printed each second.
type tally struct {
	mutex    sync.Mutex
	Calls    int            `json:"calls"`
	Slowest  float64        `json:"slowest"` // seconds
	Failures map[string]int `json:"failures"`
}

// encoded passes messages on as they are.
type encoded struct{}

func (encoded) Name() string { return "proto" }

func (encoded) Marshal(message any) ([]byte, error) { return message.([]byte), nil }

func (encoded) Unmarshal([]byte, any) error { return nil }

func main() {
	if len(os.Args) > 1 && os.Args[1] == "onboardflow" {
		serveOnboardFlow()
	}
	var calls [][2]string
	must(json.Unmarshal([]byte(os.Getenv("CALLS")), &calls))
	channels, err := strconv.Atoi(os.Getenv("CHANNELS"))
	must(err)
	pause, err := strconv.Atoi(os.Getenv("PAUSE_MS"))
	must(err)
	seen := &tally{Failures: map[string]int{}}
	for range channels {
		connection, err := grpc.NewClient(os.Getenv("TARGET"), grpc.WithTransportCredentials(transport()),
			grpc.WithDefaultServiceConfig(os.Getenv("SERVICE_CONFIG")),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}))
		must(err)
		go seen.callOn(connection, calls, time.Duration(pause)*time.Millisecond)
	}
	for range time.Tick(time.Second) {
		seen.print()
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func transport() credentials.TransportCredentials {
	folder := os.Getenv("TLS_DIR")
	if folder == "" {
		return insecure.NewCredentials()
	}
	pair, err := tls.LoadX509KeyPair(folder+"/tls.crt", folder+"/tls.key")
	must(err)
	authority, err := os.ReadFile(folder + "/ca.crt")
	must(err)
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(authority)
	return credentials.NewTLS(&tls.Config{RootCAs: trusted, Certificates: []tls.Certificate{pair}})
}

func (t *tally) callOn(connection *grpc.ClientConn, calls [][2]string, pause time.Duration) {
	for n := 0; ; n++ {
		call := calls[n%len(calls)]
		request, err := base64.StdEncoding.DecodeString(call[1])
		must(err)
		deadline, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		begun := time.Now()
		err = connection.Invoke(deadline, call[0], request, nil, grpc.ForceCodec(encoded{}))
		cancel()
		t.note(time.Since(begun), err)
		time.Sleep(pause)
	}
}

func (t *tally) note(took time.Duration, err error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.Calls++
	t.Slowest = max(t.Slowest, took.Seconds())
	if err != nil {
		t.Failures[fmt.Sprintf("%v: %s", status.Code(err), status.Convert(err).Message())]++
	}
}

func (t *tally) print() {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	line, err := json.Marshal(t)
	must(err)
	fmt.Println(string(line))
}

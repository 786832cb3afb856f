// The client: how to connect, and how to make each call so that it neither hangs nor records a customer twice.
package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"fmt"
	"os"
	"time"

	customerv1 "github.com/onboardflow/onboardflow-gateway/examples/go/gen/onboardflow/customer/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip" // importing it also lets the gateway answer in gzip
	"google.golang.org/grpc/metadata"
)

// embed can't reach above this folder, so a copy is made where the generated code goes.
//
//go:generate ../../.tools/bin/buf generate ../../proto
//go:generate cp ../service-config.json gen/
//go:embed gen/service-config.json
var serviceConfig string

type connection struct{ target, ca, cert, key, compression string }

// dial sets up the channel. One serves the whole program: it balances over every address that the name has, reconnects
// by itself, and repeats a failed update (not a create), as the service config says.
func dial(options connection) (*grpc.ClientConn, error) {
	transport, err := options.credentials()
	if err != nil {
		return nil, err
	}
	dialOptions := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
	}
	switch options.compression {
	case "none":
	case gzip.Name:
		dialOptions = append(dialOptions, grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name)))
	default:
		return nil, fmt.Errorf("--compression %q: none or gzip", options.compression)
	}
	return grpc.NewClient("dns:///"+options.target, dialOptions...)
}

func (c connection) credentials() (credentials.TransportCredentials, error) {
	if c.ca == "" {
		return insecure.NewCredentials(), nil
	}
	pem, err := os.ReadFile(c.ca)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--tls-ca %s: no certificate in it", c.ca)
	}
	if c.cert != "" {
		own, err := tls.LoadX509KeyPair(c.cert, c.key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{own}
	}
	return credentials.NewTLS(config), nil
}

type client struct {
	api     customerv1.CustomerServiceClient
	timeout time.Duration
}

// maxAttempts bounds a create's tries, the first one included.
const maxAttempts = 3

// create records a new customer. A create isn't idempotent, so the service config has no retries for it; it is
// repeated here, and only where the gateway says that nothing was written.
func (c client) create(ctx context.Context, requestID string, request *customerv1.CreateCustomerRequest) (*customerv1.CustomerEvent, error) {
	ctx, cancel := c.callContext(ctx, requestID)
	defer cancel()
	for attempt := 1; ; attempt++ {
		response, err := c.api.CreateCustomer(ctx, request)
		if err == nil {
			return response.GetEvent(), nil
		}
		failure := readFailure(err)
		if attempt == maxAttempts || !failure.nothingWritten() || !waitWithin(ctx, failure.wait()) {
			return nil, err
		}
	}
}

// update records a changed customer. The same update twice does no harm, so the channel itself repeats it.
func (c client) update(ctx context.Context, requestID string, request *customerv1.UpdateCustomerRequest) (*customerv1.CustomerEvent, error) {
	ctx, cancel := c.callContext(ctx, requestID)
	defer cancel()
	response, err := c.api.UpdateCustomer(ctx, request)
	return response.GetEvent(), err
}

// delete removes a customer. One that is gone stays gone, so the channel itself repeats it. The event is nil where
// OnboardFlow's reply has none.
func (c client) delete(ctx context.Context, requestID string, request *customerv1.DeleteCustomerRequest) (*customerv1.CustomerEvent, error) {
	ctx, cancel := c.callContext(ctx, requestID)
	defer cancel()
	response, err := c.api.DeleteCustomer(ctx, request)
	return response.GetEvent(), err
}

// callContext gives a call its deadline, which the gateway learns too and keeps for its own call to OnboardFlow, and
// the id under which the gateway logs it.
func (c client) callContext(ctx context.Context, requestID string) (context.Context, context.CancelFunc) {
	ctx = metadata.AppendToOutgoingContext(ctx, "x-request-id", requestID)
	return context.WithTimeout(ctx, c.timeout)
}

func newRequestID() string { return rand.Text() }

// waitWithin waits for the delay, or answers false at once where the deadline comes first.
func waitWithin(ctx context.Context, delay time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= delay {
		return false
	}
	select {
	case <-time.After(delay):
		return true
	case <-ctx.Done():
		return false
	}
}

// The client: how to connect, and how to make a call so that it neither hangs nor records anything twice.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"fmt"
	"os"
	"time"

	customerv1 "github.com/onboardflow/onboardflow-gateway/examples/go/gen/onboardflow/customer/v1"
	eventv1 "github.com/onboardflow/onboardflow-gateway/examples/go/gen/onboardflow/event/v1"
	subscriptionv1 "github.com/onboardflow/onboardflow-gateway/examples/go/gen/onboardflow/subscription/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip" // importing it also lets the gateway answer in gzip
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

// The channel repeats every call that fails with UNAVAILABLE, creates included. That is safe only because each request
// has a request_id and the gateway keeps a ledger: a gateway without one refuses the call with LEDGER_OFF.
//
// embed can't reach above this folder, so a copy is made where the generated code goes.
//
//go:generate ../../.tools/bin/buf generate ../../proto
//go:generate cp ../service-config.json gen/
//go:embed gen/service-config.json
var serviceConfig string

// A ping every 30 s, between calls too: a connection that has fallen silent is replaced before the next call needs it.
var pings = keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}

type connection struct{ target, ca, cert, key, compression string }

// dial sets up the channel. One serves the whole program: it balances over every address that the name has, reconnects
// by itself, and repeats failed calls as the service config says.
func dial(options connection) (*grpc.ClientConn, error) {
	transport, err := options.credentials()
	if err != nil {
		return nil, err
	}
	dialOptions := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithKeepaliveParams(pings),
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

// client has a stub for each service. They share one channel.
type client struct {
	customers     customerv1.CustomerServiceClient
	subscriptions subscriptionv1.SubscriptionServiceClient
	events        eventv1.EventServiceClient
}

func newClient(channel *grpc.ClientConn) client {
	return client{
		customers:     customerv1.NewCustomerServiceClient(channel),
		subscriptions: subscriptionv1.NewSubscriptionServiceClient(channel),
		events:        eventv1.NewEventServiceClient(channel),
	}
}

// callContext gives a call its deadline, which the gateway learns too and keeps for its own call to OnboardFlow, and
// the id under which the gateway logs it. Both hold for the call as a whole, repeats included.
func callContext(ctx context.Context, timeout time.Duration, callID string) (context.Context, context.CancelFunc) {
	ctx = metadata.AppendToOutgoingContext(ctx, "x-request-id", callID)
	return context.WithTimeout(ctx, timeout)
}

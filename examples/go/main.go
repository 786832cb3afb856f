// Command customer tells OnboardFlow about a customer, through onboardflow-gateway: one call for each RPC that it names.
//
// client.go is the part to copy: the channel, the deadline, and what is repeated. failure.go reads the gateway's error
// details, and requests.go has a request for each RPC. This file is only the command line.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
)

func main() {
	var options connection
	var about details
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "Usage: customer [flags] [RPC...]     default: CreateCustomer UpdateCustomer")
		flag.PrintDefaults()
	}
	flag.StringVar(&options.target, "target", "127.0.0.1:50051", "gateway's `host:port`")
	flag.StringVar(&options.ca, "tls-ca", "", "PEM `file` of the CA that signed the gateway's certificate; turns TLS on")
	flag.StringVar(&options.cert, "tls-cert", "", "PEM `file` of our own certificate, for mTLS")
	flag.StringVar(&options.key, "tls-key", "", "PEM `file` of its key")
	flag.StringVar(&options.compression, "compression", "none", "`none` or gzip")
	seconds := flag.Float64("timeout", 5, "`seconds` that a call may take, repeats included")
	flag.StringVar(&about.siteKey, "site-key", "f37F2PPh", "OnboardFlow site `key`")
	flag.StringVar(&about.customerID, "customer-id", "cus_123XYZ", "customer `id`")
	flag.StringVar(&about.email, "email", "zoe@example.com", "customer's email `address`")
	flag.StringVar(&about.imageURL, "image-url", "", "`URL` of the customer's picture; unset when empty")
	asJSON := flag.Bool("json", false, "print a line of JSON per call")
	flag.Parse()

	rpcs := flag.Args()
	if len(rpcs) == 0 {
		rpcs = []string{"CreateCustomer", "UpdateCustomer"}
	}
	timeout := time.Duration(*seconds * float64(time.Second))
	ok, err := run(options, about, rpcs, timeout, *asJSON)
	if err != nil {
		fmt.Fprintln(os.Stderr, "customer:", err)
		os.Exit(64)
	}
	if !ok {
		os.Exit(1)
	}
}

// run makes the calls, one after the other, and tells whether all went well.
func run(options connection, about details, rpcs []string, timeout time.Duration, asJSON bool) (bool, error) {
	channel, err := dial(options)
	if err != nil {
		return false, err
	}
	defer channel.Close()
	client := newClient(channel)

	ok := true
	for _, rpc := range rpcs {
		// Names this write in each attempt at it, those of the channel too. Store it where your own program may repeat
		// the write later.
		requestID := uuid.NewString()
		callID := uuid.NewString()
		ctx, cancel := callContext(context.Background(), timeout, callID)
		event, err := call(ctx, client, rpc, about, requestID)
		cancel()
		if err == errNoSuchRPC {
			return false, fmt.Errorf("%w: %s", err, rpc)
		}
		ok = ok && err == nil
		report{rpc, callID, requestID, event, err}.print(asJSON)
	}
	return ok, nil
}

var errNoSuchRPC = errors.New("no such RPC")

// call returns the event that OnboardFlow recorded. A delete may have none.
func call(ctx context.Context, client client, rpc string, about details, requestID string) (event, error) {
	switch rpc {
	case "CreateCustomer":
		response, err := client.customers.CreateCustomer(ctx, about.createCustomer(requestID))
		return response.GetEvent(), err
	case "UpdateCustomer":
		response, err := client.customers.UpdateCustomer(ctx, about.updateCustomer(requestID))
		return response.GetEvent(), err
	case "DeleteCustomer":
		response, err := client.customers.DeleteCustomer(ctx, about.deleteCustomer(requestID))
		return response.GetEvent(), err
	case "CreateSubscription":
		response, err := client.subscriptions.CreateSubscription(ctx, about.createSubscription(requestID))
		return response.GetEvent(), err
	case "UpdateSubscription":
		response, err := client.subscriptions.UpdateSubscription(ctx, about.updateSubscription(requestID))
		return response.GetEvent(), err
	case "RecordEvent":
		response, err := client.events.RecordEvent(ctx, about.recordEvent(requestID))
		return response.GetEvent(), err
	default:
		return nil, errNoSuchRPC
	}
}

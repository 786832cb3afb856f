// Command customer creates, updates or deletes a customer through onboardflow-gateway.
//
// client.go is the part to copy: the channel, the deadline, the request id, and what may be repeated. failure.go reads
// the gateway's error details. This file is only the command line.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	customerv1 "github.com/onboardflow/onboardflow-gateway/examples/go/gen/onboardflow/customer/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// details is what the command line says about the customer.
type details struct{ siteKey, customerID, email, imageURL string }

func main() {
	var options connection
	var about details
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

	calls := flag.Args()
	if len(calls) == 0 {
		calls = []string{"create", "update"}
	}
	timeout := time.Duration(*seconds * float64(time.Second))
	ok, err := run(options, about, calls, timeout, *asJSON)
	if err != nil {
		fmt.Fprintln(os.Stderr, "customer:", err)
		os.Exit(64)
	}
	if !ok {
		os.Exit(1)
	}
}

// run makes the calls, one after the other, and tells whether all went well.
func run(options connection, about details, calls []string, timeout time.Duration, asJSON bool) (bool, error) {
	conn, err := dial(options)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	client := client{customerv1.NewCustomerServiceClient(conn), timeout}

	ok := true
	for _, call := range calls {
		var event *customerv1.CustomerEvent
		var err error
		requestID := newRequestID()
		switch call {
		case "create":
			event, err = client.create(context.Background(), requestID, createRequest(about))
		case "update":
			event, err = client.update(context.Background(), requestID, updateRequest(about))
		case "delete":
			event, err = client.delete(context.Background(), requestID, deleteRequest(about))
		default:
			return false, fmt.Errorf("no call is named %q: create, update, delete", call)
		}
		ok = ok && err == nil
		if asJSON {
			printJSON(call, requestID, event, err)
		} else {
			printText(call, event, err)
		}
	}
	return ok, nil
}

// A customer who has just started a trial.
func createRequest(about details) *customerv1.CreateCustomerRequest {
	customer := customerOf(about)
	customer.HasPaymentMethod = proto.Bool(false)
	return &customerv1.CreateCustomerRequest{
		SiteKey:   about.siteKey,
		EventDate: timestamppb.Now(),
		Customer:  customer,
		CustomProperties: &structpb.Struct{Fields: map[string]*structpb.Value{
			"plan":      structpb.NewStringValue("trial"),
			"qty_tasks": structpb.NewNumberValue(2),
		}},
	}
}

// The same customer after adding a payment method. An update carries the customer whole: what it leaves out is unset.
func updateRequest(about details) *customerv1.UpdateCustomerRequest {
	customer := customerOf(about)
	customer.LastName = proto.String("Müller")
	customer.HasPaymentMethod = proto.Bool(true)
	return &customerv1.UpdateCustomerRequest{
		SiteKey:   about.siteKey,
		EventDate: timestamppb.Now(),
		Customer:  customer,
	}
}

// The customer has left.
func deleteRequest(about details) *customerv1.DeleteCustomerRequest {
	return &customerv1.DeleteCustomerRequest{
		SiteKey:    about.siteKey,
		CustomerId: about.customerID,
		UserId:     "user_123XYZ",
	}
}

func customerOf(about details) *customerv1.Customer {
	customer := &customerv1.Customer{
		Id:        about.customerID,
		UserId:    "user_123XYZ",
		Email:     about.email,
		FirstName: proto.String("Zoë"),
	}
	if about.imageURL != "" {
		customer.ImageUrl = proto.String(about.imageURL)
	}
	return customer
}

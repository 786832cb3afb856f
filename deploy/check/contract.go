// Calls by the proto as it lies in the repository.

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/bufbuild/protocompile"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// contract is the proto, compiled as it lies in the repository: nothing generated to keep up with it.
type contract struct {
	service protoreflect.ServiceDescriptor
}

func (r repository) contract() (*contract, error) {
	compiler := protocompile.Compiler{
		Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{r.path("proto")}}),
	}
	files, err := compiler.Compile(context.Background(), "onboardflow/customer/v1/customer.proto")
	if err != nil {
		return nil, err
	}
	return &contract{service: files[0].Services().ByName("CustomerService")}, nil
}

// serviceConfig is the one that callers are told to use.
func (r repository) serviceConfig() (string, error) {
	text, err := os.ReadFile(r.path("examples", "service-config.json"))
	return string(text), err
}

// call makes one call, and expects the reply to be about the same customer.
func (c *contract) call(ctx context.Context, connection *grpc.ClientConn, method, customer string) error {
	descriptor := c.service.Methods().ByName(protoreflect.Name(method))
	request, err := c.request(descriptor.Input(), customer)
	if err != nil {
		return err
	}
	reply := dynamicpb.NewMessage(descriptor.Output())
	if err := connection.Invoke(ctx, c.path(method), request, reply); err != nil {
		return err
	}
	if got := answered(reply); got != customer {
		return fmt.Errorf("asked for customer %s, answered with '%s'", customer, got)
	}
	return nil
}

func (c *contract) path(method string) string {
	return fmt.Sprintf("/%s/%s", c.service.FullName(), method)
}

func (c *contract) request(of protoreflect.MessageDescriptor, customer string) (proto.Message, error) {
	message := dynamicpb.NewMessage(of)
	set := func(m protoreflect.Message, name string, value any) {
		m.Set(m.Descriptor().Fields().ByName(protoreflect.Name(name)), protoreflect.ValueOf(value))
	}
	set(message, "site_key", "f37F2PPh")
	date := message.Mutable(of.Fields().ByName("event_date")).Message()
	set(date, "seconds", timestamppb.New(time.Now()).Seconds)
	inner := message.Mutable(of.Fields().ByName("customer")).Message()
	set(inner, "id", customer)
	set(inner, "user_id", "user_"+customer)
	set(inner, "email", "test@onboardflow.com")
	set(inner, "has_payment_method", true)
	return message, nil
}

// answered is event.event_meta.data.customer.id of a reply.
func answered(reply protoreflect.Message) string {
	for _, name := range []protoreflect.Name{"event", "event_meta", "data", "customer"} {
		reply = reply.Get(reply.Descriptor().Fields().ByName(name)).Message()
	}
	return reply.Get(reply.Descriptor().Fields().ByName("id")).String()
}

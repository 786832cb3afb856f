// Prints what came of a call: for people, or as the line of JSON that the interop test compares between languages.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	customerv1 "github.com/onboardflow/onboardflow-gateway/examples/go/gen/onboardflow/customer/v1"
	rpccode "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/encoding/protojson"
)

func printText(call string, event *customerv1.CustomerEvent, err error) {
	if err == nil && event == nil {
		fmt.Printf("%s: done\n", call)
		return
	}
	if err == nil {
		fmt.Printf("%s: %s, event %d\n", call, event.GetEventMeta().GetType(), event.GetId())
		return
	}
	f := readFailure(err)
	fmt.Printf("%s failed: %s: %s\n", call, codeName(f), f.message)
	if f.reason != "" {
		fmt.Printf("  reason: %s\n", f.reason)
	}
	for _, v := range f.violations {
		fmt.Printf("  %s: %s\n", v.Field, v.Description)
	}
	switch f.write() {
	case "not_sent", "rejected":
		fmt.Println("  nothing was written")
	case "applied":
		fmt.Println("  it was written all the same: don't repeat it")
	default:
		fmt.Println("  it may have been written: look in the pages of OnboardFlow before you repeat a create")
	}
	if f.retryAfter != nil {
		fmt.Printf("  worth another try after %s\n", f.retryAfter)
	}
}

func printJSON(call, requestID string, event *customerv1.CustomerEvent, err error) {
	line := map[string]any{"call": call, "request_id": requestID}
	if err == nil {
		encoded, _ := protojson.Marshal(event)
		line["code"], line["event"] = "OK", json.RawMessage(encoded)
	} else {
		f := readFailure(err)
		line["code"], line["message"], line["reason"], line["write"] = codeName(f), f.message, f.reason, f.write()
		line["metadata"], line["violations"] = f.metadata, f.violations
		if f.retryAfter != nil {
			line["retry_after_ms"] = f.retryAfter.Milliseconds()
		}
	}
	_ = json.NewEncoder(os.Stdout).Encode(line)
}

// codeName is the code as the gRPC specification writes it: DEADLINE_EXCEEDED, where grpc-go says DeadlineExceeded.
func codeName(f failure) string { return rpccode.Code(f.code).String() }

// Prints what came of a call: for people, or as the line of JSON that the interop test compares between languages.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	rpccode "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

type report struct {
	rpc, callID, requestID string
	event                  event
	err                    error
}

// event is what each RPC answers with: the event that OnboardFlow recorded.
type event interface {
	proto.Message
	GetId() int64
}

func (r report) print(asJSON bool) {
	switch {
	case asJSON:
		_ = json.NewEncoder(os.Stdout).Encode(r.line())
	case r.err != nil:
		r.printFailure()
	case r.event.GetId() == 0: // a delete's reply may have no event
		fmt.Printf("%s: done\n", r.rpc)
	default:
		fmt.Printf("%s: done, event %d\n", r.rpc, r.event.GetId())
	}
}

func (r report) printFailure() {
	f := readFailure(r.err)
	fmt.Printf("%s failed: %s: %s\n", r.rpc, codeName(f), f.message)
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
		fmt.Println("  it was written: do not repeat it")
	default:
		fmt.Printf("  it may have been written: repeat it only with the same request_id, %s\n", r.requestID)
	}
	if f.retryAfter != nil {
		fmt.Printf("  try again after %s\n", f.retryAfter)
	}
}

func (r report) line() map[string]any {
	line := map[string]any{"call": r.rpc, "call_id": r.callID, "request_id": r.requestID}
	if r.err == nil {
		encoded, _ := protojson.Marshal(r.event)
		line["code"], line["event"] = "OK", json.RawMessage(encoded)
		return line
	}
	f := readFailure(r.err)
	line["code"], line["message"], line["reason"], line["write"] = codeName(f), f.message, f.reason, f.write()
	line["metadata"], line["violations"] = f.metadata, f.violations
	if f.retryAfter != nil {
		line["retry_after_ms"] = f.retryAfter.Milliseconds()
	}
	return line
}

// codeName is the code as the gRPC specification writes it: DEADLINE_EXCEEDED, where grpc-go says DeadlineExceeded.
func codeName(f failure) string { return rpccode.Code(f.code).String() }

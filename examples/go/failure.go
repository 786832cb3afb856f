// What the gateway says about a failed call, beyond its code.
package main

import (
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// failure is a status with its google.rpc details. One without an ErrorInfo was not made by the gateway (the deadline
// passed here, say, or the gateway couldn't be reached), so it doesn't tell what became of the write.
type failure struct {
	code       codes.Code
	message    string
	reason     string            // ErrorInfo.reason: INVALID_REQUEST, UPSTREAM_MAINTENANCE, …
	metadata   map[string]string // ErrorInfo.metadata: write, http_status, request_id
	violations []violation       // BadRequest: every field at fault
	retryAfter *time.Duration    // RetryInfo
}

type violation struct {
	Field       string `json:"field"`
	Description string `json:"description"`
}

func readFailure(err error) failure {
	s := statusOf(err)
	f := failure{code: s.Code(), message: s.Message()}
	for _, detail := range s.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			f.reason, f.metadata = detail.GetReason(), detail.GetMetadata()
		case *errdetails.BadRequest:
			for _, v := range detail.GetFieldViolations() {
				f.violations = append(f.violations, violation{v.GetField(), v.GetDescription()})
			}
		case *errdetails.RetryInfo:
			delay := detail.GetRetryDelay().AsDuration()
			f.retryAfter = &delay
		}
	}
	return f
}

// statusOf looks inside: once the channel's retries are spent, grpc-go wraps the gateway's last answer.
func statusOf(err error) *status.Status {
	var inner interface{ GRPCStatus() *status.Status }
	if errors.As(err, &inner) {
		return inner.GRPCStatus()
	}
	return status.Convert(err)
}

// write is what became of the write: not_sent, rejected, unknown or applied.
func (f failure) write() string { return f.metadata["write"] }

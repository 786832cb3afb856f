package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
)

// probe asks as the kubelet's gRPC probe does: a connection of its own, in plaintext, Check, SERVING or not.
func (p *pod) probe(ctx context.Context, probe *corev1.Probe) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(max(probe.TimeoutSeconds, 1))*time.Second)
	defer cancel()
	connection, err := grpc.NewClient("passthrough:///"+p.at(probe.GRPC.Port),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent("kube-probe/1.37"))
	if err != nil {
		return err
	}
	defer connection.Close()
	service := ""
	if probe.GRPC.Service != nil {
		service = *probe.GRPC.Service
	}
	answer, err := healthpb.NewHealthClient(connection).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		return err
	}
	if answer.Status != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("'%s' is %v", service, answer.Status)
	}
	return nil
}

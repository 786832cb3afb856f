// `check rehearse`: a rolling restart under load.

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

type rehearsal struct {
	scale    float64
	replicas int
	restarts int
	callers  int
	minReady time.Duration
	dnsCache time.Duration
	python   string
}

func rehearsalFlags() *rehearsal {
	r := &rehearsal{}
	flag.Float64Var(&r.scale, "scale", 1, "rehearse: shorten every wait to this part of it")
	flag.IntVar(&r.replicas, "replicas", 2, "rehearse: pods")
	flag.IntVar(&r.restarts, "restarts", 1, "rehearse: rolling restarts, one after the other")
	flag.IntVar(&r.callers, "callers", 8, "rehearse: callers on each of the two Services")
	flag.DurationVar(&r.minReady, "min-ready", -1, "rehearse: in place of the manifest's minReadySeconds")
	flag.DurationVar(&r.dnsCache, "dns-cache", 30*time.Second, "rehearse: how old the cluster's DNS answers may be")
	flag.StringVar(&r.python, "python", "", "rehearse: a Python with grpcio, for callers on gRPC's C core as well")
	return r
}

const (
	headless       = "onboardflow-gateway-headless"
	virtual        = "onboardflow-gateway"
	resolutionWait = 30 * time.Second // grpc-go asks DNS again no sooner
)

// rehearse runs a rolling restart of the production overlay's Deployment while callers call, and fails if one call did.
func rehearse(repo repository, binary string, options rehearsal) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "rehearse-rollout-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	in, err := repo.installation(variant{name: "production", overlay: "production"})
	if err != nil {
		return err
	}
	back, err := startUpstream("127.71.0.4:8080", firstKey, in.settings())
	if err != nil {
		return err
	}
	c := newCluster(in, binary, folder, back, options)
	defer c.stop()
	endAfter(c.limit(options))
	ctx := context.Background()

	c.say("%d pods, minReadySeconds %v, drain delay %v, DNS answers up to %v old; waits are shortened to %.0f%%",
		options.replicas, c.pace.minReady, seconds(in.settings()["ONBOARDFLOW_DRAIN_DELAY"]), options.dnsCache, options.scale*100)
	if err := c.rollOut(ctx, options.replicas, 0); err != nil {
		return err
	}
	for len(c.endpoints()) < options.replicas { // the endpoints lag behind
		time.Sleep(20 * time.Millisecond)
	}
	load, err := startLoad(repo, c, options)
	if err != nil {
		return err
	}
	time.Sleep(c.pace.of(10 * time.Second))
	for restart := range options.restarts {
		c.say("rolling restart %d", restart+1)
		if err := c.rollOut(ctx, options.replicas, restart+1); err != nil {
			return err
		}
		c.endings.Wait()
	}
	time.Sleep(c.pace.of(resolutionWait))
	load.stop()
	return load.report(c, back)
}

// limit is how long a rehearsal takes at the very most: each pod's wait and its drain, one after the other.
func (c *cluster) limit(options rehearsal) time.Duration {
	pods := time.Duration(options.replicas * (options.restarts + 1))
	return pods*(c.pace.of(c.pace.minReady)+c.in.grace()) + 2*time.Minute
}

func newCluster(in *installation, binary, folder string, back *upstream, options rehearsal) *cluster {
	begun := time.Now()
	minReady := time.Duration(in.deployment.Spec.MinReadySeconds) * time.Second
	if options.minReady >= 0 {
		minReady = options.minReady
	}
	p := pace{scale: options.scale, minReady: minReady, lag: time.Second}
	extra := map[string]string{"ONBOARDFLOW_UPSTREAM_URL": back.url}
	settings := in.settings()
	for _, name := range []string{"ONBOARDFLOW_DRAIN_DELAY", "ONBOARDFLOW_MAX_CONNECTION_AGE"} {
		extra[name] = fmt.Sprintf("%dms", p.of(seconds(settings[name])).Milliseconds())
	}
	return &cluster{
		in: in, binary: binary, folder: folder, pace: p, extra: extra,
		secrets: map[string]map[string][]byte{credentialsSecret: {"token": []byte(firstKey)}},
		say: func(format string, args ...any) {
			fmt.Printf("%7.1f s  %s\n", time.Since(begun).Seconds(), fmt.Sprintf(format, args...))
		},
	}
}

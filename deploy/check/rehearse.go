package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver/dns"
	"google.golang.org/grpc/status"
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
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()

	c.say("%d pods, minReadySeconds %v, drain delay %v, DNS answers up to %v old; waits are shortened to %.0f%%",
		options.replicas, c.pace.minReady, seconds(in.settings()["ONBOARDFLOW_DRAIN_DELAY"]), options.dnsCache, options.scale*100)
	if err := c.rollOut(ctx, options.replicas, 0); err != nil {
		return err
	}
	for len(c.readyPods()) < options.replicas { // the endpoints lag behind
		time.Sleep(20 * time.Millisecond)
	}
	load, err := startLoad(repo, c, options)
	if err != nil {
		return err
	}
	c.pause(ctx, 10*time.Second)
	for restart := range options.restarts {
		c.say("rolling restart %d", restart+1)
		if err := c.rollOut(ctx, options.replicas, restart+1); err != nil {
			return err
		}
		c.endings.Wait()
	}
	c.pause(ctx, resolutionWait)
	load.stop()
	return load.report(c, back)
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

func (c *cluster) pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(c.pace.of(d)):
	}
}

// load is callers on both Services: those that balance by the headless one's DNS with the shipped service config, and
// those that only know the virtual address.
type load struct {
	cancel  context.CancelFunc
	callers sync.WaitGroup
	tallies []*tally
	core    *coreCallers
}

// A tally is what one kind of caller saw.
type tally struct {
	kind     string
	mutex    sync.Mutex
	calls    int
	creates  []string
	failures []string
	slowest  time.Duration
}

func startLoad(repo repository, c *cluster, options rehearsal) (*load, error) {
	config, err := repo.serviceConfig()
	if err != nil {
		return nil, err
	}
	proto, err := repo.contract()
	if err != nil {
		return nil, err
	}
	port := c.in.services[headless].Spec.Ports[0].Port
	addresses := func() (hosts, all []string) {
		for _, m := range c.readyPods() {
			hosts, all = append(hosts, m.ip), append(all, m.at(port))
		}
		return hosts, all
	}
	name := headless + "." + c.in.namespace + ".svc.cluster.local"
	_, err = startNameServer("127.71.0.3:5353", name, c.pace.of(options.dnsCache), func() []string { hosts, _ := addresses(); return hosts })
	if err != nil {
		return nil, err
	}
	clusterIP := fmt.Sprintf("127.71.0.2:%d", c.in.services[virtual].Spec.Ports[0].Port)
	if _, err := startVirtualAddress(clusterIP, func() []string { _, all := addresses(); return all }); err != nil {
		return nil, err
	}
	dns.SetMinResolutionInterval(c.pace.of(resolutionWait))

	ctx, cancel := context.WithCancel(context.Background())
	l := &load{cancel: cancel}
	targets := map[string]string{
		"headless, round_robin":     fmt.Sprintf("dns://127.71.0.3:5353/%s:%d", name, port),
		"ClusterIP, one connection": "passthrough:///" + clusterIP,
	}
	for kind, target := range targets {
		t := &tally{kind: kind}
		l.tallies = append(l.tallies, t)
		for number := range options.callers {
			connection, err := grpc.NewClient(target, grpc.WithDefaultServiceConfig(config),
				grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return nil, err
			}
			l.callers.Go(func() { t.call(ctx, c, proto, connection, number) })
		}
	}
	if options.python == "" {
		return l, nil
	}
	l.core, err = startCoreCallers(repo, c, proto, options, targets["headless, round_robin"], config)
	return l, err
}

// call creates and updates in turn until it is told to stop. A call that is under way then is waited for.
func (t *tally) call(ctx context.Context, c *cluster, proto *contract, connection *grpc.ClientConn, number int) {
	defer connection.Close()
	for n := 0; ctx.Err() == nil; n++ {
		method := []string{"CreateCustomer", "UpdateCustomer"}[n%2]
		customer := fmt.Sprintf("cus_%s_%d_%d", strings.Fields(t.kind)[0], number, n)
		deadline, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		begun := time.Now()
		err := proto.call(deadline, connection, method, customer)
		cancel()
		t.note(c, method, customer, time.Since(begun), err)
		time.Sleep(10 * time.Millisecond)
	}
}

func (t *tally) note(c *cluster, method, customer string, took time.Duration, err error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.calls++
	t.slowest = max(t.slowest, took)
	if method == "CreateCustomer" {
		t.creates = append(t.creates, customer)
	}
	if err == nil {
		return
	}
	t.failures = append(t.failures, err.Error())
	if len(t.failures) <= 5 {
		c.say("FAILED  %s, %s: %v after %.1f s: %s", t.kind, method, status.Code(err), took.Seconds(), status.Convert(err).Message())
	}
}

func (l *load) stop() {
	l.cancel()
	l.callers.Wait()
	if l.core != nil {
		l.tallies = append(l.tallies, l.core.stop())
	}
}

func (l *load) report(c *cluster, back *upstream) error {
	var wrong problems
	sort.Slice(l.tallies, func(i, j int) bool { return l.tallies[i].kind < l.tallies[j].kind })
	fmt.Printf("\n%-28s %8s %8s %10s\n", "callers", "calls", "failed", "slowest s")
	for _, t := range l.tallies {
		fmt.Printf("%-28s %8d %8d %10.1f\n", t.kind, t.calls, len(t.failures), t.slowest.Seconds())
		if len(t.failures) > 0 {
			wrong.add("%d of %d calls failed: %s", len(t.failures), t.calls, t.kind)
		}
		wrong = append(wrong, t.misses(back)...)
	}
	for _, m := range c.members {
		if m.killed {
			wrong.add("%s had to be killed", m.name)
		}
	}
	fmt.Println()
	return wrong.err()
}

// misses holds what the callers were told to what OnboardFlow was sent: each create once.
func (t *tally) misses(back *upstream) (wrong problems) {
	back.mutex.Lock()
	defer back.mutex.Unlock()
	missing, twice := 0, 0
	for _, customer := range t.creates {
		switch n := back.created[customer]; {
		case n == 0:
			missing++
		case n > 1:
			twice++
		}
	}
	if twice > 0 || missing > len(t.failures) {
		wrong.add("%s: of %d creates %d arrived twice and %d never", t.kind, len(t.creates), twice, missing)
	}
	return wrong
}

// The callers of a rehearsal, and what they saw.

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver/dns"
	"google.golang.org/grpc/status"
)

// load is callers on both Services: those that balance by the headless one's DNS with the shipped service config, and
// those that only know the virtual address.
type load struct {
	begun   time.Time
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
	byName, byAddress, err := startServices(c, options)
	if err != nil {
		return nil, err
	}
	dns.SetMinResolutionInterval(c.pace.of(resolutionWait))
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{begun: time.Now(), cancel: cancel}
	for target, t := range map[string]*tally{
		byName:    {kind: "headless, round_robin"},
		byAddress: {kind: "ClusterIP, one connection"},
	} {
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
	l.core, err = startCoreCallers(repo, c, proto, options, byName, config)
	return l, err
}

// startServices makes both Services reachable, and says what callers dial to reach them.
func startServices(c *cluster, options rehearsal) (byName, byAddress string, err error) {
	const nameServer, clusterIP = "127.71.0.3:5353", "127.71.0.2"
	name := headless + "." + c.in.namespace + ".svc.cluster.local"
	if err := startNameServer(nameServer, name, c.pace.of(options.dnsCache), c.endpoints); err != nil {
		return "", "", err
	}
	port := c.in.services[virtual].Spec.Ports[0].Port
	if err := startVirtualAddress(clusterIP, port, c.endpoints); err != nil {
		return "", "", err
	}
	byName = fmt.Sprintf("dns://%s/%s:%d", nameServer, name, c.in.services[headless].Spec.Ports[0].Port)
	return byName, fmt.Sprintf("passthrough:///%s:%d", clusterIP, port), nil
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
	calls, took := 0, time.Since(l.begun)
	slices.SortFunc(l.tallies, func(a, b *tally) int { return strings.Compare(a.kind, b.kind) })
	fmt.Printf("\n%-28s %8s %8s %10s\n", "callers", "calls", "failed", "slowest s")
	for _, t := range l.tallies {
		fmt.Printf("%-28s %8d %8d %10.1f\n", t.kind, t.calls, len(t.failures), t.slowest.Seconds())
		calls += t.calls
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
	if err := wrong.err(); err != nil {
		return err
	}
	fmt.Printf("no failed call: %d calls in %.0f s, %d pods started and %d ended\n", calls, took.Seconds(), len(c.members), c.ended())
	return nil
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

// A Deployment's controller, the kubelet's readiness probes and the endpoints, for a rehearsal.

package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"
)

// A cluster runs one Deployment's pods as a Deployment's controller, the kubelet and the endpoints' controller would:
// probes at the manifest's periods, a rolling update by its surge and its minReadySeconds, and endpoints that follow
// readiness with a lag.
type cluster struct {
	in      *installation
	binary  string
	folder  string
	secrets map[string]map[string][]byte
	extra   map[string]string
	pace    pace
	say     func(format string, args ...any)

	mutex   sync.Mutex
	members []*member
	next    int
	endings sync.WaitGroup
}

// pace shortens every wait alike, so that a rehearsal of minutes keeps its shape in seconds.
type pace struct {
	scale    float64
	minReady time.Duration // between a pod's readiness and the next step, unscaled
	lag      time.Duration // of endpoints behind readiness, unscaled
}

func (p pace) of(d time.Duration) time.Duration { return time.Duration(float64(d) * p.scale) }

type member struct {
	*pod
	revision  int
	readyAt   time.Time // zero while not ready
	endpoint  bool
	ending    bool
	stopProbe context.CancelFunc
}

// endpoints are the addresses of the pods that are known as ready.
func (c *cluster) endpoints() []string {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	var addresses []string
	for _, m := range c.members {
		if m.endpoint {
			addresses = append(addresses, m.ip)
		}
	}
	return addresses
}

func (c *cluster) create(ctx context.Context, revision int) error {
	c.mutex.Lock()
	c.next++
	number := c.next
	c.mutex.Unlock()
	name := fmt.Sprintf("pod-%d", number)
	p, err := startPod(c.in, c.binary, c.folder, name, fmt.Sprintf("127.71.2.%d", number), c.secrets, c.extra)
	if err != nil {
		return err
	}
	watch, stop := context.WithCancel(ctx)
	m := &member{pod: p, revision: revision, stopProbe: stop}
	c.mutex.Lock()
	c.members = append(c.members, m)
	c.mutex.Unlock()
	c.say("%s created", name)
	if err := p.started(ctx); err != nil {
		stop()
		return err
	}
	go c.watch(watch, m)
	return nil
}

// watch is the readiness probe's loop.
func (c *cluster) watch(ctx context.Context, m *member) {
	probe := m.in.container().ReadinessProbe
	period := c.pace.of(time.Duration(probe.PeriodSeconds) * time.Second)
	failures := int32(0)
	for ctx.Err() == nil {
		if err := m.probe(ctx, probe); err == nil {
			failures = 0
			c.setReady(m, true, "")
		} else if failures++; failures >= probe.FailureThreshold && ctx.Err() == nil {
			c.setReady(m, false, err.Error())
		}
		select {
		case <-ctx.Done():
		case <-time.After(period):
		}
	}
}

func (c *cluster) setReady(m *member, ready bool, why string) {
	c.mutex.Lock()
	changed := !m.ending && m.readyAt.IsZero() == ready
	if changed {
		m.readyAt = time.Time{}
		if ready {
			m.readyAt = time.Now()
		}
	}
	c.mutex.Unlock()
	if changed {
		go c.publish(m, ready)
		if !ready {
			c.say("%s no longer ready: %s", m.name, why)
		}
	}
}

func (c *cluster) publish(m *member, ready bool) {
	time.Sleep(c.pace.of(c.pace.lag))
	c.mutex.Lock()
	defer c.mutex.Unlock()
	m.endpoint = ready && !m.ending
}

// delete ends a pod: SIGTERM at once, and the endpoints learn of it a little later.
func (c *cluster) delete(m *member) {
	c.mutex.Lock()
	m.ending = true
	m.stopProbe()
	c.mutex.Unlock()
	c.say("%s told to end", m.name)
	go c.publish(m, false)
	c.endings.Go(func() {
		begun := time.Now()
		m.terminate(m.in.grace())
		how := fmt.Sprintf("exit code %d", m.exitCode())
		if m.killed {
			how = "KILLED after its grace period"
		}
		c.say("%s gone after %.1f s, %s", m.name, time.Since(begun).Seconds(), how)
	})
}

// rollOut replaces every pod by one of the new revision, as the Deployment's strategy says.
func (c *cluster) rollOut(ctx context.Context, replicas, revision int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(replicas)*(c.pace.of(c.pace.minReady)+time.Minute))
	defer cancel()
	strategy := c.in.deployment.Spec.Strategy.RollingUpdate
	surge, unavailable := absolute(strategy.MaxSurge, replicas, true), absolute(strategy.MaxUnavailable, replicas, false)
	for {
		fresh, old, available := c.count(revision)
		if fresh == replicas && old == 0 && available == replicas {
			return nil
		}
		switch {
		case fresh < replicas && fresh+old < replicas+surge:
			if err := c.create(ctx, revision); err != nil {
				return err
			}
		case old > 0 && available > replicas-unavailable:
			c.delete(c.oldest(revision))
		default:
			select {
			case <-ctx.Done():
				return fmt.Errorf("the roll-out makes no progress: %d new, %d old, %d available", fresh, old, available)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
}

// count: pods of the revision, others, and of all those how many have been ready for long enough.
func (c *cluster) count(revision int) (fresh, old, available int) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for _, m := range c.members {
		if m.ending {
			continue
		}
		if m.revision == revision {
			fresh++
		} else {
			old++
		}
		if !m.readyAt.IsZero() && time.Since(m.readyAt) >= c.pace.of(c.pace.minReady) {
			available++
		}
	}
	return fresh, old, available
}

func (c *cluster) oldest(revision int) *member {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	at := slices.IndexFunc(c.members, func(m *member) bool { return !m.ending && m.revision != revision })
	return c.members[at]
}

// ended counts the pods that were told to end, and did.
func (c *cluster) ended() (count int) {
	for _, m := range c.members {
		if m.ending && !m.running() {
			count++
		}
	}
	return count
}

func (c *cluster) stop() {
	for _, m := range c.members {
		m.stopProbe()
		if m.running() {
			_ = m.command.Process.Kill()
			<-m.done
		}
	}
}

func absolute(value *intstr.IntOrString, of int, up bool) int {
	if value.Type == intstr.Int {
		return value.IntValue()
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(value, of, up)
	if err != nil {
		panic("a percentage that is none: " + strconv.Quote(value.String()))
	}
	return n
}

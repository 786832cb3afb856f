// A ClusterIP, for a rehearsal.

package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
)

// virtualAddress is a ClusterIP: each new connection goes to a ready pod picked at random and stays there, as kube-proxy
// has it. Connections that exist are left alone when the pod they lead to stops being ready.
type virtualAddress struct {
	listener net.Listener
	port     string
	ready    func() []string // addresses of pods
}

// startVirtualAddress takes connections on a port, and leads them to the same port of a pod.
func startVirtualAddress(ip string, port int32, ready func() []string) error {
	v := &virtualAddress{port: fmt.Sprint(port), ready: ready}
	var err error
	if v.listener, err = net.Listen("tcp", net.JoinHostPort(ip, v.port)); err != nil {
		return err
	}
	go v.serve()
	return nil
}

func (v *virtualAddress) serve() {
	for {
		caller, err := v.listener.Accept()
		if err != nil {
			return
		}
		go v.forward(caller)
	}
}

func (v *virtualAddress) forward(caller net.Conn) {
	defer caller.Close()
	pods := v.ready()
	if len(pods) == 0 {
		return
	}
	pod, err := net.Dial("tcp", net.JoinHostPort(pods[rand.IntN(len(pods))], v.port))
	if err != nil {
		return
	}
	defer pod.Close()
	var both sync.WaitGroup
	relay := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		_ = to.(*net.TCPConn).CloseWrite()
	}
	both.Go(func() { relay(pod, caller) })
	both.Go(func() { relay(caller, pod) })
	both.Wait()
}

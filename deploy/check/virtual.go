package main

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
)

// virtualAddress is a ClusterIP: each new connection goes to a ready pod picked at random and stays there, as kube-proxy
// has it. Connections that exist are left alone when the pod they lead to stops being ready.
type virtualAddress struct {
	listener net.Listener
	ready    func() []string // host:port
}

func startVirtualAddress(address string, ready func() []string) (*virtualAddress, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	v := &virtualAddress{listener: listener, ready: ready}
	go v.serve()
	return v, nil
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
	pod, err := net.Dial("tcp", pods[rand.IntN(len(pods))])
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

// The cluster's DNS, for a rehearsal.

package main

import (
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// nameServer is the cluster's DNS for one headless Service: the ready pods' addresses, as old as a cache lets them be.
// CoreDNS as kubeadm sets it up keeps an answer for 30 s.
type nameServer struct {
	socket *net.UDPConn
	name   string
	cache  time.Duration
	ready  func() []string

	mutex  sync.Mutex
	answer []string
	asked  time.Time // when the answer was fresh
}

func startNameServer(address, name string, cache time.Duration, ready func() []string) error {
	where, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return err
	}
	socket, err := net.ListenUDP("udp", where)
	if err != nil {
		return err
	}
	s := &nameServer{socket: socket, name: name, cache: cache, ready: ready}
	go s.serve()
	return nil
}

func (s *nameServer) serve() {
	packet := make([]byte, 1500)
	for {
		n, from, err := s.socket.ReadFromUDP(packet)
		if err != nil {
			return
		}
		var query dnsmessage.Message
		if query.Unpack(packet[:n]) != nil || len(query.Questions) != 1 {
			continue
		}
		reply, err := s.reply(query)
		if err == nil {
			_, _ = s.socket.WriteToUDP(reply, from)
		}
	}
}

func (s *nameServer) reply(query dnsmessage.Message) ([]byte, error) {
	question := query.Questions[0]
	reply := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: query.ID, Response: true, Authoritative: true,
			RecursionDesired: query.RecursionDesired, RecursionAvailable: true,
		},
		Questions: query.Questions,
	}
	if !strings.EqualFold(question.Name.String(), s.name+".") {
		reply.RCode = dnsmessage.RCodeNameError
		return reply.Pack()
	}
	if question.Type == dnsmessage.TypeA {
		for _, address := range s.addresses() {
			var body dnsmessage.AResource
			copy(body.A[:], net.ParseIP(address).To4())
			header := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: uint32(s.cache.Seconds())}
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: &body})
		}
	}
	return reply.Pack()
}

// addresses is the cached answer, or a fresh one when that is too old. An empty answer is never kept.
func (s *nameServer) addresses() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if len(s.answer) == 0 || time.Since(s.asked) >= s.cache {
		s.answer, s.asked = s.ready(), time.Now()
	}
	return s.answer
}

// OnboardFlow, for tests: it takes the keys that it is told to, and counts.

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// upstream is an OnboardFlow of our own. It counts how often each customer was created: more than once is a write that
// was repeated.
type upstream struct {
	server http.Server
	url    string

	scheme string // of the Authorization header

	mutex   sync.Mutex
	keys    map[string]bool // those it takes; a rotation adds one and takes one away
	created map[string]int  // creates taken, by customer
}

func startUpstream(address, key string, settings map[string]string) (*upstream, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	u := &upstream{
		url: "http://" + listener.Addr().String(), scheme: "token",
		keys: map[string]bool{key: true}, created: map[string]int{},
	}
	if scheme := settings["ONBOARDFLOW_AUTH_SCHEME"]; scheme != "" {
		u.scheme = scheme
	}
	u.server.Handler = http.HandlerFunc(u.serve)
	go func() { _ = u.server.Serve(listener) }()
	return u, nil
}

func (u *upstream) accept(key string, yes bool) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	u.keys[key] = yes
}

func (u *upstream) serve(w http.ResponseWriter, r *http.Request) {
	var write struct {
		SiteKey    string `json:"site_key"`
		EventDate  int64  `json:"event_date"`
		CustomerID string `json:"customer_id"`
		UserID     string `json:"user_id"`
		Email      string `json:"customer_email"`
		HasPayment bool   `json:"customer_has_payment_method"`
	}
	if r.URL.Path != "/api/v1/customer/" || json.NewDecoder(r.Body).Decode(&write) != nil {
		http.Error(w, `{"detail": "Bad request."}`, http.StatusBadRequest)
		return
	}
	if !u.record(r, write.CustomerID) {
		w.Header().Set("WWW-Authenticate", "Token")
		http.Error(w, `{"detail": "Invalid token."}`, http.StatusUnauthorized)
		return
	}
	time.Sleep(latency())
	kind := "CUSTOMER_CREATED"
	if r.Method == http.MethodPut {
		kind = "CUSTOMER_UPDATED"
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"success":true,"data":{"id":979924,"event_provider":"API","site_user":{},"site_hash":%q,`+
		`"session_id":"s","event_date":%d,"event_value":"1923c497cf0fc93ff63414795ec58c59d4ccab38","event_type":"PROVIDER_EVENT",`+
		`"event_meta":{"data":{"customer":{"id":%q,"email":%q,"user_id":%q,"image_url":null,"last_name":null,"first_name":null,`+
		`"has_payment_method":%t}},"type":%q,"created":%d},"updated":%d,"created":%d}}`,
		write.SiteKey, write.EventDate*1000, write.CustomerID, write.Email, write.UserID, write.HasPayment, kind,
		write.EventDate, write.EventDate*1000, write.EventDate*1000)
}

func (u *upstream) record(r *http.Request, customer string) bool {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, u.scheme) || !u.keys[key] {
		return false
	}
	if r.Method == http.MethodPost {
		u.created[customer]++
	}
	return true
}

// latency is mostly short and now and then long, so that some calls are always in flight when a pod goes.
func latency() time.Duration {
	if rand.IntN(50) == 0 {
		return time.Duration(1000+rand.IntN(2000)) * time.Millisecond
	}
	return time.Duration(5+rand.IntN(60)) * time.Millisecond
}

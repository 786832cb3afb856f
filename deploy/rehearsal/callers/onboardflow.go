package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"time"
)

// Any key is right, so that it can be rotated. The sandbox takes one alone.
var authorized = regexp.MustCompile(`^(?i:token|bearer) [0-9a-f]{40}$`)

// serveOnboardFlow stands in for OnboardFlow's API, whose other side the callers are.
func serveOnboardFlow() {
	must(http.ListenAndServe(":8080", http.HandlerFunc(answer)))
}

func answer(w http.ResponseWriter, r *http.Request) {
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
	if !authorized.MatchString(r.Header.Get("Authorization")) {
		http.Error(w, `{"detail": "Invalid token."}`, http.StatusUnauthorized)
		return
	}
	time.Sleep(latency())
	kind := map[string]string{http.MethodPost: "CUSTOMER_CREATED", http.MethodPut: "CUSTOMER_UPDATED"}[r.Method]
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"success":true,"data":{"id":979924,"event_provider":"API","site_user":{},"site_hash":%q,`+
		`"session_id":"s","event_date":%d,"event_value":"1923c497cf0fc93ff63414795ec58c59d4ccab38","event_type":"PROVIDER_EVENT",`+
		`"event_meta":{"data":{"customer":{"id":%q,"email":%q,"user_id":%q,"image_url":null,"last_name":null,"first_name":null,`+
		`"has_payment_method":%t}},"type":%q,"created":%d},"updated":%d,"created":%d}}`,
		write.SiteKey, write.EventDate*1000, write.CustomerID, write.Email, write.UserID, write.HasPayment, kind,
		write.EventDate, write.EventDate*1000, write.EventDate*1000)
}

// latency is mostly short and now and then long, so that some calls are always in flight when a pod goes.
func latency() time.Duration {
	if rand.IntN(50) == 0 {
		return time.Duration(1000+rand.IntN(2000)) * time.Millisecond
	}
	return time.Duration(5+rand.IntN(60)) * time.Millisecond
}

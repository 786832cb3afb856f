// What the program tells OnboardFlow: the requests, one for each RPC.
package main

import (
	"time"

	customerv1 "github.com/onboardflow/onboardflow-gateway/examples/go/gen/onboardflow/customer/v1"
	eventv1 "github.com/onboardflow/onboardflow-gateway/examples/go/gen/onboardflow/event/v1"
	subscriptionv1 "github.com/onboardflow/onboardflow-gateway/examples/go/gen/onboardflow/subscription/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	userID = "user_123XYZ"
	trial  = 14 * 24 * time.Hour
)

// details is what the command line says about the customer.
type details struct{ siteKey, customerID, email, imageURL string }

// A customer who has just started a trial.
func (d details) createCustomer(requestID string) *customerv1.CreateCustomerRequest {
	customer := d.customer()
	customer.HasPaymentMethod = proto.Bool(false)
	return &customerv1.CreateCustomerRequest{
		SiteKey:   d.siteKey,
		EventDate: timestamppb.Now(),
		Customer:  customer,
		CustomProperties: &structpb.Struct{Fields: map[string]*structpb.Value{
			"plan":      structpb.NewStringValue("trial"),
			"qty_tasks": structpb.NewNumberValue(2),
		}},
		RequestId: requestID,
	}
}

// The same customer after adding a payment method. Send all fields: one that is left out is unset afterwards.
func (d details) updateCustomer(requestID string) *customerv1.UpdateCustomerRequest {
	customer := d.customer()
	customer.LastName = proto.String("Müller")
	customer.HasPaymentMethod = proto.Bool(true)
	return &customerv1.UpdateCustomerRequest{
		SiteKey:   d.siteKey,
		EventDate: timestamppb.Now(),
		Customer:  customer,
		RequestId: requestID,
	}
}

// The customer has left.
func (d details) deleteCustomer(requestID string) *customerv1.DeleteCustomerRequest {
	return &customerv1.DeleteCustomerRequest{
		SiteKey:    d.siteKey,
		CustomerId: d.customerID,
		UserId:     userID,
		RequestId:  requestID,
	}
}

func (d details) customer() *customerv1.Customer {
	customer := &customerv1.Customer{
		Id:        d.customerID,
		UserId:    userID,
		Email:     d.email,
		FirstName: proto.String("Zoë"),
	}
	if d.imageURL != "" {
		customer.ImageUrl = proto.String(d.imageURL)
	}
	return customer
}

// The customer's subscription, in its trial.
func (d details) createSubscription(requestID string) *subscriptionv1.CreateSubscriptionRequest {
	return &subscriptionv1.CreateSubscriptionRequest{
		SiteKey:      d.siteKey,
		EventDate:    timestamppb.Now(),
		Subscription: d.subscription(subscriptionv1.SubscriptionStatus_SUBSCRIPTION_STATUS_TRIALING),
		RequestId:    requestID,
	}
}

// The trial is over, and the customer pays.
func (d details) updateSubscription(requestID string) *subscriptionv1.UpdateSubscriptionRequest {
	return &subscriptionv1.UpdateSubscriptionRequest{
		SiteKey:      d.siteKey,
		EventDate:    timestamppb.Now(),
		Subscription: d.subscription(subscriptionv1.SubscriptionStatus_SUBSCRIPTION_STATUS_ACTIVE),
		RequestId:    requestID,
	}
}

func (d details) subscription(status subscriptionv1.SubscriptionStatus) *subscriptionv1.Subscription {
	now := time.Now()
	return &subscriptionv1.Subscription{
		Id:         "sub_123XYZ",
		CustomerId: d.customerID,
		Name:       "Pro",
		Status:     status,
		Interval:   subscriptionv1.BillingInterval_BILLING_INTERVAL_MONTH,
		Value:      "49.99", // decimal digits, not a float: nothing is rounded
		Currency:   "USD",
		StartedAt:  timestamppb.New(now),
		TrialStart: timestamppb.New(now),
		TrialEnd:   timestamppb.New(now.Add(trial)),
	}
}

// What the customer's user looked at.
func (d details) recordEvent(requestID string) *eventv1.RecordEventRequest {
	return &eventv1.RecordEventRequest{
		SiteKey:   d.siteKey,
		Type:      eventv1.EventType_EVENT_TYPE_PAGE_VIEW,
		Value:     "/manage/settings/",
		User:      &eventv1.EventUser{Id: userID, CustomerId: d.customerID},
		RequestId: requestID,
	}
}

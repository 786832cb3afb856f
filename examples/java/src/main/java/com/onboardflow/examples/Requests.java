package com.onboardflow.examples;

import com.google.protobuf.Struct;
import com.google.protobuf.Timestamp;
import com.google.protobuf.util.Durations;
import com.google.protobuf.util.Timestamps;
import com.google.protobuf.util.Values;
import com.onboardflow.customer.v1.CreateCustomerRequest;
import com.onboardflow.customer.v1.Customer;
import com.onboardflow.customer.v1.DeleteCustomerRequest;
import com.onboardflow.customer.v1.UpdateCustomerRequest;
import com.onboardflow.event.v1.EventType;
import com.onboardflow.event.v1.EventUser;
import com.onboardflow.event.v1.RecordEventRequest;
import com.onboardflow.subscription.v1.BillingInterval;
import com.onboardflow.subscription.v1.CreateSubscriptionRequest;
import com.onboardflow.subscription.v1.Subscription;
import com.onboardflow.subscription.v1.SubscriptionStatus;
import com.onboardflow.subscription.v1.UpdateSubscriptionRequest;

/** What the program tells OnboardFlow: a request for each RPC, out of what the command line says. */
record Requests(String siteKey, String customerId, String email, String imageUrl) {
  private static final String USER_ID = "user_123XYZ";
  private static final int TRIAL_DAYS = 14;

  /** A customer who has just started a trial. */
  CreateCustomerRequest createCustomer(String requestId) {
    return CreateCustomerRequest.newBuilder()
        .setSiteKey(siteKey)
        .setEventDate(Timestamps.now())
        .setCustomer(customer().setHasPaymentMethod(false))
        .setCustomProperties(
            Struct.newBuilder().putFields("plan", Values.of("trial")).putFields("qty_tasks", Values.of(2)))
        .setRequestId(requestId)
        .build();
  }

  /** The same customer after adding a payment method. Send all fields: one that is left out is unset afterwards. */
  UpdateCustomerRequest updateCustomer(String requestId) {
    return UpdateCustomerRequest.newBuilder()
        .setSiteKey(siteKey)
        .setEventDate(Timestamps.now())
        .setCustomer(customer().setLastName("Müller").setHasPaymentMethod(true))
        .setRequestId(requestId)
        .build();
  }

  /** The customer has left. */
  DeleteCustomerRequest deleteCustomer(String requestId) {
    return DeleteCustomerRequest.newBuilder()
        .setSiteKey(siteKey)
        .setCustomerId(customerId)
        .setUserId(USER_ID)
        .setRequestId(requestId)
        .build();
  }

  private Customer.Builder customer() {
    var customer = Customer.newBuilder().setId(customerId).setUserId(USER_ID).setEmail(email).setFirstName("Zoë");
    if (!imageUrl.isEmpty()) {
      customer.setImageUrl(imageUrl);
    }
    return customer;
  }

  /** The customer's subscription, in its trial. */
  CreateSubscriptionRequest createSubscription(String requestId) {
    return CreateSubscriptionRequest.newBuilder()
        .setSiteKey(siteKey)
        .setEventDate(Timestamps.now())
        .setSubscription(subscription(SubscriptionStatus.SUBSCRIPTION_STATUS_TRIALING))
        .setRequestId(requestId)
        .build();
  }

  /** The trial is over, and the customer pays. */
  UpdateSubscriptionRequest updateSubscription(String requestId) {
    return UpdateSubscriptionRequest.newBuilder()
        .setSiteKey(siteKey)
        .setEventDate(Timestamps.now())
        .setSubscription(subscription(SubscriptionStatus.SUBSCRIPTION_STATUS_ACTIVE))
        .setRequestId(requestId)
        .build();
  }

  private Subscription subscription(SubscriptionStatus status) {
    Timestamp now = Timestamps.now();
    return Subscription.newBuilder()
        .setId("sub_123XYZ")
        .setCustomerId(customerId)
        .setName("Pro")
        .setStatus(status)
        .setInterval(BillingInterval.BILLING_INTERVAL_MONTH)
        .setValue("49.99") // decimal digits, not a double: nothing is rounded
        .setCurrency("USD")
        .setStartedAt(now)
        .setTrialStart(now)
        .setTrialEnd(Timestamps.add(now, Durations.fromDays(TRIAL_DAYS)))
        .build();
  }

  /** What the customer's user looked at. */
  RecordEventRequest recordEvent(String requestId) {
    return RecordEventRequest.newBuilder()
        .setSiteKey(siteKey)
        .setType(EventType.EVENT_TYPE_PAGE_VIEW)
        .setValue("/manage/settings/")
        .setUser(EventUser.newBuilder().setId(USER_ID).setCustomerId(customerId))
        .setRequestId(requestId)
        .build();
  }
}

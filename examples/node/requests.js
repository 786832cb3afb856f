// What the program tells OnboardFlow: a method and its request for each RPC.

import { create } from "@bufbuild/protobuf";
import { timestampFromDate, timestampNow } from "@bufbuild/protobuf/wkt";

import { CustomerService } from "./gen/onboardflow/customer/v1/customer_pb.js";
import { EventService, EventType } from "./gen/onboardflow/event/v1/event_pb.js";
import {
  BillingInterval,
  SubscriptionService,
  SubscriptionStatus,
} from "./gen/onboardflow/subscription/v1/subscription_pb.js";

const userId = "user_123XYZ";
const trialMs = 14 * 24 * 60 * 60 * 1000;

const customers = CustomerService.method;
const subscriptions = SubscriptionService.method;

/** By the RPC's name: its method, and what its request says. */
export const rpcs = {
  CreateCustomer: [customers.createCustomer, createCustomer],
  UpdateCustomer: [customers.updateCustomer, updateCustomer],
  DeleteCustomer: [customers.deleteCustomer, deleteCustomer],
  CreateSubscription: [subscriptions.createSubscription, createSubscription],
  UpdateSubscription: [subscriptions.updateSubscription, updateSubscription],
  RecordEvent: [EventService.method.recordEvent, recordEvent],
};

/** The request of a call, under the id of its write. */
export function requestOf([method, fields], options, requestId) {
  return create(method.input, { siteKey: options["site-key"], ...fields(options), requestId });
}

/** A customer who has just started a trial. */
function createCustomer(options) {
  return {
    eventDate: timestampNow(),
    customer: { ...customerOf(options), hasPaymentMethod: false },
    customProperties: { plan: "trial", qty_tasks: 2 },
  };
}

/** The same customer after adding a payment method. Send all fields: one that is left out is unset afterwards. */
function updateCustomer(options) {
  return {
    eventDate: timestampNow(),
    customer: { ...customerOf(options), lastName: "Müller", hasPaymentMethod: true },
  };
}

/** The customer has left. */
function deleteCustomer(options) {
  return { customerId: options["customer-id"], userId };
}

function customerOf(options) {
  return {
    id: options["customer-id"],
    userId,
    email: options.email,
    firstName: "Zoë",
    imageUrl: options["image-url"] || undefined,
  };
}

/** The customer's subscription, in its trial. */
function createSubscription(options) {
  return { eventDate: timestampNow(), subscription: subscriptionOf(options, SubscriptionStatus.TRIALING) };
}

/** The trial is over, and the customer pays. */
function updateSubscription(options) {
  return { eventDate: timestampNow(), subscription: subscriptionOf(options, SubscriptionStatus.ACTIVE) };
}

function subscriptionOf(options, status) {
  const now = new Date();
  return {
    id: "sub_123XYZ",
    customerId: options["customer-id"],
    name: "Pro",
    status,
    interval: BillingInterval.MONTH,
    value: "49.99", // decimal digits, not a float: nothing is rounded
    currency: "USD",
    startedAt: timestampFromDate(now),
    trialStart: timestampFromDate(now),
    trialEnd: timestampFromDate(new Date(now.getTime() + trialMs)),
  };
}

/** What the customer's user looked at. */
function recordEvent(options) {
  return {
    type: EventType.PAGE_VIEW,
    value: "/manage/settings/",
    user: { id: userId, customerId: options["customer-id"] },
  };
}

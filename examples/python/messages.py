"""What the program tells OnboardFlow: the requests, one for each RPC."""

from datetime import UTC, datetime, timedelta

from onboardflow.customer.v1 import customer_pb2
from onboardflow.event.v1 import event_pb2
from onboardflow.subscription.v1 import subscription_pb2

USER_ID = "user_123XYZ"
TRIAL = timedelta(days=14)


def create_customer(args, request_id):
    """A customer who has just started a trial."""
    request = customer_pb2.CreateCustomerRequest(
        site_key=args.site_key,
        event_date=datetime.now(UTC),
        customer=customer_of(args, has_payment_method=False),
        request_id=request_id,
    )
    request.custom_properties.update({"plan": "trial", "qty_tasks": 2})
    return request


def update_customer(args, request_id):
    """The same customer after adding a payment method. Send all fields: one that is left out is unset afterwards."""
    return customer_pb2.UpdateCustomerRequest(
        site_key=args.site_key,
        event_date=datetime.now(UTC),
        customer=customer_of(args, last_name="Müller", has_payment_method=True),
        request_id=request_id,
    )


def delete_customer(args, request_id):
    """The customer has left."""
    return customer_pb2.DeleteCustomerRequest(
        site_key=args.site_key, customer_id=args.customer_id, user_id=USER_ID, request_id=request_id
    )


def customer_of(args, **more):
    return customer_pb2.Customer(
        id=args.customer_id,
        user_id=USER_ID,
        email=args.email,
        first_name="Zoë",
        image_url=args.image_url or None,
        **more,
    )


def create_subscription(args, request_id):
    """The customer's subscription, in its trial."""
    return subscription_pb2.CreateSubscriptionRequest(
        site_key=args.site_key,
        event_date=datetime.now(UTC),
        subscription=subscription_of(args, subscription_pb2.SUBSCRIPTION_STATUS_TRIALING),
        request_id=request_id,
    )


def update_subscription(args, request_id):
    """The trial is over, and the customer pays."""
    return subscription_pb2.UpdateSubscriptionRequest(
        site_key=args.site_key,
        event_date=datetime.now(UTC),
        subscription=subscription_of(args, subscription_pb2.SUBSCRIPTION_STATUS_ACTIVE),
        request_id=request_id,
    )


def subscription_of(args, status):
    now = datetime.now(UTC)
    return subscription_pb2.Subscription(
        id="sub_123XYZ",
        customer_id=args.customer_id,
        name="Pro",
        status=status,
        interval=subscription_pb2.BILLING_INTERVAL_MONTH,
        value="49.99",  # decimal digits, not a float: nothing is rounded
        currency="USD",
        started_at=now,
        trial_start=now,
        trial_end=now + TRIAL,
    )


def record_event(args, request_id):
    """What the customer's user looked at."""
    return event_pb2.RecordEventRequest(
        site_key=args.site_key,
        type=event_pb2.EVENT_TYPE_PAGE_VIEW,
        value="/manage/settings/",
        user=event_pb2.EventUser(id=USER_ID, customer_id=args.customer_id),
        request_id=request_id,
    )

//! The contract, row by row: RPC in, HTTP call expected, canned reply, RPC out.

mod beside;
mod calls;
mod deletes;
mod errors;
mod events;
mod replies;
mod requests;
mod subscriptions;

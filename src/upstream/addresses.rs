//! Where the name of OnboardFlow leads, so that a connection to an address that it has no more is
//! replaced before that address goes away.
//!
//! The system's resolver doesn't tell how long an answer holds, and names of this kind hold for a
//! minute. So the name is asked every 30 s: once for all workers, as often as a call every half a
//! minute would. An address counts as gone when no answer named it for a minute, those to dials
//! included: many servers are named in turn, a few in each answer. A resolver that is down, or knows
//! nothing, changes nothing.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tower::{Service as _, ServiceExt as _, util::BoxCloneSyncService};

use crate::config::Resolver;

/// How often the name is asked.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// How long an address counts that is named no more: two answers lack it.
const HOLDS_FOR: Duration = Duration::from_secs(60);

/// The addresses of one name, and when an answer named each of them last.
type Named = HashMap<IpAddr, Instant>;

/// What is known of the addresses of the host that is dialled.
#[derive(Clone, Debug)]
pub(super) struct Addresses(watch::Receiver<Named>);

impl Addresses {
    /// Those that this resolver answers with, whoever asks it from now on.
    pub(super) fn noted_by(resolver: Resolver) -> (Asker, Self) {
        let (notes, named) = watch::channel(Named::new());
        let notes = Arc::new(notes);
        let noting = Arc::clone(&notes);
        let resolver = BoxCloneSyncService::new(resolver.map_response(move |answer| {
            let named = answer.as_slice().iter().map(SocketAddr::ip);
            let now = Instant::now();
            // It wakes nobody: an address that is new makes no connection older.
            noting.send_if_modified(|known| {
                known.extend(named.map(|address| (address, now)));
                false
            });
            answer
        }));
        (Asker { resolver, notes }, Self(named))
    }

    /// Whether this address was one of the name's, and is no more.
    pub(super) fn lack(&self, address: IpAddr) -> bool {
        let known = self.0.borrow();
        !known.is_empty() && !known.contains_key(&address)
    }

    /// Ready when an address is gone.
    pub(super) async fn lost_one(&mut self) {
        let _ = self.0.changed().await;
    }
}

/// Asks for the addresses, and forgets those that are gone.
pub(super) struct Asker {
    pub(super) resolver: Resolver,
    notes: Arc<watch::Sender<Named>>,
}

impl Asker {
    /// Asks for as long as anybody wants to know.
    pub(super) async fn ask(mut self, name: Name) {
        loop {
            tokio::select! {
                () = self.notes.closed() => return,
                () = sleep(ASK_EVERY) => {}
            }
            let answer = match self.resolver.ready().await {
                Ok(resolver) => resolver.call(name.clone()).await,
                Err(error) => Err(error),
            };
            if answer.is_ok_and(|addresses| addresses.len() > 0) {
                self.forget_the_old(Instant::now());
            }
        }
    }

    fn forget_the_old(&self, now: Instant) {
        self.notes.send_if_modified(|known| {
            let before = known.len();
            known.retain(|_, named| now - *named < HOLDS_FOR);
            known.len() < before
        });
    }
}

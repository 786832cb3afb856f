//! Places for what is held at once, over all workers, and the share of them that one connection or one caller
//! may hold, so that nobody locks all others out. Doesn't know what a place is for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hashlink::DefaultHashBuilder;
use http_body_util::BodyExt as _;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

/// So many places.
#[derive(Debug)]
pub(super) struct Places {
    total: usize,
    /// The most that one connection holds.
    connection: usize,
    /// The most that one caller holds, over all of its connections.
    caller: usize,
    held: Mutex<Held>,
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    /// Hashed fast: we number the connections, and the names of callers are checked before.
    by: HashMap<Holder, usize, DefaultHashBuilder>,
}

/// Who holds places.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Holder {
    /// By its number.
    Connection(u64),
    /// By its name.
    Caller(Arc<str>),
}

/// For whom a place is taken.
#[derive(Clone, Debug)]
pub(super) struct For {
    /// The number of the connection.
    pub(super) connection: u64,
    /// The name of the caller, where callers are known.
    pub(super) caller: Option<Arc<str>>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// All are taken.
    All,
    /// The connection holds its share.
    Connection,
    /// The caller holds its share.
    Caller,
    /// There are none any more.
    Closed,
}

/// Places that are held until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    holder: For,
    count: usize,
}

impl Places {
    /// So many, of which one connection and one caller hold a quarter at most.
    pub(super) fn quartered(total: usize) -> Arc<Self> {
        let quarter = total.div_ceil(4);
        Self::new(total, quarter, quarter)
    }

    /// So many, with these shares.
    pub(super) fn new(total: usize, connection: usize, caller: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            connection,
            caller,
            held: Mutex::default(),
            closed: CancellationToken::new(),
        })
    }

    /// Takes so many places at once, or says why it can't.
    pub(super) fn take(self: &Arc<Self>, holder: For, count: usize) -> Result<Place, Full> {
        if self.closed.is_cancelled() {
            return Err(Full::Closed);
        }
        let mut held = self.held();
        if held.all + count > self.total {
            return Err(Full::All);
        }
        let has = |holder: &Holder| held.by.get(holder).copied().unwrap_or_default();
        if has(&Holder::Connection(holder.connection)) + count > self.connection {
            return Err(Full::Connection);
        }
        let by_caller = holder.caller.clone().map(Holder::Caller);
        if (by_caller.as_ref()).is_some_and(|caller| has(caller) + count > self.caller) {
            return Err(Full::Caller);
        }
        held.all += count;
        for holder in holder.holders() {
            *held.by.entry(holder).or_default() += count;
        }
        drop(held);
        Ok(Place {
            places: Arc::clone(self),
            holder,
            count,
        })
    }

    /// No more are given out. Those that are held stay so.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl For {
    fn holders(&self) -> impl Iterator<Item = Holder> {
        let caller = self.caller.clone().map(Holder::Caller);
        std::iter::once(Holder::Connection(self.connection)).chain(caller)
    }
}

impl Place {
    /// How many it is.
    pub(super) fn count(&self) -> usize {
        self.count
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.held();
        held.all -= self.count;
        for holder in self.holder.holders() {
            if let Some(count) = held.by.get_mut(&holder) {
                *count -= self.count;
                if *count == 0 {
                    held.by.remove(&holder);
                }
            }
        }
    }
}

/// An answer's body, and what is held until it is taken or given up.
pub(super) fn holding(body: Body, held: impl Send + 'static) -> Body {
    // The closure owns it, and ends with the body.
    Body::new(body.map_err(move |status| {
        let _ = &held;
        status
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(connection: u64, caller: Option<&str>) -> For {
        For {
            connection,
            caller: caller.map(Arc::from),
        }
    }

    #[test]
    fn nobody_holds_more_than_its_share() {
        let places = Places::quartered(8);
        let held = [(); 2].map(|()| places.take(of(1, Some("a")), 1).unwrap());
        assert_eq!(places.take(of(1, None), 1).unwrap_err(), Full::Connection);
        assert_eq!(places.take(of(2, Some("a")), 1).unwrap_err(), Full::Caller);
        let others = [2, 3, 4].map(|other| places.take(of(other, None), 2).unwrap());
        assert_eq!(places.take(of(5, None), 1).unwrap_err(), Full::All);
        drop(held);
        places.take(of(1, Some("a")), 2).unwrap();
        drop(others);
        assert!(places.held().by.is_empty());
        places.close();
        assert_eq!(places.take(of(5, None), 1).unwrap_err(), Full::Closed);
    }

    #[test]
    fn a_single_place_can_be_taken() {
        let places = Places::quartered(1);
        places.take(of(1, Some("a")), 1).unwrap();
    }
}

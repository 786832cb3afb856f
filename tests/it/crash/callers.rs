//! Callers who repeat their creates whatever they are told, and an OnboardFlow that remembers what it was
//! sent. None of them is sent twice, and every answer is true.

use std::{
    collections::{BTreeMap, HashMap},
    ops::AddAssign as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::join_all;
use onboardflow_gateway::{
    proto::customer_service_client::CustomerServiceClient, service::REPLAYED,
};
use tokio::{io::AsyncWriteExt as _, time::sleep};
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

use super::{Answer, Create};
use crate::support::{CREATED, Told, Upstream, fresh_id, response, told};

/// A store that is gone is not asked at once again.
const PAUSE: Duration = Duration::from_millis(20);

/// What OnboardFlow does with a create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Applied,
    Rejected,
    /// It says nothing, and closes the connection.
    Unanswered,
}

impl Fate {
    fn random() -> Self {
        match fastrand::u8(..10) {
            0 => Self::Rejected,
            1 => Self::Unanswered,
            _ => Self::Applied,
        }
    }

    fn reply(self) -> Option<Vec<u8>> {
        let json = [("content-type", "application/json")];
        match self {
            Self::Applied => Some(response(200, &json, CREATED)),
            Self::Rejected => Some(response(400, &json, "{}")),
            Self::Unanswered => None,
        }
    }
}

/// What OnboardFlow has seen of a create.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub arrived: usize,
    /// Nobody can have been told that it was rejected.
    pub stands: bool,
    /// It came once more while it stood.
    pub twice: bool,
}

/// What OnboardFlow has seen, by the creates' dates.
#[derive(Clone, Debug, Default)]
pub struct All(Arc<Mutex<HashMap<i64, Seen>>>);

impl All {
    pub fn arrived(&self, date: i64) {
        let mut all = self.0.lock().unwrap();
        let seen = all.entry(date).or_default();
        seen.arrived += 1;
        seen.twice |= seen.stands;
        seen.stands = true;
    }

    /// To be said before the answer leaves.
    pub fn rejected(&self, date: i64) {
        self.0.lock().unwrap().entry(date).or_default().stands = false;
    }

    fn of(&self, create: &Create) -> Seen {
        let all = self.0.lock().unwrap();
        all.get(&create.date).copied().unwrap_or_default()
    }
}

/// OnboardFlow, which takes most creates, and remembers all.
pub async fn onboardflow() -> (Upstream, All) {
    let all = All::default();
    let seen = all.clone();
    let upstream = Upstream::hearing(move |mut stream, request| {
        let (all, date) = (all.clone(), date_in(&request.body).unwrap());
        async move {
            all.arrived(date);
            sleep(Duration::from_millis(fastrand::u64(..10))).await;
            let fate = Fate::random();
            if fate == Fate::Rejected {
                all.rejected(date);
            }
            if let Some(reply) = fate.reply() {
                let _ = stream.write_all(&reply).await;
            }
        }
    })
    .await;
    (upstream, seen)
}

/// The date of a create, in the bytes of a request.
pub fn date_in(bytes: &[u8]) -> Option<i64> {
    let text = String::from_utf8_lossy(bytes);
    let (_, rest) = text.split_once("\"event_date\":")?;
    let (date, _) = rest.split_once([',', '}'])?;
    date.parse().ok()
}

/// A create, and how often it left by what its answers say.
struct Made {
    create: Create,
    surely: usize,
    perhaps: usize,
}

/// What came of all calls.
#[derive(Debug, Default)]
pub struct Sum {
    pub creates: usize,
    pub arrived: usize,
    pub told: BTreeMap<String, usize>,
}

pub struct Callers {
    clients: [CustomerServiceClient<Channel>; 2],
    seen: All,
    deadline: Duration,
    next: AtomicI64,
    told: Mutex<BTreeMap<String, usize>>,
}

impl Callers {
    /// Of two gateways before this OnboardFlow.
    pub fn new(
        clients: [CustomerServiceClient<Channel>; 2],
        seen: All,
        deadline: Duration,
    ) -> Self {
        Self {
            clients,
            seen,
            deadline,
            next: AtomicI64::new(1_000_000),
            told: Mutex::default(),
        }
    }

    /// So many callers at once, as long as there is more to do. At the end each repeats all of its creates.
    pub async fn call(&self, callers: usize, more: impl Fn() -> bool) -> Sum {
        let callers = (0..callers).map(|_| self.one(&more));
        let all = join_all(callers).await;
        let mut sum = Sum {
            told: self.told.lock().unwrap().clone(),
            ..Sum::default()
        };
        for made in all.iter().flatten() {
            let seen = self.seen.of(&made.create);
            let sent = made.surely..=made.surely + made.perhaps;
            assert!(sent.contains(&seen.arrived), "{seen:?}: sent {sent:?}");
            assert!(!seen.twice, "{seen:?}");
            sum.creates += 1;
            sum.arrived += seen.arrived;
        }
        sum
    }

    /// Makes creates, and repeats them whatever the answers are.
    async fn one(&self, more: &impl Fn() -> bool) -> Vec<Made> {
        let mut all = Vec::new();
        while more() {
            all.push(Made {
                create: Create {
                    date: self.next.fetch_add(1, Relaxed),
                    id: fresh_id(),
                },
                surely: 0,
                perhaps: 0,
            });
            let newest = all.len() - 1;
            for _ in 0..fastrand::usize(1..4) {
                self.ask(&mut all[newest]).await;
            }
            let any = fastrand::usize(..all.len());
            self.ask(&mut all[any]).await;
        }
        for made in &mut all {
            self.ask(made).await;
        }
        all
    }

    /// Calls one of the gateways, or at times both at once.
    async fn ask(&self, made: &mut Made) {
        let first = fastrand::usize(..2);
        let calls = if fastrand::u8(..4) == 0 { 2 } else { 1 };
        let calls = (first..first + calls).map(|client| {
            let (mut client, create) = (self.clients[client % 2].clone(), made.create.clone());
            async move { client.create_customer(create.request(self.deadline)).await }
        });
        for answer in join_all(calls).await {
            let told = self.check(made, &answer);
            if told == "LEDGER_UNAVAILABLE" {
                sleep(PAUSE).await;
            }
            let mut all = self.told.lock().unwrap();
            all.entry(told).or_default().add_assign(1);
        }
    }

    /// What an answer says, which is true as far as can be seen by now.
    fn check(&self, made: &mut Made, answer: &Answer) -> String {
        let seen = self.seen.of(&made.create);
        let what = format!("{seen:?}: {answer:?}");
        assert!(!seen.twice, "{what}");
        let status = match answer {
            Ok(response) => {
                assert!(seen.stands, "{what}");
                let replayed = response.metadata().contains_key(REPLAYED);
                made.surely += usize::from(!replayed);
                return if replayed { "replayed" } else { "executed" }.to_owned();
            }
            Err(status) => status,
        };
        if status.get_error_details().error_info().is_none() {
            made.perhaps += 1;
            return "no answer".to_owned();
        }
        let Told { reason, write, .. } = told(status);
        match (&*write, &*reason) {
            ("not_sent", _) | ("unknown", "WRITE_UNKNOWN" | "REQUEST_IN_PROGRESS") => {}
            ("rejected", _) => made.surely += 1,
            ("unknown", _) => made.perhaps += 1,
            // Its reply could not be read: of this call, or of an earlier one.
            ("applied", "UPSTREAM_REPLY_UNREADABLE") => {
                assert!(seen.stands, "{what}");
                made.perhaps += 1;
            }
            _ => panic!("{what}"),
        }
        reason
    }
}

/// A number that sets a test of these.
pub fn number(name: &str, otherwise: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test's own setting")]
    let set = std::env::var(name).ok();
    set.map_or(otherwise, |set| set.parse().unwrap())
}

/// Makes what is random repeatable, as far as its timing is.
pub fn seed(name: &str) {
    let seed = number(name, fastrand::u64(..));
    println!("{name}={seed}");
    fastrand::seed(seed);
}

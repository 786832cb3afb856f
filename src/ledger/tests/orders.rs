//! Every order in which the steps of calls with one request id can come, searched to the end: attempts, answers
//! that are lost, gateways that are killed, a deadline that passes, a person who settles. What a step makes
//! of the row is asked of the real store; what a gateway may do next is written down here.

use std::collections::{HashMap, HashSet};

use sqlx::Row as _;

use super::{
    super::store::{End, New, Reserved},
    *,
};

/// Calls with the id, on any of the gateways. Each is one attempt.
const CALLS: usize = 4;
/// Any number: the token of a call is this one and its place.
const TOKENS: i64 = 7000;

fn token(call: usize) -> i64 {
    TOKENS + i64::try_from(call).unwrap()
}

/// The write's row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Image {
    token: i64,
    state: i64,
    response: Option<Vec<u8>>,
    /// A pending write's time is over.
    is_over: bool,
}

/// What somebody does with the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Reserve(usize),
    Write(usize, Became),
    LetPass,
    Settle { applied: bool },
}

/// What a call writes at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Became {
    Applied,
    Unknown,
    Free,
    Undone,
}

/// What a call is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Told {
    Reserved,
    UnderWay,
    /// With the response of this call.
    Applied(u8),
    Unknown,
    Settled,
    Nothing,
}

/// How far a call is. A killed gateway's is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Call {
    Waiting,
    Reserved,
    Sent { applied: bool },
    Ending(Became),
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    row: Option<Image>,
    calls: [Call; CALLS],
    /// Calls that left, and nobody knows that they were rejected.
    open: u8,
    /// Calls that OnboardFlow applied.
    applied: u8,
}

/// What the store makes of steps.
struct Rows {
    ledger: Ledger,
    write: New,
    id: String,
    made: HashMap<(Option<Image>, Step), (Told, Option<Image>)>,
}

impl Rows {
    fn new(place: &Place, again: Again) -> Self {
        let id = fresh();
        let write = create(&id, CALL);
        let seal = Seal::new(&write).unwrap();
        let new = New {
            id: seal.id,
            request: seal.request,
            token: 0,
            lasts: Duration::from_secs(3600),
            id_begins: id[..8].to_owned(),
            whole_id: [0; 32],
            site: String::new(),
            method: String::new(),
            again,
        };
        Self {
            ledger: place.open(),
            write: new,
            id,
            made: HashMap::new(),
        }
    }

    async fn step(&mut self, row: Option<&Image>, step: Step) -> (Told, Option<Image>) {
        let asked = (row.cloned(), step);
        if let Some(made) = self.made.get(&asked) {
            return made.clone();
        }
        self.put(row).await;
        let told = self.take(step).await;
        let made = (told, self.get().await);
        self.made.insert(asked, made.clone());
        made
    }

    async fn take(&mut self, step: Step) -> Told {
        let store = &self.ledger.0.store;
        match step {
            Step::Reserve(call) => {
                self.write.token = token(call);
                match store.reserve(&self.write, None).await.unwrap() {
                    Reserved::Yes(_) => Told::Reserved,
                    Reserved::QuotaSpent(_) => panic!("nothing is counted"),
                    Reserved::No(row) => match row.state {
                        State::Pending => Told::UnderWay,
                        State::Applied => Told::Applied(row.response.unwrap()[0]),
                        State::Unknown => Told::Unknown,
                        State::Settled => Told::Settled,
                    },
                }
            }
            Step::Write(call, became) => {
                let end = match became {
                    Became::Applied => End::Applied(Some(vec![u8::try_from(call).unwrap()])),
                    Became::Unknown => End::Unknown,
                    Became::Free | Became::Undone => End::Free(None),
                };
                let end = store.end(&self.write.id, token(call), &end);
                end.await.unwrap();
                Told::Nothing
            }
            Step::LetPass => {
                let_pass(&self.ledger, &self.id, 7200).await;
                Told::Nothing
            }
            Step::Settle { applied } => {
                let listed = self.ledger.list(true).await.unwrap();
                let ours = listed.iter().find(|entry| entry.id_begins == self.id[..8]);
                if let Some(entry) = ours {
                    assert!(self.ledger.settle(entry, applied).await.unwrap());
                }
                Told::Nothing
            }
        }
    }

    async fn put(&self, row: Option<&Image>) {
        let store = &self.ledger.0.store;
        store.ready().await.unwrap();
        let delete = query("DELETE FROM writes WHERE id = $1").bind(self.write.id.to_vec());
        delete.execute(&store.pool).await.unwrap();
        let Some(row) = row else { return };
        let lasts: i64 = if row.is_over { -1 } else { 3_600_000 };
        let put = "INSERT INTO writes (id, request, token, state, response, began, until, id_begins, \
                   site, method) SELECT $1, $2, $3, $4, $5, now, now + $6, $7, '', '' FROM clock";
        let put = query(put).bind(self.write.id.to_vec());
        let put = put.bind(self.write.request.to_vec()).bind(row.token);
        let put = put.bind(row.state).bind(row.response.clone());
        let put = put.bind(lasts).bind(&self.id[..8]);
        put.execute(&store.pool).await.unwrap();
    }

    async fn get(&self) -> Option<Image> {
        let get = "SELECT token, state, response, until - now AS remains FROM writes, clock WHERE id = $1";
        let get = query(get).bind(self.write.id.to_vec());
        let row = get
            .fetch_optional(&self.ledger.0.store.pool)
            .await
            .unwrap()?;
        let (state, remains): (i64, i64) = (row.get("state"), row.get("remains"));
        Some(Image {
            token: row.get("token"),
            state,
            response: row.get("response"),
            is_over: state == 0 && remains < 0,
        })
    }
}

impl World {
    fn with(&self, call: usize, at: Call) -> Self {
        let mut world = self.clone();
        world.calls[call] = at;
        world
    }

    fn has(&self, row: Option<Image>) -> Self {
        Self {
            row,
            ..self.clone()
        }
    }

    /// A person looked at OnboardFlow, after the deadline of whoever has the row.
    fn may_be_settled(&self) -> bool {
        let row = self
            .row
            .as_ref()
            .filter(|row| row.is_over || row.state == 2);
        row.is_some_and(|row| {
            let holder = usize::try_from(row.token - TOKENS).unwrap();
            self.calls[holder] != Call::Reserved
        })
    }
}

struct Search {
    rows: Rows,
    again: Again,
    told: HashSet<Told>,
}

impl Search {
    /// All that can come next.
    async fn next(&mut self, world: &World) -> Vec<World> {
        let mut next = Vec::new();
        for call in 0..CALLS {
            match world.calls[call] {
                // Calls are alike: they come in the order of their places.
                Call::Waiting if call > 0 && world.calls[call - 1] == Call::Waiting => {}
                Call::Waiting => self.reserve(world, call, &mut next).await,
                Call::Reserved => {
                    self.send(world, call, &mut next);
                    next.push(world.with(call, Call::Ending(Became::Free)));
                    next.push(world.with(call, Call::Over));
                }
                Call::Sent { applied } => {
                    let heard = if applied {
                        Became::Applied
                    } else {
                        Became::Free
                    };
                    let mut knows = world.with(call, Call::Ending(heard));
                    knows.open &= !(u8::from(!applied) << call);
                    next.push(knows);
                    next.push(world.with(call, Call::Ending(Became::Unknown)));
                    next.push(world.with(call, Call::Over));
                }
                Call::Ending(became) => {
                    let (_, row) = self
                        .rows
                        .step(world.row.as_ref(), Step::Write(call, became))
                        .await;
                    // Whoever does not hear of a commit writes it again, or is killed.
                    next.push(world.has(row.clone()));
                    next.push(world.has(row).with(call, Call::Over));
                    next.push(world.with(call, Call::Over));
                }
                Call::Over => {}
            }
        }
        if world.row.as_ref().is_some_and(|row| row.state == 0) {
            let (_, row) = self.rows.step(world.row.as_ref(), Step::LetPass).await;
            next.push(world.has(row));
        }
        if world.may_be_settled() {
            let applied = world.applied != 0;
            let (_, row) = self
                .rows
                .step(world.row.as_ref(), Step::Settle { applied })
                .await;
            let mut settled = world.has(row);
            settled.open = if applied { world.open } else { 0 };
            next.push(settled);
        }
        next
    }

    async fn reserve(&mut self, world: &World, call: usize, next: &mut Vec<World>) {
        let (told, row) = self
            .rows
            .step(world.row.as_ref(), Step::Reserve(call))
            .await;
        match told {
            Told::Reserved => {
                let reserved = world.has(row);
                next.push(reserved.with(call, Call::Reserved));
                // The commit's answer is lost.
                next.push(reserved.with(call, Call::Ending(Became::Undone)));
                next.push(reserved.with(call, Call::Over));
            }
            Told::Applied(response) => assert!(world.applied & (1 << response) != 0, "{world:?}"),
            Told::Settled => assert!(world.applied != 0, "{world:?}"),
            Told::Unknown => assert_eq!(self.again, Again::Never, "{world:?}"),
            Told::UnderWay | Told::Nothing => {}
        }
        self.told.insert(told);
        next.push(world.with(call, Call::Over));
    }

    fn send(&self, world: &World, call: usize, next: &mut Vec<World>) {
        assert!(
            world.open == 0 || self.again != Again::Never,
            "sent twice: {world:?}"
        );
        for applied in [true, false] {
            let mut sent = world.with(call, Call::Sent { applied });
            sent.open |= 1 << call;
            sent.applied |= u8::from(applied) << call;
            next.push(sent);
        }
    }
}

#[tokio::test]
async fn in_no_order_of_steps_is_a_create_sent_twice_or_an_answer_untrue() {
    let writes = [Again::Never, Again::IfUnknown];
    for (place, again) in places()
        .iter()
        .flat_map(|place| writes.map(|again| (place, again)))
    {
        let mut search = Search {
            rows: Rows::new(place, again),
            again,
            told: HashSet::new(),
        };
        let first = World {
            row: None,
            calls: [Call::Waiting; CALLS],
            open: 0,
            applied: 0,
        };
        let mut seen = HashSet::from([first.clone()]);
        let mut left = vec![first];
        while let Some(world) = left.pop() {
            for world in search.next(&world).await {
                if seen.insert(world.clone()) {
                    left.push(world);
                }
            }
        }
        let (worlds, steps) = (seen.len(), search.rows.made.len());
        println!(
            "{again:?}: {worlds} worlds, {steps} steps of the row, {:?}",
            search.told
        );
        assert!(search.told.contains(&Told::Settled) && search.told.contains(&Told::UnderWay));
    }
}

//! What a caller feels where OnboardFlow is far away: an upstream over TLS, 50 ms there and back, called
//! as seldom as a plan allows. It is the connection that counts then, and not the CPU.
//!
//! All upstreams and gateways run side by side, as they are idle nearly all the time.

mod relay;
mod server;

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    rc::Rc,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use self::{
    relay::{Manner, ONE_WAY, Relay},
    server::{Protocol, Server},
};
use crate::{
    Fallible, Plan,
    goals::Goals,
    load::Client,
    process::Process,
    report::{Report, median_of},
    target::{TOKEN, Target, free_address},
    tls,
    worked_example::Rpc,
};

/// Threads of each gateway with connections of their own, and connections to it: each has a thread.
const WORKERS: usize = 2;
/// The pause between calls, or bursts of them.
const EVERY: Duration = Duration::from_secs(35);
/// The time between the first calls of two gateways, so that they don't wait for each other's handshakes.
const APART: Duration = Duration::from_millis(1500);
/// The time after which a call counts as failed: the textbook gateway has no time-out of its own.
const PATIENCE: Duration = Duration::from_secs(12);
/// Calls at once, in turn.
const BURSTS: [usize; 3] = [1, 8, 64];
/// When the outage begins, and how long it is.
const OUTAGE_AFTER: Duration = Duration::from_secs(40);
const OUTAGE: Duration = Duration::from_secs(60);
/// When the first call after it comes: the gateway tries every 3 s, and a handshake takes its time.
const BACK_FOR: Duration = Duration::from_secs(5);

/// What a call may take beyond a round trip, in milliseconds: at the median, and at the worst.
const MEDIAN: f64 = 5.0;
const WORST: f64 = 15.0;
/// Dials a minute and worker that are no busy dialling.
const DIALS: f64 = 20.0;

/// An upstream that one of the tables has a row for.
#[derive(Clone, Copy)]
struct Course {
    what: &'static str,
    protocol: Protocol,
    manner: Manner,
    outage: Outage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outage {
    None,
    OfAMinute,
}

/// What came of the calls to one gateway.
#[derive(Default)]
struct Tally {
    milliseconds: Vec<f64>,
    failures: usize,
    dials: usize,
    handshakes: usize,
    /// Connections that are open at the end.
    open: usize,
    peak_mib: f64,
}

pub(crate) async fn run(plan: &Plan, targets: &[Target], goals: &mut Goals) -> Fallible<Report> {
    let minutes = Duration::from_secs_f64(plan.minutes * 60.0);
    let gateways: Vec<Target> = targets
        .iter()
        .filter(|target| matches!(target, Target::Textbook | Target::Gateway(_)))
        .cloned()
        .collect();
    let mut bursts = JoinSet::new();
    for (place, target) in gateways.iter().cloned().enumerate() {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let target = target.clone();
            bursts.spawn_local(async move {
                let tallies = in_bursts(&target, protocol, minutes).await?;
                Fallible::Ok((protocol.name(), place, target, tallies))
            });
        }
    }
    let mut courses = JoinSet::new();
    for (place, course) in COURSES.into_iter().enumerate() {
        for target in gateways.clone() {
            let wait = APART * u32::try_from(courses.len())?;
            courses.spawn_local(async move {
                sleep(wait).await;
                let tally = one_at_a_time(&target, course, minutes).await?;
                Fallible::Ok((place, target, course, tally))
            });
        }
    }
    let mut report = Report::default();
    report_bursts(&mut report, all(bursts).await?);
    report_courses(&mut report, goals, plan, all(courses).await?);
    Ok(report)
}

async fn all<T: 'static>(mut tasks: JoinSet<Fallible<T>>) -> Fallible<Vec<T>> {
    let mut ended = Vec::new();
    while let Some(task) = tasks.join_next().await {
        ended.push(task??);
    }
    Ok(ended)
}

const COURSES: [Course; 10] = {
    const fn idle(what: &'static str, protocol: Protocol, seconds: u64) -> Course {
        Course {
            what,
            protocol,
            manner: Manner::ClosesIdleAfter(Duration::from_secs(seconds)),
            outage: Outage::None,
        }
    }
    const fn kept(what: &'static str, protocol: Protocol, outage: Outage) -> Course {
        Course {
            what,
            protocol,
            manner: Manner::Keeps,
            outage,
        }
    }
    [
        idle("closes what is idle for 5 s", Protocol::Http1, 5),
        idle("closes what is idle for 5 s", Protocol::Http2, 5),
        idle("closes what is idle for 15 s", Protocol::Http1, 15),
        idle("closes what is idle for 15 s", Protocol::Http2, 15),
        idle("closes what is idle for 60 s", Protocol::Http1, 60),
        idle("closes what is idle for 60 s", Protocol::Http2, 60),
        kept(
            "closes after each reply",
            Protocol::Http1Closing,
            Outage::None,
        ),
        kept("is down for a minute", Protocol::Http1, Outage::OfAMinute),
        kept("is down for a minute", Protocol::Http2, Outage::OfAMinute),
        Course {
            what: SILENT,
            protocol: Protocol::Http1,
            manner: Manner::SaysNothing,
            outage: Outage::None,
        },
    ]
};
const SILENT: &str = "accepts and says nothing";

/// Bursts of each size in turn, as often as there is time for, and what came of each size.
async fn in_bursts(target: &Target, protocol: Protocol, time: Duration) -> Fallible<Vec<Tally>> {
    let place = Place::start(target, protocol, Manner::Keeps).await?;
    let until = Instant::now() + time;
    let mut tallies: Vec<Tally> = BURSTS.iter().map(|_| Tally::default()).collect();
    sleep(Duration::from_secs(1)).await;
    loop {
        for (tally, calls) in tallies.iter_mut().zip(BURSTS) {
            let before = (place.relay.opened(), place.server.handshakes());
            sleep(EVERY).await;
            place.calls(calls, tally).await;
            // What the burst asked for may still be on its way.
            sleep(Duration::from_secs(1)).await;
            tally.dials += place.relay.opened() - before.0;
            tally.handshakes += place.server.handshakes() - before.1;
        }
        if Instant::now() + EVERY * 3 > until {
            return Ok(tallies);
        }
    }
}

/// One call at a time for each worker, and what came of them.
async fn one_at_a_time(target: &Target, course: Course, time: Duration) -> Fallible<Tally> {
    let place = Place::start(target, course.protocol, course.manner).await?;
    let begun = Instant::now();
    let mut outage = (course.outage == Outage::OfAMinute).then_some(begun + OUTAGE_AFTER);
    let mut tally = Tally::default();
    let mut due = begun + Duration::from_secs(1);
    while due < begun + time {
        if let Some(from) = outage.take_if(|from| due >= *from) {
            sleep_until(from).await;
            place.relay.set_up(false);
            sleep_until(from + OUTAGE).await;
            place.relay.set_up(true);
            due = from + OUTAGE + BACK_FOR;
        }
        sleep_until(due).await;
        place.calls(WORKERS, &mut tally).await;
        due += EVERY;
    }
    tally.dials = place.relay.opened();
    tally.handshakes = place.server.handshakes();
    tally.open = place.relay.open();
    tally.peak_mib = place.process.peak_mib()?;
    Ok(tally)
}

/// A gateway before an upstream that is far away.
struct Place {
    server: Server,
    relay: Relay,
    process: Process,
    client: Rc<Client>,
    _folder: TempDir,
}

impl Place {
    async fn start(target: &Target, protocol: Protocol, manner: Manner) -> Fallible<Self> {
        let folder = tempfile::tempdir()?;
        tls::write_files(folder.path())?;
        let server = Server::start(folder.path(), protocol).await?;
        let relay = Relay::start(server.address, manner).await?;
        let (process, listen) = start(target, folder.path(), relay.address).await?;
        let client = Client::connect(listen, None, WORKERS, Rpc::Create, target).await?;
        Ok(Self {
            server,
            relay,
            process,
            client: Rc::new(client),
            _folder: folder,
        })
    }

    /// Makes so many calls at once.
    async fn calls(&self, calls: usize, tally: &mut Tally) {
        let mut under_way = JoinSet::new();
        for call in 0..calls {
            let client = Rc::clone(&self.client);
            under_way.spawn_local(async move {
                let begun = Instant::now();
                let answered = timeout(PATIENCE, client.call(call)).await;
                let is_right = answered.is_ok_and(|answer| answer.is_ok());
                is_right.then(|| begun.elapsed().as_secs_f64() * 1e3)
            });
        }
        while let Some(ended) = under_way.join_next().await {
            match ended.ok().flatten() {
                Some(took) => tally.milliseconds.push(took),
                None => tally.failures += 1,
            }
        }
    }
}

/// Starts a gateway. Of many that start at once, one may lose its port to another, and starts again.
async fn start(
    target: &Target,
    folder: &Path,
    upstream: SocketAddr,
) -> Fallible<(Process, SocketAddr)> {
    for _ in 0..5 {
        let listen = free_address()?;
        let mut command = command(target, folder, listen, upstream)?;
        let mut process = Process::start(&mut command)?;
        while process.check().is_ok() && TcpStream::connect(listen).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
        // It may have been another's port that was open.
        sleep(Duration::from_secs(1)).await;
        if process.check().is_ok() {
            return Ok((process, listen));
        }
    }
    Err(format!("{} does not start", target.name()).into())
}

fn command(
    target: &Target,
    folder: &Path,
    listen: SocketAddr,
    upstream: SocketAddr,
) -> Fallible<Command> {
    let mut command = match target {
        Target::Gateway(binary) => {
            let mut command = Command::new(binary.file());
            command.arg("serve");
            command
        }
        _ => {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["textbook", "--listen", &listen.to_string()]);
            command.args(["--upstream", &upstream.to_string(), "--tls"]);
            command.arg(folder);
            command
        }
    };
    command.envs(settings(folder, &listen.to_string(), upstream.port()));
    command.stdout(Stdio::null());
    command.stderr(fs::File::create(folder.join("log"))?);
    Ok(command)
}

/// Of a gateway: TLS to the upstream alone, and one worker a connection of the load.
fn settings(folder: &Path, listen: &str, port: u16) -> [(&'static str, String); 6] {
    [
        ("ONBOARDFLOW_LISTEN", listen.to_owned()),
        ("ONBOARDFLOW_ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
        ("ONBOARDFLOW_TOKEN", TOKEN.to_owned()),
        ("ONBOARDFLOW_WORKERS", WORKERS.to_string()),
        (
            "ONBOARDFLOW_UPSTREAM_URL",
            format!("https://{}:{port}", tls::HOST),
        ),
        (
            "ONBOARDFLOW_UPSTREAM_CA",
            folder.join(tls::CERTIFICATE).display().to_string(),
        ),
    ]
}

impl Tally {
    fn median(&self) -> f64 {
        median_of(self.milliseconds.clone())
    }

    fn worst(&self) -> f64 {
        self.milliseconds.iter().copied().fold(f64::NAN, f64::max)
    }
}

fn round_trip() -> f64 {
    2e3 * ONE_WAY.as_secs_f64()
}

fn report_bursts(report: &mut Report, mut rows: Vec<(&'static str, usize, Target, Vec<Tally>)>) {
    rows.sort_by_key(|(protocol, place, ..)| (*protocol, *place));
    report.begin_table(
        "OnboardFlow 50 ms away over TLS, called every 35 s: latency in round trips",
        &[
            "upstream",
            "calls at once",
            "gateway",
            "p50",
            "worst",
            "calls",
            "failures",
            "connections",
            "handshakes",
        ],
    );
    for (at, calls) in BURSTS.into_iter().enumerate() {
        for (protocol, _, target, tallies) in &rows {
            let tally = &tallies[at];
            report.row(&[
                (*protocol).to_owned(),
                calls.to_string(),
                target.name().to_owned(),
                format!("{:.2}", tally.median() / round_trip()),
                format!("{:.2}", tally.worst() / round_trip()),
                tally.milliseconds.len().to_string(),
                tally.failures.to_string(),
                tally.dials.to_string(),
                tally.handshakes.to_string(),
            ]);
        }
    }
}

fn report_courses(
    report: &mut Report,
    goals: &mut Goals,
    plan: &Plan,
    mut rows: Vec<(usize, Target, Course, Tally)>,
) {
    rows.sort_by_key(|(place, ..)| *place);
    let title = format!(
        "One call every 35 s on each of 2 workers, for {} min",
        plan.minutes
    );
    report.begin_table(
        &title,
        &[
            "the upstream",
            "",
            "gateway",
            "calls",
            "p50 − round trip, ms",
            "worst − round trip, ms",
            "failures",
            "dials",
            "handshakes",
            "open at the end",
            "peak RSS MiB",
        ],
    );
    for (_, target, course, tally) in &rows {
        let gateway = target.name();
        let (median, worst) = (tally.median() - round_trip(), tally.worst() - round_trip());
        let protocol = course.protocol.name();
        report.row(&[
            course.what.to_owned(),
            protocol.to_owned(),
            gateway.to_owned(),
            tally.milliseconds.len().to_string(),
            format!("{median:.1}"),
            format!("{worst:.1}"),
            tally.failures.to_string(),
            tally.dials.to_string(),
            tally.handshakes.to_string(),
            tally.open.to_string(),
            format!("{:.1}", tally.peak_mib),
        ]);
        if let Target::Textbook = target {
            continue;
        }
        let what = format!("{gateway}, an upstream that {} ({protocol})", course.what);
        if course.what != SILENT {
            let beyond = "beyond a round trip";
            goals.at_most(&format!("{what}: median {beyond}"), MEDIAN, median, " ms");
            goals.at_most(&format!("{what}: worst {beyond}"), WORST, worst, " ms");
        }
        let what = format!("{what}: dials a minute and worker");
        goals.at_most(&what, DIALS, dials_a_minute_and_worker(tally, plan), "");
    }
}

fn dials_a_minute_and_worker(tally: &Tally, plan: &Plan) -> f64 {
    let workers = f64::from(u32::try_from(WORKERS).unwrap_or(u32::MAX));
    let dials = f64::from(u32::try_from(tally.dials).unwrap_or(u32::MAX));
    dials / plan.minutes / workers
}

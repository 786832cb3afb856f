//! What is measured, one function a table.

use std::time::Duration;

use clap::ValueEnum;
use tokio::{runtime, task::LocalSet};

use crate::{
    Fallible, Plan, distant,
    drive::{self, Load, Sample, Shape},
    envoy,
    features::Feature,
    goals::{self, Goals},
    process,
    report::{Marks, Report, failures, median, median_of, range, ratio},
    target::{self, Binary, Running, Site, Target},
    worked_example::Rpc,
};

/// The load of the main table: 8 connections with 8 calls in flight on each.
const CONNECTIONS: usize = 8;
const IN_FLIGHT: usize = 64;
/// Starts that are timed.
const STARTS: usize = 11;

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// Latency with an upstream that is 50 ms away, at the rates that a plan allows.
    Distant,
    /// CPU a call, throughput, latency and memory at 64 creates in flight.
    Create,
    /// The same with updates.
    Update,
    /// The same with TLS on both sides.
    Tls,
    /// What a create costs with each feature.
    Features,
    /// Latency at fixed rates.
    Rates,
    /// CPU a call with 1 to 1,000 connections.
    Connections,
    /// CPU a call and memory with 1 to 1,000 calls in flight.
    InFlight,
    /// Time from the start until SERVING.
    Start,
}

/// What a run has said so far.
#[derive(Default)]
struct Findings {
    report: Report,
    distant: Option<Report>,
    goals: Goals,
}

pub(crate) fn run(plan: &Plan) -> Fallible<()> {
    process::raise_descriptor_limit();
    let mut targets = vec![Target::Floor];
    if !plan.no_peers {
        targets.push(Target::Textbook);
        match envoy::binary() {
            Some(binary) => targets.push(Target::Envoy(binary)),
            None => eprintln!("Without Envoy: `scripts/tools envoy` installs it."),
        }
    }
    if plan.gateway.is_empty() {
        targets.push(Target::Gateway(Binary::build()?));
    }
    targets.extend(plan.gateway.iter().cloned().map(Target::Gateway));

    let mut findings = Findings::default();
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        for name in Name::value_variants() {
            if plan.only.is_empty() || plan.only.contains(name) {
                findings.scenario(*name, plan, &targets).await?;
            }
        }
        Fallible::Ok(())
    })?;
    let Findings {
        mut report,
        distant,
        goals,
    } = findings;
    goals.report(&mut report);
    let Some(file) = &plan.write else {
        return Ok(());
    };
    if let Some(distant) = &distant {
        distant.write_into(file, Marks::Distant)?;
    }
    if plan.only == [Name::Distant] {
        return Ok(());
    }
    report.write_into(file, Marks::Figures)
}

fn start(targets: &[Target], site: &Site) -> Fallible<Vec<Running>> {
    let start = |target| Running::start(target, site);
    targets.iter().map(start).collect()
}

/// What a sweep goes along. The other stays as it is in the main table.
#[derive(Clone, Copy)]
enum Axis {
    Connections,
    InFlight,
}

impl Axis {
    fn title(self) -> &'static str {
        match self {
            Self::Connections => "64 in flight, over connections",
            Self::InFlight => "8 connections, over calls in flight",
        }
    }

    fn points(self) -> [usize; 5] {
        match self {
            Self::Connections => [1, 8, 64, 256, 1000],
            Self::InFlight => [1, 16, 64, 256, 1000],
        }
    }

    /// From where on CPU a call is to be flat, and how that is said: one call alone shares nothing.
    fn flat(self) -> (usize, &'static str) {
        match self {
            Self::Connections => (1, "1 to 1,000 connections"),
            Self::InFlight => (16, "16 to 1,000 calls in flight"),
        }
    }

    fn load(self, plan: &Plan, at: usize) -> Load {
        match self {
            Self::Connections => Load::of(plan, Rpc::Create, at, IN_FLIGHT),
            Self::InFlight => Load::of(plan, Rpc::Create, CONNECTIONS, at),
        }
    }
}

/// These, and after each gateway the same with each of these features.
fn with_features(targets: &[Target], features: &[Feature]) -> Vec<Target> {
    let mut all = Vec::new();
    for target in targets {
        all.push(target.clone());
        if let Target::Gateway(binary) = target {
            let with = |feature: &Feature| Target::Gateway(binary.with(feature.clone()));
            all.extend(features.iter().map(with));
        }
    }
    all
}

/// The targets' samples at one point of a sweep.
struct Point {
    /// Connections, or calls in flight.
    at: usize,
    samples: Vec<Vec<Sample>>,
}

impl Load {
    fn of(plan: &Plan, rpc: Rpc, connections: usize, in_flight: usize) -> Self {
        Self {
            rpc,
            connections,
            shape: Shape::Closed(in_flight),
            duration: plan.duration(),
        }
    }
}

impl Findings {
    async fn scenario(&mut self, name: Name, plan: &Plan, targets: &[Target]) -> Fallible<()> {
        let without_peers: Vec<Target> = targets
            .iter()
            .filter(|target| matches!(target, Target::Floor | Target::Gateway(_)))
            .cloned()
            .collect();
        match name {
            Name::Distant => {
                self.distant = Some(distant::run(plan, targets, &mut self.goals).await?);
                Ok(())
            }
            Name::Create => {
                self.costs("Create", plan, targets, Rpc::Create, false)
                    .await
            }
            Name::Update => {
                self.costs("Update", plan, targets, Rpc::Update, false)
                    .await
            }
            Name::Tls => {
                let targets = with_features(&without_peers, &[Feature::ClientCertificates]);
                let title = "Create, TLS on both sides";
                self.costs(title, plan, &targets, Rpc::Create, true).await
            }
            Name::Features => self.features(plan, &without_peers).await,
            Name::Rates => self.rates(plan, &without_peers).await,
            Name::Connections => self.sweep(Axis::Connections, plan, &without_peers).await,
            Name::InFlight => self.sweep(Axis::InFlight, plan, &without_peers).await,
            Name::Start => self.starts(targets).await,
        }
    }

    /// What each feature costs, in multiples of the floor's and of the plain gateway's CPU.
    async fn features(&mut self, plan: &Plan, targets: &[Target]) -> Fallible<()> {
        let mut features = vec![
            Feature::Jwt,
            Feature::CallersFile,
            Feature::Gzip,
            Feature::Sqlite,
        ];
        features.extend(plan.postgres.clone().map(Feature::Postgres));
        let targets = with_features(targets, &features);
        let site = Site::start(false)?;
        let mut running = start(&targets, &site)?;
        let load = Load::of(plan, Rpc::Create, CONNECTIONS, IN_FLIGHT);
        let samples = drive::rounds(&mut running, &site, load, plan.rounds).await?;
        self.report.begin_table(
            &format!("Create with a feature: {CONNECTIONS} connections, {IN_FLIGHT} in flight"),
            &[
                "gateway",
                "CPU µs/call",
                "× floor",
                "× plain",
                "calls/s",
                "p50 ms",
                "p99 ms",
                "peak RSS MiB",
                "failures",
            ],
        );
        let mut plain = None;
        for (target, of_target) in targets.iter().zip(&samples) {
            let feature = target.feature();
            if matches!(feature, Feature::None) {
                plain = matches!(target, Target::Gateway(_)).then_some(of_target);
            }
            let mut row = sweep_row(target.name(), of_target, &samples[0]);
            let times_plain = plain.map(|plain| ratio(of_target, plain, |s| s.cpu));
            row.insert(
                3,
                times_plain.map_or_else(String::new, |times| format!("{times:.2}")),
            );
            self.report.row(&row);
            if let (Feature::Jwt, Some(times_plain)) = (feature, times_plain) {
                let what = format!("{}, CPU a call", target.name());
                self.goals
                    .at_most(&what, goals::JWT, times_plain, " × plain");
            }
        }
        Ok(())
    }

    async fn costs(
        &mut self,
        title: &str,
        plan: &Plan,
        targets: &[Target],
        rpc: Rpc,
        tls: bool,
    ) -> Fallible<()> {
        let site = Site::start(tls)?;
        let mut running = start(targets, &site)?;
        let load = Load::of(plan, rpc, CONNECTIONS, IN_FLIGHT);
        let samples = drive::rounds(&mut running, &site, load, plan.rounds).await?;
        self.report.begin_table(
            &format!("{title}: {CONNECTIONS} connections, {IN_FLIGHT} in flight"),
            &[
                "gateway",
                "CPU µs/call",
                "min–max",
                "× floor",
                "calls/s",
                "p50 ms",
                "p99 ms",
                "peak RSS MiB",
                "failures",
                "load's CPU µs/call",
            ],
        );
        for (target, of_target) in targets.iter().zip(&samples) {
            let times_floor = ratio(of_target, &samples[0], |s| s.cpu);
            self.report.row(&[
                target.name().to_owned(),
                format!("{:.1}", median(of_target, |s| s.cpu)),
                range(of_target, |s| s.cpu),
                format!("{times_floor:.2}"),
                format!("{:.0}", median(of_target, |s| s.rate)),
                format!("{:.2}", median(of_target, |s| s.p50)),
                format!("{:.2}", median(of_target, |s| s.p99)),
                format!("{:.1}", median(of_target, |s| s.peak)),
                failures(of_target).to_string(),
                format!("{:.1}", median(of_target, |s| s.load_cpu)),
            ]);
            if let Target::Gateway(_) = target {
                let what = format!("{}, CPU a call: {title}", target.name());
                self.goals
                    .at_most(&what, goals::CPU, times_floor, " × floor");
            }
        }
        Ok(())
    }

    /// Latency at fixed rates: shares of what the floor takes in a closed loop.
    async fn rates(&mut self, plan: &Plan, targets: &[Target]) -> Fallible<()> {
        let site = Site::start(false)?;
        let mut running = start(targets, &site)?;
        let closed = Load::of(plan, Rpc::Create, CONNECTIONS, IN_FLIGHT);
        let floor = drive::once(&mut running[0], &site, closed).await?;
        self.report.begin_table(
            "Latency at fixed rates, counted from when a call was due: 8 connections",
            &[
                "calls/s due",
                "gateway",
                "p50 ms",
                "p99 ms",
                "p99.9 ms",
                "p99 − floor's",
                "CPU µs/call",
                "failures",
            ],
        );
        let half = floor.rate / 2.0;
        for rate in [1_000.0, half / 2.0, half, half * 1.5] {
            let load = Load {
                shape: Shape::Open(rate),
                ..closed
            };
            let samples = drive::rounds(&mut running, &site, load, plan.rounds).await?;
            let share = 100.0 * rate / floor.rate;
            let due = format!("{rate:.0} ({share:.0} % of the floor's)");
            for (target, of_target) in targets.iter().zip(&samples) {
                let beyond = p99_beyond(of_target, &samples[0]);
                self.report.row(&rates_row(&due, target, of_target, beyond));
                if matches!(target, Target::Gateway(_)) && (rate - half).abs() < f64::EPSILON {
                    let what = format!(
                        "{}, p99 beyond the floor's at half its throughput",
                        target.name()
                    );
                    self.goals
                        .at_most(&what, goals::P99_BEYOND_FLOOR, beyond, " ms");
                }
            }
        }
        Ok(())
    }

    /// One row a point and target. Processes are new for each point, as memory never shrinks.
    async fn sweep(&mut self, axis: Axis, plan: &Plan, targets: &[Target]) -> Fallible<()> {
        self.report.begin_table(
            axis.title(),
            &[
                "",
                "gateway",
                "CPU µs/call",
                "× floor",
                "calls/s",
                "p50 ms",
                "p99 ms",
                "peak RSS MiB",
                "failures",
            ],
        );
        let mut points = Vec::new();
        for at in axis.points() {
            let site = Site::start(false)?;
            let mut running = start(targets, &site)?;
            let load = axis.load(plan, at);
            let samples = drive::rounds(&mut running, &site, load, plan.rounds).await?;
            for (target, of_target) in targets.iter().zip(&samples) {
                let mut row = sweep_row(target.name(), of_target, &samples[0]);
                row.insert(0, at.to_string());
                self.report.row(&row);
            }
            points.push(Point { at, samples });
        }
        let (from, over) = axis.flat();
        let flat: Vec<&Point> = points.iter().filter(|point| point.at >= from).collect();
        self.flat(over, targets, &flat);
        match axis {
            Axis::Connections => {}
            Axis::InFlight => self.memory(targets, &points),
        }
        Ok(())
    }

    fn memory(&mut self, targets: &[Target], points: &[Point]) {
        for (in_flight, bound) in goals::MEMORY {
            let Some(point) = points.iter().find(|point| point.at == in_flight) else {
                continue;
            };
            for (target, samples) in targets.iter().zip(&point.samples) {
                if let Target::Gateway(_) = target {
                    let peak = samples.iter().map(|sample| sample.peak).fold(0.0, f64::max);
                    let what = format!("{}, peak RSS at {in_flight} in flight", target.name());
                    self.goals.at_most(&what, bound, peak, " MiB");
                }
            }
        }
    }

    fn flat(&mut self, over: &str, targets: &[Target], points: &[&Point]) {
        let cpu = |index: usize| -> Vec<f64> {
            let of_points = points.iter();
            of_points
                .map(|point| median(&point.samples[index], |s| s.cpu))
                .collect()
        };
        for (index, target) in targets.iter().enumerate() {
            if let Target::Gateway(_) = target {
                self.goals.flat(target.name(), over, &cpu(index), &cpu(0));
            }
        }
    }

    async fn starts(&mut self, targets: &[Target]) -> Fallible<()> {
        self.report.begin_table(
            "From the start of the process until it says SERVING",
            &["gateway", "median ms", "worst ms"],
        );
        for target in targets {
            let Target::Gateway(_) = target else { continue };
            for tls in [false, true] {
                let site = Site::start(tls)?;
                let mut times = Vec::new();
                for _ in 0..STARTS {
                    let time: Duration = target::time_to_serving(target, &site).await?;
                    times.push(time.as_secs_f64() * 1e3);
                }
                let worst = times.iter().copied().fold(0.0, f64::max);
                let name = format!("{}{}", target.name(), if tls { ", TLS" } else { "" });
                self.goals.at_most(
                    &format!("{name}, from start to SERVING"),
                    goals::START,
                    worst,
                    " ms",
                );
                self.report.row(&[
                    name,
                    format!("{:.1}", median_of(times)),
                    format!("{worst:.1}"),
                ]);
            }
        }
        Ok(())
    }
}

/// The median of what p99 is beyond the floor's in the same round, in milliseconds.
fn p99_beyond(samples: &[Sample], floor: &[Sample]) -> f64 {
    let rounds = samples.iter().zip(floor);
    median_of(
        rounds
            .map(|(sample, floor)| sample.p99 - floor.p99)
            .collect(),
    )
}

fn rates_row(due: &str, target: &Target, samples: &[Sample], p99_beyond: f64) -> Vec<String> {
    vec![
        due.to_owned(),
        target.name().to_owned(),
        format!("{:.2}", median(samples, |s| s.p50)),
        format!("{:.2}", median(samples, |s| s.p99)),
        format!("{:.2}", median(samples, |s| s.p999)),
        format!("{p99_beyond:+.2}"),
        format!("{:.1}", median(samples, |s| s.cpu)),
        failures(samples).to_string(),
    ]
}

fn sweep_row(name: &str, samples: &[Sample], floor: &[Sample]) -> Vec<String> {
    vec![
        name.to_owned(),
        format!("{:.1}", median(samples, |s| s.cpu)),
        format!("{:.2}", ratio(samples, floor, |s| s.cpu)),
        format!("{:.0}", median(samples, |s| s.rate)),
        format!("{:.2}", median(samples, |s| s.p50)),
        format!("{:.2}", median(samples, |s| s.p99)),
        format!("{:.1}", median(samples, |s| s.peak)),
        failures(samples).to_string(),
    ]
}

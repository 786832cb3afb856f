//! What is measured, one function a table.

use std::time::Duration;

use clap::ValueEnum;
use tokio::{runtime, task::LocalSet};

use crate::{
    Fallible, Plan,
    drive::{self, Load, Sample, Shape},
    process,
    report::{Table, failures, median, median_of, range, ratio},
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
    /// CPU a call, throughput, latency and memory at 64 creates in flight.
    Create,
    /// The same with updates.
    Update,
    /// The same with TLS on both sides.
    Tls,
    /// Latency at fixed rates.
    Rates,
    /// CPU a call with 1 to 1,000 connections.
    Connections,
    /// CPU a call and memory with 1 to 1,000 calls in flight.
    InFlight,
    /// Time from the start until SERVING.
    Start,
}

pub(crate) fn run(plan: &Plan) -> Fallible<()> {
    process::raise_descriptor_limit();
    let mut targets = vec![Target::Floor];
    if !plan.no_textbook {
        targets.push(Target::Textbook);
    }
    if plan.gateway.is_empty() {
        targets.push(Target::Gateway(Binary::build()?));
    }
    targets.extend(plan.gateway.iter().cloned().map(Target::Gateway));

    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        for name in Name::value_variants() {
            if plan.only.is_empty() || plan.only.contains(name) {
                scenario(*name, plan, &targets).await?;
            }
        }
        Ok(())
    })
}

async fn scenario(name: Name, plan: &Plan, targets: &[Target]) -> Fallible<()> {
    let without_textbook: Vec<Target> = targets
        .iter()
        .filter(|target| !matches!(target, Target::Textbook))
        .cloned()
        .collect();
    match name {
        Name::Create => costs("Create, plaintext", plan, targets, Rpc::Create, false).await,
        Name::Update => costs("Update, plaintext", plan, targets, Rpc::Update, false).await,
        Name::Tls => {
            let title = "Create, TLS on both sides";
            costs(title, plan, &without_textbook, Rpc::Create, true).await
        }
        Name::Rates => rates(plan, targets).await,
        Name::Connections => connections(plan, &without_textbook).await,
        Name::InFlight => in_flight(plan, &without_textbook).await,
        Name::Start => starts(targets).await,
    }
}

fn start(targets: &[Target], site: &Site) -> Fallible<Vec<Running>> {
    let start = |target| Running::start(target, site);
    targets.iter().map(start).collect()
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

async fn costs(title: &str, plan: &Plan, targets: &[Target], rpc: Rpc, tls: bool) -> Fallible<()> {
    let site = Site::start(tls)?;
    let mut running = start(targets, &site)?;
    let load = Load::of(plan, rpc, CONNECTIONS, IN_FLIGHT);
    let samples = drive::rounds(&mut running, &site, load, plan.rounds).await?;
    let table = Table::begin(
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
        table.row(&[
            target.name().to_owned(),
            format!("{:.1}", median(of_target, |s| s.cpu)),
            range(of_target, |s| s.cpu),
            format!("{:.2}", ratio(of_target, &samples[0], |s| s.cpu)),
            format!("{:.0}", median(of_target, |s| s.rate)),
            format!("{:.2}", median(of_target, |s| s.p50)),
            format!("{:.2}", median(of_target, |s| s.p99)),
            format!("{:.1}", median(of_target, |s| s.peak)),
            failures(of_target).to_string(),
            format!("{:.1}", median(of_target, |s| s.load_cpu)),
        ]);
    }
    Ok(())
}

/// Latency at fixed rates: shares of what the floor takes in a closed loop.
async fn rates(plan: &Plan, targets: &[Target]) -> Fallible<()> {
    let site = Site::start(false)?;
    let mut running = start(targets, &site)?;
    let closed = Load::of(plan, Rpc::Create, CONNECTIONS, IN_FLIGHT);
    let floor = drive::once(&mut running[0], &site, closed).await?;
    let table = Table::begin(
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
        for (target, of_target) in targets.iter().zip(&samples) {
            let beyond_floor = of_target
                .iter()
                .zip(&samples[0])
                .map(|(s, f)| s.p99 - f.p99);
            table.row(&[
                format!(
                    "{rate:.0} ({:.0} % of the floor's)",
                    100.0 * rate / floor.rate
                ),
                target.name().to_owned(),
                format!("{:.2}", median(of_target, |s| s.p50)),
                format!("{:.2}", median(of_target, |s| s.p99)),
                format!("{:.2}", median(of_target, |s| s.p999)),
                format!("{:+.2}", median_of(beyond_floor.collect())),
                format!("{:.1}", median(of_target, |s| s.cpu)),
                failures(of_target).to_string(),
            ]);
        }
    }
    Ok(())
}

async fn connections(plan: &Plan, targets: &[Target]) -> Fallible<()> {
    let points = [1, 8, 64, 256, 1000].map(|connections| {
        let load = Load::of(plan, Rpc::Create, connections, IN_FLIGHT);
        (connections, load)
    });
    sweep("64 in flight, over connections", plan, targets, &points).await
}

async fn in_flight(plan: &Plan, targets: &[Target]) -> Fallible<()> {
    let points = [1, 16, 64, 256, 1000].map(|in_flight| {
        let load = Load::of(plan, Rpc::Create, CONNECTIONS, in_flight);
        (in_flight, load)
    });
    sweep(
        "8 connections, over calls in flight",
        plan,
        targets,
        &points,
    )
    .await
}

/// One row a point and target. Processes are new for each point, as memory never shrinks.
async fn sweep(
    title: &str,
    plan: &Plan,
    targets: &[Target],
    points: &[(usize, Load)],
) -> Fallible<()> {
    let table = Table::begin(
        title,
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
    for (point, load) in points {
        let site = Site::start(false)?;
        let mut running = start(targets, &site)?;
        let samples = drive::rounds(&mut running, &site, *load, plan.rounds).await?;
        for (target, of_target) in targets.iter().zip(&samples) {
            table.row(&sweep_row(*point, target, of_target, &samples[0]));
        }
    }
    Ok(())
}

fn sweep_row(point: usize, target: &Target, samples: &[Sample], floor: &[Sample]) -> Vec<String> {
    vec![
        point.to_string(),
        target.name().to_owned(),
        format!("{:.1}", median(samples, |s| s.cpu)),
        format!("{:.2}", ratio(samples, floor, |s| s.cpu)),
        format!("{:.0}", median(samples, |s| s.rate)),
        format!("{:.2}", median(samples, |s| s.p50)),
        format!("{:.2}", median(samples, |s| s.p99)),
        format!("{:.1}", median(samples, |s| s.peak)),
        failures(samples).to_string(),
    ]
}

async fn starts(targets: &[Target]) -> Fallible<()> {
    let table = Table::begin(
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
            table.row(&[
                format!("{}{}", target.name(), if tls { ", TLS" } else { "" }),
                format!("{:.1}", median_of(times)),
                format!("{worst:.1}"),
            ]);
        }
    }
    Ok(())
}

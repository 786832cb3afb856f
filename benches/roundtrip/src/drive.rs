//! Drives targets in turn, several rounds, and keeps what each cost.

use std::{rc::Rc, time::Duration};

use tokio::{runtime, task::LocalSet};

use crate::{
    Fallible, LoadArgs,
    load::{self, Client, End, Outcome},
    process,
    target::{Running, Site, Target},
    worked_example::Rpc,
};

const WARM_UP: Duration = Duration::from_millis(500);

/// How a target is driven.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) rpc: Rpc,
    pub(crate) connections: usize,
    pub(crate) shape: Shape,
    pub(crate) duration: Duration,
}

#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// So many calls in flight.
    Closed(usize),
    /// So many calls a second.
    Open(f64),
}

/// What one target cost in one round.
pub(crate) struct Sample {
    /// CPU time of the target's process, µs a call.
    pub(crate) cpu: f64,
    /// CPU time of the load, µs a call.
    pub(crate) load_cpu: f64,
    /// Calls a second.
    pub(crate) rate: f64,
    /// Latencies in milliseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// Most memory resident so far, MiB.
    pub(crate) peak: f64,
    pub(crate) failures: usize,
}

/// Every target's samples, a round each, in the order of the targets.
pub(crate) async fn rounds(
    targets: &mut [Running],
    site: &Site,
    load: Load,
    rounds: usize,
) -> Fallible<Vec<Vec<Sample>>> {
    let mut samples: Vec<Vec<Sample>> = targets.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        // The order turns, so that no target always follows the same one.
        for turn in 0..targets.len() {
            let at = (turn + round) % targets.len();
            samples[at].push(once(&mut targets[at], site, load).await?);
        }
    }
    Ok(samples)
}

/// Drives a target once.
pub(crate) async fn once(target: &mut Running, site: &Site, load: Load) -> Fallible<Sample> {
    let tls = site.tls.then(|| site.folder());
    let client = Client::connect(
        target.address,
        tls,
        load.connections,
        load.rpc,
        &target.target,
    )
    .await?;
    let client = Rc::new(client);
    client
        .call(0)
        .await
        .map_err(|error| format!("{}: {error}", target.target.name()))?;
    send(&client, load.shape, WARM_UP).await?;
    let (cpu, own_cpu) = (target.process.cpu()?, process::own_cpu()?);
    let outcome = send(&client, load.shape, load.duration).await?;
    let (cpu, own_cpu) = (target.process.cpu()? - cpu, process::own_cpu()? - own_cpu);
    target.process.check()?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let a_call = |seconds: f64| seconds * 1e6 / outcome.calls as f64;
    Ok(Sample {
        cpu: a_call(cpu),
        load_cpu: a_call(own_cpu),
        rate: outcome.rate(),
        p50: outcome.percentile(0.5),
        p99: outcome.percentile(0.99),
        p999: outcome.percentile(0.999),
        peak: target.process.peak_mib()?,
        failures: outcome.failures,
    })
}

/// Makes a number of calls to a server that somebody else started, in plaintext.
pub(crate) fn calls(args: &LoadArgs) -> Fallible<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        let client = Client::connect(
            args.address,
            None,
            args.connections,
            Rpc::Create,
            &Target::Floor,
        )
        .await?;
        let end = End::Calls(args.calls);
        let outcome = load::closed(&Rc::new(client), args.in_flight, end).await;
        println!("{} right, {} wrong", outcome.calls, outcome.failures);
        Ok(())
    })
}

async fn send(client: &Rc<Client>, shape: Shape, duration: Duration) -> Fallible<Outcome> {
    match shape {
        Shape::Closed(in_flight) => Ok(load::closed(client, in_flight, End::After(duration)).await),
        Shape::Open(rate) => load::open(client, rate, duration).await,
    }
}

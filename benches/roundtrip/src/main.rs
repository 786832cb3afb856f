//! One command that says what a call through the gateway costs:
//!
//! ```sh
//! cargo run --release --manifest-path benches/roundtrip/Cargo.toml
//! ```
//!
//! It builds the binary as it is shipped, and starts an [`upstream`], a [`floor`], a [`textbook`]
//! gateway, [`envoy`] where `scripts/tools` has installed it, and the gateway, as processes of their
//! own. It drives them in turn with the same [`load`], checks every reply, and prints tables in
//! Markdown. `docs/performance.md` says how to read them.
//!
//! Everything listens on and calls 127.0.0.1, and every run is bounded in time.

mod distant;
mod drive;
mod envoy;
mod features;
mod floor;
mod goals;
mod load;
mod process;
mod report;
mod scenarios;
mod target;
mod textbook;
mod tls;
mod upstream;
mod worked_example;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};

/// The messages and the service, as `build.rs` makes them.
#[allow(clippy::pedantic, unreachable_pub, reason = "generated")]
mod proto {
    tonic::include_proto!("onboardflow.customer.v1");
}

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Parser)]
#[command(
    about = "What a call through the gateway costs, against a floor, a textbook gateway and Envoy"
)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    plan: Plan,
}

/// What is measured, and for how long.
#[derive(Args)]
struct Plan {
    /// Scenarios to run; all of them unless given.
    #[arg(long, value_delimiter = ',')]
    only: Vec<scenarios::Name>,
    /// Rounds; each drives every target once, and medians are taken over them.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds that a target is driven in a round.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Minutes that `distant` takes. Ten show what fewer may miss.
    #[arg(long, default_value_t = 2.5)]
    minutes: f64,
    /// A gateway's binary, as NAME=FILE; several are compared. Without one, the release binary is
    /// built and called `gateway`.
    #[arg(long, value_name = "NAME=FILE", value_parser = target::Binary::parse)]
    gateway: Vec<target::Binary>,
    /// Leave the textbook gateway and Envoy out.
    #[arg(long)]
    no_peers: bool,
    /// A database for the ledger, `postgres://…`. Without one, the table of features has no row for it.
    #[arg(long, value_name = "URL", env = "LEDGER_TEST_POSTGRES")]
    postgres: Option<String>,
    /// A document with marks, between which to put what is printed: docs/performance.md.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

impl Plan {
    fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// The parts on their own, as the command starts them, and for use under a profiler.
#[derive(Subcommand)]
enum Part {
    /// Answer every REST call with the worked example's reply.
    Upstream(ServerArgs),
    /// Take gRPC calls with hyper, make a REST call for each, and answer with fixed bytes.
    Floor(ServerArgs),
    /// Take gRPC calls with tonic, and make REST calls with reqwest.
    Textbook(ServerArgs),
    /// Make a number of gRPC calls to a server, and check the replies.
    Load(LoadArgs),
}

#[derive(Args)]
struct ServerArgs {
    #[arg(long)]
    listen: SocketAddr,
    /// Where calls go.
    #[arg(long)]
    upstream: Option<SocketAddr>,
    /// Folder with the certificate for both sides; plaintext without it.
    #[arg(long)]
    tls: Option<PathBuf>,
}

#[derive(Args)]
struct LoadArgs {
    #[arg(long)]
    address: SocketAddr,
    #[arg(long, default_value_t = 10_000)]
    calls: usize,
    #[arg(long, default_value_t = 8)]
    connections: usize,
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
}

impl ServerArgs {
    fn upstream(&self) -> Fallible<SocketAddr> {
        Ok(self.upstream.ok_or("--upstream is missing")?)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.part {
        Some(Part::Upstream(args)) => upstream::run(&args),
        Some(Part::Floor(args)) => floor::run(&args),
        Some(Part::Textbook(args)) => textbook::run(&args),
        Some(Part::Load(args)) => drive::calls(&args),
        None => scenarios::run(&cli.plan),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("roundtrip: {error}");
            ExitCode::FAILURE
        }
    }
}

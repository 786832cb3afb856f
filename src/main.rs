//! The process: its arguments and its exit codes. What runs until it is told to stop is in [`run`], and
//! everything else in the library.

mod run;

use std::{
    env, fmt,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::error::ErrorKind;
use onboardflow_gateway::{
    callers::{Question, Rules},
    config::{CallersCommand, Cli, Command, Effective, Problems, Unread},
    error::Source,
    healthcheck, ledger,
};

use self::run::seen::Seen;

/// A call allocates dozens of times, on one thread, and gives most of it back on the same one: what
/// mimalloc is quickest at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `EX_USAGE` of sysexits(3): the configuration is bad.
const BAD_CONFIGURATION: u8 = 64;

/// Why the process ends, other than well.
enum Failure {
    /// The configuration is bad.
    Configuration(Problems),
    /// An import that didn't get all rows in, and has said why.
    Import(u8),
    /// Anything else.
    Other(Source),
}

impl<E: Into<Source>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

fn main() -> ExitCode {
    let (effective, ended) = match Cli::read(env::args_os()) {
        Ok(cli) => (cli.effective.clone(), run(cli)),
        Err(Unread::Other(error)) => return say(&error),
        Err(Unread::Configuration(problems)) => {
            (Effective::default(), Err(Failure::Configuration(problems)))
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration(problems)) => {
            let problems = problems.named_as_set(&effective);
            complain(format_args!("bad configuration\n{problems}"));
            ExitCode::from(BAD_CONFIGURATION)
        }
        Err(Failure::Import(code)) => ExitCode::from(code),
        Err(Failure::Other(error)) => {
            complain(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

/// Says why the process ends. Nobody may be listening, which is no reason to panic.
fn complain(why: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "onboardflow-gateway: {why}");
}

/// Prints help or the version, or asks for a command.
fn say(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match error.print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        _ => {
            complain(format_args!(
                "say serve, sandbox, import, ledger, healthcheck or callers; see --help"
            ));
            ExitCode::from(BAD_CONFIGURATION)
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Serve(args) => {
            let config = args.check().map_err(Failure::Configuration)?;
            let seen = Seen::start(&config.process, &cli.effective)?;
            let result = block_on(run::serve::serve(&config, &seen));
            seen.stop(result)
        }
        Command::Sandbox(args) => {
            let config = args.check().map_err(Failure::Configuration)?;
            let seen = Seen::start(&config.process, &cli.effective)?;
            let result = block_on(run::sandbox::sandbox(&config, &seen));
            seen.stop(result)
        }
        Command::Import(args) => {
            let config = args.check().map_err(Failure::Configuration)?;
            block_on(run::import::import(config))
        }
        Command::Ledger(args) => {
            let command = args.check().map_err(Failure::Configuration)?;
            block_on(async move { Ok(ledger::run(command, &mut io::stdout()).await?) })
        }
        Command::Healthcheck(args) => {
            let address = args.check().map_err(Failure::Configuration)?;
            block_on(async move { Ok(healthcheck::check(address).await?) })
        }
        Command::Callers(CallersCommand::Check(args)) => {
            let (rules, question) = args.check().map_err(Failure::Configuration)?;
            check_callers(&rules, question.as_ref())
        }
    }
}

fn check_callers(rules: &Rules, question: Option<&Question>) -> Result<(), Failure> {
    let Some(question) = question else {
        return Ok(write!(io::stdout(), "{rules}")?);
    };
    let answer = rules.answer(question);
    write!(io::stdout(), "{answer}")?;
    if answer.is_yes() {
        Ok(())
    } else {
        Err(Failure::Other("this caller may not".into()))
    }
}

/// Runs to the end of `program`, and no longer: a lookup of a name that hangs can't be cancelled, and
/// must not hold up the exit.
fn block_on(program: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(program);
    runtime.shutdown_background();
    outcome
}

//! `onboardflow-gateway ledger`: what a person does with the ledger.

use std::io::Write;

use super::{Entry, Failure, Ledger};
use crate::{
    config::{LedgerAction, LedgerCommand},
    telemetry::LedgerMetrics,
};

/// Does what was asked for, and says on `out` what came of it.
pub async fn run(command: LedgerCommand, out: &mut impl Write) -> Result<(), Failure> {
    let LedgerCommand {
        ledger: config,
        action,
    } = command;
    let ledger = Ledger::new(&config.location, LedgerMetrics::default())?;
    let unreachable = |error| format!("the ledger can't be reached: {error}");
    ledger.open().await.map_err(unreachable)?;
    let done = match action {
        LedgerAction::List { unknown } => list(&ledger, unknown, out).await,
        LedgerAction::Settle { id, applied, .. } => settle(&ledger, &id, applied, out).await,
        LedgerAction::Prune => {
            let pruned = ledger.prune(config.retention).await?;
            writeln!(out, "{pruned} forgotten").map_err(Into::into)
        }
    };
    ledger.close().await;
    done
}

async fn list(ledger: &Ledger, unknown: bool, out: &mut impl Write) -> Result<(), Failure> {
    let entries = ledger.list(unknown).await?;
    writeln!(
        out,
        "{:16}  {:10}  {:8}  {:20}  {:13}  METHOD",
        "ID", "REQUEST_ID", "STATE", "FIRST ATTEMPT", "SITE"
    )?;
    for entry in entries {
        let Entry {
            id,
            id_begins,
            site,
            method,
            state,
            began,
            ..
        } = &entry;
        let began = humantime::format_rfc3339_seconds(*began);
        let state = state.as_str();
        writeln!(
            out,
            "{id}  {id_begins}…   {state:8}  {began}  {site}  {method}"
        )?;
    }
    Ok(())
}

async fn settle(
    ledger: &Ledger,
    id: &str,
    applied: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let unknown = ledger.list(true).await?;
    let named: Vec<&Entry> = unknown.iter().filter(|entry| entry.is_named(id)).collect();
    let entry = match named[..] {
        [entry] => entry,
        [] => return Err("no write of unknown fate has this id; see ledger list".into()),
        _ => return Err("this id names several writes; take the ID of ledger list".into()),
    };
    if !ledger.settle(entry, applied).await? {
        return Err("its outcome has become known meanwhile; see ledger list".into());
    }
    let then = if applied {
        "applied: a repeat gets ALREADY_EXISTS"
    } else {
        "not applied: a repeat is executed"
    };
    writeln!(out, "{} is settled as {then}", entry.id)?;
    Ok(())
}

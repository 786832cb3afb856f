//! `import`: the rows of files, sent to a running gateway.

use std::io::{self, Write as _};

use onboardflow_gateway::{
    config::ImportConfig,
    import::{self, Ended},
};
use tokio_util::sync::CancellationToken;

use super::signals::stop_signal;
use crate::{BAD_CONFIGURATION, Failure, complain};

/// A first signal lets what is under way finish.
pub(crate) async fn import(config: ImportConfig) -> Result<(), Failure> {
    let (told, stop) = (stop_signal()?, CancellationToken::new());
    let stopping = stop.clone();
    tokio::spawn(async move {
        told.await;
        stopping.cancel();
    });
    let ended = import::run(config, stop).await?;
    if let Some(counts) = ended.counts() {
        writeln!(io::stdout(), "{counts}")?;
    }
    match ended {
        Ended::Complete(_) => Ok(()),
        Ended::Incomplete(_) => Err(Failure::Import(1)),
        Ended::Stopped(why, _) => {
            complain(format_args!("{why}"));
            Err(Failure::Import(1))
        }
        Ended::Interrupted(_) => Err(Failure::Import(130)),
        Ended::BadFile(why) => {
            complain(format_args!("{why}"));
            Err(Failure::Import(BAD_CONFIGURATION))
        }
    }
}

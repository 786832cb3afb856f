//! `import`: the rows of files, sent to a running gateway.

use std::io::{self, Write as _};

use onboardflow_gateway::{
    config::ImportConfig,
    import::{self, Ended, How},
};
use tokio_util::sync::CancellationToken;

use super::signals::stop_signal;
use crate::{Failure, complain};

/// A first signal lets what is under way finish.
pub(crate) async fn import(config: ImportConfig) -> Result<(), Failure> {
    let (told, stop) = (stop_signal()?, CancellationToken::new());
    let stopping = stop.clone();
    tokio::spawn(async move {
        told.await;
        stopping.cancel();
    });
    let Ended { how, counts } = import::run(config, stop).await?;
    let code = how.exit_code();
    match how {
        How::Checked(rows) => writeln!(io::stdout(), "{rows} rows are right; nothing was sent")?,
        How::Complete | How::Incomplete | How::Interrupted => writeln!(io::stdout(), "{counts}")?,
        How::Stopped(why) => {
            complain(format_args!("{why}"));
            writeln!(io::stdout(), "{counts}")?;
        }
        How::BadInput(why) => complain(format_args!("{why}")),
    }
    match code {
        0 => Ok(()),
        code => Err(Failure::Import(code)),
    }
}

//! Everything that is logged in this process, by every test, at every level.

use std::{
    io,
    sync::{Mutex, OnceLock},
};

use tracing_subscriber::{
    filter::Targets,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Lines;

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

/// Starts keeping what is logged, once for the process. Other crates' logs are kept from debug on:
/// below it, the client's own copy of h2 speaks in the same process.
pub fn keep() {
    static KEEPING: OnceLock<()> = OnceLock::new();
    KEEPING.get_or_init(|| {
        let levels: Targets = "debug,onboardflow_gateway=trace".parse().unwrap();
        let lines = fmt::layer().with_ansi(false).with_writer(Lines);
        tracing_subscriber::registry()
            .with(levels)
            .with(lines)
            .init();
    });
}

/// What was logged since somebody last asked, whole lines of it. Looking at everything each time
/// would cost more with each test.
pub fn unread() -> String {
    static READ: Mutex<usize> = Mutex::new(0);
    let mut read = READ.lock().unwrap();
    let lines = LINES.lock().unwrap();
    let end = lines
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let unread = String::from_utf8_lossy(&lines[*read..end]).into_owned();
    *read = end;
    unread
}

/// All that was logged so far.
pub fn so_far() -> String {
    String::from_utf8_lossy(&LINES.lock().unwrap()).into_owned()
}

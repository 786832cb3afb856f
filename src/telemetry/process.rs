//! `process_*`, as every Prometheus client names them, from Linux's `/proc`. Elsewhere there are none.
//! `kubert-prometheus-process` does the same, for an older `prometheus_client` than ours.

use std::fs;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// Clock ticks a second: a constant of Linux's interface on every architecture that is built for.
const TICKS: f64 = 100.0;

/// Looks at each scrape.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Some(look) = Look::now() else {
            return Ok(());
        };
        let cpu = ConstCounter::new(look.cpu_seconds);
        let name = (
            "process_cpu_seconds",
            "CPU time that the process used, in seconds",
        );
        cpu.encode(encoder.encode_descriptor(name.0, name.1, None, cpu.metric_type())?)?;
        for (name, help, value) in [
            (
                "process_start_time_seconds",
                "When the process started, in Unix time",
                look.started,
            ),
            (
                "process_resident_memory_bytes",
                "Memory in RAM",
                look.resident_bytes,
            ),
            (
                "process_virtual_memory_bytes",
                "Address space in use",
                look.virtual_bytes,
            ),
            ("process_threads", "Threads", look.threads),
            ("process_open_fds", "File descriptors in use", look.open_fds),
            ("process_max_fds", "File descriptors at most", look.max_fds),
        ] {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// What there is to see of the process.
struct Look {
    cpu_seconds: f64,
    started: Option<f64>,
    resident_bytes: Option<f64>,
    virtual_bytes: Option<f64>,
    threads: Option<f64>,
    open_fds: Option<f64>,
    max_fds: Option<f64>,
}

impl Look {
    fn now() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // Fields are counted behind the command, which may hold spaces. proc(5) numbers them from 1,
        // and the first of these is its third.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let kibibytes = |name| Some(number_after(&status, name)? * 1024.0);
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS,
            started: boot_time().and_then(|boot| Some(boot + field(22)? / TICKS)),
            resident_bytes: kibibytes("VmRSS:"),
            virtual_bytes: kibibytes("VmSize:"),
            threads: field(20),
            open_fds: open_fds(),
            max_fds: number_after(&limits, "Max open files"),
        })
    }
}

fn boot_time() -> Option<f64> {
    number_after(&fs::read_to_string("/proc/stat").ok()?, "btime ")
}

fn open_fds() -> Option<f64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    // The one that lists them is not counted.
    u32::try_from(count.saturating_sub(1)).ok().map(f64::from)
}

/// The first number behind a name that a line starts with.
fn number_after(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen_as_it_is() {
        let look = Look::now().unwrap();
        #[expect(clippy::disallowed_methods, reason = "to compare with")]
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - look.started.unwrap();
        assert!((-2.0..600.0).contains(&age), "{age} s old");
        let resident = look.resident_bytes.unwrap();
        assert!((1e6..1e10).contains(&resident), "{resident} bytes");
        assert!(look.virtual_bytes.unwrap() >= resident);
        assert!(look.threads.unwrap() >= 1.0);
        let open = look.open_fds.unwrap();
        assert!((3.0..look.max_fds.unwrap()).contains(&open), "{open}");
        assert!((0.0..600.0).contains(&look.cpu_seconds));
    }
}

//! A process that this one started: its CPU time and memory as the kernel accounts them, and its
//! end.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use crate::Fallible;

/// A running process. It ends when this is dropped.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Fallible<Self> {
        let child = command.stdin(Stdio::null()).spawn();
        let child =
            child.map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        Ok(Self { child })
    }

    /// Fails if it has ended.
    pub(crate) fn check(&mut self) -> Fallible<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("a process ended by itself: {status}").into()),
        }
    }

    /// CPU time of all its threads so far, user and system, in seconds.
    pub(crate) fn cpu(&self) -> Fallible<f64> {
        cpu(&self.child.id().to_string())
    }

    /// The most memory that it has had resident, in MiB.
    pub(crate) fn peak_mib(&self) -> Fallible<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib: f64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"))
            .ok_or("no VmHWM")?
            .trim()
            .parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of this process so far, in seconds.
pub(crate) fn own_cpu() -> Fallible<f64> {
    cpu("self")
}

fn cpu(pid: &str) -> Fallible<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name in parentheses, which may hold spaces; utime and stime are the
    // 14th and 15th.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .ok_or("no name in stat")?
        .1
        .split_whitespace()
        .collect();
    let ticks = fields[11].parse::<u32>()? + fields[12].parse::<u32>()?;
    let per_second = u32::try_from(rustix::param::clock_ticks_per_second())?;
    Ok(f64::from(ticks) / f64::from(per_second))
}

/// Lets this process and those that it starts hold thousands of connections.
pub(crate) fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What it means if it stays low is said by the connection that fails.
    let _ = setrlimit(Resource::Nofile, limit);
}

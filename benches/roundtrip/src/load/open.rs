//! An open loop: calls fall due at a fixed rate, whatever became of those before them, and a
//! latency counts from when its call was due. A gateway that stalls is charged for the calls that
//! it kept waiting.

use std::{
    cell::RefCell,
    os::fd::OwnedFd,
    rc::Rc,
    time::{Duration, Instant},
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::{io::unix::AsyncFd, task::JoinSet};

use super::{Client, Outcome};
use crate::Fallible;

/// How often the clock is looked at; tokio's own timer counts whole milliseconds.
const TICK: Duration = Duration::from_micros(100);
/// Calls that may be waiting. Further ones count as failures: the target is far behind.
const MAX_WAITING: usize = 4096;
/// How long calls may still take after the last was due.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) async fn open(client: &Rc<Client>, rate: f64, duration: Duration) -> Fallible<Outcome> {
    let period = Duration::from_secs_f64(1.0 / rate);
    let ticker = Ticker::new(period.max(TICK))?;
    let total = Rc::new(RefCell::new(Outcome::default()));
    let mut waiting = JoinSet::new();
    let begun = Instant::now();
    let (mut due, mut connection) = (Duration::ZERO, 0);
    while due < duration {
        ticker.tick().await?;
        let now = begun.elapsed();
        while due <= now && due < duration {
            if waiting.len() < MAX_WAITING {
                let (client, total) = (Rc::clone(client), Rc::clone(&total));
                let since = begun + due;
                waiting.spawn_local(async move {
                    let is_right = client.call(connection).await.is_ok();
                    total.borrow_mut().count(is_right, since);
                });
            } else {
                total.borrow_mut().failures += 1;
            }
            due += period;
            connection += 1;
        }
        while waiting.try_join_next().is_some() {}
    }
    let all = async { while waiting.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GRACE, all).await;
    let elapsed = begun.elapsed();
    total.borrow_mut().failures += waiting.len();
    Ok(total.take().finish(elapsed))
}

/// Ready once a period, to some ten microseconds.
struct Ticker {
    timer: AsyncFd<OwnedFd>,
}

impl Ticker {
    fn new(period: Duration) -> Fallible<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let period = Timespec::try_from(period)?;
        let schedule = Itimerspec {
            it_interval: period,
            it_value: period,
        };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &schedule)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, and an OwnedFd keeps the promise that it asks for"
        )]
        let timer = AsyncFd::new(timer)?;
        Ok(Self { timer })
    }

    async fn tick(&self) -> Fallible<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut [0; 8])?));
            if let Ok(ticks) = read {
                ticks?;
                return Ok(());
            }
        }
    }
}

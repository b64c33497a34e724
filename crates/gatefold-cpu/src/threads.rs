//! Sharing work among a pool of threads.
//!
//! A process that forks has no helpers in its child, which then works on one thread.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The number of threads that share the work. Results do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads(NonZero<usize>);

/// The multiplications and additions worth a thread: handing work to one takes a few us, in which a core does about
/// this many.
const WORTH_A_THREAD: usize = 1 << 17;

/// The time that a thread without work looks for more before it sleeps. Waking one takes 10 to 60 us; the parts of a
/// training step follow one another faster.
const SPIN_TIME: Duration = Duration::from_micros(200);

impl Threads {
    /// One thread per core that this process may use.
    pub fn available() -> Self {
        Threads(std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN))
    }

    /// This many threads, or one for 0.
    pub fn new(count: usize) -> Self {
        Threads(NonZero::new(count).unwrap_or(NonZero::<usize>::MIN))
    }

    /// The number of threads.
    pub fn count(self) -> usize {
        self.0.get()
    }

    /// These threads, or one where this many multiplications and additions are too few to share.
    pub(crate) fn worth(self, operations: usize) -> Self {
        if operations < 2 * WORTH_A_THREAD { Threads::new(1) } else { self }
    }

    /// These threads, or as many as there are jobs.
    pub(crate) fn at_most(self, jobs: usize) -> Self {
        Threads::new(self.count().min(jobs))
    }

    /// The length of the ranges in which the threads share `0..length`, for this many multiplications and additions: a
    /// multiple of `tile`. The last range may be shorter.
    pub(crate) fn share(self, length: usize, tile: usize, operations: usize) -> usize {
        let parts = self.count().min(operations / WORTH_A_THREAD).min(length.div_ceil(tile)).max(1);
        length.div_ceil(tile).div_ceil(parts).max(1) * tile
    }

    /// Runs all jobs, on this thread and on others of the pool. Each thread takes the next job when it is done with
    /// one. While another caller has the pool, this thread does them all: a program with many threads of its own gets
    /// no more of them.
    ///
    /// # Panics
    /// If a job panics, once no job is running.
    pub(crate) fn run<J: Send>(
        self,
        jobs: impl IntoIterator<Item = J, IntoIter: Send>,
        work: impl Fn(J) + Sync,
    ) {
        let jobs = jobs.into_iter();
        let others = jobs.size_hint().1.map_or(usize::MAX, |jobs| jobs.saturating_sub(1));
        let helpers = others.min(self.count() - 1);
        let pool = if helpers == 0 { None } else { Pool::take(helpers) };
        let Some(pool) = pool else { return jobs.for_each(work) };
        let jobs = Mutex::new(jobs);
        pool.run(helpers, &|| {
            loop {
                let job = lock(&jobs).next();
                match job {
                    Some(job) => work(job),
                    None => return,
                }
            }
        });
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Work for any number of threads at once; returns when nothing is left to begin.
type Work<'a> = &'a (dyn Fn() + Sync + 'a);

/// The threads of this process that help whoever has work to share.
struct Pool {
    state: Mutex<State>,
    /// The number of pieces of work handed out so far; threads look here before they sleep.
    handed: AtomicUsize,
    /// Signals new work to the helpers.
    more: Condvar,
    /// Signals the last helper's end to the owner of the work.
    done: Condvar,
    /// Helpers that are still at it.
    busy: AtomicUsize,
    /// Held by the caller that has the pool, with the number of threads started so far.
    started: Mutex<usize>,
}

struct State {
    work: Option<Work<'static>>,
    /// Helpers that may still begin.
    wanted: usize,
    /// The payload of a helper's panic.
    panic: Option<Box<dyn std::any::Any + Send>>,
}

/// The pool, while one caller has it.
struct Taken(MutexGuard<'static, usize>);

impl Pool {
    fn get() -> &'static Self {
        static POOL: OnceLock<Pool> = OnceLock::new();
        POOL.get_or_init(|| Pool {
            state: Mutex::new(State { work: None, wanted: 0, panic: None }),
            handed: AtomicUsize::new(0),
            more: Condvar::new(),
            done: Condvar::new(),
            busy: AtomicUsize::new(0),
            started: Mutex::new(0),
        })
    }

    /// Takes the pool if nobody has it, and starts threads up to this number. A system that starts no more leaves
    /// the work to fewer.
    fn take(helpers: usize) -> Option<Taken> {
        let pool = Pool::get();
        let mut started = pool.started.try_lock().ok()?;
        while *started < helpers {
            let thread = std::thread::Builder::new().name("gatefold".into());
            if thread.spawn(|| Pool::get().help()).is_err() {
                break;
            }
            *started += 1;
        }
        (*started > 0).then_some(Taken(started))
    }

    /// The life of a helper.
    fn help(&self) {
        let mut seen = 0;
        loop {
            let asleep = Instant::now() + SPIN_TIME;
            while self.handed.load(Ordering::Acquire) == seen && Instant::now() < asleep {
                std::hint::spin_loop();
            }
            let mut state = lock(&self.state);
            while state.wanted == 0 {
                state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            seen = self.handed.load(Ordering::Acquire);
            state.wanted -= 1;
            let Some(work) = state.work else { continue };
            self.busy.fetch_add(1, Ordering::AcqRel);
            drop(state);
            let outcome = catch_unwind(AssertUnwindSafe(work));
            let mut state = lock(&self.state);
            if let Err(panic) = outcome {
                state.panic.get_or_insert(panic);
            }
            if self.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.done.notify_one();
            }
        }
    }
}

impl Taken {
    /// Runs the work on this thread and on up to `helpers` others, until nothing of it is left.
    fn run(self, helpers: usize, work: Work) {
        let pool = Pool::get();
        #[allow(unsafe_code, reason = "a thread of the pool cannot borrow from a caller that goes on")]
        // SAFETY: only the lifetime changes. Helpers get the work from `state` alone, and count themselves in `busy`
        // before they let go of its lock. This function neither returns nor unwinds before it has taken the work out
        // of `state` and seen `busy` at 0, so no helper uses the work after that.
        let lasting = unsafe { std::mem::transmute::<Work<'_>, Work<'static>>(work) };
        let helpers = helpers.min(*self.0);
        {
            let mut state = lock(&pool.state);
            state.work = Some(lasting);
            state.wanted = helpers;
            pool.handed.fetch_add(1, Ordering::AcqRel);
        }
        (0..helpers).for_each(|_| pool.more.notify_one());
        let outcome = catch_unwind(AssertUnwindSafe(work));
        {
            let mut state = lock(&pool.state);
            (state.work, state.wanted) = (None, 0);
        }
        let asleep = Instant::now() + SPIN_TIME;
        while pool.busy.load(Ordering::Acquire) > 0 && Instant::now() < asleep {
            std::hint::spin_loop();
        }
        let mut state = lock(&pool.state);
        while pool.busy.load(Ordering::Acquire) > 0 {
            state = pool.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let panic = state.panic.take();
        drop(state);
        if let Some(panic) = outcome.err().or(panic) {
            drop(self);
            resume_unwind(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold_reference::Failures;

    #[test]
    fn shares_are_whole_tiles_for_at_most_all_threads() {
        let mut failures = Failures::new();
        for threads in [1, 2, 3, 7] {
            for length in [1, 15, 16, 17, 100] {
                failures.check(format!("{threads} threads, length {length}"), || {
                    let share = Threads::new(threads).share(length, 16, usize::MAX);
                    assert_eq!(share % 16, 0);
                    assert!(length.div_ceil(share) <= threads);
                    assert!(threads == 1 || length <= 16 || share < length, "{share} for each");
                });
            }
        }
        failures.finish();
        assert_eq!(Threads::new(4).share(64, 16, WORTH_A_THREAD - 1), 64);
        assert_eq!(Threads::new(4).share(0, 16, usize::MAX), 16);
    }

    /// Many callers at once, each with more jobs than threads, and jobs that share work themselves.
    #[test]
    fn every_job_runs_once_whoever_has_the_pool() {
        let threads = Threads::new(3);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..300 {
                        let mut counts = vec![0_usize; round % 7];
                        threads.run(counts.iter_mut(), |count| {
                            let mut inner = [0; 3];
                            threads.run(inner.iter_mut(), |inner| *inner += 1);
                            *count += inner.iter().sum::<usize>();
                        });
                        assert!(counts.iter().all(|&count| count == 3), "{counts:?}");
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let threads = Threads::new(2);
        for bad in 0..8 {
            let run = || threads.run(0..8, |n| assert!(n != bad, "job {n}"));
            let panic = catch_unwind(run).unwrap_err();
            assert_eq!(*panic.downcast::<String>().unwrap(), format!("job {bad}"));
            let sum = AtomicUsize::new(0);
            threads.run(0..8, |n| {
                sum.fetch_add(n, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 28);
        }
    }
}

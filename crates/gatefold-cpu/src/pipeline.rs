//! Stages in a row, each with work of its own on every item, run by several threads at once.
//!
//! Layers over windows of steps are such stages: while one layer computes a window, the next computes the window
//! before. A thread takes whatever stage is ready, so fewer threads than there are stages, or one, finish as well.

use crate::threads::{Threads, lock};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The items that a stage may have waiting. Two keep threads of uneven speed busy, and memory small.
const WAITING: usize = 2;

/// The looks for a ready stage before a thread leaves its core to others between looks.
const LOOKS: usize = 10_000;

/// Stages in a row.
#[derive(Debug)]
pub(crate) struct Chain<S> {
    /// The items that go through the stages.
    pub(crate) items: usize,
    pub(crate) stages: Vec<S>,
}

/// A stage and the items that wait for it.
struct Place<S, I> {
    /// `None` while a thread runs it.
    stage: Option<S>,
    done: usize,
    waiting: VecDeque<I>,
}

struct Line<S, I> {
    items: usize,
    places: Vec<Place<S, I>>,
}

/// The chains, and the places of the stages that threads have not finished.
struct Board<S, I> {
    lines: Vec<Line<S, I>>,
    /// A stage panicked; nothing else begins.
    failed: bool,
}

/// A stage that a thread runs: of this chain, at this place.
type At = (usize, usize);

enum Next<S, I> {
    /// The stage, its item's number and the item.
    Run(At, S, usize, Option<I>),
    /// Other threads run all that is ready.
    Wait,
    Done,
}

impl<S, I> Board<S, I> {
    fn is_ready(&self, (chain, at): At) -> bool {
        let Line { items, places } = &self.lines[chain];
        let place = &places[at];
        place.stage.is_some()
            && place.done < *items
            && (at == 0 || !place.waiting.is_empty())
            && places.get(at + 1).is_none_or(|next| next.waiting.len() < WAITING)
    }

    /// Takes the stage that the thread ran before, whose weights are in its cache, or else the last that is ready.
    fn take(&mut self, before: Option<At>) -> Next<S, I> {
        let places =
            |chain: usize, line: &Line<S, I>| (0..line.places.len()).rev().map(move |at| (chain, at));
        let mut all = self.lines.iter().enumerate().flat_map(|(chain, line)| places(chain, line));
        let found = before.filter(|&at| self.is_ready(at)).or_else(|| all.find(|&at| self.is_ready(at)));
        let Some((chain, at)) = found.filter(|_| !self.failed) else {
            let line_done = |line: &Line<S, I>| line.places.iter().all(|place| place.done == line.items);
            return if self.failed || self.lines.iter().all(line_done) { Next::Done } else { Next::Wait };
        };
        let place = &mut self.lines[chain].places[at];
        let stage = place.stage.take().expect("it is ready");
        Next::Run((chain, at), stage, place.done, place.waiting.pop_front())
    }

    fn put_back(&mut self, (chain, at): At, stage: S, item: Option<I>) {
        let places = &mut self.lines[chain].places;
        places[at].stage = Some(stage);
        places[at].done += 1;
        if let (Some(next), Some(item)) = (places.get_mut(at + 1), item) {
            next.waiting.push_back(item);
        }
    }
}

impl Threads {
    /// Puts every chain's items through its stages, in order, and returns the stages. `work` gets a stage, an item's
    /// number and, except in a first stage, what the stage before made of the item; all but a last stage return
    /// something for the next.
    ///
    /// # Panics
    /// If the work panics, once no stage is running.
    pub(crate) fn pipeline<S: Send, I: Send>(
        self,
        chains: Vec<Chain<S>>,
        work: impl Fn(&mut S, usize, Option<I>) -> Option<I> + Sync,
    ) -> Vec<Vec<S>> {
        let stages: usize = chains.iter().map(|chain| chain.stages.len()).sum();
        let place =
            |stage: S| Place { stage: Some(stage), done: 0, waiting: VecDeque::with_capacity(WAITING) };
        let line = |chain: Chain<S>| Line {
            items: chain.items,
            places: chain.stages.into_iter().map(place).collect(),
        };
        let board = Mutex::new(Board { lines: chains.into_iter().map(line).collect(), failed: false });
        let changes = AtomicUsize::new(0);
        self.run(0..self.count().min(stages), |_| run_stages(&board, &changes, &work));
        let board = board.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let stage = |place: Place<S, I>| place.stage.expect("no stage is running");
        board.lines.into_iter().map(|line| line.places.into_iter().map(stage).collect()).collect()
    }
}

/// Runs stages until none is left to run.
fn run_stages<S, I>(
    board: &Mutex<Board<S, I>>,
    changes: &AtomicUsize,
    work: &impl Fn(&mut S, usize, Option<I>) -> Option<I>,
) {
    /// Notes that a stage panicked, so that nobody waits for it.
    struct Failure<'a, S, I>(&'a Mutex<Board<S, I>>, &'a AtomicUsize);

    impl<S, I> Drop for Failure<'_, S, I> {
        fn drop(&mut self) {
            lock(self.0).failed = true;
            self.1.fetch_add(1, Ordering::Release);
        }
    }

    let mut before = None;
    loop {
        let seen = changes.load(Ordering::Acquire);
        let next = lock(board).take(before);
        match next {
            Next::Run(at, mut stage, number, item) => {
                let failure = Failure(board, changes);
                let item = work(&mut stage, number, item);
                std::mem::forget(failure);
                lock(board).put_back(at, stage, item);
                changes.fetch_add(1, Ordering::Release);
                before = Some(at);
            }
            Next::Wait => {
                let mut looks = 0;
                while changes.load(Ordering::Acquire) == seen {
                    looks += 1;
                    if looks < LOOKS { std::hint::spin_loop() } else { std::thread::yield_now() }
                }
            }
            Next::Done => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Stages that add their number to each item, and keep the items that they saw.
    fn chains(lengths: &[(usize, usize)]) -> Vec<Chain<(usize, Vec<usize>)>> {
        let stages = |count: usize| (0..count).map(|number| (number, Vec::new())).collect();
        lengths.iter().map(|&(items, count)| Chain { items, stages: stages(count) }).collect()
    }

    #[test]
    fn every_item_goes_through_every_stage_in_order() {
        for threads in [1, 2, 3, 8] {
            for round in 0..50 {
                let lengths = [(round % 7, 4), (5, 1), (20, 3)];
                let work = |stage: &mut (usize, Vec<usize>), number: usize, item: Option<usize>| {
                    assert_eq!(item.is_none(), stage.0 == 0);
                    let item = item.unwrap_or(100 * number) + stage.0;
                    stage.1.push(item);
                    Some(item)
                };
                let chains = Threads::new(threads).pipeline(chains(&lengths), work);
                for (stages, (items, _)) in chains.into_iter().zip(lengths) {
                    for (number, seen) in stages {
                        let added: usize = (0..=number).sum();
                        let expected: Vec<usize> = (0..items).map(|item| 100 * item + added).collect();
                        assert_eq!(seen, expected, "{threads} threads, stage {number}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_panic_in_a_stage_reaches_the_caller() {
        for threads in [1, 2, 3] {
            let run = || {
                let work = |stage: &mut (usize, Vec<usize>), number: usize, _: Option<()>| {
                    assert!((stage.0, number) != (1, 3), "stage 1, item {number}");
                    Some(())
                };
                Threads::new(threads).pipeline(chains(&[(9, 3)]), work)
            };
            let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
            assert_eq!(*panic.downcast::<String>().unwrap(), "stage 1, item 3");
        }
    }
}

//! Products of single steps that several threads share.
//!
//! A scan over few rows has one short product after another, each waiting for the one before. A [`Team`] lets threads that
//! have no scan of their own compute some of the columns. Its leader runs the scan; helpers look for columns to compute
//! until the scan is over. Whoever is first takes a piece, so a leader without helpers does all by itself, and a helper that
//! never comes delays nobody. What they exchange goes through atomics, a few hundred numbers each way: 1 us at most.
//!
//! Each column is the same sum whoever computes it, so the helpers change no bit.

use crate::instructions::Instructions;
use crate::product::{Columns, ColumnsMut, Packed, Start};
use crate::threads::Threads;
use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Columns of a piece are a multiple of this: of the panels of every set of instructions.
const COLUMNS: usize = 64;
/// The multiplications and additions of a product that are worth sharing, 8 us of a core: with half as many, what the
/// threads exchange takes about as long as what they save.
const WORTH_SHARING: usize = 1 << 18;
/// The looks for a change before a thread leaves its core to others between looks.
const LOOKS: usize = 10_000;
/// The most threads that share a product.
const MOST_MEMBERS: usize = 16;
/// A leader that waits longer than its own part took, and longer than this, has helpers without a core of their own. After
/// so many products in a row it shares no more.
const LONG_WAIT: Duration = Duration::from_micros(100);
const PATIENCE: usize = 4;

thread_local! {
    /// Teams that were used before, with their room.
    static TEAMS: Cell<Vec<Team>> = const { Cell::new(Vec::new()) };
    /// A helper's copies of what it multiplies and of its piece.
    static OWN: Cell<[Vec<f32>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) };
}

/// Numbers that threads exchange.
#[derive(Debug, Default)]
struct Exchange(Vec<AtomicU32>);

impl Exchange {
    /// Makes room for this many.
    fn resize(&mut self, len: usize) {
        self.0.resize_with(len.max(self.0.len()), AtomicU32::default);
    }

    fn put(&self, at: usize, values: &[f32]) {
        for (to, value) in self.0[at..][..values.len()].iter().zip(values) {
            to.store(value.to_bits(), Ordering::Relaxed);
        }
    }

    fn get(&self, at: usize, values: &mut [f32]) {
        for (value, from) in values.iter_mut().zip(&self.0[at..]) {
            *value = f32::from_bits(from.load(Ordering::Relaxed));
        }
    }
}

/// A value in cache lines of its own, so that a thread that waits for it is not disturbed by what others write beside it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

/// The product that is shared now.
#[derive(Debug, Default)]
struct Task {
    /// Its place among those of the scan.
    product: AtomicUsize,
    rows: AtomicUsize,
    /// Whether it begins at zero, not at the output's own values.
    from_zero: AtomicBool,
}

/// The threads that share the products of a scan.
#[derive(Debug, Default)]
pub(crate) struct Team {
    /// Helpers and the leader.
    members: usize,
    /// The number of the product, how many pieces it has and how many are taken, in 32, 16 and 16 bits.
    taken: Apart<AtomicU64>,
    over: Apart<AtomicBool>,
    /// Pieces that helpers have computed.
    done: Apart<AtomicUsize>,
    task: Apart<Task>,
    /// `[rows, K]`
    left: Exchange,
    /// `[rows, N]`: the values to which the product is added, then the results.
    out: Exchange,
    /// The last products in a row that kept the leader waiting for long.
    waits: AtomicUsize,
}

/// The products of a scan that may be shared, in an order of their own.
pub(crate) type Products<'a> = [&'a Packed; 3];

fn is_worth_sharing(product: &Packed, rows: usize) -> bool {
    product.width() > COLUMNS && rows * product.depth() * product.width() >= WORTH_SHARING
}

/// A piece's columns of a product.
fn columns(piece: usize, pieces: usize, width: usize) -> Range<usize> {
    let blocks = width.div_ceil(COLUMNS);
    let at = |piece: usize| (piece * blocks / pieces * COLUMNS).min(width);
    at(piece)..at(piece + 1)
}

fn packed_word(number: u64, pieces: usize, taken: usize) -> u64 {
    number << 32 | (pieces as u64) << 16 | taken as u64
}

/// The number of a product, its pieces and those taken.
fn parts_of(word: u64) -> (u64, usize, usize) {
    (word >> 32, (word >> 16 & 0xffff) as usize, (word & 0xffff) as usize)
}

impl Team {
    /// Makes ready for a scan of up to `rows` rows.
    fn begin(&mut self, members: usize, products: Products, rows: usize) {
        self.members = members;
        let most = |size: fn(&Packed) -> usize| products.iter().map(|one| size(one)).max().unwrap_or(0);
        self.left.resize(rows * most(Packed::depth));
        self.out.resize(rows * most(Packed::width));
        *self.waits.get_mut() = 0;
        *self.over.0.get_mut() = false;
        *self.taken.0.get_mut() = 0;
    }

    /// [`Packed::multiply`], shared if that is worth it.
    pub(crate) fn multiply(
        &self,
        set: Instructions,
        products: Products,
        product: &Packed,
        a: Columns,
        start: Start,
        out: ColumnsMut,
    ) {
        let (depth, width, rows) = (product.depth(), product.width(), out.elements.len() / out.width);
        let pieces = self.members.min(width.div_ceil(COLUMNS));
        let place = products.iter().position(|one| std::ptr::eq(*one, product));
        let from_zero = match start {
            Start::Zero => Some(true),
            Start::Output => Some(false),
            Start::Row(_) => None,
        };
        let has_room = rows * depth <= self.left.0.len() && rows * width <= self.out.0.len();
        let is_helped = pieces > 1 && self.waits.load(Ordering::Relaxed) < PATIENCE;
        let (Some(place), Some(from_zero), true) =
            (place, from_zero, has_room && is_helped && is_worth_sharing(product, rows))
        else {
            return product.multiply(set, a, start, out);
        };
        self.publish(place, from_zero, (a, depth), (&out, width), pieces);
        let begun = Instant::now();
        let mut is_mine = [false; MOST_MEMBERS];
        let mut piece = 0;
        loop {
            is_mine[piece] = true;
            let columns = columns(piece, pieces, width);
            let part = ColumnsMut { elements: &mut *out.elements, ..out };
            product.multiply_columns(set, columns, a, start, part);
            match self.take() {
                Some((next, _)) => piece = next,
                None => break,
            }
        }
        let helped = is_mine[..pieces].iter().filter(|mine| !**mine).count();
        self.wait_for(helped, begun.elapsed());
        for piece in (0..pieces).filter(|&piece| !is_mine[piece]) {
            let columns = columns(piece, pieces, width);
            for (row, out_row) in out.elements.chunks_exact_mut(out.width).enumerate() {
                self.out.get(row * width + columns.start, &mut out_row[out.first..][columns.clone()]);
            }
        }
    }

    /// Offers all pieces but the first, which is the leader's.
    fn publish(
        &self,
        place: usize,
        from_zero: bool,
        (a, depth): (Columns, usize),
        (out, width): (&ColumnsMut, usize),
        pieces: usize,
    ) {
        for (row, a_row) in a.elements.chunks_exact(a.width).enumerate() {
            self.left.put(row * depth, &a_row[a.first..][..depth]);
        }
        if !from_zero {
            let offered = columns(0, pieces, width).end..width;
            for (row, out_row) in out.elements.chunks_exact(out.width).enumerate() {
                self.out.put(row * width + offered.start, &out_row[out.first..][offered.clone()]);
            }
        }
        let Apart(task) = &self.task;
        task.product.store(place, Ordering::Relaxed);
        task.rows.store(out.elements.len() / out.width, Ordering::Relaxed);
        task.from_zero.store(from_zero, Ordering::Relaxed);
        self.done.0.store(0, Ordering::Relaxed);
        // Helpers take pieces of this number alone, and look at the above only once they have one.
        let (number, ..) = parts_of(self.taken.0.load(Ordering::Relaxed));
        let number = (number + 1) & u64::from(u32::MAX);
        self.taken.0.store(packed_word(number, pieces, 1), Ordering::Release);
    }

    /// Takes a piece, if one is left; its number, and of how many.
    fn take(&self) -> Option<(usize, usize)> {
        let next = |word: u64| {
            let (_, pieces, taken) = parts_of(word);
            (taken < pieces).then_some(word + 1)
        };
        let word = self.taken.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).ok()?;
        let (_, pieces, taken) = parts_of(word);
        Some((taken, pieces))
    }

    /// Waits until helpers are done with this many pieces; the leader's own took this long.
    fn wait_for(&self, helped: usize, own: Duration) {
        let (begun, mut looks) = (Instant::now(), 0);
        while self.done.0.load(Ordering::Acquire) < helped {
            pause(&mut looks);
        }
        let is_long = begun.elapsed() > own.max(LONG_WAIT);
        self.waits.store(if is_long { self.waits.load(Ordering::Relaxed) + 1 } else { 0 }, Ordering::Relaxed);
    }

    /// Computes pieces until the scan is over.
    fn help(&self, set: Instructions, products: Products) {
        let mut own = OWN.take();
        let mut looks = 0;
        while !self.over.0.load(Ordering::Acquire) {
            match self.take() {
                Some((piece, pieces)) => {
                    // Counted even if it panics, so that the leader does not wait in vain.
                    let _done = OnDrop(|| {
                        self.done.0.fetch_add(1, Ordering::Release);
                    });
                    self.compute(set, products, piece, pieces, &mut own);
                    looks = 0;
                }
                None => pause(&mut looks),
            }
        }
        OWN.set(own);
    }

    fn compute(
        &self,
        set: Instructions,
        products: Products,
        piece: usize,
        pieces: usize,
        [left, out]: &mut [Vec<f32>; 2],
    ) {
        let Apart(task) = &self.task;
        let product = products[task.product.load(Ordering::Relaxed)];
        let (rows, from_zero) = (task.rows.load(Ordering::Relaxed), task.from_zero.load(Ordering::Relaxed));
        let (depth, width) = (product.depth(), product.width());
        let columns = columns(piece, pieces, width);
        left.resize(rows * depth, 0.0);
        self.left.get(0, left);
        out.resize(rows * width, 0.0);
        let part = |row: usize| row * width + columns.start..row * width + columns.end;
        if !from_zero {
            (0..rows).for_each(|row| self.out.get(part(row).start, &mut out[part(row)]));
        }
        let start = if from_zero { Start::Zero } else { Start::Output };
        let (a, to) = (Columns::all(left, depth), ColumnsMut::all(out, width));
        product.multiply_columns(set, columns.clone(), a, start, to);
        (0..rows).for_each(|row| self.out.put(part(row).start, &out[part(row)]));
    }
}

/// Waits for a moment.
fn pause(looks: &mut usize) {
    if *looks < LOOKS {
        *looks += 1;
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// The work of a thread: a scan, or helping one.
enum Role<J> {
    Lead(usize, J),
    Help(usize),
}

/// Runs scans, of which the `n`-th may share the products `products(n)` of up to `rows` rows. Threads that are left over
/// help, if that is worth it.
pub(crate) fn run<'a, J: Send>(
    (set, threads): (Instructions, Threads),
    (count, rows): (usize, usize),
    products: impl Fn(usize) -> Products<'a> + Sync,
    jobs: impl Iterator<Item = J> + Send,
    work: impl Fn(J, Option<&Team>) + Sync,
) {
    let is_worth = |one: &&Packed| is_worth_sharing(one, rows);
    let helpers = threads.count().saturating_sub(count).min(count * (MOST_MEMBERS - 1));
    if helpers == 0 || !(0..count).any(|n| products(n).iter().any(is_worth)) {
        return threads.at_most(count).run(jobs, |job| work(job, None));
    }
    let mut teams = TEAMS.take();
    teams.resize_with(count.max(teams.len()), Team::default);
    for (n, team) in teams[..count].iter_mut().enumerate() {
        // The first teams have one more where the helpers do not divide.
        team.begin(1 + helpers / count + usize::from(n < helpers % count), products(n), rows);
    }
    // Leaders come first, so that no helper waits for one.
    let leaders = jobs.enumerate().map(|(n, job)| Role::Lead(n, job));
    let roles = leaders.chain((0..helpers).map(move |n| Role::Help(n % count)));
    threads.at_most(count + helpers).run(roles, |role| match role {
        Role::Lead(n, job) => {
            let _over = OnDrop(|| teams[n].over.0.store(true, Ordering::Release));
            work(job, Some(&teams[n]));
        }
        Role::Help(n) => teams[n].help(set, products(n)),
    });
    TEAMS.set(teams);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::product::tests::numbers;
    use gatefold_reference::Failures;
    use ndarray::Array2;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn packed(set: Instructions, depth: usize, width: usize) -> Packed {
        let mut packed = Packed::default();
        packed.pack_rows(set, numbers(depth, width, 3).view(), std::slice::from_ref(&(0..depth)));
        packed
    }

    /// Runs a product on columns of wider matrices; returns the matrix that it wrote into.
    fn product(
        multiply: impl Fn(&Packed, Columns, Start, ColumnsMut),
        product: &Packed,
        rows: usize,
        round: usize,
        from_zero: bool,
    ) -> Array2<f32> {
        let (depth, width) = (product.depth(), product.width());
        let (a, mut out) = (numbers(rows, depth + 5, round), numbers(rows, width + 9, round + 1));
        let start = if from_zero { Start::Zero } else { Start::Output };
        let a = Columns { elements: a.as_slice().unwrap(), width: depth + 5, first: 2 };
        let to = ColumnsMut { elements: out.as_slice_mut().unwrap(), width: width + 9, first: 4 };
        multiply(product, a, start, to);
        out
    }

    /// Two scans at once, each with products of several shapes, until helpers have computed some of them.
    #[test]
    fn helpers_change_no_bit() {
        let mut failures = Failures::new();
        for set in Instructions::available() {
            let scans = [
                [packed(set, 150, 600), packed(set, 70, 1000), packed(set, 130, 128)],
                [packed(set, 600, 150), packed(set, 128, 513), Packed::default()],
            ];
            let products = |n: usize| scans[n].each_ref();
            for (count, threads) in [(1, 2), (1, 5), (2, 4)] {
                failures.check(format!("{set}, {count} scans, {threads} threads"), || {
                    run((set, Threads::new(threads)), (count, 4), products, 0..count, |n, team| {
                        let team = team.expect("these are worth sharing");
                        let until = Instant::now() + Duration::from_secs(60);
                        let mut helped = 0;
                        for round in 0.. {
                            for one in products(n).into_iter().filter(|one| one.width() > 0) {
                                let (rows, from_zero) = (1 + round % 4, round % 3 == 0);
                                let plain = |b: &Packed, a: Columns, start: Start, out: ColumnsMut| {
                                    b.multiply(set, a, start, out);
                                };
                                let shared = |b: &Packed, a: Columns, start: Start, out: ColumnsMut| {
                                    team.waits.store(0, Ordering::Relaxed);
                                    team.multiply(set, products(n), b, a, start, out);
                                };
                                let want = product(plain, one, rows, round, from_zero);
                                assert_eq!(
                                    product(shared, one, rows, round, from_zero),
                                    want,
                                    "round {round}"
                                );
                                helped += team.done.0.swap(0, Ordering::Relaxed);
                            }
                            if round >= 20 && helped > 50 {
                                return;
                            }
                            assert!(Instant::now() < until, "{helped} pieces by helpers");
                        }
                    });
                });
            }
        }
        failures.finish();
    }

    #[test]
    fn pieces_are_all_columns_and_end_with_panels() {
        for width in [65_usize, 128, 150, 512, 1000, 4096] {
            for pieces in 1..=MOST_MEMBERS.min(width.div_ceil(COLUMNS)) {
                let mut end = 0;
                for piece in 0..pieces {
                    let columns = columns(piece, pieces, width);
                    assert!(columns.start == end && !columns.is_empty(), "{columns:?}");
                    assert!(columns.end == width || columns.end.is_multiple_of(COLUMNS), "{columns:?}");
                    end = columns.end;
                }
                assert_eq!(end, width);
            }
        }
    }

    /// Helpers leave when their leader panics, and the next scan has them again.
    #[test]
    fn a_leader_that_panics_lets_its_helpers_go() {
        let set = Instructions::widest();
        let one = packed(set, 256, 512);
        let products = |_| [&one; 3];
        let scan = |bad: bool| {
            run((set, Threads::new(3)), (1, 1), products, 0..1, |_, _| assert!(!bad, "a scan"));
        };
        let panic = catch_unwind(AssertUnwindSafe(|| scan(true))).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"a scan"));
        scan(false);
    }
}

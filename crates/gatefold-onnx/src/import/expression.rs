//! Elements of tensors as sums of products, for parts of a graph that no single layer computes.
//!
//! A cell that is written out step by step, by a loop or by an exporter, becomes a layer if its elements are those of
//! the cell's equations. So each element is kept in one form, whatever the order of its nodes: a sum of terms, each a
//! number times at most two atoms. `(h - n) z + n` and `z h + (1 - z) n` are the same three terms.
//!
//! Sums are numbered from -1 downwards, so that they can stand among the identities of elements of sources, which are
//! numbered from 1 upwards; operators that move elements move both.

use gatefold_model::Activation;
use ndarray::Array2;
use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

/// The most sums and atoms that a graph may need: so many, and more for each number that is stored in it.
const BASE: usize = 1 << 21;
const FOR_EACH: usize = 1 << 7;
const MOST: usize = 1 << 23;
/// The most terms of one sum.
const MOST_TERMS: usize = 64;

/// A part of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Atom {
    /// The element of a source, or a sum that is not multiplied out, by its identity.
    Element(i64),
    /// A function of a sum.
    Applied(u32),
    /// A row of elements times a column of a matrix.
    Dot(u32),
}

/// The atoms of a term: two, one, or none for a constant.
pub(super) type Atoms = [Option<Atom>; 2];
/// A sum of terms, ordered by their atoms. Only the constant term may be 0; it tells that something constant was added.
pub(super) type Terms = Rc<[(Atoms, f64)]>;

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Function {
    /// Any but the relu.
    Activation(Activation),
    /// The relu too.
    Clip { low: f32, high: f32 },
}

/// A function of a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Applied {
    function: u32,
    /// The identity of the sum.
    pub(super) sum: i64,
}

/// A row of elements times a column of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Dot {
    pub(super) row: u32,
    pub(super) matrix: u32,
    pub(super) column: u32,
}

/// Everything that is known about sums and atoms, each kept once.
#[derive(Debug, Default)]
pub(super) struct Expressions {
    most: usize,
    sums: Vec<Terms>,
    /// The sums with a hash.
    sum_numbers: HashMap<u64, Vec<i64>>,
    applied: Vec<Applied>,
    applied_numbers: HashMap<Applied, u32>,
    dots: Vec<Dot>,
    dot_numbers: HashMap<Dot, u32>,
    functions: Vec<Function>,
    rows: Vec<Rc<[i64]>>,
    row_numbers: HashMap<Rc<[i64]>, u32>,
    /// Sums of products that are part of a row: states, which are atoms from then on.
    states: HashSet<i64>,
    /// `[I, O]`
    matrices: Vec<Array2<f32>>,
}

impl Expressions {
    /// For a graph with `stored` numbers.
    pub(super) fn new(stored: usize) -> Expressions {
        let most = BASE.saturating_add(stored.saturating_mul(FOR_EACH)).min(MOST);
        Expressions { most, ..Expressions::default() }
    }

    /// The terms of an element.
    pub(super) fn terms(&self, id: i64) -> Terms {
        match self.place(id) {
            Some(place) => self.sums[place].clone(),
            None => alone(id),
        }
    }

    fn place(&self, id: i64) -> Option<usize> {
        usize::try_from(-1 - id).ok().filter(|&place| place < self.sums.len())
    }

    pub(super) fn applied(&self, number: u32) -> (Function, i64) {
        let Applied { function, sum } = self.applied[number as usize];
        (self.functions[function as usize], sum)
    }

    pub(super) fn dot(&self, number: u32) -> Dot {
        self.dots[number as usize]
    }

    pub(super) fn row(&self, number: u32) -> &Rc<[i64]> {
        &self.rows[number as usize]
    }

    pub(super) fn matrix(&self, number: u32) -> &Array2<f32> {
        &self.matrices[number as usize]
    }

    /// The value of an element that depends on no input.
    pub(super) fn known(&self, id: i64) -> Option<f64> {
        let terms = &self.sums[self.place(id)?];
        match terms[..] {
            [] => Some(0.0),
            [([None, None], value)] => Some(value),
            _ => None,
        }
    }

    /// Whether an element is a product with 0.
    pub(super) fn is_nothing(&self, id: i64) -> bool {
        self.place(id).is_some_and(|place| self.sums[place].is_empty())
    }

    /// The element that is an atom.
    pub(super) fn of_atom(&mut self, atom: Atom) -> Result<i64, String> {
        match atom {
            Atom::Element(id) => Ok(id),
            _ => self.sum(vec![([Some(atom), None], 1.0)]),
        }
    }

    pub(super) fn constant(&mut self, value: f64) -> Result<i64, String> {
        self.sum(vec![([None, None], value)])
    }

    /// The element with these terms, which are in order.
    fn sum(&mut self, terms: Vec<(Atoms, f64)>) -> Result<i64, String> {
        if let [([Some(Atom::Element(id)), None], 1.0)] = terms[..] {
            return Ok(id);
        }
        if terms.len() > MOST_TERMS {
            return Err(format!("a sum of more than {MOST_TERMS} products"));
        }
        let hash = hash_of(&terms);
        let known = self.sum_numbers.get(&hash).into_iter().flatten();
        if let Some(&id) =
            known.into_iter().find(|&&id| self.place(id).is_some_and(|at| *self.sums[at] == *terms))
        {
            return Ok(id);
        }
        self.sums.push(terms.into());
        let id = -(self.sums.len() as i64);
        self.sum_numbers.entry(hash).or_default().push(id);
        self.limit().map(|()| id)
    }

    fn limit(&self) -> Result<(), String> {
        let most = self.most;
        match self.sums.len() + self.applied.len() + self.dots.len() > most {
            true => Err(format!(
                "more than {most} elements that no single layer computes; export the model with fewer steps, or with a \
                 number of steps that the data decides"
            )),
            false => Ok(()),
        }
    }

    /// `a + factor b`
    pub(super) fn add(&mut self, a: i64, b: i64, factor: f64) -> Result<i64, String> {
        let (a, b) = (self.summand(a), self.summand(b));
        let mut all = Vec::with_capacity(a.len() + b.len());
        let (mut left, mut right) = (a.iter().peekable(), b.iter().peekable());
        loop {
            let next = match (left.peek(), right.peek()) {
                (None, None) => break,
                (Some(_), None) => *left.next().expect("it was seen"),
                (Some(l), Some(r)) if l.0 < r.0 => *left.next().expect("it was seen"),
                (Some(l), Some(r)) if l.0 == r.0 => {
                    let (atoms, of_left) = *left.next().expect("it was seen");
                    (atoms, of_left + factor * right.next().expect("it was seen").1)
                }
                _ => {
                    let (atoms, of_right) = *right.next().expect("it was seen");
                    (atoms, factor * of_right)
                }
            };
            all.push(next);
        }
        all.retain(|&(atoms, factor)| factor != 0.0 || atoms == [None, None]);
        self.sum(all)
    }

    /// `a b`. A factor that has products itself is not multiplied out.
    pub(super) fn multiply(&mut self, a: i64, b: i64) -> Result<i64, String> {
        for (one, other) in [(a, b), (b, a)] {
            if let Some(factor) = self.known(one) {
                let terms = self.terms(other);
                let scaled = terms.iter().map(|&(atoms, of)| (atoms, factor * of));
                return self.sum(if factor == 0.0 { Vec::new() } else { scaled.collect() });
            }
        }
        let (a, b) = (self.factor(a), self.factor(b));
        let mut all: Vec<(Atoms, f64)> = Vec::with_capacity(a.len() * b.len());
        for &(left, of_left) in a.iter() {
            for &(right, of_right) in b.iter() {
                // A constant of 0 tells nothing in a product.
                if of_left * of_right != 0.0 {
                    let mut atoms = [left[0].or(right[0]), left[0].and(right[0])];
                    atoms.sort_unstable_by_key(|atom| (atom.is_none(), *atom));
                    all.push((atoms, of_left * of_right));
                }
            }
        }
        all.sort_unstable_by_key(|&(atoms, _)| atoms);
        let mut merged: Vec<(Atoms, f64)> = Vec::with_capacity(all.len());
        for (atoms, factor) in all {
            match merged.last_mut() {
                Some(last) if last.0 == atoms => last.1 += factor,
                _ => merged.push((atoms, factor)),
            }
        }
        merged.retain(|&(atoms, factor)| factor != 0.0 || atoms == [None, None]);
        self.sum(merged)
    }

    /// The terms of an element, or the element itself as an atom if it is a state.
    fn summand(&self, id: i64) -> Terms {
        if self.states.contains(&id) { alone(id) } else { self.terms(id) }
    }

    /// The terms of an element, or the element itself as an atom if some of them are products.
    fn factor(&self, id: i64) -> Terms {
        let terms = self.terms(id);
        if has_products(&terms) { alone(id) } else { terms }
    }

    /// A function of an element.
    pub(super) fn apply(&mut self, function: Function, sum: i64) -> Result<i64, String> {
        if let (Function::Clip { low, high }, Some((Function::Clip { low: inner, high: outer }, sum))) =
            (function, self.whole_applied(sum))
        {
            let (low, high) = (inner.clamp(low, high), outer.clamp(low, high));
            return self.apply(Function::Clip { low, high }, sum);
        }
        let function = match self.functions.iter().position(|other| *other == function) {
            Some(place) => place as u32,
            None => {
                self.functions.push(function);
                self.functions.len() as u32 - 1
            }
        };
        let applied = Applied { function, sum };
        let next = self.applied.len() as u32;
        let number = *self.applied_numbers.entry(applied).or_insert(next);
        if number == next {
            self.applied.push(applied);
        }
        self.of_atom(Atom::Applied(number))
    }

    /// The function that an element is, with the sum it takes; `None` if it is more than that.
    pub(super) fn whole_applied(&self, id: i64) -> Option<(Function, i64)> {
        match self.terms(id)[..] {
            [([Some(Atom::Applied(number)), None], 1.0)] => Some(self.applied(number)),
            _ => None,
        }
    }

    /// The number of a row of elements.
    pub(super) fn row_number(&mut self, ids: Vec<i64>) -> u32 {
        let row: Rc<[i64]> = ids.into();
        if let Some(&number) = self.row_numbers.get(&row) {
            return number;
        }
        let products = row.iter().filter(|&&id| has_products(&self.terms(id)));
        let states: Vec<i64> = products.copied().collect();
        self.states.extend(states);
        self.rows.push(row.clone());
        let number = self.rows.len() as u32 - 1;
        self.row_numbers.insert(row, number);
        number
    }

    /// The number of a matrix `[I, O]`; equal matrices have one.
    pub(super) fn matrix_number(&mut self, matrix: Array2<f32>) -> u32 {
        if let Some(place) = self.matrices.iter().position(|other| *other == matrix) {
            return place as u32;
        }
        self.matrices.push(matrix);
        self.matrices.len() as u32 - 1
    }

    /// A row of elements times a column of a matrix.
    pub(super) fn product(&mut self, row: u32, matrix: u32, column: usize) -> Result<i64, String> {
        if self.rows[row as usize].iter().all(|&id| self.known(id) == Some(0.0)) {
            return self.sum(Vec::new());
        }
        let dot = Dot { row, matrix, column: column as u32 };
        let next = self.dots.len() as u32;
        let number = *self.dot_numbers.entry(dot).or_insert(next);
        if number == next {
            self.dots.push(dot);
        }
        self.of_atom(Atom::Dot(number))
    }
}

fn hash_of(terms: &[(Atoms, f64)]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (atoms, factor) in terms {
        // Zeros of both signs are equal.
        (atoms, (factor + 0.0).to_bits()).hash(&mut hasher);
    }
    hasher.finish()
}

/// An element as a sum of itself.
fn alone(id: i64) -> Terms {
    Rc::new([([Some(Atom::Element(id)), None], 1.0)])
}

fn has_products(terms: &Terms) -> bool {
    terms.iter().any(|(atoms, _)| atoms[1].is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sigmoid(all: &mut Expressions, of: i64) -> i64 {
        all.apply(Function::Activation(Activation::Sigmoid), of).unwrap()
    }

    #[test]
    fn both_ways_to_write_an_update_are_one_sum() {
        let mut all = Expressions::new(0);
        let (h, n, one) = (7, 9, all.constant(1.0).unwrap());
        let z = sigmoid(&mut all, 8);
        let difference = all.add(h, n, -1.0).unwrap();
        let product = all.multiply(difference, z).unwrap();
        let pytorch = all.add(product, n, 1.0).unwrap();
        let kept = all.multiply(z, h).unwrap();
        let rest = all.add(one, z, -1.0).unwrap();
        let new = all.multiply(n, rest).unwrap();
        assert_eq!(all.add(new, kept, 1.0).unwrap(), pytorch);
        let swapped = all.multiply(rest, h).unwrap();
        assert_ne!(all.add(swapped, kept, 1.0).unwrap(), pytorch);
    }

    #[test]
    fn a_state_is_an_atom_once_a_matrix_has_met_it() {
        let mut all = Expressions::new(0);
        let state = all.multiply(3, 4).unwrap();
        let before = all.add(state, 5, 1.0).unwrap();
        all.row_number(vec![state]);
        let after = all.add(state, 5, 1.0).unwrap();
        assert_ne!(before, after);
        assert_eq!(all.terms(after)[0].0, [Some(Atom::Element(state)), None]);
    }

    #[test]
    fn products_are_not_multiplied_out_again() {
        let mut all = Expressions::new(0);
        let product = all.multiply(3, 4).unwrap();
        let again = all.multiply(product, 5).unwrap();
        let mut atoms = [Some(Atom::Element(product)), Some(Atom::Element(5))];
        atoms.sort();
        assert_eq!(all.terms(again)[..], [(atoms, 1.0)]);
        assert_eq!(all.multiply(3, 4).unwrap(), product);
    }

    #[test]
    fn a_constant_of_zero_is_seen_but_changes_nothing() {
        let mut all = Expressions::new(0);
        let zero = all.constant(0.0).unwrap();
        let with = all.add(3, zero, 1.0).unwrap();
        assert_eq!(all.terms(with).len(), 2);
        let none = all.multiply(3, zero).unwrap();
        assert_eq!(all.known(none), Some(0.0));
        assert_eq!(all.add(3, none, 1.0).unwrap(), 3);
    }
}

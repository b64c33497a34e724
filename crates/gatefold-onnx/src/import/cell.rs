//! The equations of the cells, in the elements of one step of one row of the batch.

use super::expression::{Atom, Atoms, Dot, Expressions, Function};
use crate::recurrent::Operator;
use gatefold_model::Activation;

/// A sum of products with matrices, of elements, and of a constant.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Linear {
    pub(super) dots: Vec<(Dot, f64)>,
    pub(super) elements: Vec<(i64, f64)>,
    /// `None` if nothing constant was added.
    pub(super) constant: Option<f64>,
}

/// A gate or a candidate: a number times a function of a sum.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gate {
    pub(super) function: Function,
    pub(super) scale: f64,
    pub(super) sum: Linear,
}

/// The equation of one unit at one step.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) operator: Operator,
    /// In ONNX's order. A GRU that resets before the product has no gate r here.
    pub(super) gates: Vec<Gate>,
    /// The part of a GRU's candidate that the reset gate multiplies.
    pub(super) reset: Option<Linear>,
    /// The function of an LSTM's cell state on its way out.
    pub(super) output: Option<Function>,
    /// An LSTM's cell state.
    pub(super) c: Option<i64>,
    /// The states of the step before, as far as the equation shows them: h of a GRU, c of an LSTM.
    pub(super) before: Option<i64>,
}

impl Expressions {
    /// Recognises the equation of one unit's h.
    pub(super) fn unit(&self, id: i64) -> Result<Unit, String> {
        let terms = self.terms(id);
        match &terms[..] {
            [([Some(Atom::Applied(gate)), None], scale)] => {
                let gate = self.gate(*gate, *scale)?;
                Ok(Unit::of(Operator::Rnn, vec![gate]))
            }
            [([Some(a), Some(b)], scale)] => self.lstm(*a, *b, *scale),
            terms if terms.iter().all(|(atoms, _)| atoms[1].is_none()) => {
                let sum = self.linear(terms.iter().copied())?;
                let function = Function::Activation(Activation::Identity);
                Ok(Unit::of(Operator::Rnn, vec![Gate { function, scale: 1.0, sum }]))
            }
            terms => self.gru(terms),
        }
    }

    /// A function of a sum without products.
    fn gate(&self, number: u32, scale: f64) -> Result<Gate, String> {
        let (function, sum) = self.applied(number);
        let sum = self.linear(self.terms(sum).iter().copied())?;
        Ok(Gate { function, scale, sum })
    }

    /// Sorts the terms of a sum without products of elements.
    fn linear(&self, terms: impl Iterator<Item = (Atoms, f64)>) -> Result<Linear, String> {
        let mut linear = Linear::default();
        for (atoms, factor) in terms {
            match atoms {
                [None, _] => linear.constant = Some(factor),
                [Some(Atom::Dot(dot)), None] => linear.dots.push((self.dot(dot), factor)),
                [Some(Atom::Element(id)), None] => linear.elements.push((id, factor)),
                _ => return Err("a gate's sum has a term that no cell has".into()),
            }
        }
        linear.dots.sort_unstable_by_key(|(dot, _)| (dot.matrix, dot.column, dot.row));
        Ok(linear)
    }

    /// `h = o act(c)`, `c = f c' + i g`
    fn lstm(&self, a: Atom, b: Atom, scale: f64) -> Result<Unit, String> {
        let refuse = || "a product of two gates is no equation of a cell".to_string();
        let products = |id: i64| self.terms(id).iter().any(|(atoms, _)| atoms[1].is_some());
        // The cell state is a sum of products, or a function of one.
        let state = |atom: Atom| match atom {
            Atom::Applied(number) => {
                let (function, sum) = self.applied(number);
                products(sum).then_some((function, sum))
            }
            Atom::Element(id) => products(id).then_some((Function::Activation(Activation::Identity), id)),
            Atom::Dot(_) => None,
        };
        let (gate, (function, c)) = match (a, b, state(a), state(b)) {
            (Atom::Applied(gate), _, None, Some(state)) => (gate, state),
            (_, Atom::Applied(gate), Some(state), None) => (gate, state),
            _ => return Err(refuse()),
        };
        let o = self.gate(gate, scale)?;
        let (mut new, mut kept) = (None, None);
        for &(atoms, scale) in self.terms(c).iter() {
            match atoms {
                [Some(Atom::Applied(a)), Some(Atom::Applied(b))] if new.is_none() => {
                    new = Some((a, b, scale))
                }
                [Some(Atom::Element(before)), Some(Atom::Applied(f))]
                | [Some(Atom::Applied(f)), Some(Atom::Element(before))]
                    if kept.is_none() =>
                {
                    kept = Some((f, before, scale));
                }
                _ => return Err("its cell state is not f c' + i g".into()),
            }
        }
        let (a, b, scale) = new.ok_or("its cell state is not f c' + i g")?;
        // Which of the two is the gate: the one with the function of the other gates.
        let (i, g) = if self.applied(a).0 == o.function { (a, b) } else { (b, a) };
        let (i, g) = (self.gate(i, scale)?, self.gate(g, 1.0)?);
        let before = kept.map(|(_, before, _)| before);
        let f = match kept {
            Some((f, _, scale)) => self.gate(f, scale)?,
            // The first step shows no forget gate.
            None => Gate { function: o.function, scale: o.scale, sum: Linear::default() },
        };
        let mut unit = Unit::of(Operator::Lstm, vec![i, o, f, g]);
        (unit.output, unit.c, unit.before) = (Some(function), Some(c), before);
        Ok(unit)
    }

    /// `h = n + z h' - z n`
    fn gru(&self, terms: &[(Atoms, f64)]) -> Result<Unit, String> {
        let refuse = || "its terms are not those of h = z h' + (1 - z) n".to_string();
        let mut candidate = None;
        let mut products: Vec<(Atom, Atom, f64)> = Vec::new();
        for &(atoms, factor) in terms {
            match atoms {
                [Some(Atom::Applied(n)), None] if factor == 1.0 && candidate.is_none() => candidate = Some(n),
                [Some(a), Some(b)] => products.push((a, b, factor)),
                _ => return Err(refuse()),
            }
        }
        let n = candidate.ok_or_else(refuse)?;
        let is_n = |atom: Atom| atom == Atom::Applied(n);
        let with_n = products.iter().position(|&(a, b, _)| is_n(a) != is_n(b)).ok_or_else(refuse)?;
        let (a, b, minus) = products.remove(with_n);
        let Atom::Applied(z) = (if is_n(a) { b } else { a }) else { return Err(refuse()) };
        let before = match products[..] {
            [] => None,
            [(a, b, scale)] if scale == -minus && (a == Atom::Applied(z)) != (b == Atom::Applied(z)) => {
                Some(if a == Atom::Applied(z) { b } else { a })
            }
            _ => return Err(refuse()),
        };
        let before = match before {
            None => None,
            Some(Atom::Element(id)) => Some(id),
            Some(_) => return Err(refuse()),
        };
        let z = self.gate(z, -minus)?;
        let (function, sum) = self.applied(n);
        let (mut rest, mut gated) = (Vec::new(), Vec::new());
        // The reset gate, and its scale, which its bias alone at the first step does not tell.
        let (mut reset, mut scale) = (None, None);
        for &(atoms, factor) in self.terms(sum).iter() {
            let (r, dot) = match atoms {
                [Some(Atom::Applied(r)), dot @ (None | Some(Atom::Dot(_)))] => (r, dot),
                [_, None] => {
                    rest.push((atoms, factor));
                    continue;
                }
                _ => return Err("its candidate has a term that no cell has".into()),
            };
            if *reset.get_or_insert(r) != r {
                return Err("its candidate has two reset gates".into());
            }
            if dot.is_some() {
                scale.get_or_insert(factor);
            }
            gated.push(([dot, None], factor));
        }
        let n = Gate { function, scale: 1.0, sum: self.linear(rest.into_iter())? };
        let mut unit = Unit::of(Operator::Gru, vec![z, n]);
        if let Some(r) = reset {
            let scale = scale.unwrap_or(1.0);
            unit.gates.insert(1, self.gate(r, scale)?);
            unit.reset = Some(self.linear(gated.into_iter().map(|(atoms, factor)| (atoms, factor / scale)))?);
        }
        unit.before = before;
        Ok(unit)
    }

    /// The gate of a product r h', which a GRU that resets before the product multiplies with its matrix, and h'.
    pub(super) fn reset_state(&self, id: i64) -> Option<(Gate, i64)> {
        match self.terms(id)[..] {
            [([Some(Atom::Element(state)), Some(Atom::Applied(gate))], scale)] => {
                self.gate(gate, scale).ok().map(|gate| (gate, state))
            }
            _ => None,
        }
    }
}

impl Unit {
    fn of(operator: Operator, gates: Vec<Gate>) -> Unit {
        Unit { operator, gates, reset: None, output: None, c: None, before: None }
    }

    /// All sums that make up its gates.
    pub(super) fn sums(&self) -> impl Iterator<Item = &Linear> {
        self.gates.iter().map(|gate| &gate.sum).chain(&self.reset)
    }
}

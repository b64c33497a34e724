//! Cells that a program brings along: their descriptions, and the table of those that this process knows.

use crate::ModelError;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::any::TypeId;
use std::fmt;
use std::sync::{PoisonError, RwLock};

/// Numbers of a unit of a custom cell: its lanes, one for each gate and one more for each split gate, and what it saves.
pub const CUSTOM_LANES: usize = 4;

/// Names that other cells and their stages have.
const TAKEN: [&str; 7] = ["rnn", "lstm", "gru", "gru_reset", "gru_update", "readout", "custom"];

/// A gate of a custom cell: a block of H rows in the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CustomGate {
    name: &'static str,
    split: bool,
    bias: f32,
}

impl CustomGate {
    /// A gate whose lane is the sum `W x + b + U h(t-1) + b_h`.
    pub const fn summed(name: &'static str) -> Self {
        CustomGate { name, split: false, bias: 0.0 }
    }

    /// A gate with two lanes: its own has `W x + b`, and one after those of all gates has `U h(t-1) + b_h`. Split gates
    /// come after all others.
    pub const fn split(name: &'static str) -> Self {
        CustomGate { name, split: true, bias: 0.0 }
    }

    /// Sets the initial value of the gate's `bias_ih`; 0 by default.
    pub const fn bias(mut self, value: f32) -> Self {
        self.bias = value;
        self
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether its parts from the input and from the recurrence stay apart.
    pub const fn is_split(&self) -> bool {
        self.split
    }

    /// The initial value of its `bias_ih`.
    pub const fn initial_bias(&self) -> f32 {
        self.bias
    }
}

/// One unit after one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnitStep<R> {
    /// Whatever backward needs, such as the activated gates.
    pub saved: [R; CUSTOM_LANES],
    /// h(t)
    pub h: R,
    /// The state after the step; ignored in a cell without one.
    pub state: R,
}

/// The gradients of one unit of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnitGradient<R> {
    /// With respect to the lanes; those that the cell does not use are ignored.
    pub pre: [R; CUSTOM_LANES],
    /// With respect to `prev`, without what goes through the lanes.
    pub prev: R,
}

/// The function of a unit forward: `(pre, prev)`.
pub type UnitForward<R> = fn([R; CUSTOM_LANES], R) -> UnitStep<R>;
/// The function of a unit backward: `(saved, prev, state, d_h, d_state)`.
pub type UnitBackward<R> = fn([R; CUSTOM_LANES], R, R, R, R) -> UnitGradient<R>;

/// The two functions of a custom cell, for one type of number.
#[derive(Clone, Copy, Debug)]
pub struct UnitFunctions<R> {
    /// One unit of one step.
    pub forward: UnitForward<R>,
    /// The chain rule through it.
    pub backward: UnitBackward<R>,
}

/// Everything that defines a custom cell.
#[derive(Clone, Debug)]
pub struct CustomParts {
    /// Its name in descriptions, files and errors: lower-case letters, digits and `_`, a letter first.
    pub name: &'static str,
    /// Its gates, in the order of their rows in the weights; the split ones last.
    pub gates: &'static [CustomGate],
    /// Whether a unit has a state of its own beside h.
    pub has_state: bool,
    /// The WGSL of its functions.
    pub wgsl: &'static str,
    /// Its functions on the CPU device.
    pub single: UnitFunctions<f32>,
    /// Its functions in the reference.
    pub double: UnitFunctions<f64>,
    /// The type that defines it: two types are two cells.
    pub definition: TypeId,
}

impl CustomParts {
    /// Checks everything but the WGSL.
    ///
    /// # Errors
    /// [`ModelError::Config`] for a name that another cell has or that is no name, for no gate or too many, and for a
    /// summed gate after a split one.
    pub fn check(&self) -> Result<(), ModelError> {
        match self.problem() {
            Some(problem) => Err(ModelError::Config { place: self.place(), problem }),
            None => Ok(()),
        }
    }

    /// `custom cell "janet"`
    pub fn place(&self) -> String {
        format!("custom cell {:?}", self.name)
    }

    fn problem(&self) -> Option<String> {
        if !is_name(self.name) {
            return Some(
                "expected a name of at most 32 lower-case letters, digits and _, a letter first".into(),
            );
        }
        if TAKEN.contains(&self.name) {
            return Some("a cell of the engine has that name; choose another".into());
        }
        let lanes = self.lanes();
        if self.gates.is_empty() || lanes > CUSTOM_LANES {
            return Some(format!(
                "its gates have {lanes} lanes, two for each that is split; expected 1 to {CUSTOM_LANES}"
            ));
        }
        for (at, gate) in self.gates.iter().enumerate() {
            if !is_name(gate.name) {
                let found = gate.name;
                return Some(format!(
                    "gate {at} is called {found:?}; expected lower-case letters, digits and _, a letter first"
                ));
            }
            if self.gates[..at].iter().any(|other| other.name == gate.name) {
                return Some(format!("two gates are called {}; expected a name for each", gate.name));
            }
            if !gate.bias.is_finite() {
                let (name, bias) = (gate.name, gate.bias);
                return Some(format!("the initial bias of {name} is {bias}; expected a finite number"));
            }
        }
        let late = self.gates.windows(2).find(|pair| pair[0].split && !pair[1].split);
        late.map(|pair| {
            format!(
                "the gate {} comes after {}, which is split; put split gates last",
                pair[1].name, pair[0].name
            )
        })
    }

    fn lanes(&self) -> usize {
        self.gates.len() + self.gates.iter().filter(|gate| gate.split).count()
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= 32
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// A custom cell that this process knows. Copies are equal, and nothing else is.
#[derive(Clone, Copy)]
pub struct CustomCell(&'static CustomParts);

static KNOWN: RwLock<Vec<CustomCell>> = RwLock::new(Vec::new());

impl CustomCell {
    /// Makes a cell known to this process, for good. A cell whose type is known already is that one.
    ///
    /// # Errors
    /// Those of [`CustomParts::check`], and [`ModelError::Config`] if another type has the name.
    pub fn register(parts: CustomParts) -> Result<CustomCell, ModelError> {
        parts.check()?;
        let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.iter().find(|cell| cell.0.name == parts.name) {
            if found.0.definition == parts.definition {
                return Ok(*found);
            }
            let problem = "another type is registered under this name; choose another name".into();
            return Err(ModelError::Config { place: parts.place(), problem });
        }
        let cell = CustomCell(Box::leak(Box::new(parts)));
        known.push(cell);
        Ok(cell)
    }

    /// The cell of this name, if it was registered.
    pub fn find(name: &str) -> Option<CustomCell> {
        let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|cell| cell.0.name == name).copied()
    }

    /// Its parts.
    pub fn parts(&self) -> &'static CustomParts {
        self.0
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Its gates, in the order of their rows in the weights.
    pub fn gates(&self) -> &'static [CustomGate] {
        self.0.gates
    }

    /// Whether a unit has a state of its own beside h.
    pub fn has_state(&self) -> bool {
        self.0.has_state
    }

    /// The lanes that are used, at most [`CUSTOM_LANES`]: those of the gates in order, then the recurrent parts of the
    /// split ones.
    pub fn lanes(&self) -> usize {
        self.0.lanes()
    }

    /// The number of gates that are not split; they come first.
    pub fn summed(&self) -> usize {
        self.0.gates.iter().filter(|gate| !gate.split).count()
    }

    /// The lane of a gate's part from the recurrence; the part from the input has the gate's own number.
    pub fn recurrent_lane(&self, gate: usize) -> usize {
        if self.0.gates[gate].split { self.0.gates.len() + gate - self.summed() } else { gate }
    }
}

impl PartialEq for CustomCell {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for CustomCell {}

impl fmt::Debug for CustomCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CustomCell").field(&self.0.name).finish()
    }
}

/// A custom cell in a file, enough to notice that the program's is another.
#[derive(Serialize, Deserialize)]
struct Stored {
    name: String,
    gates: Vec<StoredGate>,
    state: bool,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct StoredGate {
    name: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    split: bool,
}

impl Stored {
    fn of(cell: CustomCell) -> Stored {
        let gate = |gate: &CustomGate| StoredGate { name: gate.name.into(), split: gate.split };
        Stored {
            name: cell.name().into(),
            gates: cell.gates().iter().map(gate).collect(),
            state: cell.has_state(),
        }
    }
}

/// `forget, candidate split, a state`
impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let split = |gate: &StoredGate| if gate.split { " split" } else { "" };
        let gates: Vec<String> =
            self.gates.iter().map(|gate| format!("{}{}", gate.name, split(gate))).collect();
        write!(f, "{}, {}", gates.join(", "), if self.state { "a state" } else { "no state" })
    }
}

impl Serialize for CustomCell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Stored::of(*self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CustomCell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        let Some(cell) = CustomCell::find(&stored.name) else {
            let name = stored.name;
            return Err(serde::de::Error::custom(format!(
                "it has layers of the cell {name:?}, which this program has not registered; register it first"
            )));
        };
        let own = Stored::of(cell);
        if own.gates != stored.gates || own.state != stored.state {
            return Err(serde::de::Error::custom(format!(
                "its cell {:?} has {stored}; the one that this program registered has {own}",
                stored.name
            )));
        }
        Ok(cell)
    }
}

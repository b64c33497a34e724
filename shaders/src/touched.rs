//! The bindings that a kernel's text can touch, read off naga's module. Branches that constants rule out are ignored.

use naga::{Block, Expression, Function, Handle, Literal, LocalVariable, Module, Statement};
use std::collections::{BTreeSet, HashMap, HashSet};

/// The bindings that some invocation can read or write with some params.
pub(crate) fn touched(module: &Module) -> BTreeSet<usize> {
    let mut walk = Walk { module, seen: HashSet::new(), bindings: BTreeSet::new() };
    walk.function(&module.entry_points[0].function);
    walk.bindings
}

struct Walk<'a> {
    module: &'a Module,
    /// Functions walked already.
    seen: HashSet<Handle<Function>>,
    bindings: BTreeSet<usize>,
}

/// A function, and the constants that its nameless variables hold: naga makes such a variable for each `&&` and `||`.
/// `None` for one that holds several values.
struct Frame<'a> {
    function: &'a Function,
    nameless: HashMap<Handle<LocalVariable>, Option<Literal>>,
}

impl Walk<'_> {
    fn function(&mut self, function: &Function) {
        let mut frame = Frame { function, nameless: HashMap::new() };
        self.block(&mut frame, &function.body);
    }

    fn block(&mut self, frame: &mut Frame<'_>, block: &Block) {
        for statement in block {
            match statement {
                Statement::Emit(range) => {
                    for expression in range.clone() {
                        if let Expression::Load { pointer } = frame.function.expressions[expression] {
                            self.touch(frame, pointer);
                        }
                    }
                }
                Statement::Store { pointer, value } => {
                    self.touch(frame, *pointer);
                    self.store(frame, *pointer, *value);
                }
                Statement::Atomic { pointer, .. } => self.touch(frame, *pointer),
                Statement::If { condition, accept, reject } => {
                    let chosen = self.constant(frame, *condition);
                    if chosen != Some(Literal::Bool(false)) {
                        self.block(frame, accept);
                    }
                    if chosen != Some(Literal::Bool(true)) {
                        self.block(frame, reject);
                    }
                }
                Statement::Block(block) => self.block(frame, block),
                Statement::Switch { cases, .. } => {
                    cases.iter().for_each(|case| self.block(frame, &case.body));
                }
                Statement::Loop { body, continuing, .. } => {
                    self.block(frame, body);
                    self.block(frame, continuing);
                }
                Statement::Call { function, .. } => {
                    if self.seen.insert(*function) {
                        self.function(&self.module.functions[*function]);
                    }
                }
                Statement::Break
                | Statement::Continue
                | Statement::Return { .. }
                | Statement::ControlBarrier(_)
                | Statement::WorkGroupUniformLoad { .. }
                | Statement::SubgroupGather { .. } => {}
                other => panic!("no kernel has {other:?}, so nothing is known of what it touches"),
            }
        }
    }

    /// Notes the storage buffer that a pointer leads into, if any.
    fn touch(&mut self, frame: &Frame<'_>, mut pointer: Handle<Expression>) {
        loop {
            match frame.function.expressions[pointer] {
                Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => pointer = base,
                Expression::GlobalVariable(variable) => {
                    let binding = &self.module.global_variables[variable].binding;
                    let binding = binding.as_ref().filter(|binding| binding.group == 0);
                    self.bindings.extend(binding.map(|binding| binding.binding as usize));
                    return;
                }
                _ => return,
            }
        }
    }

    fn store(&self, frame: &mut Frame<'_>, pointer: Handle<Expression>, value: Handle<Expression>) {
        let Expression::LocalVariable(variable) = frame.function.expressions[pointer] else { return };
        if frame.function.local_variables[variable].name.is_some() {
            return;
        }
        let value = self.constant(frame, value);
        frame
            .nameless
            .entry(variable)
            .and_modify(|held| *held = held.filter(|_| *held == value))
            .or_insert(value);
    }

    fn constant(&self, frame: &Frame<'_>, expression: Handle<Expression>) -> Option<Literal> {
        match frame.function.expressions[expression] {
            Expression::Literal(literal) => Some(literal),
            Expression::Constant(constant) => {
                match self.module.global_expressions[self.module.constants[constant].init] {
                    Expression::Literal(literal) => Some(literal),
                    _ => None,
                }
            }
            Expression::Load { pointer } => match frame.function.expressions[pointer] {
                Expression::LocalVariable(variable) => frame.nameless.get(&variable).copied().flatten(),
                _ => None,
            },
            _ => None,
        }
    }
}

//! The vector instructions that the work is done with, chosen when the program runs.

use gatefold_model::Activation;
use pulp::{Scalar128b, Simd, WithSimd};
use std::fmt;
use std::str::FromStr;

/// A set of vector instructions. Results have the same bits on every machine that runs the same set with the same
/// number of lanes; two sets differ by rounding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Instructions(Set);

#[derive(Clone, Copy, Debug)]
enum Set {
    /// The instructions of every processor of this architecture, without a fused multiply-add.
    Plain(Scalar128b),
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
}

impl PartialEq for Set {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl Eq for Set {}

impl Instructions {
    /// The environment variable that chooses the instructions by name.
    pub const VARIABLE: &str = "GATEFOLD_CPU";

    /// The sets that this machine can run, the widest last.
    pub fn available() -> Vec<Self> {
        let plain = Some(Set::Plain(Scalar128b));
        #[cfg(target_arch = "x86_64")]
        let others = [pulp::x86::V3::try_new().map(Set::Avx2), pulp::x86::V4::try_new().map(Set::Avx512)];
        #[cfg(target_arch = "aarch64")]
        let others = [pulp::aarch64::Neon::try_new().map(Set::Neon)];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let others = [None];
        std::iter::once(plain).chain(others).flatten().map(Instructions).collect()
    }

    /// The set named by the environment variable `GATEFOLD_CPU`, or else the widest that this machine has.
    ///
    /// # Errors
    /// The names that this machine has and the one that was found, if the variable names another.
    pub fn choose() -> Result<Self, UnknownInstructions> {
        match std::env::var_os(Self::VARIABLE).filter(|name| !name.is_empty()) {
            Some(name) => name.to_string_lossy().parse(),
            None => Ok(Self::widest()),
        }
    }

    /// The widest set that this machine has.
    pub fn widest() -> Self {
        *Self::available().last().expect("every machine can run the plain ones")
    }

    /// `plain`, `avx2`, `avx512` or `neon`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Plain(_) => "plain",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(_) => "avx512",
            #[cfg(target_arch = "aarch64")]
            Set::Neon(_) => "neon",
        }
    }

    /// Runs work compiled for these instructions. Everything on its way to the innermost loop has to be
    /// `#[inline(always)]`, since a function of its own is compiled without them.
    pub(crate) fn run<W: WithSimd>(self, work: W) -> W::Output {
        match self.0 {
            Set::Plain(simd) => Simd::vectorize(simd, work),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(simd) => Simd::vectorize(simd, work),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(simd) => Simd::vectorize(simd, work),
            #[cfg(target_arch = "aarch64")]
            Set::Neon(simd) => Simd::vectorize(simd, work),
        }
    }
}

impl Instructions {
    /// Replaces each element by the value of a function, on vectors where it is tanh, sigmoid or a scaled tanh; within three
    /// units of the last place there.
    pub fn activate(self, function: Activation, x: &mut [f32]) {
        crate::functions::apply(self, function, x);
    }

    /// The values of a function, as [`Instructions::activate`] computes them.
    pub fn activated(self, function: Activation, x: &[f32]) -> Vec<f32> {
        crate::functions::applied(self, function, x)
    }

    /// Runs a loop over numbers, compiled for these instructions as far as the compiler inlines what the loop calls.
    /// The results are the same bits as without.
    pub fn compile<R>(self, work: impl FnOnce() -> R) -> R {
        struct Compile<F>(F);
        impl<R, F: FnOnce() -> R> WithSimd for Compile<F> {
            type Output = R;

            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> R {
                (self.0)()
            }
        }
        self.run(Compile(work))
    }
}

impl fmt::Display for Instructions {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Instructions {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is not an instruction set of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownInstructions {
    /// The names that it has.
    pub available: Vec<&'static str>,
    /// The name that was given.
    pub found: String,
}

impl FromStr for Instructions {
    type Err = UnknownInstructions;

    fn from_str(name: &str) -> Result<Self, UnknownInstructions> {
        let available = Self::available();
        let set = available.iter().copied().find(|set| set.name() == name);
        set.ok_or_else(|| UnknownInstructions {
            available: available.iter().map(|set| set.name()).collect(),
            found: name.into(),
        })
    }
}

/// `a b + c`: fused where the instructions have it. Without, `pulp` would call a function for each element.
#[inline(always)]
pub(crate) fn mul_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    if is_plain::<S>() { simd.add_f32s(simd.mul_f32s(a, b), c) } else { simd.mul_add_f32s(a, b, c) }
}

/// Whether these are the plain instructions: the only ones here with few registers of four elements.
const fn is_plain<S: Simd>() -> bool {
    S::F32_LANES == 4 && S::REGISTER_COUNT == 16
}

/// Up to a vector's worth of elements; the missing ones are 0.
#[inline(always)]
pub(crate) fn load<S: Simd>(simd: S, from: &[f32]) -> S::f32s {
    match S::as_simd_f32s(from) {
        ([whole, ..], _) => *whole,
        ([], part) => simd.partial_load_f32s(part),
    }
}

/// Stores as many elements as there is room for.
#[inline(always)]
pub(crate) fn store<S: Simd>(simd: S, to: &mut [f32], values: S::f32s) {
    match S::as_mut_simd_f32s(to) {
        ([whole, ..], _) => *whole = values,
        ([], part) => simd.partial_store_f32s(part, values),
    }
}

/// `vectors!(S, len, at => work)` does the work for each vector's range of elements in `0..len`. The last range
/// may be shorter; the others have a length that the compiler knows. This is a macro because a closure would be a
/// function of its own; see [`Instructions::run`].
macro_rules! vectors {
    ($set:ty, $len:expr, $at:ident => $work:block) => {{
        let len: usize = $len;
        let lanes = <$set>::F32_LANES;
        let whole = len / lanes;
        for n in 0..whole {
            let $at = n * lanes..n * lanes + lanes;
            $work
        }
        if whole * lanes < len {
            let $at = whole * lanes..len;
            $work
        }
    }};
}
pub(crate) use vectors;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_refused() {
        for set in Instructions::available() {
            assert_eq!(set.name().parse(), Ok(set));
        }
        let problem = "mmx".parse::<Instructions>().unwrap_err();
        assert_eq!((problem.available[0], problem.found.as_str()), ("plain", "mmx"));
    }
}

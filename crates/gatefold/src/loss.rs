/// What training makes small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// The mean of `(output - target)^2` over every element.
    #[default]
    SquaredError,
}

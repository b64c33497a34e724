//! Tokens as a network reads and writes them.

use crate::{Error, Refusal, Sequences};
use gatefold_model::{LayerKind, NetworkConfig};
use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, Axis};

/// Turns tokens into a network's input, and its output into logits.
pub(super) struct TokenReader {
    /// The width of one-hot tokens; `None` if an embedding reads token numbers.
    one_hot: Option<usize>,
    /// The number of tokens that it knows.
    known: usize,
    /// The number of tokens that it writes.
    tokens: usize,
    probabilities: bool,
}

impl TokenReader {
    /// A reader for the layers from `begin` on, which read `width` values.
    pub(super) fn new(config: &NetworkConfig, begin: usize, width: usize) -> Result<TokenReader, Error> {
        let tokens = config.output();
        let (one_hot, known) = match config.layers().get(begin).map(|layer| layer.kind) {
            Some(LayerKind::Embedding { tokens: known }) if known >= tokens => (None, known),
            Some(LayerKind::Embedding { tokens: known }) => {
                return Err(Error::refused(
                    Refusal::Loop,
                    format!(
                        "{config}: it writes {tokens} tokens and its embedding knows {known}; expected at least as many"
                    ),
                ));
            }
            _ if width == tokens => (Some(tokens), tokens),
            _ => {
                return Err(Error::refused(
                    Refusal::Loop,
                    format!(
                        "{config}: it reads {width} values and writes {tokens} tokens; expected an embedding or {tokens} values"
                    ),
                ));
            }
        };
        let last = config.layers().last().map(|layer| layer.kind);
        Ok(TokenReader { one_hot, known, tokens, probabilities: last == Some(LayerKind::Softmax) })
    }

    /// Checks that the network knows every one of these tokens.
    pub(super) fn check(&self, what: &str, tokens: impl IntoIterator<Item = u32>) -> Result<(), Error> {
        tokens.into_iter().try_for_each(|token| check_token(what, token, self.known))
    }

    /// Checks that the network can write this token.
    pub(super) fn check_written(&self, what: &str, token: u32) -> Result<(), Error> {
        check_token(what, token, self.tokens)
    }

    pub(super) fn step(&self, tokens: &Array1<u32>) -> Array2<f32> {
        match self.one_hot {
            None => tokens.mapv(|token| token as f32).insert_axis(Axis(1)),
            Some(width) => {
                let one = |(row, token): (usize, usize)| f32::from(tokens[row] as usize == token);
                Array2::from_shape_fn((tokens.len(), width), one)
            }
        }
    }

    pub(super) fn sequences(&self, tokens: ArrayView2<u32>) -> Sequences<'static> {
        match self.one_hot {
            None => Sequences::tokens(tokens),
            Some(width) => {
                let shape = (tokens.nrows(), tokens.ncols(), width);
                let one = |(step, row, token)| f32::from(tokens[[step, row]] as usize == token);
                Sequences::time_major(Array3::from_shape_fn(shape, one))
            }
        }
    }

    /// Logits, a row for each stream. `row_of` returns the row of the input that a stream writes for, `None` if its
    /// logits are not used; if they are, at least one token must be possible.
    pub(super) fn logits(
        &self,
        output: Array2<f32>,
        row_of: impl Fn(usize) -> Option<usize>,
    ) -> Result<Array2<f32>, Error> {
        let logits = if self.probabilities { output.mapv(f32::ln) } else { output };
        let says_nothing = |row: ArrayView1<f32>| !row.iter().any(|&logit| logit > f32::NEG_INFINITY);
        for (stream, logits) in logits.rows().into_iter().enumerate() {
            if let Some(row) = row_of(stream)
                && says_nothing(logits)
            {
                return Err(Error::Value {
                    what: format!("logits of the next token, row {row}"),
                    expected: "a number for at least one token".into(),
                    found: format!("{}; look for NaN in the parameters and the input", logits[0]),
                });
            }
        }
        Ok(logits)
    }
}

fn check_token(what: &str, token: u32, count: usize) -> Result<(), Error> {
    if (token as usize) < count {
        return Ok(());
    }
    Err(Error::Shape {
        what: what.into(),
        expected: format!("token numbers, 0 to {}", count - 1),
        found: token.to_string(),
    })
}

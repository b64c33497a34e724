use gatefold_model::{Dropout, States};
use gatefold_model::{LayerKind, NetworkConfig};
use ndarray::ArrayView3;

/// The inputs of a pass through a network.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// `[T, B, I]`; for an encoder and decoder, the encoder's. Tokens are whole numbers.
    pub input: ArrayView3<'a, f32>,
    /// `[B]`: the steps of each row, 0 to T; without lengths all rows have T.
    pub lengths: Option<&'a [usize]>,
    /// Initial states; without them each layer's config decides. A decoder's layers always take the encoder's states.
    pub states: Option<&'a States>,
    /// The decoder's input, `[T', B, I']`, and its lengths.
    pub decoder: Option<(ArrayView3<'a, f32>, Option<&'a [usize]>)>,
    /// The masks of dropout layers; without masks, as in inference, these layers do nothing.
    pub dropout: Option<Dropout>,
}

impl<'a> Batch<'a> {
    /// Full-length sequences `[T, B, I]`, from the layers' own initial states.
    pub fn new(input: ArrayView3<'a, f32>) -> Self {
        Batch { input, lengths: None, states: None, decoder: None, dropout: None }
    }

    /// Checks that the network accepts this batch.
    ///
    /// # Errors
    /// The first mismatch, in one line.
    pub fn check(&self, config: &NetworkConfig) -> Result<(), String> {
        check_half("input", config, 0, self.input, self.lengths)?;
        let batch = self.input.dim().1;
        match (config.decoder(), self.decoder) {
            (None, None) => {}
            (Some(_), None) => {
                return Err("the network has a decoder: expected an input for it, found none".into());
            }
            (None, Some(_)) => {
                return Err(
                    "the network has no decoder: expected no second input, found one; leave it out".into()
                );
            }
            (Some(at), Some((input, lengths))) => {
                check_half("decoder input", config, at + 1, input, lengths)?;
                let rows = input.dim().1;
                if rows != batch {
                    return Err(format!(
                        "decoder input: expected {batch} rows as in the encoder's, found {rows}"
                    ));
                }
            }
        }
        self.states.map_or(Ok(()), |states| states.check(config, batch))
    }
}

/// Checks the input of the layers from `first` on.
pub(crate) fn check_half(
    what: &str,
    config: &NetworkConfig,
    first: usize,
    input: ArrayView3<f32>,
    lengths: Option<&[usize]>,
) -> Result<(), String> {
    let (steps, batch, width) = input.dim();
    let layer = config.layers().get(first);
    // Without a layer, the network's output width is expected.
    let expected = layer.map_or(config.output(), |layer| layer.input);
    if steps == 0 || batch == 0 || width != expected {
        return Err(format!(
            "{what}: expected [steps, batch, features {expected}], none of them 0, found [{steps}, {batch}, {width}]"
        ));
    }
    if first == 0 {
        config
            .check_steps(steps)
            .map_err(|expected| format!("{what}: expected {expected}, found {steps}"))?;
    }
    match layer.map(|layer| layer.kind) {
        Some(LayerKind::Expand { .. }) if steps != 1 => {
            return Err(format!("{what}: expected the one step that is expanded, found {steps} steps"));
        }
        Some(LayerKind::Embedding { tokens }) => check_tokens(what, tokens, input, lengths)?,
        _ => {}
    }
    let Some(lengths) = lengths else { return Ok(()) };
    if lengths.len() != batch {
        return Err(format!(
            "lengths of the {what}: expected one for each of {batch} rows, found {}",
            lengths.len()
        ));
    }
    if let Some(row) = lengths.iter().position(|&length| length > steps) {
        let found = lengths[row];
        return Err(format!(
            "lengths of the {what}: expected at most {steps} steps, found {found} in row {row}"
        ));
    }
    lengths.iter().enumerate().filter(|_| first == 0).try_for_each(|(row, &length)| {
        let wrong = |expected| format!("{what}, row {row}: expected {expected}, found {length}");
        config.check_steps(length).map_err(wrong)
    })
}

/// Checks that tokens, padding aside, are whole numbers within the table.
fn check_tokens(
    what: &str,
    tokens: usize,
    input: ArrayView3<f32>,
    lengths: Option<&[usize]>,
) -> Result<(), String> {
    let there =
        |t: usize, row: usize| lengths.and_then(|lengths| lengths.get(row)).is_none_or(|&length| t < length);
    let bad = |token: f32| !(token >= 0.0 && token < tokens as f32 && token.fract() == 0.0);
    let found = input.indexed_iter().find(|&((t, row, _), &token)| bad(token) && there(t, row));
    found.map_or(Ok(()), |((t, row, _), token)| {
        Err(format!("{what}: expected tokens 0 to {}, found {token} at step {t}, row {row}", tokens - 1))
    })
}

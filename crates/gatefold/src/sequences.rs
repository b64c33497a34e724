//! The data that goes into a network: sequences of equal or of different lengths.

use crate::Error;
use gatefold_model::{LayerKind, NetworkConfig};
use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Axis, CowArray, Ix3, s};
use std::borrow::Cow;
use std::ops::Range;

/// A batch of sequences: values `[T, B, I]`, where each row may end before `T`.
///
/// Steps past a row's end are ignored and get no gradient; outputs there are 0. Time-major arrays are borrowed:
///
/// ```
/// use gatefold::Sequences;
/// use ndarray::{Array2, Array3};
///
/// let values = Array3::<f32>::zeros((5, 4, 2)); // 5 steps, 4 rows, 2 values
/// let whole = Sequences::from(&values);
/// let ragged = Sequences::from(values.view()).with_lengths([5, 3, 1, 5])?;
/// let tokens = Sequences::from(&Array2::<u32>::zeros((5, 4)));
/// assert_eq!((whole.steps(), ragged.batch(), tokens.values().dim()), (5, 4, (5, 4, 1)));
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Sequences<'a> {
    values: CowArray<'a, f32, Ix3>,
    lengths: Option<Cow<'a, [usize]>>,
    decoder: Option<Box<Sequences<'a>>>,
}

/// Time-major values `[T, B, I]`, borrowed if they are in standard layout.
impl<'a> From<ArrayView3<'a, f32>> for Sequences<'a> {
    fn from(values: ArrayView3<'a, f32>) -> Self {
        let values = if values.is_standard_layout() {
            CowArray::from(values)
        } else {
            CowArray::from(values.as_standard_layout().into_owned())
        };
        Sequences { values, lengths: None, decoder: None }
    }
}

/// Time-major values `[T, B, I]`, borrowed if they are in standard layout.
impl<'a> From<&'a Array3<f32>> for Sequences<'a> {
    fn from(values: &'a Array3<f32>) -> Self {
        Sequences::from(values.view())
    }
}

/// Time-major values `[T, B, I]`.
impl From<Array3<f32>> for Sequences<'_> {
    fn from(values: Array3<f32>) -> Self {
        Sequences::time_major(values)
    }
}

/// Token numbers `[T, B]`; see [`Sequences::tokens`].
impl From<ArrayView2<'_, u32>> for Sequences<'_> {
    fn from(tokens: ArrayView2<u32>) -> Self {
        Sequences::tokens(tokens)
    }
}

/// Token numbers `[T, B]`; see [`Sequences::tokens`].
impl From<&Array2<u32>> for Sequences<'_> {
    fn from(tokens: &Array2<u32>) -> Self {
        Sequences::tokens(tokens.view())
    }
}

/// The same sequences, borrowed.
impl<'a> From<&'a Sequences<'_>> for Sequences<'a> {
    fn from(given: &'a Sequences<'_>) -> Self {
        Sequences {
            values: CowArray::from(given.values.view()),
            lengths: given.lengths.as_deref().map(Cow::Borrowed),
            decoder: given.decoder.as_deref().map(|decoder| Box::new(Sequences::from(decoder))),
        }
    }
}

impl<'a> Sequences<'a> {
    /// Sequences in the engine's own layout, `[T, B, I]`; every row lasts to the end.
    pub fn time_major(values: Array3<f32>) -> Self {
        let values =
            if values.is_standard_layout() { values } else { values.as_standard_layout().into_owned() };
        Sequences { values: values.into(), lengths: None, decoder: None }
    }

    /// Sequences with the rows first, `[B, T, I]`.
    pub fn batch_first(values: ArrayView3<f32>) -> Self {
        Sequences::time_major(values.permuted_axes([1, 0, 2]).as_standard_layout().into_owned())
    }

    /// Sequences given row by row, each `[T_b, I]` of any length; shorter ones are padded with zeros.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are no rows, if all are empty, or if their widths differ.
    pub fn of_rows(rows: &[ArrayView2<f32>]) -> Result<Self, Error> {
        let steps = rows.iter().map(|row| row.nrows()).max().unwrap_or(0);
        let width = rows.first().map_or(0, |row| row.ncols());
        if steps == 0 || width == 0 {
            let found = format!("{} rows, the longest of {steps} steps of {width} values", rows.len());
            return Err(shape("rows", "at least one step of one value", &found));
        }
        let mut values = Array3::zeros((steps, rows.len(), width));
        for (index, row) in rows.iter().enumerate() {
            if row.ncols() != width {
                let found = format!("{} in row {index}", row.ncols());
                return Err(shape("rows", &format!("{width} values a step, as in row 0"), &found));
            }
            values.slice_mut(s![..row.nrows(), index, ..]).assign(row);
        }
        let lengths: Vec<usize> = rows.iter().map(|row| row.nrows()).collect();
        Sequences::time_major(values).with_lengths(lengths)
    }

    /// Packed sequences, as PyTorch's `PackedSequence` holds them: the first steps of all rows, then the second steps
    /// of the rows that have one, and so on. `batch_sizes` counts the rows that have each step. Rows are sorted, the
    /// longest first.
    ///
    /// # Errors
    /// [`Error::Shape`] for batch sizes that grow, are zero, or do not add up to the rows of `data [sum, I]`.
    pub fn packed(data: ArrayView2<f32>, batch_sizes: &[usize]) -> Result<Self, Error> {
        let falling = batch_sizes.windows(2).all(|pair| pair[0] >= pair[1]);
        let total = batch_sizes.iter().fold(0usize, |sum, &size| sum.saturating_add(size));
        if batch_sizes.is_empty() || !falling || batch_sizes.contains(&0) || total != data.nrows() {
            let expected = format!("sizes that never grow, none of them 0, {} altogether", data.nrows());
            return Err(shape("batch sizes", &expected, &format!("{batch_sizes:?}, {total} altogether")));
        }
        let batch = batch_sizes[0];
        let mut values = Array3::zeros((batch_sizes.len(), batch, data.ncols()));
        let mut begin = 0;
        for (step, &size) in batch_sizes.iter().enumerate() {
            values.slice_mut(s![step, ..size, ..]).assign(&data.slice(s![begin..begin + size, ..]));
            begin += size;
        }
        let length = |row| batch_sizes.iter().filter(|&&size| size > row).count();
        let lengths: Vec<usize> = (0..batch).map(length).collect();
        Sequences::time_major(values).with_lengths(lengths)
    }

    /// Token numbers `[T, B]`, for a network that begins with an embedding. They are stored as `f32`, exact up to 2^24.
    pub fn tokens(tokens: ArrayView2<u32>) -> Self {
        Sequences::time_major(tokens.mapv(|token| token as f32).insert_axis(Axis(2)))
    }

    /// Ends rows early: row `b` keeps its first `lengths[b]` steps. A length is at most `T`, or at most the row's
    /// earlier length if it has one; 0 leaves no step.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one length for each row, or a length is greater than that.
    pub fn with_lengths(mut self, lengths: impl Into<Vec<usize>>) -> Result<Self, Error> {
        let lengths = lengths.into();
        let (steps, batch, _) = self.values.dim();
        check_lengths(&lengths, steps, batch, self.lengths.as_deref())?;
        // Padding takes part in products over all steps, times a gradient of zero: it must be finite.
        for (row, &length) in lengths.iter().enumerate() {
            if self.values.slice(s![length.., row, ..]).iter().any(|&value| value != 0.0) {
                self.values.slice_mut(s![length.., row, ..]).fill(0.0);
            }
        }
        // If every row lasts to the end, no lengths are needed, and faster kernels run.
        self.lengths = lengths.iter().any(|&length| length < steps).then_some(Cow::Owned(lengths));
        Ok(self)
    }

    /// Adds the decoder's own input `[T', B, I']`, for an encoder-decoder network: for example the target sequence,
    /// delayed by one step. It has the same number of rows; its steps and lengths may differ.
    pub fn with_decoder(mut self, decoder: impl Into<Sequences<'a>>) -> Self {
        self.decoder = Some(Box::new(Sequences { decoder: None, ..decoder.into() }));
        self
    }

    /// The values, `[T, B, I]`; zero past a row's end.
    pub fn values(&self) -> ArrayView3<'_, f32> {
        self.values.view()
    }

    /// The length of each row; `None` if all last to the end.
    pub fn lengths(&self) -> Option<&[usize]> {
        self.lengths.as_deref()
    }

    /// The decoder's input, if one was given.
    pub fn decoder(&self) -> Option<&Sequences<'a>> {
        self.decoder.as_deref()
    }

    /// T, the time steps.
    pub fn steps(&self) -> usize {
        self.values.dim().0
    }

    /// B, the rows.
    pub fn batch(&self) -> usize {
        self.values.dim().1
    }

    /// The same sequences, owning their data.
    pub fn into_owned(self) -> Sequences<'static> {
        Sequences {
            values: self.values.into_owned().into(),
            lengths: self.lengths.map(|lengths| Cow::Owned(lengths.into_owned())),
            decoder: self.decoder.map(|decoder| Box::new(decoder.into_owned())),
        }
    }

    /// Some of the steps.
    pub(crate) fn window(&self, steps: Range<usize>) -> Sequences<'_> {
        let mut window = self.chunk(steps);
        let steps = window.steps();
        window.lengths = window.lengths.filter(|lengths| lengths.iter().any(|&length| length < steps));
        window
    }

    /// Some of the steps, with lengths if there are any, so that all chunks are of one kind.
    pub(crate) fn chunk(&self, steps: Range<usize>) -> Sequences<'_> {
        let within = |&length: &usize| length.clamp(steps.start, steps.end) - steps.start;
        let lengths = self.lengths.as_ref().map(|lengths| lengths.iter().map(within).collect());
        let values = self.values.slice(s![steps.clone(), .., ..]).into();
        Sequences { values, lengths: lengths.map(Cow::Owned), decoder: None }
    }

    /// The sequences that set the steps and lengths of the network's output: the decoder's, if there is one.
    pub(crate) fn of_output(&self) -> &Sequences<'a> {
        self.decoder().unwrap_or(self)
    }

    /// Checks that a network's encoder can read them.
    pub(crate) fn check_encoder(&self, config: &NetworkConfig) -> Result<(), Error> {
        let first = config.layers().first().map(|layer| &layer.kind);
        check_part("input", self, config.input(), expands(first))?;
        check_steps("input", config, self.steps())?;
        for (row, &length) in self.lengths().unwrap_or_default().iter().enumerate() {
            if config.check_steps(length).is_err() {
                check_steps(&format!("row {row} of the input"), config, length)?;
            }
        }
        check_tokens("input", self.values(), self.lengths(), first)
    }

    /// Checks that a network can read them.
    pub(crate) fn check(&self, config: &NetworkConfig) -> Result<(), Error> {
        let decoder = config.decoder();
        self.check_encoder(config)?;
        match (decoder.map(|at| &config.layers()[at]), self.decoder()) {
            (None, None) => Ok(()),
            (Some(layer), Some(own)) => {
                check_part("decoder's input", own, layer.output, false)?;
                let reader = config.layers().get(layer.index + 1).map(|next| &next.kind);
                check_tokens("decoder's input", own.values(), own.lengths(), reader)?;
                if own.batch() == self.batch() {
                    return Ok(());
                }
                let expected = format!("{} rows, as in the encoder's input", self.batch());
                Err(shape("decoder's input", &expected, &own.batch().to_string()))
            }
            (Some(layer), None) => {
                let expected =
                    format!("[steps, batch, {}]; give it with Sequences::with_decoder", layer.output);
                Err(shape("decoder's input", &expected, "none"))
            }
            (None, Some(_)) => Err(shape("decoder's input", "none, the network has no decoder", "one")),
        }
    }
}

/// Checks that a sequence is long enough for a network's convolutions.
pub(crate) fn check_steps(what: &str, config: &NetworkConfig, steps: usize) -> Result<(), Error> {
    config.check_steps(steps).map_err(|expected| shape(what, &expected, &steps.to_string()))
}

/// Checks that there is one length for each row, none of them beyond the steps. Steps past an earlier end are gone.
pub(crate) fn check_lengths(
    lengths: &[usize],
    steps: usize,
    batch: usize,
    ended: Option<&[usize]>,
) -> Result<(), Error> {
    if lengths.len() != batch {
        return Err(shape("lengths", &format!("one for each of {batch} rows"), &lengths.len().to_string()));
    }
    for (row, &length) in lengths.iter().enumerate() {
        let most = ended.map_or(steps, |ended| ended[row]);
        if length > most {
            let what = format!("length of row {row}");
            return Err(shape(&what, &format!("0 to {most}"), &length.to_string()));
        }
    }
    Ok(())
}

fn expands(first: Option<&LayerKind>) -> bool {
    matches!(first, Some(LayerKind::Expand { .. }))
}

fn check_part(what: &str, part: &Sequences<'_>, width: usize, one_step: bool) -> Result<(), Error> {
    let (steps, batch, found) = part.values.dim();
    if steps == 0 || batch == 0 || found != width {
        let expected = format!("[steps, batch, features {width}], none of them 0");
        return Err(shape(what, &expected, &format!("[{steps}, {batch}, {found}]")));
    }
    if one_step && (steps != 1 || part.lengths.is_some()) {
        let found = part.lengths().filter(|_| steps == 1);
        let found = found.map_or(format!("{steps} steps"), |lengths| format!("lengths {lengths:?}"));
        return Err(shape(what, "one step of every row, which the first layer expands", &found));
    }
    Ok(())
}

/// Checks that an embedding reads only token numbers of its table; steps past a row's end are ignored.
pub(crate) fn check_tokens(
    what: &str,
    values: ArrayView3<f32>,
    lengths: Option<&[usize]>,
    reader: Option<&LayerKind>,
) -> Result<(), Error> {
    let Some(LayerKind::Embedding { tokens }) = reader else { return Ok(()) };
    for ((step, row, _), &value) in values.indexed_iter() {
        let there = lengths.is_none_or(|lengths| step < lengths[row]);
        let fits = value >= 0.0 && (value as usize) < *tokens && value.fract() == 0.0;
        if there && !fits {
            let expected = format!("a token number, 0 to {}", tokens - 1);
            return Err(shape(&format!("{what} at step {step}, row {row}"), &expected, &value.to_string()));
        }
    }
    Ok(())
}

fn shape(what: &str, expected: &str, found: &str) -> Error {
    Error::Shape { what: what.into(), expected: expected.into(), found: found.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn rows_batch_first_and_packed_are_the_same_sequences() {
        let (long, short) = (array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], array![[7.0, 8.0]]);
        let rows = Sequences::of_rows(&[long.view(), short.view()]).unwrap();
        assert_eq!(rows.lengths(), Some(&[3, 1][..]));
        let packed = array![[1.0, 2.0], [7.0, 8.0], [3.0, 4.0], [5.0, 6.0]];
        assert_eq!(Sequences::packed(packed.view(), &[2, 1, 1]).unwrap(), rows);
        let padded = ndarray::stack![Axis(0), long, array![[7.0, 8.0], [0.0, 0.0], [0.0, 0.0]]];
        assert_eq!(Sequences::batch_first(padded.view()).with_lengths([3, 1]).unwrap(), rows);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let problem = |result: Result<Sequences<'static>, Error>| result.unwrap_err().to_string();
        let two = || Sequences::time_major(Array3::zeros((3, 2, 1)));
        assert_eq!(problem(two().with_lengths([3])), "lengths: expected one for each of 2 rows, found 1");
        assert_eq!(problem(two().with_lengths([1, 4])), "length of row 1: expected 0 to 3, found 4");
        assert_eq!(
            problem(two().with_lengths([3, 1]).unwrap().with_lengths([2, 2])),
            "length of row 1: expected 0 to 1, found 2",
            "steps past the end are gone"
        );
        let expanding =
            gatefold_model::LayerConfig::Expand { steps: 2, fill: gatefold_model::Expansion::Zeros };
        let expanding = NetworkConfig::new(1, [expanding]).unwrap();
        let one = Sequences::time_major(Array3::zeros((1, 2, 1))).with_lengths([1, 0]).unwrap();
        assert_eq!(
            one.check(&expanding).unwrap_err().to_string(),
            "input: expected one step of every row, which the first layer expands, found lengths [1, 0]"
        );
        let data = Array2::zeros((4, 1));
        assert_eq!(
            problem(Sequences::packed(data.view(), &[1, 3])),
            "batch sizes: expected sizes that never grow, none of them 0, 4 altogether, found [1, 3], 4 altogether"
        );
        let (a, b) = (Array2::zeros((2, 1)), Array2::zeros((2, 3)));
        assert_eq!(
            problem(Sequences::of_rows(&[a.view(), b.view()])),
            "rows: expected 1 values a step, as in row 0, found 3 in row 1"
        );
        let embedding = gatefold_model::EmbeddingConfig::new(5, 2);
        let config = NetworkConfig::new(1, [embedding.into()]).unwrap();
        let tokens = Sequences::tokens(array![[4, 5]].view());
        assert_eq!(
            tokens.check(&config).unwrap_err().to_string(),
            "input at step 0, row 1: expected a token number, 0 to 4, found 5"
        );
    }

    #[test]
    fn rows_too_short_for_a_convolution_are_named() {
        let config = NetworkConfig::with_input(1).lstm(2).conv1d(1, 4).dense(1).build().unwrap();
        let problem = |input: &Sequences<'_>| input.check(&config).unwrap_err().to_string();
        let short = Sequences::time_major(Array3::zeros((3, 2, 1)));
        assert_eq!(problem(&short), "input: expected at least 4 steps for layer 1 (conv1d), found 3");
        let rows = |lengths| Sequences::time_major(Array3::zeros((5, 3, 1))).with_lengths(lengths).unwrap();
        assert_eq!(
            problem(&rows([4, 0, 2])),
            "row 2 of the input: expected at least 4 steps for layer 1 (conv1d), found 2"
        );
        rows([4, 0, 5]).check(&config).unwrap();
    }

    #[test]
    fn rows_that_all_last_need_no_lengths() {
        let full = Sequences::time_major(Array3::zeros((3, 2, 1))).with_lengths([3, 3]).unwrap();
        assert_eq!(full.lengths(), None);
    }
}
